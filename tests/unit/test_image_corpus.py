"""Every awkward file of the corpus through decode_image: its declared outcome, and nothing said
beside it."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from app.api.problem_kinds import kind_of
from models.errors import ImageError
from models.preprocessing import ACCEPTED_FORMATS, decode_image
from tests.corpus import others
from tests.corpus.case import Captioned, Case, cases_of
from tests.corpus.cases import CASES, GROUPS
from tests.corpus.outcomes import built, differences, quarters
from tests.corpus.table import answers
from tests.unit.repository import ROOT

MUTATIONS = 10_000
HANG_SECONDS = 300
MOST_GROWN_BYTES = 100_000_000

by_name = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.is_heavy else [])
        for case in CASES
    ],
)


def found_of(case: Case, side_pixels: int | None) -> list[str]:
    """Where a file's outcome is not the declared one."""
    try:
        image = decode_image(built(case), side_pixels=side_pixels)
    except ImageError as error:
        return differences(case.outcome, code=kind_of(error).slug)
    return differences(
        case.outcome,
        code=None,
        size=(image.width, image.height),
        colors=quarters(image.rgb) if side_pixels is None else None,
        warnings=image.warnings,
    )


@by_name
def test_corpus_file_has_its_declared_outcome(
    case: Case, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not found_of(case, side_pixels=None)
    assert capfd.readouterr().err == ""


def test_corpus_files_decoded_at_reduced_size_have_the_same_outcomes() -> None:
    wrong = {
        case.name: found
        for case in CASES
        if not case.is_heavy and (found := found_of(case, side_pixels=16))
    }
    assert not wrong


def test_corpus_names_each_case_once() -> None:
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []


def test_corpus_group_has_one_answer() -> None:
    mixed = [group.sent for group in GROUPS if ";" in answers(group.cases)]
    assert not mixed


def test_corpus_has_every_format_that_pillow_writes_and_we_do_not_read() -> None:
    assert set(others.WRITTEN) == others.writable()


def test_other_formats_are_refused_before_their_decoder_is_loaded(tmp_path: Path) -> None:
    cases = list(cases_of(others.GROUPS))
    for number, case in enumerate(cases):
        (tmp_path / f"{number}").write_bytes(built(case))
    code = """
import sys
from pathlib import Path
from PIL import Image
from models.errors import ImageError
from models.preprocessing import decode_image
before = {name for name in sys.modules if name.startswith("PIL.")}
for path in Path(sys.argv[1]).iterdir():
    try:
        decode_image(path.read_bytes())
    except ImageError:
        continue
    sys.exit(f"{path} is accepted")
after = {name for name in sys.modules if name.startswith("PIL.")}
sys.stdout.write(" ".join(sorted(name for name in after if name.endswith("ImagePlugin"))))
sys.exit(f"loaded: {after - before}" if after != before else 0)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {
        name.removeprefix("PIL.").removesuffix("ImagePlugin") for name in answer.stdout.split()
    }
    assert loaded <= set(ACCEPTED_FORMATS) | {"Avif", "Bmp", "Gif", "Jpeg", "Png", "Tiff"}


def test_mutated_files_end_in_an_image_or_in_a_known_problem_and_nothing_is_said_beside() -> None:
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.corpus.run_mutations", str(MUTATIONS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert answer.stderr == ""
    assert answer.returncode == 0
    document = json.loads(answer.stdout)
    outcomes = document["outcomes"]
    assert sum(outcomes.values()) == MUTATIONS
    assert outcomes.keys() <= {
        "captioned",
        "damaged-image",
        "image-too-small",
        "too-many-pixels",
        "unreadable-image",
    }
    assert min(outcomes["captioned"], outcomes["damaged-image"]) > MUTATIONS // 10
    assert document["grown_bytes"] < MOST_GROWN_BYTES


def test_declared_captions_say_what_is_seen() -> None:
    captioned = [case for case in CASES if isinstance(case.outcome, Captioned)]
    assert sum(case.outcome.colors is not None for case in captioned) > len(captioned) / 2  # type: ignore[union-attr]
