"""Encoder and decoder of a translator as one torch module. Knows no strings, search or files.

The decoders are those that caption, reading annotations of subwords instead of cells. Letters in
shapes: see `models.translation`.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from models.decoders.base import DecoderOutput
from models.decoders.config import AttentionConfig, TransformerConfig
from models.decoders.show_attend_tell import AttentionDecoder
from models.decoders.transformer import TransformerDecoder
from models.translation.config import (
    AttentionArchitecture,
    RecurrentArchitecture,
    TransformerArchitecture,
    TranslationConfig,
)
from models.translation.encoders import RecurrentEncoder, SourceEncoding, TransformerEncoder
from models.translation.subwords import PAD
from models.translation.vector_decoder import SentenceVectorDecoder

__all__ = ["TranslationModel", "build_translation_model", "pad_sentences", "tied_names"]

_SOURCE = "encoder.embedding.weight"
_TARGET = "decoder.embedding.weight"
_OUTPUT = "decoder.output.weight"

Decoder = SentenceVectorDecoder | AttentionDecoder | TransformerDecoder
Encoder = RecurrentEncoder | TransformerEncoder


class TranslationModel(nn.Module):
    """A source encoder and a decoder, whose embeddings may be one."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        """Take both halves."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, token_ids: Tensor) -> SourceEncoding:
        """Read sentences (B, L) with eos, padded behind with pad, each with at least one id."""
        encoding: SourceEncoding = self.encoder(token_ids, token_ids != PAD)
        return encoding

    def init_state(self, source: SourceEncoding) -> Any:
        """Give the decoder's state of B rows, before the first subword."""
        if isinstance(self.decoder, SentenceVectorDecoder):
            return self.decoder.begin(source)
        return self.decoder.init_state(source.annotations, None, source.mask)

    def forward(self, source_ids: Tensor, input_ids: Tensor) -> DecoderOutput:
        """Teacher forcing: source_ids (B, L) and the target's subwords from bos on (B, T)."""
        output: DecoderOutput = self.decoder(input_ids, self.init_state(self.encode(source_ids)))
        return output


def build_translation_model(config: TranslationConfig) -> TranslationModel:
    """Build a translator with random weights. Raises ConfigError where it cannot be."""
    architecture = config.architecture
    embed_dim = architecture.embed_dim
    decoder = _build_decoder(architecture, config.target_vocab_size)
    embedding = decoder.embedding
    if not config.joint:
        embedding = nn.Embedding(config.source_vocab_size, embed_dim)
        nn.init.normal_(embedding.weight, std=0.1)
    if config.tied:
        decoder.output.weight = decoder.embedding.weight
    return TranslationModel(_build_encoder(architecture, embedding), decoder)


def tied_names(config: TranslationConfig) -> dict[str, str]:
    """Name the tensors that are others under a second name: second name -> first."""
    names = {_SOURCE: _TARGET} if config.joint else {}
    return names | ({_OUTPUT: _TARGET} if config.tied else {})


def pad_sentences(sentences: Collection[list[int]]) -> Tensor:
    """Give sentences as ids (B, L), with pad behind."""
    longest = max(map(len, sentences))
    return torch.tensor([ids + [PAD] * (longest - len(ids)) for ids in sentences])


def _build_decoder(architecture: Any, vocab_size: int) -> Decoder:
    embed_dim, dropout = architecture.embed_dim, architecture.dropout
    if isinstance(architecture, RecurrentArchitecture):
        return SentenceVectorDecoder(architecture, vocab_size)
    if isinstance(architecture, AttentionArchitecture):
        attending = AttentionConfig(
            embed_dim=embed_dim,
            dropout=dropout,
            attention=architecture.attention,
            decoder_dim=architecture.decoder_dim,
            attention_dim=architecture.attention_dim,
        )
        return AttentionDecoder(attending, vocab_size, architecture.encoder_dim)
    assert isinstance(architecture, TransformerArchitecture)
    transformer = TransformerConfig(
        embed_dim=embed_dim,
        dropout=dropout,
        decoder_dim=architecture.feedforward_dim,
        layers=architecture.decoder_layers,
        heads=architecture.heads,
    )
    return TransformerDecoder(transformer, vocab_size, architecture.encoder_dim)


def _build_encoder(architecture: Any, embedding: nn.Embedding) -> Encoder:
    if isinstance(architecture, TransformerArchitecture):
        return TransformerEncoder(embedding, architecture)
    return RecurrentEncoder(
        embedding,
        encoder_dim=architecture.encoder_dim,
        bidirectional=isinstance(architecture, AttentionArchitecture),
        dropout=architecture.dropout,
    )
