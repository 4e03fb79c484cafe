"""`glimpse caption`: captions of files, folders and standard input, without a server."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.api.answers import caption_response
from app.api.problem_kinds import kind_of
from app.bulk.mapper import Outcome, open_mapper
from app.bulk.reader import Photo, check_size, find_photos
from app.bulk.rows import problem_detail
from app.bulk.runner import count_in_flight, run_photos
from app.commands.terminal import FAILED, WELL, WRONG_USE, say, visible, write_line
from app.core.errors import PhotoFileError
from app.core.settings import Settings

__all__ = ["caption_files", "read_source", "say_problem"]

_STANDARD_INPUT = "-"


async def caption_files(
    settings: Settings, sources: Sequence[str], options: Mapping[str, float], *, as_json: bool
) -> int:
    """Caption each source and write a line for each photo, in their order.

    as_json: a line is the answer of `POST /caption` with the file's name; otherwise the caption,
        behind the name and a tab where there are several photos.
    Gives the number to end with.
    """
    photos, is_well = _collect(settings, sources)
    if not photos:
        return WRONG_USE
    is_named = len(photos) > 1

    def settle(outcome: Outcome) -> None:
        if as_json:
            write_line(json.dumps(_document(outcome), ensure_ascii=not _writes_unicode()))
        if outcome.answer is None:
            say_problem(outcome.photo.name, outcome.error)
            return
        for warning in outcome.answer.image.warnings:
            say(f"{visible(outcome.photo.name)}: {warning}")
        if not as_json:
            _write_captions(outcome, is_named)

    async with open_mapper(settings, options) as mapper:
        counts = await run_photos(photos, mapper, settle, in_flight=count_in_flight(settings))
    return WELL if counts.all_well and is_well else FAILED


def say_problem(name: str, error: Exception | None) -> None:
    """Say what is wrong with a photo, and the code of that."""
    if error is not None:
        say(f"{visible(name)}: {problem_detail(error)} ({kind_of(error).slug})")


def read_source(source: str, max_bytes: int) -> Photo:
    """Give the photo that a word of the command line names; `-` is standard input.

    Raises PhotoFileError.
    """
    if source != _STANDARD_INPUT:
        return Photo(source, Path(source))
    if sys.stdin.isatty():
        raise PhotoFileError("It is the terminal. Send a picture: glimpse caption - < photo.jpg")
    data = sys.stdin.buffer.read(max_bytes + 1)
    check_size(len(data), max_bytes)
    return Photo(source, Path(source), data)


def _collect(settings: Settings, sources: Sequence[str]) -> tuple[list[Photo], bool]:
    """List the photos of all sources; tell whether every source gave some."""
    photos: list[Photo] = []
    is_well = True
    for source in sources:
        folder = Path(source)
        try:
            if source == _STANDARD_INPUT or not folder.is_dir():
                photos.append(read_source(source, settings.max_upload_bytes))
                continue
            found = find_photos(folder).photos
        except PhotoFileError as error:
            say_problem(source, error)
            is_well = False
            continue
        if not found:
            say(f"{visible(source)}: there is no file in it that is named as a photo.")
            is_well = False
        photos += [Photo(str(each.place), each.place) for each in found]
    return photos, is_well


def _write_captions(outcome: Outcome, is_named: bool) -> None:
    if outcome.answer is None:
        return
    name = f"{visible(outcome.photo.name)}\t" if is_named else ""
    for hypothesis in outcome.answer.caption.hypotheses:
        write_line(f"{name}{hypothesis.text}")


def _document(outcome: Outcome) -> dict[str, Any]:
    """Give what `POST /caption` answers, an answer or a problem, with the name of the file."""
    if outcome.answer is not None:
        answer = caption_response(outcome.answer).model_dump(mode="json", exclude_none=True)
        return {"file": outcome.photo.name, **answer}
    error = outcome.error or RuntimeError("no outcome")
    kind = kind_of(error)
    problem = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": problem_detail(error),
    }
    return {"file": outcome.photo.name, "problem": problem}


def _writes_unicode() -> bool:
    return sys.stdout.encoding.lower().replace("-", "") == "utf8"
