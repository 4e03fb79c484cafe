"""A shipped model as one first writes it down: Pillow, PyTorch in eager float32, a loop for the
words. Knows no server.

The network and its weights are the service's; nothing else is: no bfloat16, no channels last, no
batched search, no processes that decode.
"""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.peer_servers.beam_loop import beam_search
from benchmarks.reports import ROOT
from models.bundles.checkpoint import load_checkpoint
from models.config import DecodingOptions, PreprocessConfig
from models.echoes import EchoRules, NoEcho
from models.encoders.base import resize
from models.features import ImageFeatures
from models.network import CaptioningModel, normalize

__all__ = ["PlainCaptioner", "plain_features"]

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def plain_features(
    network: CaptioningModel, pixels: Tensor, preprocess: PreprocessConfig
) -> ImageFeatures:
    """Encode pixels (B, 3, S, S) uint8, in the layout that PyTorch has by itself."""
    images = normalize(resize(pixels, network.encoder.size_pixels), preprocess)
    annotations = network(images.contiguous())
    if network.tagger is None:
        return ImageFeatures(annotations)
    sighting = network.tagger(pixels)
    return ImageFeatures(torch.cat([annotations, sighting.maps], dim=2), sighting.tags)


class PlainCaptioner:
    """Captions files with the network of a bundle."""

    def __init__(self, model: str, beam_size: int) -> None:
        """Load a bundle of the weights folder."""
        checkpoint = load_checkpoint(ROOT / "weights" / model)
        self._network = checkpoint.model.float().eval()
        self._preprocess = checkpoint.config.preprocess
        self._words = checkpoint.vocabulary
        own = checkpoint.config.decoding.model_dump()
        self._options = DecodingOptions(**own | {"beam_size": beam_size, "num_captions": 1})
        self._echo_rules = EchoRules(checkpoint.vocabulary.tokens)

    @torch.inference_mode()
    def caption(self, files: Sequence[bytes]) -> list[str]:
        """Caption image files together, in order."""
        pixels = torch.stack([self._prepare(data) for data in files])
        features = plain_features(self._network, pixels, self._preprocess)
        found = beam_search(self._network.decoder, features, self._options, self._rules(features))
        return [" ".join(self._words.decode(ids)) for ids in found]

    def _prepare(self, data: bytes) -> Tensor:
        """Decode a file to pixels (3, S, S) uint8."""
        side = self._preprocess.size_pixels
        image = Image.open(BytesIO(data)).convert("RGB")
        image = image.resize((side, side), _RESAMPLING[self._preprocess.resample])
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def _rules(self, features: ImageFeatures) -> list[NoEcho]:
        """Give what each photo's caption may not say twice, where the model avoids echoes."""
        if not self._options.avoid_echoes:
            return []
        return [self._echo_rules.begin()] * len(features)
