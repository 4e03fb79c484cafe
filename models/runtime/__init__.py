"""What computes: the two halves of a captioner, behind one Protocol. One runtime a file.

B images, S their side in pixels, G captions an image, T tokens, L locations, D encoder features.
Features stay where `encode` put them; the other methods take them from there.
"""

from typing import Protocol, TypeVar

from torch import Tensor

from models.caption import RuntimeInfo
from models.decoding import State, StepDecoder
from models.features import ImageFeatures
from models.geometry import CellGrid

__all__ = ["Runtime"]

StateT = TypeVar("StateT", bound=State)


class Runtime(Protocol[StateT]):
    """The encoder and the decoder of one model, ready to compute."""

    @property
    def precision(self) -> str:
        """What the encoder computes in."""

    def describe(self) -> RuntimeInfo:
        """Say what computes, as the calling thread would compute."""

    @property
    def grid(self) -> CellGrid:
        """Where the cells that `encode` sees lie on any image."""

    @property
    def decoder(self) -> StepDecoder[StateT]:
        """What decoding steps through."""

    def encode(self, pixels: Tensor) -> ImageFeatures:
        """Encode pixels (B, 3, S, S) uint8 RGB to features in float32."""

    def score_tokens(self, features: ImageFeatures, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Read given captions by teacher forcing.

        token_ids (B, G, T), on any device, without bos. Gives the natural
        log of each token's probability (B, G, T) and the map it was predicted from (B, G, T, L),
        both float32.
        """

    def fingerprint(self) -> str:
        """Identify what `encode` gives: equal for runtimes whose features are the same."""
