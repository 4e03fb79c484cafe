"""Pairs that a translator makes of more sentences (self-training). Knows no command line."""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from models.errors import ConfigError
from models.translation.bundles import translator_folder
from models.translation.torch_runtime import load_translator
from training.data.pairs import read_lines

__all__ = ["translate_lines"]

_CHUNK = 1024


def translate_lines(
    weights_folder: Path,
    name: str,
    source: Path,
    output: Path,
    *,
    limit: int | None = None,
    say: Callable[[str], object],
) -> int:
    """Translate the lines of a file, and write pairs as `training.data.pairs` reads them.

    source: sentences, one a line, or JSON objects with a list `captions`; empty ones are left out.
    limit: only the first sentences. Gives how many pairs were written. Raises GlimpseError where
    the translator or the file cannot be used.
    """
    translator = load_translator(translator_folder(weights_folder, name))
    sentences = islice(_sentences(source), limit)
    written = 0
    with output.open("w", encoding="utf-8") as file:
        while chunk := list(islice(sentences, _CHUNK)):
            for sentence, found in zip(chunk, translator.translate_texts(chunk), strict=True):
                if found.text:
                    file.write(f"{sentence}\t{found.text}\n")
                    written += 1
            say(f"{written} pairs")
    if not written:
        raise ConfigError(f"{source} has no sentence.")
    return written


def _sentences(path: Path) -> Iterator[str]:
    for number, line in enumerate(read_lines(path), 1):
        for text in _captions(line, path, number) if line.startswith("{") else (line,):
            sentence = " ".join(text.split())  # a tab would part the pair
            if sentence:
                yield sentence


def _captions(line: str, path: Path, number: int) -> list[str]:
    try:
        captions = json.loads(line)["captions"]
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"{path}, line {number}: is no JSON object with a list of captions."
        ) from error
    return [str(each) for each in captions]
