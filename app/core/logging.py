"""Logs as text or as JSON, each line with the id of its request. Knows no HTTP.

Whatever looks like an API key is left out of every line, but for the key's name: a client may put
its key anywhere, also where it does not belong.
"""

import json
import logging
import logging.config
import time
import warnings
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from app.core.keys import KEY_IN_TEXT

__all__ = ["configure_logging", "quoted", "request_id_context"]

request_id_context: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that the running task answers; None outside a request.

A thread takes it along only in a copy of its caller's context. Where one piece of work is done for
several requests, their ids are joined by commas, which no id has.
"""

_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",
    "taskName",
}


_WARNING_PAUSE_SECONDS = 60.0
_MOST_WARNING_PLACES = 1_000


def configure_logging(log_format: Literal["text", "json"], log_level: str) -> None:
    """Send every log of this process, uvicorn's and Python's warnings too, to standard error in
    one format."""
    formatter = JsonFormatter if log_format == "json" else TextFormatter
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"chosen": {"()": formatter}},
            "filters": {"seldom": {"()": SeldomFilter}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "chosen"}},
            "root": {"handlers": ["stderr"], "level": log_level.upper()},
            # Pillow's chunk-by-chunk debug lines drown everything else; the HTTP client's have
            # whole URLs, which may hold secrets; a malformed form is logged as a problem.
            "loggers": {
                "PIL": {"level": "INFO"},
                "httpcore": {"level": "WARNING"},
                "httpx": {"level": "WARNING"},
                "python_multipart": {"level": "ERROR"},
                "py.warnings": {"filters": ["seldom"]},
            },
        }
    )
    logging.captureWarnings(True)
    # Python would remember every text that it has shown, and files write some of these.
    warnings.filterwarnings("always", module=r"PIL\.")


class SeldomFilter(logging.Filter):
    """Lets one warning a minute through from each place of the code; a file can cause thousands."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the place that the text begins with, as `file.py:12: UserWarning`, is due.

        Leaves the first line: what the warning says, without the code that it comes from.
        """
        text = record.getMessage().partition("\n")[0]
        place = ":".join(text.split(":", 3)[:3])
        now = time.monotonic()
        if now < self._next.get(place, 0.0) or len(self._next) >= _MOST_WARNING_PLACES:
            return False
        self._next[place] = now + _WARNING_PAUSE_SECONDS
        record.msg, record.args = text, ()
        return True


class TextFormatter(logging.Formatter):
    """Writes a line for people; a value that could be read as more than one field is quoted.

    `2026-01-31T12:00:00.123Z INFO app.access: POST /caption status=200 seconds=0.12 request_id=…`
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write one line, and the traceback below it if there is one."""
        fields = "".join(
            f" {_visible(name)}={quoted(_visible(str(value)))}"
            for name, value in _fields(record).items()
        )
        message = _visible(record.getMessage())
        line = f"{_time(record)} {record.levelname} {_visible(record.name)}: {message}{fields}"
        if not record.exc_info:
            return _without_keys(line)
        # An exception may say what a client sent: no line of it may look like a line of the log.
        behind = self.formatException(record.exc_info).split("\n")
        lines = [line, *(f"    {_visible(each)}" for each in behind)]
        return _without_keys("\n".join(lines))


class JsonFormatter(logging.Formatter):
    """Writes one JSON object a line: time, level, logger, message, and what `extra` gave."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line; a traceback is its field `exception`."""
        document: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        line = json.dumps(document, default=str)
        return _without_keys(line)  # ASCII: what steers a terminal is escaped


def quoted(text: str) -> str:
    """Quote a text, as JSON does, where something in it could be taken for a field of the line."""
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' ="') else text


def _without_keys(line: str) -> str:
    return KEY_IN_TEXT.sub(r"\1[not logged]", line)


def _visible(text: str) -> str:
    """Escape what would begin a line or steer a terminal: a client chooses some of the text."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {
        name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES
    }
    request_id = request_id_context.get()
    return (
        fields
        if request_id is None
        else fields | {"request_id": fields.get("request_id", request_id)}
    )
