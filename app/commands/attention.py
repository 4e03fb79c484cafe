"""`glimpse attention`: one photo with the maps of its caption laid over it, without a server."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

from app.api.answers import attention_response
from app.api.options import AttentionOptions
from app.bulk.sources import read_place
from app.commands.caption import read_source, say_problem
from app.commands.terminal import FAILED, WELL, WRONG_USE, say, write_line
from app.core.errors import PhotoFileError, ServiceError
from app.core.settings import Settings
from app.engine.engine import Captioned, CaptionEngine
from app.engine.session import open_engine
from models.errors import GlimpseError, OptionsError

__all__ = ["draw_attention"]


async def draw_attention(
    settings: Settings,
    source: str,
    options: Mapping[str, float],
    *,
    output: str | None,
    word: int | None,
    as_json: bool,
) -> int:
    """Caption a photo, and write the drawing of its maps, or the maps themselves as JSON.

    output: a PNG file, or `-` for standard output.
    word: draw the map of this word alone, counted from 0.
    Gives the number to end with. Raises OptionsError.
    """
    if output == "-" and (as_json or sys.stdout.isatty()):
        say("The drawing cannot go to the same place as text. Name a file: -o overlay.png")
        return WRONG_USE
    asked = AttentionOptions.model_validate({**options, "word": word})
    async with open_engine(settings) as engine:
        model = await engine.model(None)
        decoding = asked.decoding(model.decoding)
        try:
            photo = read_source(source, settings.max_upload_bytes)
            data = photo.data
            if data is None:
                data = read_place(photo.place, settings.max_upload_bytes)
            answer = await engine.caption(model, data, decoding, deadline=math.inf)
            asked.check_word(len(answer.caption.best.words))
            if output is not None:
                await _draw(engine, data, answer, word, output)
        except OptionsError:
            raise
        except (ServiceError, GlimpseError) as error:
            say_problem(source, error)
            return FAILED
    if as_json:
        response = attention_response(answer)
        write_line(json.dumps(response.model_dump(mode="json", exclude_none=True)))
    elif output != "-":
        write_line(answer.caption.best.text)
    return WELL


async def _draw(
    engine: CaptionEngine, data: bytes, answer: Captioned, word: int | None, output: str
) -> None:
    png = await engine.overlay(data, answer.caption, word=word, deadline=math.inf)
    if output == "-":
        sys.stdout.buffer.write(png)
        sys.stdout.buffer.flush()
        return
    try:
        Path(output).write_bytes(png)
    except OSError as error:
        raise PhotoFileError(f"{output} cannot be written: {error.strerror}.") from error
