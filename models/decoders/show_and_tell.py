"""The decoder of Show and Tell (Vinyals et al. 2015): the image is the first input of an LSTM.

Knows no strings and no locations.

Letters in shapes: see `models`. Equations are those of the paper.
"""

from torch import Tensor, nn

from models.decoders.config import NICConfig
from models.decoders.image_vector import VectorDecoder, VectorState
from models.decoders.lstm import lstm_update
from models.features import Tags

__all__ = ["NICDecoder"]


class NICDecoder(VectorDecoder):
    """The Neural Image Caption generator (equations 4 to 6 and 10 to 12).

    x_{-1} = W_I CNN(I), x_t = W_e S_t, p_{t+1} = LSTM(x_t). After the first step the decoder does
    not see the image again.
    """

    def __init__(self, config: NICConfig, vocab_size: int, encoder_dim: int) -> None:
        """Build with random weights."""
        super().__init__(
            vocab_size=vocab_size,
            encoder_dim=encoder_dim,
            embed_dim=config.embed_dim,
            decoder_dim=config.decoder_dim,
            dropout=config.dropout,
        )
        self.picture = nn.Linear(encoder_dim, config.embed_dim)  # W_I

    def init_state(self, annotations: Tensor, _tags: Tags | None = None) -> VectorState:
        """Read the mean of annotations (B, L, D) in the place of a word before the first."""
        vector = self.picture(self.normalise(annotations).mean(dim=1))  # (B, E)
        blank = self.blank_state(len(vector), locations=annotations.shape[1])
        return self._advance(self.lstm_word(vector), blank)

    def _advance(self, word_gates: Tensor, state: VectorState) -> VectorState:
        gates = word_gates + self.lstm_hidden(state.hiddens[0])
        hidden, cell = lstm_update(gates, state.cells[0])
        return state._replace(hiddens=(hidden,), cells=(cell,))
