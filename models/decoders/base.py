"""What every writer is, and the first: an LSTM that looks before each word. Knows no strings and no
search.

B pictures, R = B * G rows grouped by picture (row r belongs to picture r // G), T time, L
locations, D encoder features, E embedding, N hidden, V vocabulary.
"""

from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from models.decoders.attention import AttentionKeys, build_attention
from models.decoders.lstm import init_lstm_, lstm_update

__all__ = ["AttentionDecoder", "CaptionDecoder", "DecoderOutput", "DecoderState", "StepOutput"]

StateT = TypeVar("StateT")


class DecoderState(NamedTuple):
    """All that a step depends on beside the last word: a value, never hidden on the module."""

    hidden: Tensor  # (R, N)
    cell: Tensor  # (R, N)
    memory: AttentionKeys | None  # per picture, shared by its G rows; None: no picture

    def select(self, indices: Tensor) -> "DecoderState":
        """Take rows `indices` (R',), again grouped by picture in the same order, as many for
        each picture."""
        return DecoderState(self.hidden[indices], self.cell[indices], self.memory)


class StepOutput(NamedTuple, Generic[StateT]):
    """What one step of any decoder gives: logits (R, V), alpha (R, L), beta (R,), and the state
    after the word."""

    logits: Tensor
    alpha: Tensor
    beta: Tensor
    state: StateT


class _Look(NamedTuple):
    """Where a step looked: gated context (R, D), alpha (R, L), beta (R,); see `AttentionOutput` for
    the last two (R,)."""

    context: Tensor
    alpha: Tensor
    beta: Tensor
    logprob: Tensor | None = None
    entropy: Tensor | None = None


class DecoderOutput(NamedTuple):
    """Teacher forcing's result: readout (R, T, E) before the output layer, alphas (R, T, L), betas
    (R, T).

    Where locations were drawn, their log-probabilities and the entropies of what they were drawn
    from, (R, T) each.
    """

    readout: Tensor
    alphas: Tensor
    betas: Tensor
    logprobs: Tensor | None = None
    entropies: Tensor | None = None


class CaptionDecoder(nn.Module):
    """What every decoder is: words in, words out, and between them one step, written once.

    A state is each decoder's own kind of value, with `select(indices)`; whoever holds one hands it
    back as it is.
    """

    def __init__(
        self, *, vocab_size: int, encoder_dim: int, embed_dim: int, dropout: float
    ) -> None:
        """Build what all have by the same names, so that bundles can have it in common."""
        super().__init__()
        self.normalise = nn.LayerNorm(encoder_dim)  # encoders differ in scale by a factor of ten
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.output = nn.Linear(embed_dim, vocab_size)  # L_o
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def init_state(self, annotations: Tensor) -> Any:
        """From annotations (B, L, D): a state of B rows, before the first word."""
        raise NotImplementedError

    def blank_state(self, rows: int) -> Any:
        """A state without a picture, for learning the language alone."""
        raise NotImplementedError

    def step(self, token_ids: Tensor, state: Any) -> StepOutput[Any]:
        """Read the last words (R,) and score the next ones."""
        raise NotImplementedError

    def forward(self, token_ids: Tensor, state: Any) -> DecoderOutput:
        """Teacher forcing: the same step over words (R, T).

        `logits(readout)` is left to the caller, who may want it only where a word counts.
        """
        raise NotImplementedError

    def logits(self, readout: Tensor) -> Tensor:
        """Score the vocabulary: (..., E) -> (..., V), the outer L_o of equation 7."""
        scores: Tensor = self.output(readout)
        return scores


class AttentionDecoder(CaptionDecoder):
    """The decoder of Show, Attend and Tell (Xu et al. 2015, section 3.1.2)."""

    def __init__(
        self,
        *,
        vocab_size: int,
        encoder_dim: int,
        embed_dim: int,
        decoder_dim: int,
        attention_dim: int,
        dropout: float,
        attention: str = "additive",
    ) -> None:
        """Build every part, with attention of that kind; `dropout` acts on the word embedding
        and on the readout."""
        super().__init__(
            vocab_size=vocab_size, encoder_dim=encoder_dim, embed_dim=embed_dim, dropout=dropout
        )
        self.attention = build_attention(attention, encoder_dim, decoder_dim, attention_dim)
        self.init_hidden = nn.Linear(encoder_dim, decoder_dim)  # f_init,h
        self.init_cell = nn.Linear(encoder_dim, decoder_dim)  # f_init,c
        self.gate = nn.Linear(decoder_dim, 1)  # f_beta
        self.lstm_word = nn.Linear(
            embed_dim, 4 * decoder_dim
        )  # T of equation 1, by the parts of its input
        self.lstm_context = nn.Linear(encoder_dim, 4 * decoder_dim, bias=False)
        self.lstm_hidden = nn.Linear(decoder_dim, 4 * decoder_dim, bias=False)
        self.readout_hidden = nn.Linear(decoder_dim, embed_dim)  # L_h
        self.readout_context = nn.Linear(encoder_dim, embed_dim, bias=False)  # L_z
        init_lstm_(self.lstm_word, self.lstm_hidden)

    def init_state(self, annotations: Tensor) -> DecoderState:
        """From annotations (B, L, D): memory and hidden state by two MLPs of their mean (section
        3.1.2)."""
        annotations = self.normalise(annotations)
        mean = annotations.mean(dim=1)  # (B, D)
        hidden, cell = (
            torch.tanh(self.init_hidden(mean)),
            torch.tanh(self.init_cell(mean)),
        )  # (B, N)
        return DecoderState(hidden, cell, self.attention.project_keys(annotations))

    def blank_state(self, rows: int) -> DecoderState:
        """A state without a picture, for learning the language alone: hidden state and every
        context are zero."""
        zeros = self.output.weight.new_zeros(rows, self.gate.in_features)
        return DecoderState(zeros, zeros, None)

    def step(self, token_ids: Tensor, state: DecoderState) -> StepOutput[DecoderState]:
        """Read the last words (R,), look, and score the next ones."""
        word = self.dropout(self.embedding(token_ids))  # (R, E)
        look, state = self._advance(self.lstm_word(word), state)
        logits = self.logits(self._readout(word, state.hidden, look.context))  # (R, V)
        return StepOutput(logits, look.alpha, look.beta, state)

    def forward(self, token_ids: Tensor, state: DecoderState) -> DecoderOutput:
        """Teacher forcing: the same step over words (R, T), what does not depend on the step
        before done at once."""
        words = self.dropout(self.embedding(token_ids))  # (R, T, E)
        looks, hiddens = [], []
        for word_gates in self.lstm_word(words).unbind(dim=1):
            look, state = self._advance(word_gates, state)
            looks.append(look)
            hiddens.append(state.hidden)
        contexts = torch.stack([look.context for look in looks], dim=1)
        return DecoderOutput(
            readout=self._readout(words, torch.stack(hiddens, dim=1), contexts),
            alphas=torch.stack([look.alpha for look in looks], dim=1),
            betas=torch.stack([look.beta for look in looks], dim=1),
            logprobs=_stack([look.logprob for look in looks]),
            entropies=_stack([look.entropy for look in looks]),
        )

    def _advance(self, word_gates: Tensor, state: DecoderState) -> tuple[_Look, DecoderState]:
        """Look, then update the memory cell: word_gates (R, 4N) are the last words' part of the
        LSTM's input."""
        gates = word_gates + self.lstm_hidden(state.hidden)  # (R, 4N)
        if state.memory is None:
            nothing = gates.new_zeros(len(gates))
            look = _Look(
                gates.new_zeros(len(gates), self.lstm_context.in_features),
                nothing.unsqueeze(1),
                nothing,
            )
        else:
            look = self._look(state.memory, state.hidden)
            gates = gates + self.lstm_context(look.context)
        hidden, cell = lstm_update(gates, state.cell)
        return look, DecoderState(hidden, cell, state.memory)

    def _look(self, memory: AttentionKeys, hidden: Tensor) -> _Look:
        """Attend with the hidden state before the word, and gate what was seen (section 4.2.1)."""
        glance = self.attention(memory, hidden)
        beta = torch.sigmoid(self.gate(hidden))  # (R, 1)
        return _Look(
            beta * glance.context, glance.alpha, beta.squeeze(-1), glance.logprob, glance.entropy
        )

    def _readout(self, words: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """Words (..., E), hidden (..., N) and context (..., D) to (..., E): the inner part of
        equation 7."""
        readout: Tensor = self.dropout(
            words + self.readout_hidden(hidden) + self.readout_context(context)
        )
        return readout


def _stack(parts: list[Tensor | None]) -> Tensor | None:
    """Set what steps gave (R,) side by side: (R, T); None where they gave nothing."""
    there = [part for part in parts if part is not None]
    return torch.stack(there, dim=1) if there else None
