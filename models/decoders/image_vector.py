"""Base class of the decoders that read the image as one vector. Knows no strings and no locations.

The vector is the mean of the annotations, so the map of every word is uniform: 1 / L everywhere.
Letters in shapes: see `models`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.decoders.base import CaptionDecoder, DecoderOutput, StepOutput
from models.decoders.lstm import init_lstm_
from models.features import Tags

__all__ = ["VectorDecoder", "VectorState"]


class VectorState(NamedTuple):
    """Everything that a step depends on besides the last word.

    hiddens, cells: one (R, N) for each LSTM layer.
    image_gates: (R, 4N), what the image adds to the gates at every step; None where it adds
        nothing.
    locations: L, for the uniform map.
    """

    hiddens: tuple[Tensor, ...]
    cells: tuple[Tensor, ...]
    image_gates: Tensor | None
    locations: int

    def select(self, indices: Tensor, _images: Tensor | None = None) -> "VectorState":
        """Take rows `indices` (R',), as `models.decoding.State` says."""
        return VectorState(
            hiddens=tuple(hidden[indices] for hidden in self.hiddens),
            cells=tuple(cell[indices] for cell in self.cells),
            image_gates=None if self.image_gates is None else self.image_gates[indices],
            locations=self.locations,
        )


class VectorDecoder(CaptionDecoder):
    """Base class: the words, the first LSTM layer, the readout, and one step repeated.

    beta: how far the image is let in at a word, a constant that stands for the gate.
    layers: how many LSTM layers the decoder has.
    """

    beta = 0.0
    layers = 1

    def __init__(
        self, *, vocab_size: int, encoder_dim: int, embed_dim: int, decoder_dim: int, dropout: float
    ) -> None:
        """Build with random weights; dropout acts on the word embedding and on the readout."""
        super().__init__(
            vocab_size=vocab_size, encoder_dim=encoder_dim, embed_dim=embed_dim, dropout=dropout
        )
        self.lstm_word = nn.Linear(embed_dim, 4 * decoder_dim)
        self.lstm_hidden = nn.Linear(decoder_dim, 4 * decoder_dim, bias=False)
        self.readout_hidden = nn.Linear(decoder_dim, embed_dim)
        init_lstm_(self.lstm_word, self.lstm_hidden)

    def blank_state(
        self, rows: int, _tags: Tags | None = None, *, locations: int = 1
    ) -> VectorState:
        """Give a state without an image, to learn the language alone."""
        zeros = self.output.weight.new_zeros(rows, self.lstm_hidden.in_features)
        return VectorState((zeros,) * self.layers, (zeros,) * self.layers, None, locations)

    def step(self, token_ids: Tensor, state: VectorState) -> StepOutput[VectorState]:
        """Read the last words (R,) and score the next ones."""
        word = self.dropout(self.embedding(token_ids))  # (R, E)
        state = self._advance(self.lstm_word(word), state)
        logits = self.logits(self._readout(state.hiddens[-1]))  # (R, V)
        alpha, beta = self._maps(logits, state, len(token_ids))
        return StepOutput(logits, alpha, beta, state)

    def forward(self, token_ids: Tensor, state: VectorState) -> DecoderOutput:
        """Repeat the step over words (R, T)."""
        words = self.dropout(self.embedding(token_ids))  # (R, T, E)
        hiddens: list[Tensor] = []
        for word_gates in self.lstm_word(words).unbind(dim=1):
            state = self._advance(word_gates, state)
            hiddens.append(state.hiddens[-1])
        readout = self._readout(torch.stack(hiddens, dim=1))
        return DecoderOutput(readout, *self._maps(readout, state, *token_ids.shape))

    def _advance(self, word_gates: Tensor, state: VectorState) -> VectorState:
        """Update every layer.

        word_gates (R, 4N): what the last words add to the gates of the first layer.
        """
        raise NotImplementedError

    def _readout(self, hidden: Tensor) -> Tensor:
        """Project hidden (..., N) to (..., E)."""
        readout: Tensor = self.dropout(self.readout_hidden(hidden))
        return readout

    def _maps(self, like: Tensor, state: VectorState, *shape: int) -> tuple[Tensor, Tensor]:
        """Give uniform alphas (*shape, L) and constant betas (*shape)."""
        alpha = like.new_full((*shape, state.locations), 1 / state.locations, dtype=torch.float32)
        return alpha, like.new_full(shape, self.beta, dtype=torch.float32)
