"""The model cards: words from models.toml, figures from each bundle's config.json and metrics.json.

`python -m evaluation.report.model_cards [NAME ...] [--data-folder data]`, from the project's
folder, writes them: run it after a bundle or the words change. The default model's card also shows
its captions of examples and of ten of Flickr8k's test images, which lie in the data folder. What a
person says of each is kept in docs/verdicts.json; a new caption gets an empty place there: fill it
in, and run this again. Knows no service.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.map_results import DeletionResult, GroundingResult, MapsResult
from evaluation.measures.lineage import Stage, count_epochs
from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.report.calibration_text import describe_calibration
from evaluation.report.card_examples import caption_examples, read_verdicts, write_verdicts
from evaluation.report.catalog import decoder_kind, read_catalog
from evaluation.report.markdown import (
    ABSENT,
    markdown_table,
    percent,
    plain,
    text_table,
    with_interval,
)
from evaluation.report.published import PublishedRow, published_rows
from evaluation.report.sixty_page import card_paragraph
from evaluation.report.sixty_results import read_sixty
from evaluation.report.sixty_results import read_verdicts as read_sixty_verdicts
from evaluation.report.wording import METRICS, describe_search
from models.bundles.registry import list_models
from models.caption import ModelInfo
from models.config import DecodingOptions
from models.errors import GlimpseError
from models.loading import describe_captioner, load_served
from training.config import load_config

__all__ = ["describe_making", "render_card", "write_cards"]

_DOCS = Path("docs")
_CONFIGS = Path("training/configs")
_SIXTY = _DOCS / "sixty.json"
_SIXTY_VERDICTS = _DOCS / "sixty-verdicts.json"


def render_card(info: ModelInfo, bundle: Path, configs: Path, examples: str = "") -> str:
    """Render a model's card as Markdown.

    configs: the folder of experiments. examples: Markdown that follows the scores.
    """
    words = read_catalog().words_of(info.name)
    texts = read_catalog().card
    metrics = info.metrics
    calibration = metrics.get("calibration")
    sections = {
        "": [words.about, _parts(info, bundle, configs)],
        "What it is for": [texts.use],
        "Quality": [*_quality(info, configs), examples],
        "What its confidence means": [describe_calibration(calibration)] if calibration else [],
        "Where it looks": _maps(info),
        "What it learnt from": [
            texts.shared if _shared_files(bundle) else "",
            texts.data,
            words.data,
            texts.terms,
            read_catalog().encoder_terms.get(info.config.encoder, ""),
            "" if info.config.tagger is None else read_catalog().tagger_terms,
        ],
        "Limits and known biases": [_limits(info)],
    }
    paragraphs = [f"# Model card: {info.name}"]
    for title, each in sections.items():
        written = [text.strip() for text in each if text.strip()]
        if title and written:
            paragraphs.append(f"## {title}")
        paragraphs += written
    return "\n\n".join(paragraphs) + "\n"


def describe_making(name: str, configs: Path) -> str:
    """Name a model's experiment, where it begins, and its stages; "" where it has none."""
    path = configs / f"{name}.toml"
    if not path.is_file():
        return ""
    config = load_config(path, Path("data"))
    parts = [f"`training/configs/{path.name}`"]
    if config.start_from:
        parts.append(f"begins as `{config.start_from}`")
    if config.borrow_from:
        parts.append(f"begins with what fits of `{config.borrow_from}`")
    return "; ".join([*parts, *map(_describe_stage, config.stages)])


def _describe_stage(stage: Stage) -> str:
    """Say who learns, and for how long."""
    text = read_catalog().stages[stage.kind]
    if stage.freeze_words:
        text += ", words frozen"
    if getattr(stage, "attention_loss_weight", 0.0):
        text += ", maps taught where to look"
    return f"{text}: {count_epochs(stage)}"


def _parts(info: ModelInfo, bundle: Path, configs: Path) -> str:
    """Tabulate what the model is made of, and how it was made."""
    catalog = read_catalog()
    config = info.config
    encoder = catalog.encoders.get(config.encoder, config.encoder)
    decoder = catalog.decoders[decoder_kind(config)].format(**config.describe())
    size = config.preprocess.size_pixels
    rows = {
        "encoder": f"{encoder}; {size} x {size} pixels",
        "decoder": f"{decoder}; words of {config.decoder.embed_dim} dimensions",
        "vocabulary": f"{config.vocab_size:,} tokens, lower case, no punctuation",
        "parameters": f"{info.parameters / 1e6:.1f} million, in half precision: "
        f"{_describe_files(bundle)}",
        "search": describe_search(config.decoding),
        "made": describe_making(config.name, configs),
    }
    return text_table(["", ""], [[name, value] for name, value in rows.items() if value])


def _describe_files(bundle: Path) -> str:
    own_bytes = (bundle / "model.safetensors").stat().st_size
    sizes = {path.name: path.stat().st_size for path in _shared_files(bundle)}
    text = f"{own_bytes / 1e6:.1f} MB"
    if sizes:
        text += f", and {sum(sizes.values()) / 1e6:.1f} MB shared with others ({', '.join(sizes)})"
    return text


def _shared_files(bundle: Path) -> list[Path]:
    """List the shared files that a bundle names in its sums."""
    lines = (bundle / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    names = [line.split()[1] for line in lines]
    return [bundle.parent / name.removeprefix("../") for name in names if "/" in name]


def _quality(info: ModelInfo, configs: Path) -> list[str]:
    """Write the scores of metrics.json, test sets first, above what the model's paper printed."""
    sets: Mapping[str, Mapping[str, Any]] = info.metrics.get("sets", {})
    if not sets:
        return []
    texts = read_catalog().card
    paper = read_catalog().words_of(info.name).published
    printed = [row for row in published_rows() if row.model == paper]
    search = describe_search(DecodingOptions.model_validate(info.metrics["decoding"]))
    quality = f"Search: {search}. Encoder in {info.metrics['precision']}.\n{texts.quality}"
    return [
        _scores_table(sets, printed),
        quality.replace("\n\n", "\n"),
        texts.compared if _shares_its_sources_encoder(info.name, configs) else "",
        texts.published if printed else "",
    ]


def _scores_table(sets: Mapping[str, Mapping[str, Any]], printed: Sequence[PublishedRow]) -> str:
    metrics = [
        metric
        for metric in (*METRICS, MAIN_OBJECT)
        if any(metric in measured for measured in sets.values())
    ]
    rows = []
    for name in sorted(sets, key=lambda name: not name.endswith(" test")):
        scores = [percent(sets[name].get(metric)) for metric in metrics]
        rows.append([name, f"{sets[name]['photos']:,}", *scores])
    for row in printed:
        scores = [percent(row.scores.get(metric)) for metric in metrics]
        rows.append([row.title, ABSENT, *scores])
    return markdown_table(["", "photos", *metrics], rows)


def _shares_its_sources_encoder(name: str, configs: Path) -> bool:
    """Tell whether a model shares the encoder of the one that it began from."""
    path = configs / f"{name}.toml"
    if not path.is_file():
        return False
    config = load_config(path, Path("data"))
    has_source = bool(config.start_from or config.borrow_from)
    return has_source and "encoder" in config.shared


def _maps(info: ModelInfo) -> list[str]:
    """Say what the maps are, and what was measured of them."""
    kind = read_catalog().maps[info.config.decoder.maps]
    text = f"Its maps, `alpha` in the answers: {kind}."
    if "maps" not in info.metrics:
        return [text]
    measured = MapsResult.model_validate(info.metrics["maps"])
    rows = [
        *_grounding_rows("words of people", measured.correctness),
        *_grounding_rows("its own words", measured.pointing),
    ]
    return [
        text,
        markdown_table(["", "photos", "its maps", "even maps", "a centered Gaussian"], rows),
        _deletion_table(measured.deletion),
        read_catalog().card.maps,
    ]


def _grounding_rows(words: str, result: GroundingResult) -> list[list[str]]:
    title = f"{words}, {result.set_name}"
    images = f"{result.images:,}"
    mass = [result.model.mass, result.uniform.mass, result.gaussian.mass]
    peak = [result.model.peak, result.uniform.peak, result.gaussian.peak]
    return [
        [f"{title}: mass", images, *map(with_interval, mass)],
        [f"{title}: peak", images, *map(with_interval, peak)],
    ]


def _deletion_table(result: DeletionResult) -> str:
    drops = [with_interval(drop, plain) for drop in (result.highest, result.random, result.center)]
    row = [f"its own words, {result.set_name}: drop", f"{result.images:,}", *drops]
    return markdown_table(["", "photos", "highest cells", "random cells", "central cells"], [row])


def _limits(info: ModelInfo) -> str:
    """List the limits of all models, of this one's maps, and of uncalibrated confidences."""
    catalog = read_catalog()
    limits = list(catalog.card.limits)
    limits.append(catalog.limits.get(catalog.words_of(info.name).limit, ""))
    if "calibration" not in info.metrics:
        limits.append(catalog.card.uncalibrated)
    lines = [limit.strip().replace("\n", "\n  ") for limit in limits if limit]
    return "\n".join(f"* {line}" for line in lines)


def write_cards(names: Sequence[str], weights_folder: Path, data_folder: Path) -> list[Path]:
    """Write the cards of these models into their bundles, and give their files.

    Raises GlimpseError where a bundle or the data cannot be read.
    """
    written = []
    for name in names:
        examples = ""
        if name == read_catalog().project.default_model:
            examples = _write_examples(name, weights_folder, data_folder)
        info = describe_captioner(weights_folder, name)
        path = weights_folder / name / "MODEL_CARD.md"
        path.write_text(
            render_card(info, weights_folder / name, _CONFIGS, examples), encoding="utf-8"
        )
        written.append(path)
    return written


def _write_examples(name: str, weights_folder: Path, data_folder: Path) -> str:
    """Caption the examples, and make places for verdicts that are missing."""
    captioner = load_served(weights_folder, name)
    examples = caption_examples(captioner, _DOCS / "images", _CONFIGS, data_folder)
    verdicts = examples.verdicts(read_verdicts(_DOCS / "verdicts.json"))
    write_verdicts(_DOCS / "verdicts.json", verdicts)
    return "\n\n".join(filter(None, [_sixty(captioner.info.digest), examples.describe(verdicts)]))


def _sixty(digest: str) -> str:
    """Say how many of the sixty things the weights `digest` caption right; "" where unknown."""
    return card_paragraph(read_sixty(_SIXTY), read_sixty_verdicts(_SIXTY_VERDICTS), digest)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Write the model cards.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a bundle in the weights folder; else all of them"
    )
    parser.add_argument("--weights-folder", type=Path, default=Path("weights"))
    parser.add_argument("--data-folder", type=Path, default=Path("data"))
    asked = parser.parse_args()
    names = asked.names or list_models(asked.weights_folder)
    try:
        written = write_cards(names, asked.weights_folder, asked.data_folder)
    except GlimpseError as error:
        sys.exit(f"model_cards: {error}")
    for path in written:
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
