"""The LSTM cell of every recurrent decoder, and its initial weights.

Knows neither words nor images.
"""

import torch
from torch import Tensor, nn

__all__ = ["init_lstm_", "lstm_update"]


def lstm_update(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the next hidden state and cell (R, N), from gates (R, 4N) and cell (R, N).

    Xu et al. 2015, equations 1 to 3; the gates in the order input, forget, output, candidate.
    """
    input_gate, forget_gate, output_gate, candidate = gates.chunk(4, dim=-1)
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * cell.tanh(), cell


def init_lstm_(from_input: nn.Linear, from_hidden: nn.Linear) -> None:
    """Initialize an LSTM in place: an orthogonal recurrence, and a forget gate that starts open."""
    size = from_hidden.in_features
    nn.init.orthogonal_(from_hidden.weight)
    with torch.no_grad():
        from_input.bias[size : 2 * size] = 1.0
