"""Every error the library raises on purpose. Knows nothing of HTTP: `app.api.errors` maps each to a
status.

    GlimpseError
    ├── ImageError                  the upload is at fault; `decode_image` raises these
    │   ├── EmptyImageError         no bytes at all
    │   ├── UnreadableImageError    not a picture, or of a format that is not accepted
    │   ├── TruncatedImageError     a picture whose data ends early or is damaged
    │   ├── ImageTooLargeError      more pixels than the limit
    │   └── ImageTooSmallError      a side shorter than the limit
    ├── OptionsError                a decoding option out of its bounds
    ├── UnknownModelError           no model of that name
    ├── ConfigError                 a configuration that contradicts itself
    └── CheckpointError             a bundle in weights/ is missing, damaged or mismatched

Each message is written for the person who caused the error: what is wrong, and what would be right.
"""

__all__ = [
    "CheckpointError",
    "ConfigError",
    "EmptyImageError",
    "GlimpseError",
    "ImageError",
    "ImageTooLargeError",
    "ImageTooSmallError",
    "OptionsError",
    "TruncatedImageError",
    "UnknownModelError",
    "UnreadableImageError",
]


class GlimpseError(Exception):
    """Base of every error that the library raises on purpose."""


class ImageError(GlimpseError):
    """The picture that was given cannot be used."""


class EmptyImageError(ImageError):
    """The picture has no bytes at all."""


class UnreadableImageError(ImageError):
    """The bytes are no picture, or one of a format that is not accepted."""


class TruncatedImageError(ImageError):
    """The picture's data ends early or is damaged."""


class ImageTooLargeError(ImageError):
    """The picture has more pixels than the limit."""


class ImageTooSmallError(ImageError):
    """A side of the picture is shorter than the limit."""


class OptionsError(GlimpseError):
    """A decoding option is out of its bounds."""


class UnknownModelError(GlimpseError):
    """There is no model of that name."""


class ConfigError(GlimpseError):
    """A configuration contradicts itself or names something that does not exist."""


class CheckpointError(GlimpseError):
    """A model bundle is missing, damaged or does not match its own description."""
