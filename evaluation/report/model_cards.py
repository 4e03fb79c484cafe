"""Write the model cards, from each bundle's config.json and metrics.json: run after either of them
changes.

    .venv/bin/python evaluation/report/model_cards.py [NAME ...] [--data-folder data]

The words between the figures are those of evaluation/report/models.toml. The default model's card
also shows its captions of example photos and of ten of Flickr8k's test photos, which lie in the
data folder. What a person says of each of them is kept in docs/verdicts.json, by the caption; a new
caption gets an empty place there: fill it in, and run this again.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.api.schemas import MAPS
from app.core.settings import DEFAULT_MODEL
from evaluation.captioning import caption_photos
from evaluation.measures.calibration import describe
from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.report.maps_page import EVERY
from evaluation.report.markdown import ABSENT, markdown_table, percent, plain, with_interval
from evaluation.report.published import PUBLISHED
from models.bundles.registry import list_models
from models.caption import ModelInfo
from models.captioner import NetworkCaptioner
from models.config import ModelConfig
from models.errors import GlimpseError
from models.loading import describe_captioner, load_captioner
from training.config import FrozenStage, SelfCriticalStage, StageConfig, load_config
from training.data.datasets import CaptionedImage, read_dataset

ROOT = Path(__file__).resolve().parents[2]
WORDS: dict[str, Any] = tomllib.loads(
    (Path(__file__).with_name("models.toml")).read_text(encoding="utf-8")
)
COMMON: dict[str, str | list[str]] = WORDS["common"]
VERDICTS = ROOT / "docs" / "verdicts.json"
CONFIGS = ROOT / "training" / "configs"
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D", MAIN_OBJECT)
EXAMPLES = {
    "cat": "the cat Chelsea",
    "coffee": "a cup of coffee",
    "astronaut": "an astronaut",
    "rocket": "a rocket on its pad",
}
MEASURES = {"correctness": "words of people", "pointing": "its own words"}


def card(info: ModelInfo, bundle: Path, examples: str = "") -> str:
    """Write a model's card; `examples` follow its scores."""
    own, metrics = WORDS["models"].get(info.name, {}), info.metrics
    fitted = "calibration" in metrics
    limits = [
        *COMMON["limits"],
        WORDS["limits"].get(own.get("limit"), ""),
        "" if fitted else COMMON["uncalibrated"],
    ]
    sections = {
        "": [own.get("about", ""), describe_parts(info, bundle)],
        "What it is for": [COMMON["use"]],
        "Quality": [*describe_scores(info), examples],
        "What its confidence means": [describe(metrics["calibration"])] if fitted else [],
        "Where it looks": describe_maps(info),
        "What it learnt from": [
            COMMON["shared"] if shared_files(bundle) else "",
            COMMON["data"],
            own.get("data", ""),
            COMMON["terms"],
            COMMON.get(info.config.encoder, ""),
        ],
        "Limits and known biases": [bullets([each for each in limits if each])],
    }
    paragraphs = [f"# Model card: {info.name}"]
    for title, texts in sections.items():
        told = [text.strip() for text in texts if text.strip()]
        paragraphs += [f"## {title}", *told] if title and told else told
    return "\n\n".join(paragraphs) + "\n"


def compare(name: str) -> str:
    """What scores beside those of other models do not hold equal; "" of a model that began from
    none of them."""
    path = CONFIGS / f"{name}.toml"
    if not path.is_file():
        return ""
    config = load_config(path, Path("data"))
    return (
        str(COMMON["compared"])
        if (config.start_from or config.borrow_from) and "encoder" in config.shared
        else ""
    )


def bullets(texts: Sequence[str]) -> str:
    """A list, its further lines indented."""
    return "\n".join("* " + text.strip().replace("\n", "\n  ") for text in texts)


def describe_parts(info: ModelInfo, bundle: Path) -> str:
    """What the model is made of, and how it was made."""
    config = info.config
    own_bytes = (bundle / "model.safetensors").stat().st_size
    sizes = {path.name: path.stat().st_size for path in shared_files(bundle)}
    common = (
        f", and {sum(sizes.values()) / 1e6:.1f} MB shared with others ({', '.join(sizes)})"
        if sizes
        else ""
    )
    encoder = WORDS["encoders"].get(config.encoder, config.encoder)
    decoder = WORDS["decoders"][kind(config)].format(**config.model_dump())
    rows = {
        "encoder": f"{encoder}; {config.preprocess.size_pixels} x {config.preprocess.size_pixels} "
        "pixels",
        "decoder": f"{decoder}; words of {config.embed_dim} dimensions",
        "vocabulary": f"{config.vocab_size:,} tokens, lower case, no punctuation",
        "parameters": f"{info.parameters / 1e6:.1f} million, in half precision: "
        f"{own_bytes / 1e6:.1f} MB{common}",
        "search": describe_search(config.decoding.model_dump()),
        "made": describe_making(config.name),
    }
    return left_aligned(["", ""], [[name, value] for name, value in rows.items() if value])


def left_aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words."""
    return markdown_table(header, rows).replace("--:", "---")


def kind(config: ModelConfig) -> str:
    """How a model writes; of one that looks before each word, how it looks."""
    return config.attention if config.decoder == "attention" else config.decoder


def shared_files(bundle: Path) -> list[Path]:
    """The shared files that a bundle names in its sums."""
    names = [
        line.split()[1] for line in (bundle / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    ]
    return [bundle.parent / name.removeprefix("../") for name in names if "/" in name]


def describe_search(options: Mapping[str, Any]) -> str:
    """The options of a search that matter for scores."""
    return f"beam size {options['beam_size']}, length penalty {options['length_penalty']:g}"


def describe_making(name: str) -> str:
    """The model's experiment, where it begins, and its stages; "" where it has none."""
    path = CONFIGS / f"{name}.toml"
    if not path.is_file():
        return ""
    config = load_config(path, Path("data"))
    begins = [f"begins as `{config.start_from}`"] if config.start_from else []
    begins += [f"begins with what fits of `{config.borrow_from}`"] if config.borrow_from else []
    parts = [f"`training/configs/{path.name}`", *begins, *map(describe_stage, config.stages)]
    return "; ".join(parts)


def describe_stage(stage: StageConfig) -> str:
    """Who learns, and for how long."""
    words = [", words frozen"] if stage.freeze_words else []
    has_targets = (
        isinstance(stage, FrozenStage | SelfCriticalStage) and stage.attention_loss_weight > 0
    )
    words += [", maps taught where to look"] if has_targets else []
    return (
        f"{WORDS['stages'][stage.kind]}{''.join(words)}: {stage.epochs} "
        f"epoch{'s' * (stage.epochs > 1)}"
    )


def describe_scores(info: ModelInfo) -> list[str]:
    """The scores of metrics.json, those on test first, above what the model's paper printed."""
    sets: Mapping[str, Mapping[str, Any]] = info.metrics.get("sets", {})
    if not sets:
        return []
    metrics = [
        metric for metric in METRICS if any(metric in measured for measured in sets.values())
    ]
    rows = [
        [
            name,
            f"{sets[name]['photos']:,}",
            *(percent(sets[name].get(metric)) for metric in metrics),
        ]
        for name in sorted(sets, key=lambda name: not name.endswith(" test"))
    ]
    printed = [
        each
        for each in PUBLISHED
        if each.model == WORDS["models"].get(info.name, {}).get("published")
    ]
    for each in printed:
        cells = [percent(each.scores.get(metric)) for metric in metrics]
        rows.append([f"*published:* {each.model}, {each.source}", ABSENT, *cells])
    search = (
        f"Search: {describe_search(info.metrics['decoding'])}. Encoder in "
        f"{info.metrics['precision']}."
    )
    table = markdown_table(["", "photos", *metrics], rows)
    quality = f"{search}\n{COMMON['quality']}".replace("\n\n", "\n")
    return [table, quality, compare(info.name), str(COMMON["published"]) if printed else ""]


def describe_maps(info: ModelInfo) -> list[str]:
    """What the maps are, and what was measured of them."""
    what = f"Its maps, `alpha` in the answers: {MAPS[kind(info.config)]}."
    measured = info.metrics.get("maps")
    if measured is None:
        return [what]
    looks = [
        [f"{words}, {measured[part]['set']}: {figure}", f"{measured[part]['photos']:,}"]
        + [
            with_interval(measured[part][whose].get(figure))
            for whose in ("model", "uniform", "gaussian")
        ]
        for part, words in MEASURES.items()
        for figure in ("mass", "peak")
    ]
    deletion = measured["deletion"]
    falls = [with_interval(deletion[cells], plain) for cells in ("highest", "random", "centre")]
    fall = [f"its own words, {deletion['set']}: fall", f"{deletion['photos']:,}", *falls]
    return [
        what,
        markdown_table(["", "photos", "its maps", "even maps", "a centred Gaussian"], looks),
        markdown_table(["", "photos", "highest cells", "random cells", "central cells"], [fall]),
        str(COMMON["maps"]),
    ]


def read_verdicts() -> dict[str, str]:
    """What a person said of captions, by the caption."""
    verdicts: dict[str, str] = (
        json.loads(VERDICTS.read_text(encoding="utf-8")) if VERDICTS.is_file() else {}
    )
    return verdicts


def show_examples(captioner: NetworkCaptioner, data_folder: Path, verdicts: dict[str, str]) -> str:
    """Captions of photos as they come, each with its verdict; those without one get an empty
    place in `verdicts`."""
    shown = [
        CaptionedImage(name, ROOT / "docs" / "images" / f"{name}.jpg", ()) for name in EXAMPLES
    ]
    (test, *_) = load_config(CONFIGS / "base.toml", data_folder).test
    photos = read_dataset(test)[0][::EVERY]
    captions = caption_photos(
        captioner, [*shown, *photos], captioner.info.config.decoding, lambda _: None
    )
    written = {caption: verdict for caption, verdict in verdicts.items() if verdict}
    verdicts.clear()
    verdicts.update(dict.fromkeys(captions, "") | written)
    own, others = captions[: len(shown)], captions[len(shown) :]
    first = [
        [EXAMPLES[photo.key], text, verdicts[text]] for photo, text in zip(shown, own, strict=True)
    ]
    second = [
        [photo.key, text, photo.captions[0], verdicts[text]]
        for photo, text in zip(photos, others, strict=True)
    ]
    return "\n\n".join(
        [
            "Captions as they come, the failures among them. Photos of scikit-image:",
            left_aligned(["photo", "caption", ""], first),
            f"Photos of {test.name} {test.split}, every {EVERY}th of the list from the first on, "
            "chosen unseen:",
            left_aligned(["photo", "caption", "a person said", ""], second),
        ]
    )


def write_cards(names: Sequence[str], weights_folder: Path, data_folder: Path) -> None:
    """Write the cards of these models; raise GlimpseError where a bundle or the data is of no
    use."""
    for name in names:
        examples = ""
        if name == DEFAULT_MODEL:
            verdicts = read_verdicts()
            examples = show_examples(load_captioner(weights_folder, name), data_folder, verdicts)
            VERDICTS.write_text(
                json.dumps(verdicts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
            )
        text = card(describe_captioner(weights_folder, name), weights_folder / name, examples)
        (weights_folder / name / "MODEL_CARD.md").write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {weights_folder / name / 'MODEL_CARD.md'}\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Write the model cards.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a bundle in the weights folder; else all of them"
    )
    parser.add_argument("--weights-folder", type=Path, default=ROOT / "weights")
    parser.add_argument("--data-folder", type=Path, default=Path("data"))
    asked = parser.parse_args()
    try:
        write_cards(
            asked.names or list_models(asked.weights_folder),
            asked.weights_folder,
            asked.data_folder,
        )
    except GlimpseError as error:
        sys.exit(f"model_cards: {error}")


if __name__ == "__main__":
    main()
