"""One run that trains a translator, from beginning to bundle. Knows no command line."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import torch

from models.bundles.files import LANGUAGES_FOLDER
from models.errors import ConfigError
from models.translation.checkpoint import save_translation, with_second_names
from models.translation.network import build_translation_model
from models.translation.subwords import Subwords, as_captioned, learn_subwords
from training.data.pairs import SentencePair, hold_out, read_all_pairs, read_pairs
from training.distributed import Processes
from training.run_log import RunLog
from training.run_state import check_same, load_state
from training.translation.batches import PairBatches, encode_pairs
from training.translation.trainer import TranslationData, TranslationTrainer
from training.translation_config import SubwordsConfig, TranslateConfig

__all__ = ["export_translator", "train_translator"]

_SOURCE = "source.model"
_TARGET = "target.model"


def train_translator(
    config: TranslateConfig, *, runs_folder: Path, device: str, next_step: str
) -> None:
    """Train by the experiment, or go on where the run was left.

    device: auto, cpu or cuda. next_step: reported at the end.
    Raises GlimpseError where the experiment or its data cannot be used.
    """
    processes = Processes.join(device)
    if processes.world > 1:
        raise ConfigError("A translator is trained in one process: start it without torchrun.")
    run_log = RunLog(runs_folder / config.name, speaks=True)
    pairs, dev = _read_data(config)
    _check_same(run_log.folder, config, pairs)
    source, target = _subwords(run_log.folder, config.vocabulary, pairs, run_log.say)
    training = config.training
    examples = encode_pairs(pairs, source, target, training.max_subwords)
    run_log.say(f"{len(examples)} of {len(pairs)} pairs; {len(source)} subwords")
    batches = PairBatches(
        examples,
        source,
        target,
        captioned_share=training.captioned_share,
        sampling=training.subword_sampling,
    )
    torch.manual_seed(config.seed)
    described = config.describe(len(source), len(target))
    model = build_translation_model(described)
    data = TranslationData(batches, dev, source, target)
    TranslationTrainer(config, data, model, described, processes.device, run_log).run()
    run_log.say(f"done; next: {next_step}")


def export_translator(config: TranslateConfig, runs_folder: Path, weights_folder: Path) -> Path:
    """Write the best weights of a run as a bundle in half precision, without metrics yet.

    Gives the bundle's folder. Raises ConfigError where nothing was validated yet, or where the
    experiment has changed.
    """
    run = runs_folder / config.name
    found = load_state(run / "state")
    if found is None or "best" not in found[0]:
        raise ConfigError(f"There are no validated weights in {run}: train first.")
    _check_same(run, config, _read_data(config)[0])
    source, target = (Subwords((run / name).read_bytes()) for name in (_SOURCE, _TARGET))
    described = config.describe(len(source), len(target))
    tensors = with_second_names(described, found[0]["best"])
    folder = weights_folder / LANGUAGES_FOLDER / config.name
    save_translation(folder, tensors, described, source, target, {})
    return folder


def _read_data(
    config: TranslateConfig,
) -> tuple[list[SentencePair], dict[str, list[SentencePair]]]:
    """Read the pairs to learn from, and by the name of their set those to choose by."""
    pairs = read_all_pairs(config.train)
    if config.hold_out:
        pairs, held = hold_out(pairs, config.hold_out)
        return pairs, {"held-out": held}
    return pairs, {each.name: read_pairs(each) for each in config.dev}


def _check_same(folder: Path, config: TranslateConfig, pairs: Sequence[SentencePair]) -> None:
    """Hold the run to the architecture, vocabulary and pairs that it began with."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(f"{pair.source}\n{pair.target}\n".encode())
    check_same(
        folder,
        {
            "architecture": config.architecture.model_dump(mode="json", exclude={"dropout"})
            | {"tied": config.tied},
            "vocabulary": config.vocabulary.model_dump(mode="json"),
            "pairs": digest.hexdigest(),
        },
    )


def _subwords(
    folder: Path,
    config: SubwordsConfig,
    pairs: Sequence[SentencePair],
    say: Callable[[str], object],
) -> tuple[Subwords, Subwords]:
    """Give the subwords of both languages: those of the run, or learnt anew from its pairs."""
    places = (folder / _SOURCE, folder / _TARGET)
    if not all(place.is_file() for place in places):
        say("learning subwords")
        both = chain.from_iterable((each.source, as_captioned(each.source)) for each in pairs)
        sources = list(filter(None, both))
        targets = [pair.target for pair in pairs]
        if config.joint:
            learnt = [_learn([*sources, *targets], config)] * 2
        else:
            learnt = [_learn(lines, config) for lines in (sources, targets)]
        for place, subwords in zip(places, learnt, strict=True):
            place.write_bytes(subwords.content)
    source, target = (Subwords(place.read_bytes()) for place in places)
    return source, target


def _learn(lines: Sequence[str], config: SubwordsConfig) -> Subwords:
    return learn_subwords(lines, config.size, kind=config.kind, coverage=config.coverage)
