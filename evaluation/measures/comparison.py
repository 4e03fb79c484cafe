"""Every model measured on the same photos, as one document that JSON can hold. Knows no Markdown
and no files of ours.

    measure_table -> Table.results -> evaluation.report.results_page: the page, results.json, the
    README's short form
                     Table.metrics -> each bundle's metrics.json

All of it is measured anew in each run. Whoever measures more adds a key to `results`, and to the
page a section.
"""

import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from evaluation.captioning import caption_together, describe_metrics, group_by_encoding, score_sets
from evaluation.measures.bootstrap import compare, draw_resamples, interval
from evaluation.metrics.main_object import human_agreement
from evaluation.metrics.score import Score, Values
from models.captioner import NetworkCaptioner
from models.preprocessing import DecodeLimits
from training.data.datasets import CaptionedImage

__all__ = ["COMPARED", "EXAMPLES", "Table", "in_order", "measure_table", "side_by_side_positions"]

COMPARED = ("CIDEr-D", "BLEU-4")  # the metrics by which models are held against each other
EXAMPLES = ("cat", "coffee", "astronaut", "rocket")  # of scikit-image, in docs/images
_ORDER = (
    *("nic", "lrcn-unfactored", "lrcn-factored"),
    *(
        "base",
        "soft-attention",
        "soft-attention-dot-product",
        "soft-attention-cosine",
        "hard-attention",
    ),
    *("transformer", "vit-transformer", "glimpse"),
)
_RESAMPLES, _SEED = 1000, 0
_TIMED_PHOTOS, _WARM_UP_PHOTOS = 32, 4
_FIRST_SHOWN, _SHOWN_EVERY, _SHOWN = 40, 83, 12
_DIGITS = 4

Scores = Mapping[str, Mapping[str, Sequence[Score]]]  # by model, by set


@dataclass(frozen=True, slots=True)
class Table:
    """What was measured: the whole document, and of each model what its metrics.json keeps."""

    results: dict[str, Any]
    metrics: dict[str, dict[str, Any]]


def in_order(names: Sequence[str]) -> list[str]:
    """Put models in the order of the line, the simplest first; those that it does not know last,
    by name."""
    return sorted(
        names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)
    )


def side_by_side_positions(photos: int) -> list[int]:
    """Choose the test photos whose captions are shown, without looking: places in the list, from
    1."""
    return [place for k in range(_SHOWN) if (place := _FIRST_SHOWN + k * _SHOWN_EVERY) <= photos]


def measure_table(
    captioners: Sequence[NetworkCaptioner],
    sets: Mapping[str, Sequence[CaptionedImage]],
    examples: Sequence[Path],
    command: str,
    advance: Callable[[int], Any],
    *,
    with_meteor: bool = True,
) -> Table:
    """Measure every captioner on every set; the first set is the test set, on which models are
    compared.

    examples: more photos to caption, without references. advance: is told how many photos a group
    of captioners with one encoder has captioned (`group_by_encoding`). Raises DataError with the
    name of a photo that cannot be read.
    """
    test = next(iter(sets))
    captions: dict[tuple[str, str], list[str]] = {}
    milliseconds: dict[str, dict[str, float]] = {}
    shown = [CaptionedImage(path.name, path, ()) for path in examples]
    for group in group_by_encoding(captioners):
        options = [captioner.info.config.decoding for captioner in group]
        milliseconds |= _time_group(group, sets[test])
        for name, photos in {**sets, "": shown}.items():
            told = caption_together(group, photos, options, advance if name else lambda _: None)
            captions |= {
                (each.info.name, name): texts for each, texts in zip(group, told, strict=True)
            }
    keys = {(each.info.name, name): photos for each in captioners for name, photos in sets.items()}
    flat = score_sets(keys, {key: captions[key] for key in keys}, with_meteor=with_meteor)
    scores = {
        each.info.name: {name: flat[each.info.name, name] for name in sets} for each in captioners
    }
    results = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "machine": _machine(captioners[0]),
        "bootstrap": {"resamples": _RESAMPLES, "seed": _SEED},
        "timing": {"photos": min(_TIMED_PHOTOS, len(sets[test])), "warm_up": _WARM_UP_PHOTOS},
        "test": test,
        "sets": {name: _describe_set(photos) for name, photos in sets.items()},
        "models": {
            each.info.name: {
                **_describe(each),
                **milliseconds[each.info.name],
                "scores": _intervals(scores, each),
            }
            for each in captioners
        },
        "differences": _differences({name: scores[name][test] for name in scores}),
        "side_by_side": _side_by_side(sets[test], {name: captions[name, test] for name in scores}),
        "examples": _shown(shown, {name: captions[name, ""] for name in scores}),
    }
    metrics = {
        each.info.name: describe_metrics(
            each, each.info.config.decoding, sets, scores[each.info.name]
        )
        for each in captioners
    }
    return Table(results, metrics)


def _time_group(
    group: Sequence[NetworkCaptioner], photos: Sequence[CaptionedImage]
) -> dict[str, dict[str, float]]:
    """Time encoder and decoders, warm, one photo at a time: the median of each in milliseconds."""
    first = group[0]
    timed = [photo.path.read_bytes() for photo in photos[:_TIMED_PHOTOS] if photo.path is not None]
    images = [[first.prepare(data, DecodeLimits())] for data in timed]
    annotations = [first.encode(each) for each in images]
    encoder = _median_milliseconds(first.encode, images)
    return {
        each.info.name: {
            "encoder_milliseconds": encoder,
            "decoder_milliseconds": _median_milliseconds(_search(each), annotations),
        }
        for each in group
    }


def _search(captioner: NetworkCaptioner) -> Callable[[torch.Tensor], Any]:
    """Give the search of a captioner, with its own options, over annotations (B, L, D)."""
    options = captioner.info.config.decoding
    return lambda annotations: captioner.caption_annotations(annotations, options)


def _median_milliseconds(function: Callable[[Any], Any], inputs: Sequence[Any]) -> float:
    for each in inputs[:_WARM_UP_PHOTOS]:
        function(each)
    seconds = []
    for each in inputs:
        start = time.perf_counter()
        function(each)
        seconds.append(time.perf_counter() - start)
    return round(1000 * statistics.median(seconds), 1)


def _machine(captioner: NetworkCaptioner) -> dict[str, Any]:
    return {
        "processor": _processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "precision": captioner.precision,
    }


def _processor() -> str:
    """Name the processor as the platform does; Linux says it in a file."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _describe_set(photos: Sequence[CaptionedImage]) -> dict[str, Any]:
    """Count a set, and measure how often a person's caption names the main object by the photo's
    other captions."""
    references = [photo.captions for photo in photos]
    human = human_agreement(references)
    return {
        "photos": len(photos),
        "references": sum(map(len, references)),
        **_rounded({"human_main_object_named": human.value}),
        "human_main_object_captions": int(human.statistics[:, 1].sum()),
    }


def _describe(captioner: NetworkCaptioner) -> dict[str, Any]:
    info = captioner.info
    decoder = info.config.decoder
    return {
        "digest": info.digest,
        "encoder": info.config.encoder,
        "decoder": decoder.kind,
        "attention": decoder.attention if decoder.kind == "attention" else None,
        "parameters": info.parameters,
        "decoder_parameters": info.decoder_parameters,
        "decoding": info.config.decoding.model_dump(),
    }


def _intervals(scores: Scores, captioner: NetworkCaptioner) -> dict[str, dict[str, dict[str, Any]]]:
    """Give every score of a model with its interval: by set, by metric, value and low and high."""
    return {
        name: {
            score.name: {
                **_rounded({"value": score.value}),
                **_rounded(asdict(interval(score, _resamples(len(score.per_photo))))),
                "photos": sum(not math.isnan(value) for value in score.per_photo),
            }
            for score in each
        }
        for name, each in scores[captioner.info.name].items()
    }


@cache
def _resamples(photos: int) -> Values:
    return draw_resamples(photos, _RESAMPLES, _SEED)


def _differences(scores: Mapping[str, Sequence[Score]]) -> list[dict[str, Any]]:
    """Compare each pair of models by each of `COMPARED`, all on the same resamples."""
    by_name = {name: {score.name: score for score in each} for name, each in scores.items()}
    photos = len(next(iter(scores.values()))[0].per_photo)
    resamples = _resamples(photos)
    found = []
    for metric in COMPARED:
        for second, first in combinations(by_name, 2):
            difference = compare(by_name[first][metric], by_name[second][metric], resamples)
            found.append(
                {
                    "metric": metric,
                    "first": first,
                    "second": second,
                    **_rounded({"value": difference.value, **asdict(difference.interval)}),
                    "other_sign": difference.other_sign,
                    "is_real": difference.is_real,
                }
            )
    return found


def _rounded(values: Mapping[str, float]) -> dict[str, float | None]:
    """Round for JSON, which has no nan."""
    return {
        name: None if math.isnan(value) else round(value, _DIGITS) for name, value in values.items()
    }


def _side_by_side(
    photos: Sequence[CaptionedImage], captions: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    positions = side_by_side_positions(len(photos))
    chosen = [photos[place - 1] for place in positions]
    rows = _shown(
        chosen,
        {name: [texts[place - 1] for place in positions] for name, texts in captions.items()},
    )
    return {
        "rule": f"place {_FIRST_SHOWN} and every {_SHOWN_EVERY} places from there, at most "
        f"{_SHOWN} photos",
        "photos": [
            {"position": place, **row, "human": photo.captions[0]}
            for place, photo, row in zip(positions, chosen, rows, strict=True)
        ],
    }


def _shown(
    photos: Sequence[CaptionedImage], captions: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    return [
        {"file": photo.key, "captions": {name: texts[number] for name, texts in captions.items()}}
        for number, photo in enumerate(photos)
    ]
