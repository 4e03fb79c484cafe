"""The writers that see the picture as one vector: Show and Tell, and LRCN. They know no locations,
no strings.

B pictures, R = B * G rows grouped by picture, T time, L locations, D encoder features, E embedding,
N hidden, V vocabulary. The vector is the mean of the annotations, so the map of every word is even:
1 / L everywhere.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.decoders.base import CaptionDecoder, DecoderOutput, StepOutput
from models.decoders.lstm import init_lstm_, lstm_update

__all__ = ["LRCNDecoder", "NICDecoder", "VectorState"]


class VectorState(NamedTuple):
    """All that a step depends on beside the last word: a value.

    hiddens and cells hold one (R, N) for each LSTM layer; picture (R, 4N) is what the picture adds
    to the gates at every step, None where it adds nothing; locations is L, for the even map.
    """

    hiddens: tuple[Tensor, ...]
    cells: tuple[Tensor, ...]
    picture: Tensor | None
    locations: int

    def select(self, indices: Tensor) -> "VectorState":
        """Take rows `indices` (R',)."""
        picture = None if self.picture is None else self.picture[indices]
        hiddens, cells = (
            tuple(part[indices] for part in parts) for parts in (self.hiddens, self.cells)
        )
        return VectorState(hiddens, cells, picture, self.locations)


class _VectorDecoder(CaptionDecoder):
    """What both have in common: words in, words out, the first LSTM layer, one step repeated."""

    beta = (
        0.0  # how far the picture is let in at a word: what the answers show as the context's gate
    )

    def __init__(
        self, *, vocab_size: int, encoder_dim: int, embed_dim: int, decoder_dim: int, dropout: float
    ) -> None:
        """Build every part; `dropout` acts on the word embedding and on the readout."""
        super().__init__(
            vocab_size=vocab_size, encoder_dim=encoder_dim, embed_dim=embed_dim, dropout=dropout
        )
        self.lstm_word = nn.Linear(embed_dim, 4 * decoder_dim)
        self.lstm_hidden = nn.Linear(decoder_dim, 4 * decoder_dim, bias=False)
        self.readout_hidden = nn.Linear(decoder_dim, embed_dim)
        init_lstm_(self.lstm_word, self.lstm_hidden)

    def step(self, token_ids: Tensor, state: VectorState) -> StepOutput[VectorState]:
        """Read the last words (R,) and score the next ones."""
        state = self._advance(self.lstm_word(self.dropout(self.embedding(token_ids))), state)
        logits = self.logits(self._readout(state.hiddens[-1]))  # (R, V)
        alpha, beta = self._maps(logits, state, len(token_ids))
        return StepOutput(logits, alpha, beta, state)

    def forward(self, token_ids: Tensor, state: VectorState) -> DecoderOutput:
        """Teacher forcing: the same step over words (R, T)."""
        words = self.dropout(self.embedding(token_ids))  # (R, T, E)
        hiddens = []
        for word_gates in self.lstm_word(words).unbind(dim=1):
            state = self._advance(word_gates, state)
            hiddens.append(state.hiddens[-1])
        readout = self._readout(torch.stack(hiddens, dim=1))
        return DecoderOutput(readout, *self._maps(readout, state, *token_ids.shape))

    def _advance(self, word_gates: Tensor, state: VectorState) -> VectorState:
        """Update every layer; word_gates (R, 4N) are the last words' part of the first layer's
        input."""
        raise NotImplementedError

    def _readout(self, hidden: Tensor) -> Tensor:
        readout: Tensor = self.dropout(self.readout_hidden(hidden))
        return readout

    def _maps(self, like: Tensor, state: VectorState, *shape: int) -> tuple[Tensor, Tensor]:
        """Even alphas (*shape, L), and betas (*shape)."""
        alpha = like.new_full((*shape, state.locations), 1 / state.locations, dtype=torch.float32)
        return alpha, like.new_full(shape, self.beta, dtype=torch.float32)

    def _zeros(self, rows: int, layers: int) -> tuple[Tensor, ...]:
        return (self.output.weight.new_zeros(rows, self.lstm_hidden.in_features),) * layers


class NICDecoder(_VectorDecoder):
    """Show and Tell (Vinyals et al. 2015, equations 4 to 6 and 10 to 12): the picture is the LSTM's
    first input.

    x_{-1} = W_I CNN(I), x_t = W_e S_t, p_{t+1} = LSTM(x_t); after that first step the picture is
    not seen again.
    """

    def __init__(
        self, *, vocab_size: int, encoder_dim: int, embed_dim: int, decoder_dim: int, dropout: float
    ) -> None:
        """Build every part."""
        super().__init__(
            vocab_size=vocab_size,
            encoder_dim=encoder_dim,
            embed_dim=embed_dim,
            decoder_dim=decoder_dim,
            dropout=dropout,
        )
        self.picture = nn.Linear(encoder_dim, embed_dim)  # W_I

    def init_state(self, annotations: Tensor) -> VectorState:
        """Show annotations (B, L, D) as one vector, in the place of a word before the first."""
        vector = self.picture(self.normalise(annotations).mean(dim=1))  # (B, E)
        return self._advance(
            self.lstm_word(vector), self.blank_state(len(vector), annotations.shape[1])
        )

    def blank_state(self, rows: int, locations: int = 1) -> VectorState:
        """A state without a picture, for learning the language alone."""
        return VectorState(self._zeros(rows, 1), self._zeros(rows, 1), None, locations)

    def _advance(self, word_gates: Tensor, state: VectorState) -> VectorState:
        hidden, cell = lstm_update(word_gates + self.lstm_hidden(state.hiddens[0]), state.cells[0])
        return state._replace(hiddens=(hidden,), cells=(cell,))


class LRCNDecoder(_VectorDecoder):
    """Long-term recurrent convolutional network (Donahue et al. 2015, section 4.2 and figure 3).

    The vector enters at every step: unfactored (LRCN 1u), with the word, into the one layer;
    factored (LRCN 2f), with the first layer's output, into the second, so that the first layer
    knows words alone.
    """

    beta = 1.0

    def __init__(
        self,
        *,
        vocab_size: int,
        encoder_dim: int,
        embed_dim: int,
        decoder_dim: int,
        dropout: float,
        factored: bool,
    ) -> None:
        """Build one layer, or two where `factored`."""
        super().__init__(
            vocab_size=vocab_size,
            encoder_dim=encoder_dim,
            embed_dim=embed_dim,
            decoder_dim=decoder_dim,
            dropout=dropout,
        )
        self.factored = factored
        self.picture = nn.Linear(encoder_dim, embed_dim)
        self.lstm_picture = nn.Linear(embed_dim, 4 * decoder_dim, bias=False)
        if factored:
            self.lstm_below = nn.Linear(decoder_dim, 4 * decoder_dim)
            self.lstm_above = nn.Linear(decoder_dim, 4 * decoder_dim, bias=False)
            init_lstm_(self.lstm_below, self.lstm_above)

    def init_state(self, annotations: Tensor) -> VectorState:
        """Turn annotations (B, L, D) into one vector and what it adds to the gates at every
        step."""
        vector = torch.tanh(self.picture(self.normalise(annotations).mean(dim=1)))  # (B, E)
        return self.blank_state(len(vector), annotations.shape[1])._replace(
            picture=self.lstm_picture(vector)
        )

    def blank_state(self, rows: int, locations: int = 1) -> VectorState:
        """A state without a picture, for learning the language alone."""
        layers = 2 if self.factored else 1
        return VectorState(self._zeros(rows, layers), self._zeros(rows, layers), None, locations)

    def _advance(self, word_gates: Tensor, state: VectorState) -> VectorState:
        seen = 0.0 if state.picture is None else state.picture
        gates = word_gates + self.lstm_hidden(state.hiddens[0])
        if not self.factored:
            hidden, cell = lstm_update(gates + seen, state.cells[0])
            return state._replace(hiddens=(hidden,), cells=(cell,))
        below, cell_below = lstm_update(gates, state.cells[0])
        gates = self.lstm_below(self.dropout(below)) + self.lstm_above(state.hiddens[1]) + seen
        above, cell_above = lstm_update(gates, state.cells[1])
        return state._replace(hiddens=(below, above), cells=(cell_below, cell_above))
