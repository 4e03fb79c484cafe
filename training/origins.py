"""Where models began and how long they learnt: from their experiments and the bundles to a section of the results page.

Models that are held against each other did not begin alike, and the page says so. Measures nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.captioner import TorchCaptioner
from training.config import StageConfig, load_config
from training.markdown import ABSENT, markdown_table, percent

__all__ = ["describe_origins", "origins_section"]

Tensors = Mapping[str, Tensor]

_WORDS = ("embedding.", "output.")  # of a decoder: what begins as the lender's wherever the words are its
_STAGES = {
    "language": "captions alone",
    "frozen": "encoder frozen",
    "finetune": "encoder and decoder",
    "self-critical": "own captions, rewarded by CIDEr-D",
}


def describe_origins(captioners: Sequence[TorchCaptioner], configs: Path) -> dict[str, dict[str, Any]]:
    """Describe each captioner that has an experiment `<name>.toml` in the folder `configs`, as JSON takes it.

    lender: the bundle that it began from or borrowed of; None where there is none. stages: in words, in order. Where
    the lender is among the captioners also: same_encoder and same_words, whether those are the lender's still;
    encoder_begun and begun: the share of the encoder's parameters, and of the decoder's but for words, that have the
    name and shape of the lender's and began with its values, in [0, 1]; new: the decoder's parts that did not.
    Raises ConfigError where an experiment cannot be read.
    """
    by_name = {captioner.info.name: captioner for captioner in captioners}
    origins = {}
    for name, captioner in by_name.items():
        path = configs / f"{name}.toml"
        if path.is_file():
            config = load_config(path, Path())
            lender = by_name.get(config.start_from or config.borrow_from or "")
            origins[name] = {
                "lender": config.start_from or config.borrow_from,
                "stages": [_describe_stage(stage) for stage in config.stages],
                **(_compare(captioner, lender) if lender else {}),
            }
    return origins


def origins_section(results: Mapping[str, Any]) -> str:
    """Write the section: what the comparison does not hold equal, and what each model began with."""
    origins: Mapping[str, Mapping[str, Any]] = results["origins"]
    if not origins:
        return ""
    lenders = dict.fromkeys(origin["lender"] for origin in origins.values() if "begun" in origin)
    confounds = [_confound(results, lender) for lender in lenders]
    rows = [[f"`{name}`", *_told(origin), "; ".join(origin["stages"])] for name, origin in origins.items()]
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


def _describe_stage(stage: StageConfig) -> str:
    words = ", words frozen" if stage.freeze_words else ""
    return f"{_STAGES[stage.kind]}{words}: {stage.epochs} epoch{'s' * (stage.epochs > 1)}"


def _compare(captioner: TorchCaptioner, lender: TorchCaptioner) -> dict[str, Any]:
    own, lent = (each.model.decoder.state_dict() for each in (captioner, lender))
    encoder, lent_encoder = (each.model.encoder.state_dict() for each in (captioner, lender))
    others = {name: tensor for name, tensor in own.items() if not name.startswith(_WORDS)}
    fitting = _fitting(others, lent)
    return {
        "same_encoder": _is_same(encoder, lent_encoder),
        "same_words": _is_same(_words(own), _words(lent)),
        "encoder_begun": _share(_fitting(encoder, lent_encoder), encoder),
        "begun": _share(fitting, others),
        "new": sorted({name.partition(".")[0] for name in others.keys() - fitting.keys()}),
    }


def _words(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(_WORDS)}


def _fitting(tensors: Tensors, lent: Tensors) -> Tensors:
    """Give the tensors that begin with a lender's values: `borrow_from` takes what has the same name and shape."""
    return {name: tensor for name, tensor in tensors.items() if name in lent and lent[name].shape == tensor.shape}


def _share(part: Tensors, whole: Tensors) -> float:
    counts = [sum(tensor.numel() for tensor in tensors.values()) for tensors in (part, whole)]
    return round(counts[0] / counts[1], 4)


def _is_same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _confound(results: Mapping[str, Any], lender: str) -> str:
    """Say in which way the models that lean on a lender were not compared on equal terms."""
    origins, row = results["origins"], results["models"].get(lender, {})
    looks = f" ({row['attention']} attention)" if row.get("decoder") == "attention" else ""
    tuned = any(stage.startswith(_STAGES["finetune"]) for stage in origins.get(lender, {}).get("stages", ()))
    under = f", fine-tuned under its decoder{looks}" if tuned else ""
    sharers = [
        f"`{name}`"
        for name, each in origins.items()
        if each["lender"] == lender and each.get("same_encoder") and each.get("same_words")
    ]
    if not sharers:
        return f"What is lent is that of `{lender}`."
    return (
        f"The encoder of `{lender}`{under}, and its words serve {', '.join(sharers)} as well, both unchanged. The "
        "annotations were not made for those decoders, which neither began alike nor learnt for as long: the scores "
        "tell how good these models are, not which method is better on equal terms."
    )


def _told(origin: Mapping[str, Any]) -> list[str]:
    """Give the cells of a row between its model and its stages."""
    if "begun" not in origin:
        return [ABSENT] * 4
    encoder, words = (
        f"that of `{origin['lender']}`" if origin[same] else "its own" for same in ("same_encoder", "same_words")
    )
    return [encoder, words, percent(origin["begun"]), ", ".join(origin["new"]) or "none"]
