"""A translator's runtime in PyTorch, on whatever device the network lies. Knows no strings.

Letters in shapes: see `models.translation`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.array_features import Features, Floats
from models.decoding import Ints, StepOutput
from models.runtime.torch import TorchState, TorchSteps
from models.translation.checkpoint import load_translation
from models.translation.encoders import SourceEncoding
from models.translation.network import TranslationModel, pad_sentences
from models.translation.translator import Translator

__all__ = ["EncodedSentences", "TorchTranslationRuntime", "load_translator"]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedSentences:
    """What a decoder reads of B sentences, in torch."""

    encoding: SourceEncoding

    @property
    def annotations(self) -> Tensor:
        """One vector for each subword, (B, L, D); zero behind the end."""
        return self.encoding.annotations

    @property
    def tags(self) -> None:
        """Sentences have none."""
        return

    @property
    def means(self) -> Floats:
        """The mean of each sentence's annotations, (B, D), in NumPy."""
        lengths = self.encoding.mask.sum(dim=1, keepdim=True)
        means: Floats = (self.annotations.sum(dim=1) / lengths).cpu().numpy()
        return means

    def __len__(self) -> int:
        """Count the sentences."""
        return len(self.annotations)

    def __getitem__(self, chosen: slice) -> "EncodedSentences":
        """Take some sentences."""
        annotations, mask, last = self.encoding
        if last is not None:
            last = (last[0][chosen], last[1][chosen])
        return EncodedSentences(SourceEncoding(annotations[chosen], mask[chosen], last))

    def __iter__(self) -> Iterator["EncodedSentences"]:
        """Give the sentences one by one, each as a batch of one."""
        return (self[number : number + 1] for number in range(len(self)))


class TorchTranslationRuntime:
    """A network that translates; it also is the decoder that the search steps through."""

    def __init__(self, network: TranslationModel) -> None:
        """Take a network, in evaluation mode where it is to translate."""
        self._network = network
        self._steps = TorchSteps(network.decoder)

    @property
    def decoder(self) -> "TorchTranslationRuntime":
        """What decoding steps through."""
        return self

    @torch.inference_mode()
    def encode(self, sentences: Sequence[list[int]]) -> EncodedSentences:
        """Read sentences, as ids of subwords with eos."""
        device = next(self._network.parameters()).device
        return EncodedSentences(self._network.encode(pad_sentences(sentences).to(device)))

    @torch.inference_mode()
    def init_state(self, features: Features) -> TorchState:
        """Give a state of B rows, one for each sentence."""
        assert isinstance(features, EncodedSentences)
        own = self._network.init_state(features.encoding)
        return TorchState(own, features.annotations.device)

    def step(self, token_ids: Ints, state: TorchState) -> StepOutput[TorchState]:
        """Read the last subwords (R,), and score the next ones."""
        return self._steps.step(token_ids, state)


def load_translator(folder: Path) -> Translator:
    """Load a translator from its bundle, verified, into PyTorch. Raises CheckpointError."""
    network, bundle = load_translation(folder)
    runtime = TorchTranslationRuntime(network)
    return Translator(runtime, bundle.config, bundle.source, bundle.target)
