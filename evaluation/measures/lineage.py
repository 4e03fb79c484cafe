"""Where models began and how long they learnt: from their experiments and the bundles to a section
of the results page.

Models that are held against each other did not begin alike, and the page says so. Measures nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluation.report.markdown import ABSENT, markdown_table, percent
from models.network import CaptioningModel, overlap, sees_more
from training.config import StageConfig, TrainConfig, load_config

__all__ = ["describe_origins", "origins_section"]

Tensors = Mapping[str, Tensor]

_WORDS = (
    "embedding.",
    "output.",
)  # of a decoder: what begins as the lender's wherever the words are its
_STAGES = {
    "language": "captions alone",
    "frozen": "encoder frozen",
    "finetune": "encoder and decoder",
    "self-critical": "own captions, rewarded by CIDEr-D",
}


def describe_origins(
    networks: Mapping[str, CaptioningModel], configs: Path
) -> dict[str, dict[str, Any]]:
    """Describe each model that has an experiment `<name>.toml` in the folder `configs`, as JSON
    takes it.

    lender: the bundle that it began from or borrowed of; None where there is none. Where that is
    not among the models, and has an experiment, the bundle that this began from, and so on.
    stages: in words, in order, from there. Where the lender is among the models also:
    same_encoder and same_words, whether those are the lender's still; more_encoder, whether there
    is another beside the lender's; encoder_begun and begun: the share of the encoder's parameters,
    and of the decoder's but for words, that began with the lender's values
    (`training.initialization`), in [0, 1]; new: the decoder's parts that did not. Raises
    ConfigError where an experiment cannot be read.
    """
    origins = {}
    for name, network in networks.items():
        path = configs / f"{name}.toml"
        if path.is_file():
            lent_by, line = _lineage(load_config(path, Path()), configs, networks)
            lender = networks.get(lent_by or "")
            origins[name] = {
                "lender": lent_by,
                "stages": [_describe_stage(stage) for config in line for stage in config.stages],
                **(_compare(network, lender) if lender else {}),
            }
    return origins


def origins_section(results: Mapping[str, Any]) -> str:
    """Write the section: what the comparison does not hold equal, and what each model began
    with."""
    origins: Mapping[str, Mapping[str, Any]] = results["origins"]
    if not origins:
        return ""
    lenders = dict.fromkeys(origin["lender"] for origin in origins.values() if "begun" in origin)
    confounds = [_confound(results, lender) for lender in lenders]
    rows = [
        [f"`{name}`", *_told(origin), "; ".join(origin["stages"])]
        for name, origin in origins.items()
    ]
    header = [
        "",
        "encoder",
        "words",
        "of its decoder's other parameters, begun as lent, %",
        "parts begun anew",
        "learnt",
    ]
    table = markdown_table(header, rows).replace("--:", "---")
    return "\n\n".join(["### What is not held equal", *confounds, table])


def _lineage(
    config: TrainConfig, configs: Path, known: Mapping[str, CaptioningModel]
) -> tuple[str | None, list[TrainConfig]]:
    """Give the bundle of `known` that a run goes back to, and the experiments since, the first
    one first."""
    line, lender = [config], config.start_from or config.borrow_from
    while lender is not None and lender not in known and (configs / f"{lender}.toml").is_file():
        line.insert(0, load_config(configs / f"{lender}.toml", Path()))
        lender = line[0].start_from or line[0].borrow_from
    return (
        (lender, line) if lender in known else (config.start_from or config.borrow_from, [config])
    )


def _describe_stage(stage: StageConfig) -> str:
    words = ", words frozen" if stage.freeze_words else ""
    return f"{_STAGES[stage.kind]}{words}: {stage.epochs} epoch{'s' * (stage.epochs > 1)}"


def _compare(network: CaptioningModel, lender: CaptioningModel) -> dict[str, Any]:
    own, lent = (each.decoder.state_dict() for each in (network, lender))
    encoder, lent_encoder = (each.encoder.state_dict() for each in (network, lender))
    others = {name: tensor for name, tensor in own.items() if not name.startswith(_WORDS)}
    fitting = overlap(network, lender)
    begun = {name: fitting[f"decoder.{name}"] for name in others if f"decoder.{name}" in fitting}
    has_more = sees_more(network, lender)
    kept = {name: encoder[name] for name in lent_encoder} if has_more else encoder
    return {
        "same_encoder": _is_same(kept, lent_encoder),
        "more_encoder": has_more,
        "same_words": _is_same(_words(own), _words(lent)),
        "encoder_begun": _share(
            {name: t for name, t in fitting.items() if name.startswith("encoder.")}, encoder
        ),
        "begun": _share(begun, others),
        "new": sorted({name.partition(".")[0] for name in others.keys() - begun.keys()}),
    }


def _words(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(_WORDS)}


def _share(part: Tensors, whole: Tensors) -> float:
    counts = [sum(tensor.numel() for tensor in tensors.values()) for tensors in (part, whole)]
    return round(counts[0] / counts[1], 4)


def _is_same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _confound(results: Mapping[str, Any], lender: str) -> str:
    """Say in which way the models that lean on a lender were not compared on equal terms."""
    origins, row = results["origins"], results["models"].get(lender, {})
    looks = f" ({row['attention']} attention)" if row.get("decoder") == "attention" else ""
    tuned = any(
        stage.startswith(_STAGES["finetune"]) for stage in origins.get(lender, {}).get("stages", ())
    )
    under = f", fine-tuned under its decoder{looks}" if tuned else ""
    sharers = [
        f"`{name}`"
        for name, each in origins.items()
        if each["lender"] == lender and each.get("same_encoder") and each.get("same_words")
    ]
    if not sharers:
        return f"What is lent is that of `{lender}`."
    return (
        f"The encoder of `{lender}`{under}, and its words serve {', '.join(sharers)} as well, both "
        "unchanged. The "
        "annotations were not made for those decoders, which neither began alike nor learnt for as "
        "long: the scores "
        "tell how good these models are, not which method is better on equal terms."
    )


def _told(origin: Mapping[str, Any]) -> list[str]:
    """Give the cells of a row between its model and its stages."""
    if "begun" not in origin:
        return [ABSENT] * 4
    encoder, words = (
        f"that of `{origin['lender']}`" if origin[same] else "its own"
        for same in ("same_encoder", "same_words")
    )
    if origin["same_encoder"] and origin["more_encoder"]:
        encoder += ", and one more"
    return [encoder, words, percent(origin["begun"]), ", ".join(origin["new"]) or "none"]
