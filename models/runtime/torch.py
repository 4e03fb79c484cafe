"""The runtime in PyTorch, on whatever device the network lies. Knows no words and no files.

B images, S their side in pixels, G captions an image, R = B * G rows grouped by image, T tokens,
L locations, D encoder features, V vocabulary.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.array_features import Features
from models.caption import RuntimeInfo
from models.config import PreprocessConfig
from models.decoding import Ints, StepOutput
from models.features import ImageFeatures
from models.geometry import CellGrid
from models.network import CaptioningModel
from models.precision import PrecisionChoice, faster_precision
from models.runtime import Precision, Scores
from models.sampling import TensorDecoder
from models.tokenizer import Vocabulary

__all__ = [
    "Precision",
    "TorchRuntime",
    "TorchState",
    "TorchSteps",
    "eyes_fingerprint",
    "fingerprint",
    "prepare_computing_thread",
    "prepare_loading_thread",
]


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


@dataclass(frozen=True, slots=True)
class TorchState:
    """A decoder's own state, whose rows the search names in NumPy."""

    own: Any
    device: torch.device

    def select(self, indices: Ints, images: Ints | None = None) -> "TorchState":
        """Take rows, as `models.decoding.State` says."""
        chosen = [torch.from_numpy(indices).to(self.device)]
        if images is not None:
            chosen.append(torch.from_numpy(images).to(self.device))
        return TorchState(self.own.select(*chosen), self.device)


class TorchSteps:
    """A decoder in PyTorch as the search steps through it: ids and scores in NumPy.

    It computes where the features lie.
    """

    def __init__(self, decoder: TensorDecoder) -> None:
        """Take a decoder."""
        self._decoder = decoder

    @torch.inference_mode()
    def init_state(self, features: Features) -> TorchState:
        """Give a state of B rows, one for each image."""
        given = ImageFeatures.of(features)
        own = self._decoder.init_state(given.annotations, given.tags)
        return TorchState(own, given.device)

    @torch.inference_mode()
    def step(self, token_ids: Ints, state: TorchState) -> StepOutput[TorchState]:
        """Read the last words (R,), and score the next ones."""
        words = torch.from_numpy(token_ids).to(state.device)
        output = self._decoder.step(words, state.own)
        shares = output.tag_shares
        return StepOutput(
            _array(output.logits),
            _array(output.alpha),
            _array(output.beta),
            TorchState(output.state, state.device),
            None if shares is None else _array(shares),
        )


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.float().cpu().numpy()
    return array


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
        threads: int | None = None,
    ) -> None:
        """Take a network; on a CPU its convolutions are laid out channels last.

        threads: how many compute, whichever thread calls; None for those of the calling thread.
        """
        self._threads = threads
        self._device = next(network.parameters()).device
        choice = _choose(precision, self._device)
        self.precision: Literal["float32", "bfloat16"] = choice.precision
        self._reason = choice.reason
        self._preprocess = preprocess
        self._network: CaptioningModel = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def describe(self) -> RuntimeInfo:
        """Say what computes; its threads are those of the calling thread unless told otherwise."""
        return RuntimeInfo(
            name="torch",
            version=torch.__version__,
            precision=self.precision,
            threads=self._threads or torch.get_num_threads(),
            reason=self._reason,
        )

    @property
    def grid(self) -> CellGrid:
        """Where the encoder's cells lie on any image."""
        return self._network.encoder.grid

    @property
    def decoder(self) -> TorchSteps:
        """What decoding steps through."""
        self._use_threads()
        return TorchSteps(self._network.decoder)

    @torch.inference_mode()
    def encode(self, pixels: Any) -> ImageFeatures:
        """Encode pixels (B, 3, S, S) uint8 RGB, a tensor or an array, to features in float32."""
        self._use_threads()
        with torch.autocast(
            self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            features = self._network.see(torch.as_tensor(pixels).to(self._device), self._preprocess)
        return features.to(torch.float32)

    @torch.inference_mode()
    def score_tokens(self, features: Features, token_ids: Ints) -> Scores:
        """Read given captions by teacher forcing, as `models.runtime.Runtime` says."""
        self._use_threads()
        given = ImageFeatures.of(features)
        decoder = self._network.decoder
        images, group, _ = token_ids.shape
        tokens = torch.from_numpy(token_ids).to(given.device).flatten(0, 1)  # (R, T)
        rows = torch.arange(images, device=given.device).repeat_interleave(group)  # (R,)
        bos = tokens.new_full((len(tokens), 1), Vocabulary.bos_id)
        inputs = torch.cat([bos, tokens[:, :-1]], dim=1)  # (R, T)
        state = decoder.init_state(given.annotations, given.tags).select(rows)
        output = decoder(inputs, state)
        logits = decoder.logits(output.readout, output.copies)
        logprobs = logits.float().log_softmax(dim=-1)  # (R, T, V)
        chosen = logprobs.gather(2, tokens.unsqueeze(2)).squeeze(2)  # (R, T)
        shape = (images, group)
        return _array(chosen.unflatten(0, shape)), _array(output.alphas.unflatten(0, shape))

    def _use_threads(self) -> None:
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)

    def fingerprint(self) -> str:
        """Identify what `encode` gives, by the weights that see, preprocessing and precision."""
        described = f"{self._preprocess.model_dump_json()} {self.precision}"
        return f"{eyes_fingerprint(self._network)} {described}"
