"""The captioner: prepares images, encodes them, searches for captions and describes what it found.

    image files -> prepare -> encode -> caption_features -> captions with their maps

Whoever captions, measures, calibrates, times or draws goes through these methods, so that what is
scored is what is served. It computes through a `Runtime` and knows none of them, nor files.

B images, S their side in pixels, G captions an image, T tokens, L locations, D encoder features.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.array_features import Features
from models.calibration import CalibrationConfig, caption_confidence, word_confidence
from models.caption import (
    Caption,
    Hypothesis,
    ImageTag,
    ModelInfo,
    RuntimeInfo,
    TokenScores,
    Word,
)
from models.config import DecodingOptions
from models.decoding import Ints, ScoredCaption, decode
from models.echoes import EchoRules, NoEcho
from models.geometry import CellGrid
from models.preprocessing import DecodeLimits, PreparedImage, decode_image, prepare_image
from models.runtime import Runtime
from models.tagging.describe import describe_tags
from models.tokenizer import Vocabulary

__all__ = ["NetworkCaptioner"]


class NetworkCaptioner:
    """A model that captions images through a runtime.

    Encode once, ask often: captioners of one `encoding` share the features of `encode`.
    """

    def __init__(
        self, runtime: Runtime[Any], vocabulary: Vocabulary, info: ModelInfo, *, kept: object = None
    ) -> None:
        """Take the parts of a model.

        kept: what has to live as long as this captioner, such as the shared tensors that other
            captioners look up.
        """
        self._runtime = runtime
        self._words = vocabulary
        self._echo_rules = EchoRules(vocabulary.tokens)
        self._info = info
        self._kept = kept

    @property
    def info(self) -> ModelInfo:
        """Name, digest, configuration and measured quality."""
        return self._info

    @property
    def grid(self) -> CellGrid:
        """Where the cells of every map lie on any image."""
        return self._runtime.grid

    @property
    def runtime(self) -> RuntimeInfo:
        """What it computes with, as the calling thread would compute."""
        return self._runtime.describe()

    @property
    def precision(self) -> str:
        """What the encoder computes in."""
        return self._runtime.precision

    def encoding(self) -> str:
        """Identify what `encode` gives: equal for captioners whose features are the same."""
        return self._runtime.fingerprint()

    def prepare(self, data: bytes, limits: DecodeLimits) -> PreparedImage:
        """Decode and resize one image file for this model. Thread-safe.

        Raises ImageError or OutOfMemoryError.
        """
        preprocess = self._info.config.preprocess
        decoded = decode_image(data, side_pixels=preprocess.size_pixels, limits=limits)
        return prepare_image(decoded, preprocess)

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        """Caption a batch, in order. Raises OptionsError."""
        if not images:
            return []
        return self.caption_features(self.encode(images), options)

    def encode(self, images: Sequence[PreparedImage]) -> Features:
        """Encode prepared images to features in float32."""
        return self.encode_pixels(np.stack([image.pixels for image in images]))

    def encode_pixels(self, pixels: Any) -> Features:
        """Encode pixels (B, 3, S, S) uint8 RGB, an array or a tensor, to features in float32."""
        return self._runtime.encode(pixels)

    def caption_features(self, features: Features, options: DecodingOptions) -> list[Caption]:
        """Caption what `encode` gave, in order. Raises OptionsError."""
        tags = [describe_tags(image.tags) for image in features]
        constraints: list[NoEcho] = []
        if options.avoid_echoes:
            constraints = [self._echo_rules.begin()] * len(features)
        results = decode(self._runtime.decoder, features, options, constraints=constraints)
        captions = []
        for result, found, photo in zip(results, tags, self._photos(features), strict=True):
            hypotheses = tuple(self._describe(each, found, photo) for each in result.captions)
            captions.append(Caption(hypotheses, self.grid, tuple(found.values())))
        return captions

    def _photos(self, features: Features) -> list[float]:
        """Tell of each image how surely it is a photo; 1 where no probe was fitted."""
        calibration = self._info.config.calibration
        if calibration is None or calibration.photo is None:
            return [1.0] * len(features)
        return [calibration.photo.probability(mean) for mean in features.means]

    def token_ids(self, words: Sequence[str]) -> list[int]:
        """Look words up, as `tokenize` gives them: their ids, that of unk for unknown ones."""
        return self._words.ids(words)

    def score_tokens(
        self, features: Features, token_ids: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[TokenScores]]:
        """Read given captions by teacher forcing: the scores of each caption of each image.

        token_ids: of each image, its captions as ids without bos. Images may
        have different numbers of captions, and captions different numbers of tokens.
        """
        padded = _pad(token_ids)  # (B, G, T)
        if padded.shape[1] == 0:
            return [[] for _ in token_ids]
        logprobs, alphas = self._runtime.score_tokens(features, padded)
        return [
            [
                TokenScores(logprobs[image, row, : len(ids)], alphas[image, row, : len(ids)])
                for row, ids in enumerate(captions)
            ]
            for image, captions in enumerate(token_ids)
        ]

    def _describe(
        self, found: ScoredCaption, tags: Mapping[int, ImageTag], photo: float
    ) -> Hypothesis:
        """Turn ids and arrays into words and numbers.

        tags: by their places among the shares. photo: how surely the image is one.
        """
        calibration = self._info.config.calibration
        texts = self._words.decode(found.token_ids)
        probabilities = [min(math.exp(each), 1.0) for each in found.logprobs[:-1].tolist()]
        rows, columns, _ = self.grid
        maps = found.alphas.reshape(-1, rows, columns)
        shares = found.tag_shares[:, list(tags)].tolist()
        words = tuple(
            Word(
                text,
                probability,
                alpha,
                beta,
                _calibrated(calibration, text, probability, photo),
                tuple(tag_shares),
            )
            for text, probability, alpha, beta, tag_shares in zip(
                texts, probabilities, maps, found.betas.tolist(), shares, strict=True
            )
        )
        if calibration is None:
            confidence = min(math.exp(found.avg_logprob), 1.0)
        else:
            confidence = caption_confidence((word.text, word.confidence) for word in words)
        return Hypothesis(" ".join(texts), words, found.sum_logprob, confidence)


def _pad(token_ids: Sequence[Sequence[Sequence[int]]]) -> Ints:
    """Pad captions to ids (B, G, T): to the most captions of an image, and the longest caption.

    T is at least 1, as a decoder reads at least one token.
    """
    group = max(map(len, token_ids), default=0)
    longest = max((len(ids) for captions in token_ids for ids in captions), default=1)
    shape = (len(token_ids), group, max(longest, 1))
    padded = np.full(shape, Vocabulary.pad_id, dtype=np.int64)
    for image, captions in enumerate(token_ids):
        for row, ids in enumerate(captions):
            padded[image, row, : len(ids)] = ids
    return padded


def _calibrated(
    calibration: CalibrationConfig | None, word: str, probability: float, photo: float
) -> float | None:
    return None if calibration is None else photo * word_confidence(calibration, word, probability)
