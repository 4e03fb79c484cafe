"""Base class of all decoders, and what their steps give. Knows no strings and no search.

Letters in shapes: see `models`.
"""

from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor, nn

from models.decoders.tag_attention import Copies, add_copies
from models.features import Tags

__all__ = ["CaptionDecoder", "DecoderOutput", "StepOutput"]

StateT = TypeVar("StateT")


class StepOutput(NamedTuple, Generic[StateT]):
    """What one step gives: logits (R, V), alpha (R, L), beta (R,), and the state after the word.

    tag_shares (R, W): how much of alpha lies on each tag; None where the decoder sees no tags.
    """

    logits: Tensor
    alpha: Tensor
    beta: Tensor
    state: StateT
    tag_shares: Tensor | None = None


class DecoderOutput(NamedTuple):
    """The result of teacher forcing: readout (R, T, E), alphas (R, T, L), and betas (R, T).

    The readout is what the output layer reads, copies what it adds: of C words, (R, T, C).

    Where locations were drawn, also their log-probabilities and the entropies of the distributions
    they were drawn from, (R, T) each, in nats.
    """

    readout: Tensor
    alphas: Tensor
    betas: Tensor
    copies: Copies | None = None
    logprobs: Tensor | None = None
    entropies: Tensor | None = None


class CaptionDecoder(nn.Module):
    """Base class of all decoders: the embedding, the output layer, and one step.

    Each decoder has its own type of state, a value with `select`, as
    `models.decoding.State` says. Callers pass it back unchanged.
    """

    def __init__(
        self, *, vocab_size: int, encoder_dim: int, embed_dim: int, dropout: float
    ) -> None:
        """Build the modules that all decoders have, named alike, so that bundles can share them."""
        super().__init__()
        # encoders differ in scale by a factor of ten
        self.normalise = nn.LayerNorm(encoder_dim)
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.output = nn.Linear(embed_dim, vocab_size)  # L_o
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def init_state(self, annotations: Tensor, tags: Tags | None = None) -> Any:
        """Give the state of B rows before the first word, from annotations (B, L, D).

        tags: of the same images; a decoder that attends to none leaves them unread.
        """
        raise NotImplementedError

    def blank_state(self, rows: int, tags: Tags | None = None) -> Any:
        """Give a state without an image, to learn the language alone.

        tags: of each row; a decoder that attends to none leaves them unread.
        """
        raise NotImplementedError

    def step(self, token_ids: Tensor, state: Any) -> StepOutput[Any]:
        """Read the last words (R,) and score the next ones."""
        raise NotImplementedError

    def forward(self, token_ids: Tensor, state: Any) -> DecoderOutput:
        """Repeat the step over given words (R, T): teacher forcing.

        The caller applies `logits` to the readout, only where a word counts.
        """
        raise NotImplementedError

    def logits(self, readout: Tensor, copies: Copies | None = None) -> Tensor:
        """Score the vocabulary: (..., E) to (..., V), L_o of Xu et al. 2015, equation 7.

        copies: (..., C), words whose scores gain.
        """
        scores: Tensor = self.output(readout)
        return scores if copies is None else add_copies(scores, copies)
