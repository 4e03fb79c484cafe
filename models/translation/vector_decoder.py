"""A decoder that reads the sentence as one vector. Knows no strings and no search.

Letters in shapes: see `models.translation`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.decoders.base import CaptionDecoder, DecoderOutput, StepOutput
from models.decoders.lstm import init_lstm_, lstm_update
from models.translation.config import RecurrentArchitecture
from models.translation.encoders import SourceEncoding

__all__ = ["SentenceVectorDecoder", "SentenceVectorState"]


class SentenceVectorState(NamedTuple):
    """Everything that a step depends on besides the last subword.

    hidden, cell: (R, N). context: (R, D), the sentence's vector, fixed over the steps.
    alpha: (B, L), the uniform map of each sentence.
    """

    hidden: Tensor
    cell: Tensor
    context: Tensor
    alpha: Tensor

    def select(self, indices: Tensor, images: Tensor | None = None) -> "SentenceVectorState":
        """Take rows `indices` (R',), as `models.decoding.State` says; `images` are sentences."""
        alpha = self.alpha if images is None else self.alpha[images]
        rows = (self.hidden[indices], self.cell[indices], self.context[indices])
        return SentenceVectorState(*rows, alpha)


class SentenceVectorDecoder(CaptionDecoder):
    """An LSTM that begins where the encoder ended, and sees its last state at every step.

    h_0 = h of the last source subword, and its cell (Sutskever et al. 2014, section 2);
    h_t = LSTM(y_{t-1}, c, h_{t-1}) and y_t = g(h_t, y_{t-1}, c), c that state (Cho et al. 2014,
    section 2.2).
    """

    def __init__(self, config: RecurrentArchitecture, vocab_size: int) -> None:
        """Build with random weights; dropout acts on the embedding and on the readout."""
        super().__init__(
            vocab_size=vocab_size,
            encoder_dim=config.encoder_dim,
            embed_dim=config.embed_dim,
            dropout=config.dropout,
        )
        size = config.hidden_dim
        self.lstm_word = nn.Linear(config.embed_dim, 4 * size)
        self.lstm_context = nn.Linear(config.encoder_dim, 4 * size, bias=False)
        self.lstm_hidden = nn.Linear(size, 4 * size, bias=False)
        self.readout_hidden = nn.Linear(size, config.embed_dim)
        self.readout_context = nn.Linear(config.encoder_dim, config.embed_dim, bias=False)
        init_lstm_(self.lstm_word, self.lstm_hidden)

    def begin(self, source: SourceEncoding) -> SentenceVectorState:
        """Give the first state: the encoder's last."""
        assert source.last is not None
        hidden, cell = source.last
        alpha = source.mask.float() / source.mask.sum(dim=1, keepdim=True)
        return SentenceVectorState(hidden, cell, self.normalise(hidden), alpha)

    def step(
        self, token_ids: Tensor, state: SentenceVectorState
    ) -> StepOutput[SentenceVectorState]:
        """Read the last subwords (R,) and score the next ones."""
        word = self.dropout(self.embedding(token_ids))  # (R, E)
        state = self._advance(self.lstm_word(word) + self.lstm_context(state.context), state)
        readout = self._readout(word, state.hidden, state.context)
        alpha, beta = _maps(state, 1)
        return StepOutput(self.logits(readout), alpha.squeeze(1), beta.squeeze(1), state)

    def forward(self, token_ids: Tensor, state: SentenceVectorState) -> DecoderOutput:
        """Repeat the step over subwords (R, T)."""
        words = self.dropout(self.embedding(token_ids))  # (R, T, E)
        context = state.context.unsqueeze(1)  # (R, 1, D)
        gates = self.lstm_word(words) + self.lstm_context(context)  # (R, T, 4N)
        hiddens: list[Tensor] = []
        for step_gates in gates.unbind(dim=1):
            state = self._advance(step_gates, state)
            hiddens.append(state.hidden)
        readout = self._readout(words, torch.stack(hiddens, dim=1), context)
        return DecoderOutput(readout, *_maps(state, token_ids.shape[1]))

    def _advance(self, gates: Tensor, state: SentenceVectorState) -> SentenceVectorState:
        """Update the cell. gates (R, 4N): what the last subwords and the vector add to them."""
        hidden, cell = lstm_update(gates + self.lstm_hidden(state.hidden), state.cell)
        return state._replace(hidden=hidden, cell=cell)

    def _readout(self, words: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """Combine words (..., E), hidden (..., N) and context (..., D) to (..., E)."""
        inner = words + self.readout_hidden(hidden) + self.readout_context(context)
        readout: Tensor = self.dropout(inner)
        return readout


def _maps(state: SentenceVectorState, steps: int) -> tuple[Tensor, Tensor]:
    """Give the uniform alphas of each row (R, T, L) and constant betas (R, T)."""
    rows = len(state.hidden)
    group = rows // len(state.alpha)
    alpha = state.alpha.repeat_interleave(group, dim=0)  # (R, L)
    return alpha.unsqueeze(1).expand(-1, steps, -1), alpha.new_ones(rows, steps)
