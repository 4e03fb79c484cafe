"""What the tests share: a decoder small enough to search exhaustively, searches so plain that they
can be read, and a captioner of a few thousand weights."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.bundles.checkpoint import save_checkpoint
from models.config import DecodingOptions, ModelConfig, migrate_config
from models.decoders.base import StepOutput
from models.decoding import SpecialIds
from models.encoders import default_preprocess
from models.features import Tags
from models.network import CaptioningModel, build_model
from models.tokenizer import Vocabulary

SPECIAL = SpecialIds()


class ToyState(NamedTuple):
    """transitions (R, V, V); history (R,): a number that depends on every word so far and their
    order."""

    transitions: Tensor
    history: Tensor

    def select(self, indices: Tensor, _images: Tensor | None = None) -> "ToyState":
        return ToyState(self.transitions[indices], self.history[indices])


class ToyDecoder:
    """A Markov chain: an image's annotations (V, V) are its logits of the next word by the last
    one.

    The history bends the logits and is the map, so that a beam that is given another's past is
    noticed.
    """

    def init_state(self, annotations: Tensor, _tags: Tags | None = None) -> ToyState:
        return ToyState(annotations, torch.zeros(len(annotations), dtype=torch.float64))

    def step(self, token_ids: Tensor, state: ToyState) -> StepOutput[ToyState]:
        rows, size = len(token_ids), state.transitions.shape[-1]
        history = (3.7 * state.history + token_ids + 1) % 11
        bend = torch.sin(history.unsqueeze(1) * torch.arange(1, size + 1))  # (R, V)
        logits = state.transitions[torch.arange(rows), token_ids] + 0.5 * bend.float()
        return StepOutput(
            logits, bend.softmax(dim=1), history / 11, ToyState(state.transitions, history)
        )


def toy_images(images: int, words: int, seed: int, scale: float = 2.0) -> Tensor:
    """Annotations (B, V, V) for ToyDecoder, with `words` words beside the special ones."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(
        images, words + len(SPECIAL), words + len(SPECIAL), generator=generator
    )


class Scored(NamedTuple):
    score: float
    words: tuple[int, ...]


def next_logprobs(annotations: Tensor, words: tuple[int, ...]) -> list[float]:
    """Log-probabilities after `words` for one image (V, V), the whole sentence read anew."""
    decoder = ToyDecoder()
    state = decoder.init_state(annotations.unsqueeze(0))
    for word in (SPECIAL.bos, *words):
        output = decoder.step(torch.tensor([word]), state)
        state = output.state
    logits = output.logits[0].clone()
    logits[[SPECIAL.pad, SPECIAL.bos, SPECIAL.unk]] = -torch.inf
    if not words:
        logits[SPECIAL.eos] = -torch.inf
    return logits.log_softmax(dim=0).tolist()


def exhaustive_search(annotations: Tensor, options: DecodingOptions) -> list[Scored]:
    """Every caption of 1 to max_length words, best first."""
    found = []

    def visit(words: tuple[int, ...], total: float) -> None:
        logprobs = next_logprobs(annotations, words)
        if words:
            found.append(_score(words, total + logprobs[SPECIAL.eos], options))
        if len(words) < options.max_length:
            for word in range(len(SPECIAL), len(logprobs)):
                visit((*words, word), total + logprobs[word])

    visit((), 0.0)
    return sorted(found, reverse=True)


def plain_beam_search(annotations: Tensor, options: DecodingOptions) -> list[Scored]:
    """Textbook beam search for one image, run to the end, best first."""
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    finished: list[Scored] = []
    for _ in range(options.max_length):
        candidates: list[tuple[tuple[int, ...], float]] = []
        for words, total in beams:
            for word, logprob in enumerate(next_logprobs(annotations, words)):
                if logprob > -torch.inf:
                    candidates.append(((*words, word), total + logprob))
        kept = sorted(candidates, key=lambda candidate: -candidate[1])[: options.beam_size]
        finished += [
            _score(words[:-1], total, options) for words, total in kept if words[-1] == SPECIAL.eos
        ]
        beams = [(words, total) for words, total in kept if words[-1] != SPECIAL.eos]
    for words, total in beams:
        finished.append(
            _score(words, total + next_logprobs(annotations, words)[SPECIAL.eos], options)
        )
    return sorted(finished, reverse=True)


def greedy_search(annotations: Tensor, options: DecodingOptions) -> tuple[int, ...]:
    """The most probable next word, until it is eos."""
    words: tuple[int, ...] = ()
    while len(words) < options.max_length:
        logprobs = next_logprobs(annotations, words)
        best = logprobs.index(max(logprobs))
        if best == SPECIAL.eos:
            break
        words = (*words, best)
    return words


def _score(words: tuple[int, ...], total: float, options: DecodingOptions) -> Scored:
    return Scored(total / (len(words) + 1) ** options.length_penalty, words)


WORDS = ("a", "dog", "cat", "runs", "sits", "on", "grass", "red")


def tiny_config(name: str = "tiny", **fields: Any) -> ModelConfig:
    """A captioner of a few thousand weights that knows `WORDS`; takes fields of the decoder too."""
    described: dict[str, Any] = {
        "name": name,
        "encoder": "tiny",
        "vocab_size": len(WORDS) + len(SPECIAL),
        "embed_dim": 8,
        "decoder_dim": 12,
        "attention_dim": 6,
        "preprocess": default_preprocess("tiny", 56),
    }
    return ModelConfig.model_validate(migrate_config(described | fields))


def tiny_model(config: ModelConfig) -> CaptioningModel:
    """Fixed random weights, large enough that images and words matter; a caption has about four
    words."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(config).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
    return model


def save_tiny_bundle(folder: Path, **fields: Any) -> Path:
    """Write a whole bundle to `folder`, named after it."""
    config = tiny_config(folder.name, **fields)
    save_checkpoint(folder, tiny_model(config), config, Vocabulary(WORDS), {"cider_d": 0.5})
    return folder
