"""What benchmarks make of what they measured; and that docs/performance.md, performance.md for
short, names commands and figures that there are."""

import importlib
import json
import re
import shlex
import sys
from io import BytesIO
from typing import Any, Literal

import pytest
import torch
from PIL import Image

from benchmarks.__main__ import SECONDS, arguments, command, environment
from benchmarks.cold import exported_runtimes, first_exported
from benchmarks.load_figures import (
    LoadFigures,
    cores_used,
    load_figures,
    mean_of,
    median_ratios,
    percentile,
    ratio,
    whole_rate,
    window_of,
)
from benchmarks.offered_load import MeasuredLoad, parse_metrics
from benchmarks.peer_servers.beam_loop import beam_search
from benchmarks.peer_servers.layers import nearest_layers
from benchmarks.peers import OURS, check_captions, missing_packages
from benchmarks.photos import PHOTO_SIZE, photos
from benchmarks.reports import last_document, rounded, table
from benchmarks.serve import SHARES, judge
from benchmarks.soak.client import Outcome
from benchmarks.soak.files import Upload
from benchmarks.soak.server import Sample
from benchmarks.stages import beam_doubling_cost
from benchmarks.summary import KEYS, summarize
from models.config import DecodingOptions
from models.decoding import decode
from models.echoes import EchoRules
from models.features import ImageFeatures
from models.runtime.torch import TorchSteps
from models.tokenizer import Vocabulary
from tests.unit.documentation import commands, pages
from tests.unit.toys import WORDS, tiny_config, tiny_model

UPLOAD = Upload("photo", b"", frozenset({200}))
PROMISED = (
    "throughput_vs_naive",
    "throughput_vs_litserve",
    "throughput_vs_transformers",
    "share_of_ideal",
    "p50_vs_bare",
    "p99_at_70_percent_vs_p50",
    "overload_throughput_share",
    "refusal_p99_seconds",
    "resident_megabytes",
    "ready_seconds",
    "ready_exported_seconds",
    "beam_doubling_cost",
)


def answered(began: float, seconds: float, status: int = 200) -> Outcome:
    return Outcome(UPLOAD, began, seconds, status)


# -- figures of loads ----


def test_load_figures_count_what_was_answered_within_the_window() -> None:
    outcomes = [
        answered(0.0, 1.5),  # before it
        answered(1.0, 1.0),
        answered(5.0, 3.0),
        answered(6.0, 0.01, status=503),
        answered(7.0, 1.0, status=0),
        answered(8.0, 4.0),  # after it
    ]

    figures = load_figures(outcomes, (2.0, 10.0))

    assert figures.captioned_per_second == 2 / 8
    assert figures.refused_per_second == 1 / 8
    assert figures.sustained_per_second == 4 / 12
    assert figures.failed == 1
    assert figures.p50_seconds == 2.0
    assert figures.refusal_p99_seconds == pytest.approx(0.01)


def test_load_figures_of_nothing_are_unknown_and_no_zeros() -> None:
    figures = load_figures([], (0.0, 1.0))

    assert figures.captioned_per_second == 0.0
    assert figures.p99_seconds is None
    assert figures.refusal_p99_seconds is None


def test_load_figures_of_an_empty_window_are_refused() -> None:
    with pytest.raises(ValueError, match="ends after"):
        load_figures([], (1.0, 1.0))


def test_whole_rate_is_until_the_last_answer() -> None:
    outcomes = [answered(1.0, 2.0), answered(1.0, 4.0), answered(1.0, 1.0, status=503)]

    assert whole_rate(outcomes) == 2 / 4
    assert whole_rate([]) == 0.0


def test_window_leaves_out_the_first_fifth() -> None:
    assert window_of(10.0, 20.0) == (12.0, 20.0)


def test_percentile_lies_between_its_neighbors() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([1.0], 99) == 1.0
    assert percentile([], 50) is None


def test_ratio_of_what_is_unknown_or_to_nothing_is_unknown() -> None:
    assert ratio(6.0, 3.0) == 2.0
    assert ratio(None, 3.0) is None
    assert ratio(6.0, None) is None
    assert ratio(6.0, 0.0) is None


def test_median_ratios_are_of_rounds_and_not_of_sums() -> None:
    rounds = [
        {"served": 10.0, "naive": 5.0, "other": 10.0},
        {"served": 2.0, "naive": 1.0, "other": 0.0},  # the machine was busy in this one
        {"served": 12.0, "naive": 3.0, "other": 4.0},
    ]

    assert median_ratios(rounds, "served") == {"naive": 2.0, "other": 2.0}
    assert median_ratios([], "served") == {}


def test_cores_used_is_processor_time_over_time() -> None:
    samples = [Sample(1.0, 0, 1, 1, 1, 10.0), Sample(5.0, 0, 1, 1, 1, 16.0)]

    assert cores_used(samples) == 1.5
    assert cores_used(samples[:1]) is None


def test_metrics_are_summed_over_labels_and_read_as_differences() -> None:
    before = parse_metrics('a_count{x="1"} 2\na_count{x="2"} 3\na_sum 7\na_bucket{le="1"} 5\n')
    after = {"a_count": 9.0, "a_sum": 17.0}

    assert before == {"a_count": 5.0, "a_sum": 7.0}
    assert mean_of("a", before, after) == 2.5
    assert mean_of("a", before, before) is None


# -- which figure comes from what ----


def load(**figures: float) -> MeasuredLoad:
    known = {"p50_seconds": 0.1, "p95_seconds": 0.2, "p99_seconds": 0.3, "captioned": 20.0}
    known |= figures
    judged = LoadFigures(
        captioned_per_second=0.0,
        sustained_per_second=known["captioned"],
        refused_per_second=0.0,
        failed=0,
        p50_seconds=known["p50_seconds"],
        p95_seconds=known["p95_seconds"],
        p99_seconds=known["p99_seconds"],
        refusal_p99_seconds=known.get("refusal"),
    )
    resident = known.get("resident", 500.0)
    return MeasuredLoad("a load", None, judged, None, None, None, None, None, resident)


def test_judge_relates_each_load_to_what_it_is_held_to() -> None:
    shares = {share: load() for share in SHARES}
    shares[0.7] = load(p99_seconds=0.4)
    shares[1.5] = load(captioned=36.0, refusal=0.02, resident=640.0)

    judged = judge(
        [load(p50_seconds=0.1), load(captioned=40.0), *shares.values()], {"1": 0.08, "16": 0.02}
    )

    assert judged["share_of_ideal"] == pytest.approx(40.0 * 0.02)
    assert judged["p50_vs_bare"] == pytest.approx(0.1 / 0.08)
    assert judged["p99_at_70_percent_vs_p50"] == pytest.approx(4.0)
    assert judged["overload_throughput_share"] == pytest.approx(0.9)
    assert judged["refusal_p99_seconds"] == 0.02
    assert judged["resident_megabytes"] == 640.0


def test_beam_doubling_cost_is_of_the_largest_batch() -> None:
    measured = {
        ("beam search, beam 3", "torch, batch 1"): 10.0,
        ("beam search, beam 6", "torch, batch 1"): 30.0,
        ("beam search, beam 3", "torch, batch 16"): 4.0,
        ("beam search, beam 6", "torch, batch 16"): 6.0,
    }

    assert beam_doubling_cost(measured, 3) == 1.5
    assert beam_doubling_cost({}, 3) is None


def test_summary_has_every_promised_figure_and_null_where_there_is_none() -> None:
    documents: dict[str, dict[str, Any]] = {
        "peers": {"throughput_vs": {"naive": 6.5}},
        "cold": {"ready_seconds": 2.5, "ready_exported_seconds": None},
    }

    figures = summarize(documents)

    assert set(PROMISED) <= set(figures)
    assert figures["throughput_vs_naive"] == 6.5
    assert figures["ready_seconds"] == 2.5
    assert {name for name, value in figures.items() if value is not None} == {
        "throughput_vs_naive",
        "ready_seconds",
    }


def test_summary_takes_its_figures_from_benchmarks_that_are_run() -> None:
    assert {path[0] for path in KEYS.values()} <= set(SECONDS)


def test_exported_runtimes_are_those_that_a_setting_may_name_beside_torch() -> None:
    assert exported_runtimes(Literal["auto", "torch", "onnx"]) == ["onnx"]
    assert exported_runtimes(str) == []
    assert first_exported({"torch": {"ready_seconds": 2.0}}) is None
    assert first_exported({"torch": {}, "onnx": {"ready_seconds": 1.0}}) == 1.0


# -- peers ----


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(("beam_size", "max_length", "length_penalty"), [(1, 6, 0.0), (3, 9, 0.7)])
def test_loop_of_the_peers_finds_what_the_search_finds(
    images: int, beam_size: int, max_length: int, length_penalty: float
) -> None:
    config = tiny_config()
    network = tiny_model(config)
    rules = EchoRules(Vocabulary(WORDS).tokens)
    options = DecodingOptions(
        beam_size=beam_size, max_length=max_length, length_penalty=length_penalty
    )
    shape = (images, 3, 56, 56)
    with torch.inference_mode():
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        features = ImageFeatures(network(noise))
    for constraints in ([], [rules.begin()] * images):
        found = beam_search(network.decoder, features, options, constraints)
        expected = decode(TorchSteps(network.decoder), features, options, constraints=constraints)
        assert found == [result.captions[0].token_ids for result in expected]


def test_captions_of_the_peers_must_be_ours() -> None:
    ours = ["a cat", "a dog"]
    same = dict.fromkeys(("naive", "litserve", "unbatched", OURS), ours)

    assert not any(check_captions(same, ours).values())
    with pytest.raises(RuntimeError, match="'litserve': 1"):
        check_captions(same | {"litserve": ["a cat", "a cow"]}, ours)


def test_packages_that_are_missing_are_named() -> None:
    assert missing_packages(["json", "no_such_package"]) == ["no_such_package"]


@pytest.mark.parametrize(("parameters", "layers"), [(100, 1), (139, 4), (1, 1), (10**9, 48)])
def test_nearest_layers_bring_a_network_nearest_to_its_size(parameters: int, layers: int) -> None:
    assert nearest_layers(parameters, base=95, each=11) == layers


# -- what is sent, and what is printed ----


def test_photos_are_many_and_of_one_size() -> None:
    found = photos()

    assert len(set(found)) == len(found) == 16
    assert {Image.open(BytesIO(data)).size for data in found} == {PHOTO_SIZE}


def test_table_stands_in_columns() -> None:
    assert table(["name", "ms"], [["a", "1.00"], ["longer", "12.00"]]).splitlines() == [
        "name       ms",
        "a        1.00",
        "longer  12.00",
    ]


def test_rounded_keeps_four_digits_and_what_is_no_number() -> None:
    value = {"a": [0.123456, 12345.6], "b": None, "c": 123456, "d": "text"}

    assert rounded(value) == {"a": [0.1235, 12346.0], "b": None, "c": 123456, "d": "text"}


def test_last_document_is_the_last_line_and_an_object() -> None:
    assert last_document('a table\n{"a": 1}\n') == {"a": 1}
    for text in ("", "[1]", "no JSON"):
        with pytest.raises(ValueError, match=r"."):
            last_document(text)


def test_training_alone_runs_with_the_memory_settings_of_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    asked = arguments(["--train-env", "MALLOC_MMAP_MAX_=0 OTHER=1"])

    assert environment("train", asked)["MALLOC_MMAP_MAX_"] == "0"
    assert "MALLOC_MMAP_MAX_" not in environment("serve", asked)


@pytest.mark.parametrize("name", SECONDS)
def test_each_benchmark_understands_what_it_is_run_with(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = command(name, arguments(["--scale", "0.5", "--charts", "charts"]))
    monkeypatch.setattr(sys, "argv", words[2:])

    asked = importlib.import_module(words[2]).arguments()

    assert asked.seconds == SECONDS[name] / 2


@pytest.mark.docs
def test_page_has_commands_that_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = commands("performance.md")
    assert lines
    for line in lines:
        words = shlex.split(line)
        if words[0] == "make":
            assert words[1] == "bench"
            arguments(shlex.split("".join(words[2:]).removeprefix("ARGS=")))
            continue
        module = words[words.index("-m") + 1]
        monkeypatch.setattr(sys, "argv", words[words.index("-m") + 1 :])
        importlib.import_module(module).arguments()


@pytest.mark.docs
def test_page_explains_every_figure_of_the_last_line() -> None:
    named = set(re.findall(r"`(\w+)`", pages()["performance.md"]))

    assert set(KEYS) | set(SECONDS) <= named
    assert json.dumps(summarize({}))
