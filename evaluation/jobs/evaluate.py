"""Score one bundle on its experiment's sets, beside what its metrics.json says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evaluation.jobs.bundles import Messages, has_meteor, read_images, require_meteor, write_metrics
from evaluation.metrics.meteor import can_run_meteor
from evaluation.scoring import Evaluation, evaluate_sets
from models.captioner import NetworkCaptioner
from models.config import DecodingOptions
from models.loading import load_served
from models.runtime.torch import Precision
from training.config import TrainConfig
from training.data.datasets import CaptionedImage

__all__ = ["EvaluateRequest", "evaluate_bundle"]

_COUNTS = ("photos", "references")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """What to score, and where to write it.

    beam_size, length_penalty, avoid_echoes: in place of the bundle's own. dev_only: leave the test
    sets unseen. captions_file: gets each image's caption, as JSON Lines. write: put the result into
    the bundle.
    """

    config: TrainConfig
    weights_folder: Path
    beam_size: int | None = None
    length_penalty: float | None = None
    avoid_echoes: bool | None = None
    precision: Precision = "auto"
    dev_only: bool = False
    captions_file: Path | None = None
    write: bool = False
    with_meteor: bool = True


def evaluate_bundle(request: EvaluateRequest, messages: Messages) -> None:
    """Score the bundle of an experiment, and say how far it is from its metrics.json.

    Raises GlimpseError where the bundle or the data cannot be used, and where METEOR is to be
    written and cannot run.
    """
    name = request.config.name
    if request.write and request.with_meteor:
        require_meteor(there=can_run_meteor())
    captioner = load_served(request.weights_folder, name, precision=request.precision)
    sets = read_images(request.config.dev, messages)
    if not request.dev_only:
        sets |= read_images(request.config.test, messages)
    with tqdm(total=sum(map(len, sets.values())), desc="captions", unit="photo") as bar:
        evaluation = evaluate_sets(
            captioner,
            sets,
            _options(captioner, request),
            bar.update,
            with_meteor=request.with_meteor,
        )
    stored = captioner.info.metrics.get("sets", {})
    for set_name, scores in evaluation.metrics["sets"].items():
        messages.say("\n".join(_describe_set(set_name, scores, stored.get(set_name, {}))))
    if request.captions_file is not None:
        _write_captions(request.captions_file, sets, evaluation)
    if request.write:
        if request.with_meteor:
            require_meteor(there=has_meteor(evaluation.metrics))
        write_metrics({name: request.weights_folder}, {name: evaluation.metrics}, messages)


def _options(captioner: NetworkCaptioner, request: EvaluateRequest) -> DecodingOptions:
    """Give the bundle's own options with what the request changes."""
    asked = {
        "beam_size": request.beam_size,
        "length_penalty": request.length_penalty,
        "avoid_echoes": request.avoid_echoes,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return DecodingOptions.model_validate(captioner.info.config.decoding.model_dump() | given)


def _describe_set(name: str, scores: Mapping[str, float], stored: Mapping[str, float]) -> list[str]:
    """Write a line a metric, in percent, beside what metrics.json says."""
    lines = [f"\n{name}: {scores['photos']} photos, {scores['references']} references"]
    for metric, value in scores.items():
        if metric not in _COUNTS:
            line = f"  {metric:8} {100 * value:6.2f}"
            lines.append(line + _beside(value, stored.get(metric)))
    if "METEOR" not in scores:
        lines.append(
            "  METEOR   left out: it needs Java and the reference program (pip package "
            "pycocoevalcap)"
        )
    return lines


def _beside(value: float, before: float | None) -> str:
    if before is None:
        return ""
    return f"   metrics.json {100 * before:6.2f}, difference {100 * (value - before):+.2f}"


def _write_captions(
    path: Path, sets: Mapping[str, Sequence[CaptionedImage]], evaluation: Evaluation
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for name, images in sets.items():
            for image, caption in zip(images, evaluation.captions[name], strict=True):
                line: dict[str, Any] = {
                    "set": name,
                    "key": image.key,
                    "caption": caption,
                    "references": image.captions,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
