"""Measure what a model's tags are worth on the experiment's dev sets; knows no files of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from evaluation.captioning import CachedEncoder, image_encoder
from evaluation.jobs.bundles import Messages, read_images
from evaluation.measures.ablation import VARIANTS, Ablated, caption_variant, without_copying
from evaluation.metrics.echoes import ECHOES
from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.report.markdown import ABSENT, markdown_table
from models.bundles.registry import load_model
from models.captioner import NetworkCaptioner
from models.loading import build_captioner
from models.runtime.torch import Precision
from training.config import load_config

__all__ = ["AblationRequest", "ablate"]

_METRICS = ("CIDEr-D", MAIN_OBJECT, ECHOES)


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRequest:
    """Which bundle to measure: that of the experiment. limit: only so many photos of each set."""

    experiment: Path
    data_folder: Path
    weights_folder: Path
    precision: Precision = "auto"
    limit: int | None = None


def ablate(request: AblationRequest, messages: Messages) -> None:
    """Caption the dev sets with and without each kind of tag, and print a table.

    Raises GlimpseError where the bundle or the data cannot be used.
    """
    config = load_config(request.experiment, request.data_folder)
    copying, mute = (_load(request, config.name, copying=copies) for copies in (True, False))
    sets = {
        name: images[: request.limit] for name, images in read_images(config.dev, messages).items()
    }
    encode = CachedEncoder(image_encoder(copying))
    found: dict[str, Ablated] = {}
    total = len(VARIANTS) * sum(map(len, sets.values()))
    with tqdm(total=total, desc="captions", unit="photo") as bar:
        for variant in VARIANTS:
            captioner = copying if variant.copying else mute
            found[variant.name] = caption_variant(captioner, variant, sets, encode, bar.update)
    messages.say(_table(found, list(sets)))


def _load(request: AblationRequest, name: str, *, copying: bool) -> NetworkCaptioner:
    checkpoint = load_model(request.weights_folder, name)
    return build_captioner(
        checkpoint if copying else without_copying(checkpoint),
        precision=request.precision,
        runtime="auto",
        threads=torch.get_num_threads(),
    )


def _table(found: Mapping[str, Ablated], sets: Sequence[str]) -> str:
    """Lay out a row a variant: each metric of each set in percent, and the time of the search."""
    header = ["", *(f"{name}: {title}" for name in sets for title in _METRICS)]
    rows = []
    for variant, ablated in found.items():
        cells = []
        for name in sets:
            values = {score.name: f"{100 * score.value:.1f}" for score in ablated.scores[name]}
            cells += [values.get(metric, ABSENT) for metric in _METRICS]
        rows.append([variant, *cells, f"{ablated.search_milliseconds:.1f}"])
    return markdown_table([*header, "ms a photo, the search"], rows)
