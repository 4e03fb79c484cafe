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
from models.geometry import CellGrid
from models.network import CaptioningModel
from models.precision import PrecisionChoice, faster_precision
from models.tokenizer import Vocabulary

__all__ = [
    "Precision",
    "TorchRuntime",
    "fingerprint",
    "normalize",
    "prepare_computing_thread",
    "prepare_loading_thread",
]

Precision = Literal["auto", "float32", "bfloat16"]


def normalize(pixels: Tensor, config: PreprocessConfig) -> Tensor:
    """Map pixels (B, 3, H, W) uint8 RGB to float32: (rgb - mean) / std per channel."""
    device = pixels.device
    mean = torch.tensor(config.mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    return (pixels.to(torch.float32) - mean) / std  # (B, 3, H, W)


def fingerprint(module: nn.Module) -> str:
    """Hash a module's weights: SHA-256 in hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        values = tensor.detach().cpu().contiguous().float() + 0.0  # -0.0 becomes 0.0
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


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
    def encode(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, S, S) uint8 RGB to annotations (B, L, D) float32."""
        images = normalize(pixels.to(self._device), self._preprocess)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(
            self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            annotations: Tensor = self._network.encoder(images)
        return annotations.float()

    @torch.inference_mode()
    def score_tokens(self, annotations: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Read given captions by teacher forcing, as `models.runtime.Runtime` says."""
        decoder = self._network.decoder
        images, group, _ = token_ids.shape
        tokens = token_ids.to(annotations.device).flatten(0, 1)  # (R, T)
        rows = torch.arange(images, device=annotations.device).repeat_interleave(group)  # (R,)
        bos = tokens.new_full((len(tokens), 1), Vocabulary.bos_id)
        inputs = torch.cat([bos, tokens[:, :-1]], dim=1)  # (R, T)
        output = decoder(inputs, decoder.init_state(annotations).select(rows))
        logprobs = decoder.logits(output.readout).float().log_softmax(dim=-1)  # (R, T, V)
        chosen = logprobs.gather(2, tokens.unsqueeze(2)).squeeze(2)  # (R, T)
        shape = (images, group)
        return chosen.unflatten(0, shape), output.alphas.float().unflatten(0, shape)

    def fingerprint(self) -> str:
        """Identify what `encode` gives, by the encoder's weights, preprocessing and precision."""
        described = f"{self._preprocess.model_dump_json()} {self.precision}"
        return f"{fingerprint(self._network.encoder)} {described}"
