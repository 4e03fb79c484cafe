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
    memory: AttentionMemory  # per picture, shared by its G rows

    def select(self, indices: Tensor) -> "DecoderState":
        """Take rows `indices` (R',), again grouped by picture in the same order, as many for each picture."""
        return DecoderState(self.hidden[indices], self.cell[indices], self.memory)


class StepOutput(NamedTuple):
    """What one step gives: logits (R, V), alpha (R, L), beta (R,), and the state after the word."""

    logits: Tensor
    alpha: Tensor
    beta: Tensor
    state: DecoderState


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
        self.lstm = nn.LSTMCell(embed_dim + encoder_dim, decoder_dim)
        self.readout_hidden = nn.Linear(decoder_dim, embed_dim)  # L_h
        self.readout_context = nn.Linear(encoder_dim, embed_dim, bias=False)  # L_z
        self.output = nn.Linear(embed_dim, vocab_size)  # L_o
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def init_state(self, annotations: Tensor) -> DecoderState:
        """From annotations (B, L, D): memory and hidden state by two MLPs of their mean (section 3.1.2)."""
        annotations = self.normalise(annotations)
        mean = annotations.mean(dim=1)  # (B, D)
        hidden, cell = torch.tanh(self.init_hidden(mean)), torch.tanh(self.init_cell(mean))  # (B, N)
        return DecoderState(hidden, cell, self.attention.remember(annotations))

    def step(self, token_ids: Tensor, state: DecoderState) -> StepOutput:
        """Read the last words (R,), look, and score the next ones."""
        readout, alpha, beta, state = self._advance(self.dropout(self.embedding(token_ids)), state)
        return StepOutput(self.logits(readout), alpha, beta, state)

    def forward(self, token_ids: Tensor, state: DecoderState) -> DecoderOutput:
        """Teacher forcing: the same step over words (R, T); `logits(readout)` is left to the caller, who may
        want it only where a word counts."""
        embedded = self.dropout(self.embedding(token_ids))  # (R, T, E)
        steps = []
        for word in embedded.unbind(dim=1):
            *outputs, state = self._advance(word, state)
            steps.append(outputs)
        readout, alphas, betas = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
        return DecoderOutput(readout, alphas, betas)

    def logits(self, readout: Tensor) -> Tensor:
        """Score the vocabulary: (..., E) -> (..., V), the outer L_o of equation 7."""
        scores: Tensor = self.output(readout)
        return scores

    def _advance(self, word: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, Tensor, DecoderState]:
        """One step from embedded words (R, E): readout (R, E), alpha (R, L), beta (R,), next state."""
        context, alpha = self.attention(state.memory, state.hidden)  # (R, D), (R, L)
        beta = torch.sigmoid(self.gate(state.hidden))  # (R, 1), section 4.2.1
        context = beta * context  # (R, D)
        inputs = torch.cat([word, context.to(word.dtype)], dim=-1)  # (R, E + D)
        hidden, cell = self.lstm(inputs, (state.hidden, state.cell))  # (R, N), equations 1 to 3
        readout = word + self.readout_hidden(hidden) + self.readout_context(context)  # (R, E), inner equation 7
        return self.dropout(readout), alpha, beta.squeeze(-1), DecoderState(hidden, cell, state.memory)
