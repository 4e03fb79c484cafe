"""The settings of images: which are accepted, how large, and what decoding them may take.

A part of `app.core.settings.Settings`, and never read alone.
"""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

__all__ = ["FORMATS", "ImageSettings"]

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC")
"""The formats that can be accepted, by the names that people use."""


class ImageSettings(BaseSettings):
    """Which images are accepted, and what decoding them may take."""

    formats: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            description="Formats that are accepted, separated by commas; each can be left out, but "
            "HEIC cannot be the only one.",
        ),
    ] = ",".join(FORMATS)
    max_pixels: Annotated[
        int,
        Field(
            ge=65_536,
            le=500_000_000,
            description="Most pixels of a picture that are decoded, width times height.",
        ),
    ] = 50_000_000
    max_jpeg_pixels: Annotated[
        int,
        Field(
            ge=65_536,
            le=1_000_000_000,
            description="Most pixels that a JPEG of one scan may have, of which fewer are decoded: "
            "it is reduced on the way, and the pixels of its full size are never in memory. "
            "Progressive ones are bounded by `max_pixels`, as are all where that is more.",
        ),
    ] = 200_000_000
    min_side_pixels: Annotated[
        int,
        Field(ge=1, le=256, description="Fewest pixels that either side of a picture may have."),
    ] = 16
    overlay_side_pixels: Annotated[
        int,
        Field(
            ge=256,
            le=4096,
            description="Longest side of the picture that attention maps are drawn on.",
        ),
    ] = 1024
    decode_processes: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description="Processes that decode pictures, one picture each at a time; as many "
            "threads draw overlays.",
        ),
    ] = 2
    decode_memory_bytes: Annotated[
        int,
        Field(
            ge=10_000_000,
            le=100_000_000_000,
            description="Memory that all decodes together may take, beside the files and about "
            "40 MB for each process. A picture that would take more alone is refused; one that "
            "must wait for others does.",
        ),
    ] = 800_000_000
    decode_timeout_seconds: Annotated[
        float,
        Field(
            gt=0.0,
            le=600.0,
            description="Longest time that decoding one picture may take; then its process is "
            "killed and the picture refused.",
        ),
    ] = 10.0

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, value: str) -> str:
        """Spell each format as it is, in our order, whatever the letters' case."""
        known = {name.lower(): name for name in FORMATS}
        named = [name.strip() for name in value.split(",") if name.strip()]
        unknown = [name for name in named if name.lower() not in known]
        if unknown or not named:
            raise ValueError(
                f"{', '.join(unknown) or 'nothing'} is no format; formats: {', '.join(FORMATS)}"
            )
        chosen = {known[name.lower()] for name in named}
        if chosen == {"HEIC"}:
            raise ValueError("HEIC cannot be the only format: the service's own picture is none")
        return ",".join(name for name in FORMATS if name in chosen)
