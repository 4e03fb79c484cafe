"""The runtime in PyTorch, on whatever device the network lies. Knows no words and no files.

B images, S their side in pixels, G captions an image, R = B * G rows grouped by image, T tokens,
L locations, D encoder features, V vocabulary.
"""

import hashlib
from typing import Literal

import torch
from torch import Tensor, nn

from models.caption import RuntimeInfo
from models.config import PreprocessConfig
from models.decoders.base import CaptionDecoder
from models.features import ImageFeatures
from models.geometry import CellGrid
from models.network import CaptioningModel
from models.precision import PrecisionChoice, faster_precision
from models.tokenizer import Vocabulary

__all__ = [
    "Precision",
    "TorchRuntime",
    "eyes_fingerprint",
    "fingerprint",
    "prepare_computing_thread",
    "prepare_loading_thread",
]

Precision = Literal["auto", "float32", "bfloat16"]


def fingerprint(module: nn.Module) -> str:
    """Hash a module's weights: SHA-256 in hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        values = tensor.detach().cpu().contiguous().float() + 0.0  # -0.0 becomes 0.0
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def eyes_fingerprint(network: CaptioningModel) -> str:
    """Hash all that `CaptioningModel.see` depends on: the encoder, and the tagger if any."""
    encoder = fingerprint(network.encoder)
    if network.tagger is None:
        return encoder
    return f"{encoder} {fingerprint(network.tagger)} {network.tagger.config.model_dump_json()}"


def _choose(asked: Precision, device: torch.device) -> PrecisionChoice:
    if asked != "auto":
        return PrecisionChoice(asked, "it was asked for")
    if device.type == "cpu":
        return faster_precision()
    return PrecisionChoice("bfloat16", f"the device is {device.type}")


def prepare_computing_thread(threads: int, precision: Precision) -> None:
    """Get the calling thread ready to compute: how many threads it has, and in which precision.

    To be called before a model is loaded in another thread: what `auto` means is then known, and no
    other thread has to measure it.
    """
    _set_threads(threads)
    if precision == "auto":
        faster_precision()


def prepare_loading_thread() -> None:
    """Make the calling thread compute alone, so that it never has a team of threads of its own.

    A team stays as long as its thread, and as soon as there are more threads than processors
    OpenMP no longer lets any of them wait actively: each image would take twice as long.
    """
    _set_threads(1)


def _set_threads(threads: int) -> None:
    """Set how many threads the calling thread computes with, whatever others set later.

    A thread that first computes takes the number that was set last, by whichever thread: it is
    asked for here, so that this has happened before.
    """
    torch.get_num_threads()
    torch.set_num_threads(threads)


class TorchRuntime:
    """A network that captions.

    The encoder runs in bfloat16 where that is faster (`precision` "auto" measures it on a CPU), or
    in float32; the decoder always runs in float32.
    """

    def __init__(
        self,
        network: CaptioningModel,
        preprocess: PreprocessConfig,
        *,
        precision: Precision = "auto",
    ) -> None:
        """Take a network; on a CPU its convolutions are laid out channels last."""
        self._device = next(network.parameters()).device
        choice = _choose(precision, self._device)
        self.precision: Literal["float32", "bfloat16"] = choice.precision
        self._reason = choice.reason
        self._preprocess = preprocess
        self._network: CaptioningModel = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def describe(self) -> RuntimeInfo:
        """Say what computes; its threads are those of the calling thread."""
        return RuntimeInfo(
            name="torch",
            version=torch.__version__,
            precision=self.precision,
            threads=torch.get_num_threads(),
            reason=self._reason,
        )

    @property
    def grid(self) -> CellGrid:
        """Where the encoder's cells lie on any image."""
        return self._network.encoder.grid

    @property
    def decoder(self) -> CaptionDecoder:
        """What decoding steps through."""
        return self._network.decoder

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> ImageFeatures:
        """Encode pixels (B, 3, S, S) uint8 RGB to features in float32."""
        with torch.autocast(
            self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            features = self._network.see(pixels.to(self._device), self._preprocess)
        return features.to(torch.float32)

    @torch.inference_mode()
    def score_tokens(self, features: ImageFeatures, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Read given captions by teacher forcing, as `models.runtime.Runtime` says."""
        decoder = self._network.decoder
        images, group, _ = token_ids.shape
        tokens = token_ids.to(features.device).flatten(0, 1)  # (R, T)
        rows = torch.arange(images, device=features.device).repeat_interleave(group)  # (R,)
        bos = tokens.new_full((len(tokens), 1), Vocabulary.bos_id)
        inputs = torch.cat([bos, tokens[:, :-1]], dim=1)  # (R, T)
        state = decoder.init_state(features.annotations, features.tags).select(rows)
        output = decoder(inputs, state)
        logits = decoder.logits(output.readout, output.copies)
        logprobs = logits.float().log_softmax(dim=-1)  # (R, T, V)
        chosen = logprobs.gather(2, tokens.unsqueeze(2)).squeeze(2)  # (R, T)
        shape = (images, group)
        return chosen.unflatten(0, shape), output.alphas.float().unflatten(0, shape)

    def fingerprint(self) -> str:
        """Identify what `encode` gives, by the weights that see, preprocessing and precision."""
        described = f"{self._preprocess.model_dump_json()} {self.precision}"
        return f"{eyes_fingerprint(self._network)} {described}"
