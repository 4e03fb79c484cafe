"""The words of captions beside what people say of the same images.

The label of a word is the share of an image's human captions that contain it: the same token, by
`models.tokenizer`, so that "dog" and "dogs", "man" and "boy" are different words. Knows no
calibration but how to apply one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evaluation.captioning import Advance, Encode, batches
from models.calibration import CalibrationConfig, word_confidence
from models.caption import Hypothesis
from models.captioner import NetworkCaptioner
from models.tokenizer import tokenize
from training.data.datasets import CaptionedImage

__all__ = ["CaptionUsage", "caption_with_usage"]

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CaptionUsage:
    """A caption beside what people say of the image.

    probabilities: of each word, the model's own (given the image and the words before it). usage:
    of each word, the share of the people who use it. geometric_mean: of the probabilities of words
    and end, the confidence without a calibration. All in [0, 1].
    mean: (D,), of the image's annotations.
    """

    words: tuple[str, ...]
    probabilities: tuple[float, ...]
    usage: tuple[float, ...]
    geometric_mean: float
    mean: Float32s = field(compare=False, default_factory=lambda: np.zeros(0, dtype=np.float32))

    def confidences(self, calibration: CalibrationConfig) -> tuple[float, ...]:
        """Give the words' confidences under a calibration."""
        photo = 1.0 if calibration.photo is None else calibration.photo.probability(self.mean)
        pairs = zip(self.words, self.probabilities, strict=True)
        return tuple(
            photo * word_confidence(calibration, word, probability) for word, probability in pairs
        )


def caption_with_usage(
    captioner: NetworkCaptioner,
    images: Sequence[CaptionedImage],
    advance: Advance,
    encode: Encode,
) -> list[CaptionUsage]:
    """Caption images as the service does by default, and look up what people say of them.

    encode: encodes images, and raises DataError with the name of one that it cannot read.
    """
    usages: list[CaptionUsage] = []
    for _, batch in batches(images):
        features = encode(batch)
        captions = captioner.caption_features(features, captioner.info.config.decoding)
        means = features.means
        for caption, image, mean in zip(captions, batch, means, strict=True):
            usages.append(_usage(caption.best, image, mean))
        advance(len(batch))
    return usages


def _usage(hypothesis: Hypothesis, image: CaptionedImage, mean: Float32s) -> CaptionUsage:
    said = [set(tokenize(text)) for text in image.captions]
    words = tuple(word.text for word in hypothesis.words)
    return CaptionUsage(
        words=words,
        probabilities=tuple(word.probability for word in hypothesis.words),
        usage=tuple(sum(word in tokens for tokens in said) / len(said) for word in words),
        geometric_mean=min(math.exp(hypothesis.avg_logprob), 1.0),
        mean=mean,
    )
