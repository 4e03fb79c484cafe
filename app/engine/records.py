"""What an engine answers with: models that were looked up, captions, and which models there are.

Knows no threads and no HTTP.
"""

from dataclasses import dataclass

from models.caption import Caption, ModelInfo, RuntimeInfo
from models.config import DecodingOptions
from models.preprocessing import PreparedImage

__all__ = ["Captioned", "ModelHandle", "ModelStatus"]


@dataclass(frozen=True, slots=True)
class ModelHandle:
    """A model that a request may use, as it was looked up.

    Holds no weights: `caption` loads the model if it is not in memory.
    """

    info: ModelInfo

    @property
    def name(self) -> str:
        """The model's name."""
        return self.info.name

    @property
    def decoding(self) -> DecodingOptions:
        """The options that the model was tuned for."""
        return self.info.config.decoding


@dataclass(frozen=True, slots=True)
class Captioned:
    """One answer: a caption, its image, its model, and where the time went, in seconds."""

    caption: Caption
    image: PreparedImage
    model: ModelInfo
    decode_seconds: float
    queue_seconds: float
    compute_seconds: float


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model that exists, in memory or not.

    info: None where it cannot be loaded. runtime: what computes it; None where it is not loaded.
    problem: why it cannot be loaded, where that is for users to know.
    """

    name: str
    loaded: bool
    info: ModelInfo | None
    runtime: RuntimeInfo | None = None
    problem: str | None = None
