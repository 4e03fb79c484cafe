"""All errors that the library raises on purpose. Knows no HTTP.

    GlimpseError
    ├── ImageError                  the upload is at fault; `decode_image` raises these
    │   ├── EmptyImageError         no bytes at all
    │   ├── UnreadableImageError    no image, or of a format that is not accepted
    │   ├── TruncatedImageError     an image whose data ends early or is damaged
    │   ├── ImageTooLargeError      more pixels than the limit
    │   ├── ImageTooSmallError      a side shorter than the limit
    │   ├── ImageTooSlowError       decoding it takes longer than the limit
    │   └── ImageCrashError         its codec breaks
    ├── OutOfMemoryError            there was no memory to decode an image: not its fault
    ├── OptionsError                a decoding option out of its bounds
    ├── UnknownModelError           no model of that name
    ├── ConfigError                 a configuration that contradicts itself
    └── CheckpointError             a bundle in weights/ is missing, damaged or mismatched
        └── RuntimeMissingError     what could compute its model is not installed or not chosen

Each message is written for the person who caused the error: what is wrong, and what would be right.
"""

__all__ = [
    "CheckpointError",
    "ConfigError",
    "EmptyImageError",
    "GlimpseError",
    "ImageCrashError",
    "ImageError",
    "ImageTooLargeError",
    "ImageTooSlowError",
    "ImageTooSmallError",
    "OptionsError",
    "OutOfMemoryError",
    "RuntimeMissingError",
    "TruncatedImageError",
    "UnknownModelError",
    "UnreadableImageError",
]


class GlimpseError(Exception):
    """Base class of every error that the library raises on purpose."""


class ImageError(GlimpseError):
    """The image cannot be used."""


class EmptyImageError(ImageError):
    """The image has no bytes at all."""


class UnreadableImageError(ImageError):
    """The bytes are no image, or one of a format that is not accepted."""


class TruncatedImageError(ImageError):
    """The image's data ends early or is damaged."""


class ImageTooLargeError(ImageError):
    """The image has more pixels than the limit."""


class ImageTooSmallError(ImageError):
    """A side of the image is shorter than the limit."""


class ImageTooSlowError(ImageError):
    """Decoding the image takes longer than the limit."""


class ImageCrashError(ImageError):
    """The codec of the image's format breaks on it, and ends its process."""


class OutOfMemoryError(GlimpseError):
    """There is no memory to decode an image now; the image may be good."""


class OptionsError(GlimpseError):
    """A decoding option is out of its bounds."""


class UnknownModelError(GlimpseError):
    """There is no model of that name."""


class ConfigError(GlimpseError):
    """A configuration contradicts itself or names something that does not exist."""


class CheckpointError(GlimpseError):
    """A model bundle is missing, damaged or does not match its own description."""


class RuntimeMissingError(CheckpointError):
    """What could compute the model is not installed, or was not chosen."""
