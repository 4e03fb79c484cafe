"""Whatever text or bytes each parser is given: it answers, or refuses with the error that it is
said to raise, and never with another."""

import json
import logging
import re
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.api.options import AttentionOptions
from app.core.errors import SettingsError
from app.core.logging import JsonFormatter, TextFormatter
from app.core.settings import Settings, load_settings, unknown_variables, variable_name
from models.bundles.files import parse_json, parse_sums
from models.config import ModelConfig, migrate_config
from models.errors import CheckpointError, ImageError, OptionsError
from models.preprocessing import open_image
from tests.unit.image_files import FILES
from tests.unit.repository import ROOT

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)

# -- settings ----

# What an environment can hold: no NUL, and nothing that is not UTF-8.
VARIABLE_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NEAR_SETTING = st.one_of(
    VARIABLE_TEXT,
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "0", "1", "-1", "1e3", "true", "null", "[]", "{}", "auto", "json", "∞"]),
)


@example({"formats": "\x1b"})
@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), NEAR_SETTING, max_size=6))
def test_load_settings_any_environment_is_valid_or_refused_in_words(chosen: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in Settings.model_fields:
            patch.delenv(variable_name(name), raising=False)
        for name, value in chosen.items():
            patch.setenv(variable_name(name), value)
        try:
            loaded = load_settings()
        except SettingsError as refused:
            said = str(refused).split("\n")
        else:
            assert Settings.model_validate(loaded.model_dump()) == loaded
            return
    for sentence in said:
        name = sentence.partition("=")[0]
        assert sentence.endswith(".")
        assert sentence.isprintable()
        assert name in map(variable_name, chosen) or sentence.startswith("The settings contradict")


@given(st.lists(VARIABLE_TEXT | VARIABLE_TEXT.map(lambda text: f"GLIMPSE_{text}"), max_size=5))
def test_unknown_variables_any_names_are_told_apart(names: list[str]) -> None:
    assert set(unknown_variables(names)) <= set(names)


# -- what a bundle's files say ----


def mutated(document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A document with some of its fields replaced, removed or added."""
    names = st.sampled_from(sorted(document)) | st.text(max_size=10)
    removed = st.sets(st.sampled_from(sorted(document)), max_size=2)
    return st.builds(
        lambda new, gone: {
            name: value for name, value in (document | new).items() if name not in gone
        },
        st.dictionaries(names, JSON_VALUES, max_size=3),
        removed,
    )


SHIPPED = json.loads((ROOT / "weights" / "glimpse" / "config.json").read_text(encoding="utf-8"))


@given(mutated(SHIPPED) | st.dictionaries(st.text(max_size=10), JSON_VALUES, max_size=5))
def test_migrate_config_any_document_is_a_config_or_refused(document: dict[str, Any]) -> None:
    migrated = migrate_config(document)
    assert str(migrate_config(migrated)) == str(migrated)  # as text: NaN is not NaN
    try:
        config = ModelConfig.model_validate(migrated)
    except ValidationError:
        return
    assert ModelConfig.model_validate(json.loads(config.model_dump_json())) == config


@given(st.binary(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_parse_json_any_bytes_are_an_object_or_refused(content: bytes) -> None:
    try:
        assert isinstance(parse_json(ROOT / "config.json", content), dict)
    except CheckpointError as error:
        assert "is no JSON" in str(error)  # noqa: PT017


@pytest.mark.parametrize("content", [b'{"a":' * 100_000, b"[" * 100_000, b"9" * 100_000])
def test_parse_json_absurd_one_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match="is no JSON"):
        parse_json(ROOT / "config.json", content)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_parse_sums_any_bytes_name_only_what_a_bundle_may_have(content: bytes) -> None:
    try:
        sums = parse_sums(ROOT, content)
    except CheckpointError:
        return
    assert not any(name.startswith("/") or ".." in name.split("/")[1:-1] for name in sums)


# -- the structure of images ----


@st.composite
def segments(draw: st.DrawFn) -> bytes:
    """A JPEG's segments, with lengths that are true or not."""
    parts = [b"\xff\xd8"]
    for _ in range(draw(st.integers(0, 8))):
        body = draw(st.binary(max_size=20))
        length = draw(st.just(len(body) + 2) | st.integers(0, 65_535))
        parts += [b"\xff", draw(st.binary(min_size=1, max_size=1)), struct.pack(">H", length), body]
    return b"".join(parts)


@st.composite
def directories(draw: st.DrawFn) -> bytes:
    """A TIFF's header and directory, of either order and size, that leads anywhere."""
    order = draw(st.sampled_from("<>"))
    number = draw(st.integers(0, 2**32 - 1) | st.integers(0, 40))
    mark = {"<": b"II", ">": b"MM"}[order]
    if draw(st.booleans()):
        head = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, number << draw(st.integers(0, 31)))
    else:
        head = mark + struct.pack(f"{order}HL", 42, number)
    return head + draw(st.binary(max_size=200))


@settings(max_examples=150)
@given(
    data=st.one_of(
        segments(),
        directories(),
        st.binary(max_size=200),
        st.builds(
            lambda data, at, new: data[:at] + new + data[at:],
            st.sampled_from(list(FILES.values())),
            st.integers(0, 400),
            st.binary(max_size=12),
        ),
    ),
)
def test_open_image_any_structure_is_opened_or_refused_in_words(data: bytes) -> None:
    try:
        opened = open_image(data)
    except ImageError as refused:
        said = str(refused)
    else:
        assert opened.peak_bytes > 0
        return
    assert said.endswith(".")


# -- the log ----

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=60)  # lone surrogates too
EXTRAS = st.recursive(
    ANY_TEXT | st.integers() | st.binary(max_size=10) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)


def record(message: str, extra: object, name: str, error: Exception | None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    made = logging.LogRecord(name, logging.INFO, "", 0, "%s", (message,), info)
    made.__dict__["field"] = extra
    return made


@given(ANY_TEXT, EXTRAS, ANY_TEXT, st.none() | ANY_TEXT.map(ValueError))
def test_json_log_is_one_line_of_plain_ascii_that_says_the_same(
    message: str, extra: object, name: str, error: Exception | None
) -> None:
    line = JsonFormatter().format(record(message, extra, name, error))
    assert all(32 <= ord(letter) < 127 for letter in line)
    document = json.loads(line)
    assert document["message"] == message
    assert document["logger"] == name
    assert ("exception" in document) == (error is not None)


@given(ANY_TEXT, EXTRAS, ANY_TEXT, st.none() | ANY_TEXT.map(ValueError))
def test_text_log_is_one_line_and_a_traceback_that_looks_like_none(
    message: str, extra: object, name: str, error: Exception | None
) -> None:
    text = TextFormatter().format(record(message, extra, name, error))
    first, *behind = text.split("\n")
    assert all(letter.isprintable() for letter in text.replace("\n", ""))
    assert " INFO " in first
    assert all(line.startswith("    ") for line in behind)
    assert bool(behind) == (error is not None)


def fields_of(line: str) -> dict[str, str]:
    """Read the fields of a text line, from its end, as the format has them."""
    found: dict[str, str] = {}
    field = re.compile(r' ([\w.-]+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)$')
    while match := field.search(line):
        value = match[2]
        found[match[1]] = json.loads(value) if value.startswith('"') else value
        line = line[: match.start()]
    return found


@given(st.lists(st.sampled_from([*' ="\\', "a", "status=200", "\n", "é", "\x1b"])).map("".join))
def test_text_log_field_says_its_value_and_forges_no_other_field(value: str) -> None:
    made = record("GET /x", value, "app", None)
    made.__dict__["status"] = 403
    assert fields_of(TextFormatter().format(made)) == {"field": visible(value), "status": "403"}


def visible(text: str) -> str:
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


# -- headers ----


@given(
    st.text()
    | st.lists(st.sampled_from(["image/png", "*/*", ";", "q=", "nan", ",", "1e999", "-"])).map(
        "".join
    )
)
def test_accept_any_header_chooses_one_of_the_two(accept: str) -> None:
    assert AttentionOptions().wants_png(accept) in (True, False)
    with pytest.raises(OptionsError):
        AttentionOptions(word=0).wants_png("application/json")
