"""The decoder of Show, Attend and Tell (Xu et al. 2015): an LSTM that attends before each word.

Knows no strings and no search.

Letters in shapes: see `models`. Equations and sections are those of the paper.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.decoders.attention import AttentionKeys, AttentionOutput, build_attention
from models.decoders.base import CaptionDecoder, DecoderOutput, StepOutput
from models.decoders.config import AttentionConfig
from models.decoders.lstm import init_lstm_, lstm_update
from models.decoders.tag_attention import Copies, TagAttention, TagKeys, TagOutput
from models.features import Tags

__all__ = ["AttentionDecoder", "AttentionState"]


class AttentionState(NamedTuple):
    """Everything that a step depends on besides the last word.

    hidden (R, N), cell (R, N); keys and tags: of B images, each shared by its G rows; None without
    an image, and where the decoder attends to no tags.
    """

    hidden: Tensor
    cell: Tensor
    keys: AttentionKeys | None
    tags: TagKeys | None = None

    def select(self, indices: Tensor, images: Tensor | None = None) -> "AttentionState":
        """Take rows `indices` (R',), as `models.decoding.State` says."""
        keys, tags = self.keys, self.tags
        if images is not None:
            keys = None if keys is None else keys.select(images)
            tags = None if tags is None else tags.select(images)
        return AttentionState(self.hidden[indices], self.cell[indices], keys, tags)


class _Attended(NamedTuple):
    """What a step attended to: the output of the attention, its context gated by beta (R,).

    tags: the same of the tags, where there are any; the map then is of cells and tags together.
    """

    output: AttentionOutput
    beta: Tensor
    tags: TagOutput | None = None


class AttentionDecoder(CaptionDecoder):
    """The decoder of section 3.1.2, with a gate on the context (section 4.2.1).

    Where its configuration says so it also attends to tags, with an attention of their own. Its
    map then is what it looked at in all: alpha for the share of no tag, and for the rest the places
    of the tags.
    """

    def __init__(self, config: AttentionConfig, vocab_size: int, encoder_dim: int) -> None:
        """Build with random weights; dropout acts on the word embedding and on the readout."""
        embed_dim = config.embed_dim
        decoder_dim = config.decoder_dim
        super().__init__(
            vocab_size=vocab_size,
            encoder_dim=encoder_dim,
            embed_dim=embed_dim,
            dropout=config.dropout,
        )
        self.attention = build_attention(
            config.attention, encoder_dim, decoder_dim, config.attention_dim
        )
        self.init_hidden = nn.Linear(encoder_dim, decoder_dim)  # f_init,h
        self.init_cell = nn.Linear(encoder_dim, decoder_dim)  # f_init,c
        self.gate = nn.Linear(decoder_dim, 1)  # f_beta
        # T of equation 1, by the parts of its input
        self.lstm_word = nn.Linear(embed_dim, 4 * decoder_dim)
        self.lstm_context = nn.Linear(encoder_dim, 4 * decoder_dim, bias=False)
        self.lstm_hidden = nn.Linear(decoder_dim, 4 * decoder_dim, bias=False)
        self.readout_hidden = nn.Linear(decoder_dim, embed_dim)  # L_h
        self.readout_context = nn.Linear(encoder_dim, embed_dim, bias=False)  # L_z
        init_lstm_(self.lstm_word, self.lstm_hidden)
        self.tags: TagAttention | None = None
        if config.tags:
            self._add_tags(config, encoder_dim)

    def _add_tags(self, config: AttentionConfig, encoder_dim: int) -> None:
        """Build the attention to tags; its context adds nothing at first."""
        self.tags = TagAttention(
            encoder_dim=encoder_dim,
            decoder_dim=config.decoder_dim,
            attention_dim=config.attention_dim,
            embed_dim=config.embed_dim,
        )
        self.lstm_tags = nn.Linear(config.embed_dim, 4 * config.decoder_dim, bias=False)
        self.readout_tags = nn.Linear(config.embed_dim, config.embed_dim, bias=False)
        nn.init.zeros_(self.lstm_tags.weight)
        nn.init.zeros_(self.readout_tags.weight)

    def init_state(
        self, annotations: Tensor, tags: Tags | None = None, mask: Tensor | None = None
    ) -> AttentionState:
        """Give the first state of annotations (B, L, D): two MLPs of their mean (section 3.1.2).

        mask: (B, L), which annotations there are, where inputs differ in length; None for all.
        """
        annotations = self.normalise(annotations)
        mean = annotations.mean(dim=1) if mask is None else _masked_mean(annotations, mask)
        hidden = torch.tanh(self.init_hidden(mean))  # (B, N)
        cell = torch.tanh(self.init_cell(mean))  # (B, N)
        keys = self.attention.project_keys(annotations)._replace(mask=mask)
        if self.tags is None or tags is None:
            return AttentionState(hidden, cell, keys)
        tag_keys = self.tags.prepare(tags, annotations, self.embedding)
        return AttentionState(hidden, cell, keys, tag_keys)

    def blank_state(self, rows: int, tags: Tags | None = None) -> AttentionState:
        """Give a state without an image: the hidden state and every context of cells are zero."""
        zeros = self.output.weight.new_zeros(rows, self.gate.in_features)
        if self.tags is None or tags is None:
            return AttentionState(zeros, zeros, None)
        return AttentionState(zeros, zeros, None, self.tags.prepare(tags, None, self.embedding))

    def step(self, token_ids: Tensor, state: AttentionState) -> StepOutput[AttentionState]:
        """Read the last words (R,), attend, and score the next ones."""
        word = self.dropout(self.embedding(token_ids))  # (R, E)
        attended, state = self._advance(self.lstm_word(word), state)
        context, alpha, *_ = attended.output
        tags = attended.tags
        readout = self._readout(word, state.hidden, context, None if tags is None else tags.context)
        copies = None if tags is None else _copies(tags.gains, state.tags)
        logits = self.logits(readout, copies)  # (R, V)
        return StepOutput(
            logits, alpha, attended.beta, state, None if tags is None else tags.shares
        )

    def forward(self, token_ids: Tensor, state: AttentionState) -> DecoderOutput:
        """Repeat the step over words (R, T).

        What does not depend on earlier steps is computed at once.
        """
        words = self.dropout(self.embedding(token_ids))  # (R, T, E)
        steps: list[_Attended] = []
        hiddens: list[Tensor] = []
        for word_gates in self.lstm_word(words).unbind(dim=1):
            attended, state = self._advance(word_gates, state)
            steps.append(attended)
            hiddens.append(state.hidden)
        outputs = [step.output for step in steps]
        contexts = torch.stack([output.context for output in outputs], dim=1)  # (R, T, D)
        tags = [step.tags for step in steps if step.tags is not None]
        tag_contexts = _stack([each.context for each in tags])
        gains = _stack([each.gains for each in tags])
        return DecoderOutput(
            readout=self._readout(words, torch.stack(hiddens, dim=1), contexts, tag_contexts),
            alphas=torch.stack([output.alpha for output in outputs], dim=1),
            betas=torch.stack([step.beta for step in steps], dim=1),
            copies=None if gains is None else _copies(gains, state.tags),
            logprobs=_stack([output.logprob for output in outputs]),
            entropies=_stack([output.entropy for output in outputs]),
        )

    def _advance(
        self, word_gates: Tensor, state: AttentionState
    ) -> tuple[_Attended, AttentionState]:
        """Attend, then update the cell.

        word_gates (R, 4N): what the last words add to the gates.
        """
        gates = word_gates + self.lstm_hidden(state.hidden)  # (R, 4N)
        if state.keys is None:
            zeros = gates.new_zeros(len(gates))
            context = gates.new_zeros(len(gates), self.lstm_context.in_features)
            attended = _Attended(AttentionOutput(context, zeros.unsqueeze(1)), zeros)
        else:
            attended = self._attend(state.keys, state.hidden)
            gates = gates + self.lstm_context(attended.output.context)
        if self.tags is not None and state.tags is not None:
            tags: TagOutput = self.tags(state.tags, state.hidden)
            attended = _look_at_both(attended, tags)
            gates = gates + self.lstm_tags(tags.context)
        hidden, cell = lstm_update(gates, state.cell)
        return attended, state._replace(hidden=hidden, cell=cell)

    def _attend(self, keys: AttentionKeys, hidden: Tensor) -> _Attended:
        """Attend with the hidden state before the word, and gate the context (section 4.2.1)."""
        output: AttentionOutput = self.attention(keys, hidden)
        beta = torch.sigmoid(self.gate(hidden))  # (R, 1)
        return _Attended(output._replace(context=beta * output.context), beta.squeeze(-1))

    def _readout(
        self, words: Tensor, hidden: Tensor, context: Tensor, tag_context: Tensor | None
    ) -> Tensor:
        """Combine words (..., E), hidden (..., N), context (..., D) and that of the tags (..., E).

        The inner part of equation 7, (..., E).
        """
        inner = words + self.readout_hidden(hidden) + self.readout_context(context)
        if tag_context is not None:
            inner = inner + self.readout_tags(tag_context)
        readout: Tensor = self.dropout(inner)
        return readout


def _masked_mean(annotations: Tensor, mask: Tensor) -> Tensor:
    """Average annotations (B, L, D) where mask (B, L) is true: (B, D)."""
    weights = mask.to(annotations.dtype) / mask.sum(dim=1, keepdim=True)  # (B, L)
    return torch.bmm(weights.unsqueeze(1), annotations).squeeze(1)


def _look_at_both(cells: _Attended, tags: TagOutput) -> _Attended:
    """Join what was attended to among the cells and among the tags: the map is of both."""
    alpha = tags.none.unsqueeze(1) * cells.output.alpha + tags.place  # (R, L)
    return cells._replace(output=cells.output._replace(alpha=alpha), tags=tags)


def _copies(gains: Tensor, tags: TagKeys | None) -> Copies:
    """Name the words that gains (R, C) or (R, T, C) are of."""
    assert tags is not None
    ids = tags.word_ids.flatten(1)  # (B, C)
    rows = ids.repeat_interleave(len(gains) // len(ids), dim=0)  # (R, C)
    return Copies(rows.view(len(gains), *[1] * (gains.dim() - 2), -1).expand_as(gains), gains)


def _stack(parts: list[Tensor | None]) -> Tensor | None:
    """Stack what the steps gave (R,) to (R, T); None where they gave nothing."""
    present = [part for part in parts if part is not None]
    return torch.stack(present, dim=1) if present else None
