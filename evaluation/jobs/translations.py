"""Measure every translator on the test sets of its experiment, and write the page of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from evaluation.jobs.bundles import Messages
from evaluation.measures.bootstrap import SETTINGS
from evaluation.measures.translations import (
    MeasuredTranslator,
    bleu_by_length,
    compare_translators,
    measure_translator,
    seconds_a_sentence,
)
from evaluation.metrics.translation import signatures
from evaluation.report.translations_page import LENGTHS_PICTURE, translations_page
from evaluation.translation_results import (
    TranslationDifference,
    TranslationResults,
    TranslatorRow,
)
from models.errors import ConfigError
from models.translation.bundles import (
    list_translators,
    translator_folder,
    update_translation_metrics,
)
from models.translation.checkpoint import load_translation
from models.translation.torch_runtime import TorchTranslationRuntime
from models.translation.translator import Translator
from training.data.pairs import SentencePair, read_pairs
from training.translation_config import TranslateConfig, load_translate_config

__all__ = ["TRANSLATIONS_PAGE", "TranslationsRequest", "measure_translations"]

TRANSLATIONS_PAGE = Path("docs/translations.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationsRequest:
    """What to measure, and where to write it.

    experiments_folder: its TOML files name the translators and their test sets. names: only these,
    with commas between; then nothing is written unless `output` says so. sentences_folder: gets the
    translations as JSON Lines. limit: only the first sentences of each set, and nothing is written.
    """

    experiments_folder: Path
    data_folder: Path
    weights_folder: Path
    names: str | None = None
    output: Path | None = None
    sentences_folder: Path | None = None
    limit: int | None = None

    @property
    def writes(self) -> bool:
        """Whether the page and metrics are written."""
        return self.limit is None and (self.names is None or self.output is not None)


@dataclass(frozen=True, slots=True)
class _Measured:
    """One translator: its row, and its translations to be compared."""

    row: TranslatorRow
    found: MeasuredTranslator


def measure_translations(request: TranslationsRequest, messages: Messages) -> None:
    """Measure translators side by side; print the page, or write it and the metrics.

    Raises GlimpseError where an experiment, a bundle or the data cannot be used.
    """
    configs = _choose(request)
    for name in [name for name, config in configs.items() if not config.test]:
        messages.warn(f"{name} is left out: its experiment names no test set")
        del configs[name]
    if not configs:
        raise ConfigError("No experiment of these translators names a test set.")
    sets = {name: _read_sets(config, request.limit) for name, config in configs.items()}
    measured = {}
    for name, config in configs.items():
        messages.say(f"translating by {name}")
        measured[name] = _measure(request, config, sets[name])
    results = TranslationResults(
        signatures=signatures(),
        bootstrap=SETTINGS,
        sizes={key: len(pairs) for each in sets.values() for key, pairs in each.items()},
        rows=tuple(each.row for each in measured.values()),
        differences=_differences(measured),
        limit=request.limit,
    )
    if request.sentences_folder is not None:
        _write_sentences(request.sentences_folder, measured)
    if not request.writes:
        messages.say(translations_page(results, with_picture=False))
        return
    _write(request, results, messages)


def _choose(request: TranslationsRequest) -> dict[str, TranslateConfig]:
    """Give the experiments of the translators to be measured, by name, in order of their files."""
    there = list_translators(request.weights_folder)
    wanted = there
    if request.names is not None:
        wanted = [name.strip() for name in request.names.split(",") if name.strip()]
        for name in wanted:
            translator_folder(request.weights_folder, name)
    configs: dict[str, TranslateConfig] = {}
    for path in sorted(request.experiments_folder.glob("*.toml")):
        config = load_translate_config(path, request.data_folder)
        if config.name in wanted:
            configs[config.name] = config
    missing = [name for name in wanted if name not in configs]
    if missing:
        raise ConfigError(
            f"No experiment in {request.experiments_folder} is called {missing[0]!r}: its test "
            "sets are not known."
        )
    if not configs:
        raise ConfigError(f"There is no translator in {request.weights_folder / 'languages'}.")
    return configs


def _read_sets(config: TranslateConfig, limit: int | None) -> dict[str, Sequence[SentencePair]]:
    return {each.name: read_pairs(each)[:limit] for each in config.test}


def _measure(
    request: TranslationsRequest,
    config: TranslateConfig,
    sets: Mapping[str, Sequence[SentencePair]],
) -> _Measured:
    network, bundle = load_translation(translator_folder(request.weights_folder, config.name))
    runtime = TorchTranslationRuntime(network)
    translator = Translator(runtime, bundle.config, bundle.source, bundle.target)
    found = measure_translator(translator, sets)
    first = next(iter(sets.values()))
    row = TranslatorRow(
        name=config.name,
        target_language=bundle.config.target_language,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        digest=bundle.digest,
        scores=found.estimates(),
        captioned=found.estimates(captioned=True),
        by_length=bleu_by_length(found),
        seconds=round(seconds_a_sentence(translator, [pair.source for pair in first]), 4),
    )
    return _Measured(row, found)


def _differences(measured: Mapping[str, _Measured]) -> tuple[TranslationDifference, ...]:
    """Compare the translators of each language, where there are several."""
    differences: list[TranslationDifference] = []
    for language in dict.fromkeys(each.row.target_language for each in measured.values()):
        same = {
            name: each.found
            for name, each in measured.items()
            if each.row.target_language == language
        }
        if len({tuple(found.written) for found in same.values()}) > 1:
            raise ConfigError(f"The experiments of '{language}' name different test sets.")
        differences += compare_translators(same)
    return tuple(differences)


def _write(request: TranslationsRequest, results: TranslationResults, messages: Messages) -> None:
    output = request.output or TRANSLATIONS_PAGE
    picture = output.parent / LENGTHS_PICTURE
    has_picture = find_spec("matplotlib") is not None
    output.parent.mkdir(parents=True, exist_ok=True)
    document = results.model_dump_json(indent=1)
    output.with_suffix(".json").write_text(document + "\n", encoding="utf-8")
    output.write_text(translations_page(results, with_picture=has_picture), encoding="utf-8")
    written = [output, output.with_suffix(".json")]
    if has_picture:
        _draw(picture, results)
        written.append(picture)
    else:
        messages.warn("matplotlib is not installed: there is no picture by length")
    for row in results.rows:
        folder = translator_folder(request.weights_folder, row.name)
        metrics = row.model_dump(mode="json", exclude={"name", "digest", "target_language"})
        update_translation_metrics(folder, metrics | {"signatures": results.signatures})
        written.append(folder / "metrics.json")
    messages.say_written(written)


def _draw(picture: Path, results: TranslationResults) -> None:
    """Draw BLEU by length of the language that has most translators."""
    import matplotlib as mpl  # a dependency of development

    from evaluation.figures.lengths import length_figure

    languages = [row.target_language for row in results.rows]
    language = max(dict.fromkeys(languages), key=languages.count)
    curves = {row.name: row.by_length for row in results.rows if row.target_language == language}
    picture.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "glimpse", "svg.fonttype": "none"}):
        length_figure(curves).savefig(picture, format="svg", metadata={"Date": None})


def _write_sentences(folder: Path, measured: Mapping[str, _Measured]) -> None:
    """Write every sentence, its reference and both translations, a file for each translator."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, each in measured.items():
        lines = []
        for test_set, written in each.found.written.items():
            captioned = each.found.captioned[test_set].hypotheses
            for pair, text, other in zip(written.pairs, written.hypotheses, captioned, strict=True):
                sentence = {
                    "set": test_set,
                    "source": pair.source,
                    "reference": pair.target,
                    "translation": text,
                    "of_caption": other,
                }
                lines.append(json.dumps(sentence, ensure_ascii=False) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
