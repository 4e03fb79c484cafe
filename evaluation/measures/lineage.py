"""What models began with and how long they learned: from their experiments and their bundles.

Reads and compares; runs no model. Knows no Markdown.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from evaluation.results import Lineage
from models.network import CaptioningModel, overlap, sees_more
from training.config import Part, TrainConfig, is_of_part, load_config

__all__ = ["STAGES", "Stage", "count_epochs", "describe_lineage"]

Tensors = Mapping[str, Tensor]

STAGES = {
    "language": "captions alone",
    "frozen": "encoder frozen",
    "finetune": "encoder and decoder",
    "self-critical": "own captions, rewarded by CIDEr-D",
}
"""Kinds of stages in words."""

# Of a decoder: what begins as the source's wherever the words are the source's.
_WORDS = ("embedding.", "output.")


class Stage(Protocol):
    """What a description of a stage of training needs."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def freeze_words(self) -> bool: ...  # noqa: D102


def describe_lineage(networks: Mapping[str, CaptioningModel], configs: Path) -> dict[str, Lineage]:
    """Describe each model that has an experiment `<name>.toml` in the folder `configs`.

    The source is the bundle that the experiment starts from or borrows from. Where that is not
    among the models and has an experiment too, it is the bundle that this one began from, and so
    on; the stages are those from there. Raises ConfigError where an experiment cannot be read.
    """
    described = {}
    for name, network in networks.items():
        path = configs / f"{name}.toml"
        if path.is_file():
            source, experiments = _trace(load_config(path, Path()), configs, networks)
            stages: list[str] = []
            for experiment in experiments:
                stages += map(_describe_stage, experiment.stages)
            if source is not None and source in networks:
                parts = experiments[0].borrow_parts
                described[name] = _compare(source, tuple(stages), network, networks[source], parts)
            else:
                described[name] = Lineage(source=source, stages=tuple(stages))
    return described


def _trace(
    config: TrainConfig, configs: Path, known: Mapping[str, CaptioningModel]
) -> tuple[str | None, list[TrainConfig]]:
    """Find the bundle of `known` that a run goes back to, and the experiments since, in order.

    Where there is none, give the run's own source, and the run alone.
    """
    experiments = [config]
    source = _source(config)
    while source is not None and source not in known and (configs / f"{source}.toml").is_file():
        experiments.insert(0, load_config(configs / f"{source}.toml", Path()))
        source = _source(experiments[0])
    if source in known:
        return source, experiments
    return _source(config), [config]


def _source(config: TrainConfig) -> str | None:
    return config.start_from or config.borrow_from


def _describe_stage(stage: Stage) -> str:
    words = ", words frozen" if stage.freeze_words else ""
    return f"{STAGES[stage.kind]}{words}: {count_epochs(stage)}"


def count_epochs(stage: Stage) -> str:
    """Say how many epochs a stage has."""
    return "1 epoch" if stage.epochs == 1 else f"{stage.epochs} epochs"


def _compare(
    name: str,
    stages: tuple[str, ...],
    network: CaptioningModel,
    source: CaptioningModel,
    parts: Sequence[Part],
) -> Lineage:
    """Compare a network with that of its source, called `name`.

    parts: which of the source's it began with; none named, all that fit.
    """
    own = network.decoder.state_dict()
    encoder = network.encoder.state_dict()
    source_encoder = source.encoder.state_dict()
    others = {key: tensor for key, tensor in own.items() if not key.startswith(_WORDS)}
    fitting = {
        key: tensor
        for key, tensor in overlap(network, source).items()
        if not parts or any(is_of_part(key, part) for part in parts)
    }
    inherited = {key: fitting[f"decoder.{key}"] for key in others if f"decoder.{key}" in fitting}
    inherited_encoder = {key: each for key, each in fitting.items() if key.startswith("encoder.")}
    is_wider = network.encoder.feature_dim > source.encoder.feature_dim  # a tagger is no encoder
    has_second_encoder = is_wider and sees_more(network, source)
    compared = {key: encoder[key] for key in source_encoder} if has_second_encoder else encoder
    return Lineage(
        source=name,
        stages=stages,
        same_encoder=_is_same(compared, source_encoder),
        has_second_encoder=has_second_encoder,
        same_words=_is_same(_words(own), _words(source.decoder.state_dict())),
        encoder_share=_share(inherited_encoder, encoder),
        decoder_share=_share(inherited, others),
        new_parts=tuple(sorted({key.partition(".")[0] for key in others.keys() - inherited})),
    )


def _words(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(_WORDS)}


def _share(part: Tensors, whole: Tensors) -> float:
    """Give the share of the parameters of `whole` that `part` has."""
    return round(_count(part) / _count(whole), 4)


def _count(tensors: Tensors) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _is_same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
