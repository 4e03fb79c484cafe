"""The decoders of LRCN (Donahue et al. 2015): the image enters an LSTM at every step.

Knows no strings and no locations.

Letters in shapes: see `models`.
"""

import torch
from torch import Tensor, nn

from models.decoders.config import LRCNConfig
from models.decoders.image_vector import VectorDecoder, VectorState
from models.decoders.lstm import init_lstm_, lstm_update
from models.features import Tags

__all__ = ["LRCNDecoder"]


class LRCNDecoder(VectorDecoder):
    """Long-term recurrent convolutional network (section 4.2 and figure 3 of the paper).

    Unfactored (LRCN 1u), the vector enters the one layer with the word. Factored (LRCN 2f), it
    enters the second layer with the output of the first, so that the first reads words alone.
    """

    beta = 1.0

    def __init__(self, config: LRCNConfig, vocab_size: int, encoder_dim: int) -> None:
        """Build with random weights: one LSTM layer, or two if factored."""
        decoder_dim = config.decoder_dim
        super().__init__(
            vocab_size=vocab_size,
            encoder_dim=encoder_dim,
            embed_dim=config.embed_dim,
            decoder_dim=decoder_dim,
            dropout=config.dropout,
        )
        self.factored = config.kind == "lrcn-factored"
        self.picture = nn.Linear(encoder_dim, config.embed_dim)
        self.lstm_picture = nn.Linear(config.embed_dim, 4 * decoder_dim, bias=False)
        if self.factored:
            self.layers = 2
            self.lstm_below = nn.Linear(decoder_dim, 4 * decoder_dim)
            self.lstm_above = nn.Linear(decoder_dim, 4 * decoder_dim, bias=False)
            init_lstm_(self.lstm_below, self.lstm_above)

    def init_state(self, annotations: Tensor, _tags: Tags | None = None) -> VectorState:
        """Give the first state of annotations (B, L, D): what their mean adds at every step."""
        vector = torch.tanh(self.picture(self.normalise(annotations).mean(dim=1)))  # (B, E)
        blank = self.blank_state(len(vector), locations=annotations.shape[1])
        return blank._replace(image_gates=self.lstm_picture(vector))

    def _advance(self, word_gates: Tensor, state: VectorState) -> VectorState:
        image_gates = 0.0 if state.image_gates is None else state.image_gates
        gates = word_gates + self.lstm_hidden(state.hiddens[0])
        if not self.factored:
            hidden, cell = lstm_update(gates + image_gates, state.cells[0])
            return state._replace(hiddens=(hidden,), cells=(cell,))
        below, cell_below = lstm_update(gates, state.cells[0])
        gates = self.lstm_below(self.dropout(below)) + self.lstm_above(state.hiddens[1])
        above, cell_above = lstm_update(gates + image_gates, state.cells[1])
        return state._replace(hiddens=(below, above), cells=(cell_below, cell_above))
