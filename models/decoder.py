"""The writer: an LSTM that looks before each word. One step, written once; knows no strings and no search.

B pictures, R = B * G rows grouped by picture (row r belongs to picture r // G), T time, L locations,
D encoder features, E embedding, N hidden, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.attention import AdditiveAttention, AttentionMemory

__all__ = ["AttentionDecoder", "DecoderOutput", "DecoderState", "StepOutput"]


class DecoderState(NamedTuple):
    """All that a step depends on beside the last word: a value, never hidden on the module."""

    hidden: Tensor  # (R, N)
    cell: Tensor  # (R, N)
    memory: AttentionMemory | None  # per picture, shared by its G rows; None: no picture

    def select(self, indices: Tensor) -> "DecoderState":
        """Take rows `indices` (R',), again grouped by picture in the same order, as many for each picture."""
        return DecoderState(self.hidden[indices], self.cell[indices], self.memory)


class StepOutput(NamedTuple):
    """What one step gives: logits (R, V), alpha (R, L), beta (R,), and the state after the word."""

    logits: Tensor
    alpha: Tensor
    beta: Tensor
    state: DecoderState


class _Look(NamedTuple):
    """Where a step looked: gated context (R, D), alpha (R, L), beta (R,)."""

    context: Tensor
    alpha: Tensor
    beta: Tensor


class DecoderOutput(NamedTuple):
    """Teacher forcing's result: readout (R, T, E) before the output layer, alphas (R, T, L), betas (R, T)."""

    readout: Tensor
    alphas: Tensor
    betas: Tensor


class AttentionDecoder(nn.Module):
    """The decoder of Show, Attend and Tell (Xu et al. 2015, section 3.1.2)."""

    def __init__(
        self, *, vocab_size: int, encoder_dim: int, embed_dim: int, decoder_dim: int, attention_dim: int, dropout: float
    ) -> None:
        """Build every part; `dropout` acts on the word embedding and on the readout."""
        super().__init__()
        self.normalise = nn.LayerNorm(encoder_dim)  # encoders differ in scale by a factor of ten
        self.attention = AdditiveAttention(encoder_dim, decoder_dim, attention_dim)
        self.init_hidden = nn.Linear(encoder_dim, decoder_dim)  # f_init,h
        self.init_cell = nn.Linear(encoder_dim, decoder_dim)  # f_init,c
        self.gate = nn.Linear(decoder_dim, 1)  # f_beta
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.lstm_word = nn.Linear(embed_dim, 4 * decoder_dim)  # T of equation 1, by the parts of its input
        self.lstm_context = nn.Linear(encoder_dim, 4 * decoder_dim, bias=False)
        self.lstm_hidden = nn.Linear(decoder_dim, 4 * decoder_dim, bias=False)
        self.readout_hidden = nn.Linear(decoder_dim, embed_dim)  # L_h
        self.readout_context = nn.Linear(encoder_dim, embed_dim, bias=False)  # L_z
        self.output = nn.Linear(embed_dim, vocab_size)  # L_o
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.orthogonal_(self.lstm_hidden.weight)
        nn.init.constant_(self.lstm_word.bias[decoder_dim : 2 * decoder_dim], 1.0)  # remember at first

    def init_state(self, annotations: Tensor) -> DecoderState:
        """From annotations (B, L, D): memory and hidden state by two MLPs of their mean (section 3.1.2)."""
        annotations = self.normalise(annotations)
        mean = annotations.mean(dim=1)  # (B, D)
        hidden, cell = torch.tanh(self.init_hidden(mean)), torch.tanh(self.init_cell(mean))  # (B, N)
        return DecoderState(hidden, cell, self.attention.remember(annotations))

    def blank_state(self, rows: int) -> DecoderState:
        """A state without a picture, for learning the language alone: hidden state and every context are zero."""
        zeros = self.output.weight.new_zeros(rows, self.gate.in_features)
        return DecoderState(zeros, zeros, None)

    def step(self, token_ids: Tensor, state: DecoderState) -> StepOutput:
        """Read the last words (R,), look, and score the next ones."""
        word = self.dropout(self.embedding(token_ids))  # (R, E)
        look, state = self._advance(self.lstm_word(word), state)
        logits = self.logits(self._readout(word, state.hidden, look.context))  # (R, V)
        return StepOutput(logits, look.alpha, look.beta, state)

    def forward(self, token_ids: Tensor, state: DecoderState) -> DecoderOutput:
        """Teacher forcing: the same step over words (R, T), what does not depend on the step before done at once.

        `logits(readout)` is left to the caller, who may want it only where a word counts.
        """
        words = self.dropout(self.embedding(token_ids))  # (R, T, E)
        looks, hiddens = [], []
        for word_gates in self.lstm_word(words).unbind(dim=1):
            look, state = self._advance(word_gates, state)
            looks.append(look)
            hiddens.append(state.hidden)
        contexts, alphas, betas = (torch.stack(parts, dim=1) for parts in zip(*looks, strict=True))
        return DecoderOutput(self._readout(words, torch.stack(hiddens, dim=1), contexts), alphas, betas)

    def logits(self, readout: Tensor) -> Tensor:
        """Score the vocabulary: (..., E) -> (..., V), the outer L_o of equation 7."""
        scores: Tensor = self.output(readout)
        return scores

    def _advance(self, word_gates: Tensor, state: DecoderState) -> tuple[_Look, DecoderState]:
        """Look, then update the memory cell: word_gates (R, 4N) are the last words' part of the LSTM's input."""
        gates = word_gates + self.lstm_hidden(state.hidden)  # (R, 4N)
        if state.memory is None:
            nothing = gates.new_zeros(len(gates))
            look = _Look(gates.new_zeros(len(gates), self.lstm_context.in_features), nothing.unsqueeze(1), nothing)
        else:
            look = self._look(state.memory, state.hidden)
            gates = gates + self.lstm_context(look.context)
        input_gate, forget_gate, output_gate, candidate = gates.chunk(4, dim=-1)  # (R, N) each, equation 1
        cell = forget_gate.sigmoid() * state.cell + input_gate.sigmoid() * candidate.tanh()  # equation 2
        hidden = output_gate.sigmoid() * cell.tanh()  # equation 3
        return look, DecoderState(hidden, cell, state.memory)

    def _look(self, memory: AttentionMemory, hidden: Tensor) -> _Look:
        """Attend with the hidden state before the word, and gate what was seen (section 4.2.1)."""
        context, alpha = self.attention(memory, hidden)  # (R, D), (R, L)
        beta = torch.sigmoid(self.gate(hidden))  # (R, 1)
        return _Look(beta * context, alpha, beta.squeeze(-1))

    def _readout(self, words: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """Words (..., E), hidden (..., N) and context (..., D) to (..., E): the inner part of equation 7."""
        readout: Tensor = self.dropout(words + self.readout_hidden(hidden) + self.readout_context(context))
        return readout
