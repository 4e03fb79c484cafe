"""METEOR 1.5 (Denkowski and Lavie 2014), by its reference program. Knows no images and no models.

The program is the jar that pycocoevalcap carries; it needs Java. Values lie in [0, 1].
"""

import logging
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from evaluation.metrics.score import Score, Values
from evaluation.metrics.texts import Text, check_texts, split_tokens

__all__ = ["can_run_meteor", "meteor"]

# How many numbers the program gives for an image.
_NUMBERS = 23
# The parameters of English.
_ALPHA = 0.85
_BETA = 0.2
_GAMMA = 0.6
_DELTA = 0.75
# The weights of exact, stem, synonym and paraphrase matches.
_MATCHERS = (1.0, 0.6, 0.8, 0.6)
_logger = logging.getLogger(__name__)


def meteor(references: Sequence[Sequence[Text]], hypotheses: Sequence[Text]) -> Score | None:
    """Score METEOR; None where the program or Java is absent, or the program fails."""
    check_texts(references, hypotheses)
    command = _find_program()
    if command is None:
        return None
    lines = []
    for texts, text in zip(references, hypotheses, strict=True):
        captions = [" ".join(split_tokens(caption)) for caption in (*texts, text)]
        fields = [caption.replace("|||", "") for caption in captions]
        lines.append(" ||| ".join(["SCORE", *fields]))
    try:
        statistics = _ask_program(command, lines)
    except (OSError, ValueError) as error:
        _logger.warning("METEOR is left out: its program failed (%s)", error)
        return None
    return Score.of("METEOR", statistics, _of_sums)


def can_run_meteor() -> bool:
    """Tell whether METEOR can be scored here, by scoring one caption."""
    return meteor([["a"]], ["a"]) is not None


def _find_program() -> list[str] | None:
    """Give the command that starts the program; None where it or Java is absent."""
    package = find_spec("pycocoevalcap")
    java = shutil.which("java")
    if package is None or not package.submodule_search_locations or java is None:
        return None
    jar = Path(package.submodule_search_locations[0]) / "meteor" / "meteor-1.5.jar"
    start = [java, "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar", str(jar)]
    return [*start, "-", "-", "-stdio", "-l", "en", "-norm"]


def _ask_program(command: list[str], lines: list[str]) -> Values:
    """Ask one question a line: statistics (images, 23) of each caption and its best reference.

    A caption that is its reference word for word has one chunk. That chunk is taken out, as the
    program does before it sums. Raises ValueError for other answers than those of version 1.5.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        answers = []
        for line in lines:
            program.stdin.write(f"{line}\n")
            program.stdin.flush()
            answers.append([float(number) for number in program.stdout.readline().split()])
        program.communicate()
    if any(len(answer) != _NUMBERS for answer in answers):
        raise ValueError("its answers are not those of version 1.5")
    statistics = np.array(answers)
    perfect = (statistics[:, 21:] == statistics[:, :2]).all(axis=1) & (statistics[:, 20] == 1)
    statistics[perfect, 20] = 0
    return statistics


def _of_sums(sums: Values) -> Values:
    """Compute METEOR 1.5 (...) from summed statistics (..., 23), as the program does.

    0 to 3: words of the caption, words of the reference, function words of each. 4 to 19: for each
    of the four matchers, content and function words matched, of either side. 20: chunks. 21 and 22:
    words matched, of either side.
    """
    words = sums[..., :2]
    function_words = sums[..., 2:4]
    matches = np.asarray(_MATCHERS) @ sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    matched = _DELTA * matches[..., :2] + (1 - _DELTA) * matches[..., 2:]
    lengths = _DELTA * (words - function_words) + (1 - _DELTA) * function_words
    some = np.logical_and(matched[..., 0] > 0, matched[..., 1] > 0)
    precision, recall = (
        np.divide(matched[..., side], lengths[..., side], out=np.ones(some.shape), where=some)
        for side in (0, 1)
    )
    mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
    matched_words = sums[..., 21:].mean(axis=-1)
    fragments = np.divide(sums[..., 20], matched_words, out=np.zeros(some.shape), where=some)
    return np.where(some, mean * (1 - _GAMMA * fragments**_BETA), 0.0)
