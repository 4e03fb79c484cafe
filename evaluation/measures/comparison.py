"""Every model measured on the same images.

    measure_table -> MeasuredTable.table: the results document's table
                     MeasuredTable.metrics: what each bundle's metrics.json keeps

All of it is measured anew in each run. Knows no Markdown and no file of ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

from evaluation.captioning import Advance, caption_together, group_by_encoding, no_progress
from evaluation.measures.bootstrap import (
    SETTINGS,
    compare,
    default_resamples,
    estimate,
    round_value,
)
from evaluation.measures.timing import (
    Milliseconds,
    describe_machine,
    describe_timing,
    time_group,
)
from evaluation.metrics.echoes import human_echoes
from evaluation.metrics.main_object import human_agreement
from evaluation.metrics.score import Score
from evaluation.results import (
    Difference,
    ImageCaptions,
    ImageSet,
    MetricScore,
    ModelResult,
    SideBySide,
    SideBySideRow,
    Table,
)
from evaluation.scoring import describe_scores, score_sets
from models.captioner import NetworkCaptioner
from training.data.datasets import CaptionedImage

__all__ = ["COMPARED", "MeasuredTable", "measure_table", "side_by_side_positions"]

COMPARED = ("CIDEr-D", "BLEU-4")
"""The metrics by which models are compared."""

_FIRST_SHOWN = 40
_SHOWN_EVERY = 83
_SHOWN = 12
_DIGITS = 4

Sets = Mapping[str, Sequence[CaptionedImage]]


@dataclass(frozen=True, slots=True)
class MeasuredTable:
    """The table, and of each model what its metrics.json keeps."""

    table: Table
    metrics: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Captions:
    """What each model said of each set and of the examples, and how long it took."""

    sets: dict[tuple[str, str], list[str]]
    examples: dict[str, list[str]]
    milliseconds: dict[str, Milliseconds]


def side_by_side_positions(images: int) -> list[int]:
    """Choose the test images whose captions are shown, unseen: places in the list, from 1."""
    places = [_FIRST_SHOWN + number * _SHOWN_EVERY for number in range(_SHOWN)]
    return [place for place in places if place <= images]


def measure_table(
    captioners: Sequence[NetworkCaptioner],
    sets: Sets,
    examples: Sequence[Path],
    command: str,
    advance: Advance = no_progress,
    *,
    with_meteor: bool = True,
) -> MeasuredTable:
    """Measure every captioner on every set.

    The first set is the test set, on which models are compared. examples: more images to caption,
    without references. advance: is called with how many images a group of captioners of one
    encoding has captioned. Raises DataError with the name of an image that cannot be read.
    """
    test = next(iter(sets))
    shown = [CaptionedImage(path.name, path, ()) for path in examples]
    captions = _caption_all(captioners, sets, test, shown, advance)
    scores = _score_all(captioners, sets, captions, with_meteor=with_meteor)
    names = [each.info.name for each in captioners]
    table = Table(
        date=datetime.now(UTC).date().isoformat(),
        command=command,
        machine=describe_machine(captioners),
        bootstrap=SETTINGS,
        timing=describe_timing(len(sets[test])),
        test=test,
        sets={name: _describe_set(images) for name, images in sets.items()},
        models={
            each.info.name: _describe_model(
                each, captions.milliseconds[each.info.name], scores[each.info.name]
            )
            for each in captioners
        },
        differences=_differences({name: scores[name][test] for name in names}),
        side_by_side=_side_by_side(sets[test], {name: captions.sets[name, test] for name in names}),
        examples=_describe_examples(shown, captions.examples),
    )
    return MeasuredTable(table, _describe_metrics(captioners, sets, scores))


def _describe_metrics(
    captioners: Sequence[NetworkCaptioner],
    sets: Sets,
    scores: Mapping[str, Mapping[str, Sequence[Score]]],
) -> dict[str, dict[str, Any]]:
    """Say of each model what its metrics.json keeps."""
    return {
        each.info.name: describe_scores(
            each, each.info.config.decoding, sets, scores[each.info.name]
        )
        for each in captioners
    }


def _caption_all(
    captioners: Sequence[NetworkCaptioner],
    sets: Sets,
    test: str,
    shown: Sequence[CaptionedImage],
    advance: Advance,
) -> _Captions:
    """Time every captioner on the test set, and caption everything."""
    captions = _Captions({}, {}, {})
    for group in group_by_encoding(captioners):
        options = [captioner.info.config.decoding for captioner in group]
        captions.milliseconds.update(time_group(group, sets[test]))
        for name, images in sets.items():
            texts = caption_together(group, images, options, advance)
            for each, own in zip(group, texts, strict=True):
                captions.sets[each.info.name, name] = own
        for each, own in zip(group, caption_together(group, shown, options), strict=True):
            captions.examples[each.info.name] = own
    return captions


def _score_all(
    captioners: Sequence[NetworkCaptioner], sets: Sets, captions: _Captions, *, with_meteor: bool
) -> dict[str, dict[str, list[Score]]]:
    """Score everything at once: by model, by set."""
    images = {}
    texts = {}
    for each in captioners:
        for name in sets:
            key = (each.info.name, name)
            images[key] = sets[name]
            texts[key] = captions.sets[key]
    scores = score_sets(images, texts, with_meteor=with_meteor)
    return {
        each.info.name: {name: scores[each.info.name, name] for name in sets} for each in captioners
    }


def _describe_set(images: Sequence[CaptionedImage]) -> ImageSet:
    """Count a set, and measure how often a person's caption names the main object, or echoes."""
    references = [image.captions for image in images]
    human = human_agreement(references)
    return ImageSet(
        images=len(images),
        references=sum(map(len, references)),
        human_main_object_named=round_value(human.value),
        human_main_object_captions=int(human.statistics[:, 1].sum()),
        human_echoes=round_value(human_echoes(references).value),
    )


def _describe_model(
    captioner: NetworkCaptioner,
    milliseconds: Milliseconds,
    scores: Mapping[str, Sequence[Score]],
) -> ModelResult:
    info = captioner.info
    decoder = info.config.decoder
    return ModelResult(
        digest=info.digest,
        encoder=info.config.encoder,
        decoder=decoder.kind,
        attention=decoder.attention if decoder.kind == "attention" else None,
        parameters=info.parameters,
        decoder_parameters=info.decoder_parameters,
        decoding=info.config.decoding,
        encoder_milliseconds=milliseconds.encoder,
        decoder_milliseconds=milliseconds.decoder,
        scores={
            name: {score.name: _describe_score(score) for score in each}
            for name, each in scores.items()
        },
    )


def _describe_score(score: Score) -> MetricScore:
    around = estimate(score)
    counted = sum(not math.isnan(value) for value in score.per_image)
    return MetricScore(value=around.value, low=around.low, high=around.high, images=counted)


def _differences(scores: Mapping[str, Sequence[Score]]) -> tuple[Difference, ...]:
    """Compare each pair of models by each of `COMPARED`, all on the same resamples."""
    by_name = {name: {score.name: score for score in each} for name, each in scores.items()}
    resamples = default_resamples(len(next(iter(scores.values()))[0].per_image))
    found = []
    for metric in COMPARED:
        for second, first in combinations(by_name, 2):
            difference = compare(by_name[first][metric], by_name[second][metric], resamples)
            found.append(
                Difference(
                    metric=metric,
                    first=first,
                    second=second,
                    value=round(difference.value, _DIGITS),
                    low=round(difference.interval.low, _DIGITS),
                    high=round(difference.interval.high, _DIGITS),
                    other_sign=difference.other_sign,
                    is_real=difference.is_real,
                )
            )
    return tuple(found)


def _side_by_side(
    images: Sequence[CaptionedImage], captions: Mapping[str, Sequence[str]]
) -> SideBySide:
    rows = []
    for position in side_by_side_positions(len(images)):
        image = images[position - 1]
        own = {name: texts[position - 1] for name, texts in captions.items()}
        rows.append(
            SideBySideRow(position=position, file=image.key, captions=own, human=image.captions[0])
        )
    return SideBySide(
        rule=f"place {_FIRST_SHOWN} and every {_SHOWN_EVERY} places from there, at most "
        f"{_SHOWN} photos",
        images=tuple(rows),
    )


def _describe_examples(
    images: Sequence[CaptionedImage], captions: Mapping[str, Sequence[str]]
) -> tuple[ImageCaptions, ...]:
    return tuple(
        ImageCaptions(
            file=image.key,
            captions={name: texts[number] for name, texts in captions.items()},
        )
        for number, image in enumerate(images)
    )
