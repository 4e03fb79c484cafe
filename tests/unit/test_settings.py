"""Settings: bounded, documented, refused with a sentence where they cannot work."""

from pathlib import Path

import pytest

from app.core.errors import SettingsError
from app.core.settings import (
    FORMATS,
    Settings,
    load_settings,
    unknown_variables,
    variable_name,
)
from app.core.settings.table import settings_table
from models.preprocessing import ACCEPTED_FORMATS

NUMBERS = [
    name for name, field in Settings.model_fields.items() if field.annotation in (int, float)
]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_name(name), raising=False)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_setting_each_has_a_description_and_a_row_in_the_documentation(
    name: str, repository: Path
) -> None:
    assert Settings.model_fields[name].description
    assert f"| `{variable_name(name)}` |" in (repository / "docs" / "settings.md").read_text(
        encoding="utf-8"
    )


def test_settings_page_is_what_the_command_prints(repository: Path) -> None:
    page = (repository / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_table(), (
        "docs/settings.md is out of date: glimpse settings > docs/settings.md"
    )


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["-1", "1e18", "many"])
def test_setting_number_out_of_bounds_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(variable_name(name), value)
    with pytest.raises(SettingsError, match=f"^{variable_name(name)}={value} cannot work: "):
        load_settings()


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SettingsError, match="must be at least max_batch_size"):
        load_settings(max_batch_size=64, max_queue_size=8)
    with pytest.raises(SettingsError, match="must not exceed"):
        load_settings(body_idle_timeout_seconds=60, body_timeout_seconds=30)


def test_settings_override_beats_environment_and_none_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLIMPSE_PORT", "9000")
    assert load_settings(port=None).port == 9000
    assert load_settings(port=9001).port == 9001


def test_settings_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_PORT", "")
    assert load_settings().port == 8000


def test_settings_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_FETCH_PORTS", "80, 8080,")
    monkeypatch.setenv("GLIMPSE_FETCH_ALLOWED_HOSTS", "Example.org, *.pictures.test")
    monkeypatch.setenv("GLIMPSE_FETCH_PRIVATE_NETWORKS", "10.1.0.0/16,fd00::/8")
    settings = load_settings()
    assert settings.fetch_ports == (80, 8080)
    assert settings.fetch_allowed_hosts == ("example.org", "*.pictures.test")
    assert [str(each) for each in settings.fetch_private_networks] == ["10.1.0.0/16", "fd00::/8"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fetch_urls", "perhaps"),
        ("fetch_ports", "80;443"),
        ("fetch_ports", "80,0"),
        ("fetch_ports", ","),
        ("fetch_allowed_hosts", "*"),
        ("fetch_allowed_hosts", "https://example.org/"),
        ("fetch_allowed_hosts", "a.*.example.org"),
        ("fetch_private_networks", "10.0.0.1/8"),
        ("fetch_private_networks", "intranet"),
    ],
)
def test_settings_of_fetching_that_cannot_work_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable_name(name)}=.* cannot work: "):
        load_settings(**{name: value})


def test_settings_by_default_fetch_nothing_and_open_no_network() -> None:
    settings = load_settings()
    assert not settings.fetch_urls
    assert settings.fetch_private_networks == ()


@pytest.mark.parametrize("name", ["../weights", "a/b", "", "UPPER", ".."])
def test_settings_model_name_that_leaves_the_folder_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="GLIMPSE_MODEL"):
        load_settings(model=name)


def test_unknown_variables_misspelt_names_its_neighbor() -> None:
    assert unknown_variables(["GLIMPSE_PROT", "GLIMPSE_HOST", "PATH", "GLIMPSE_ZZZ"]) == {
        "GLIMPSE_PROT": "GLIMPSE_PORT",
        "GLIMPSE_ZZZ": None,
    }


def test_formats_are_those_that_the_library_reads() -> None:
    assert FORMATS == ACCEPTED_FORMATS
    assert load_settings().formats.split(",") == list(ACCEPTED_FORMATS)


@pytest.mark.parametrize(
    ("given", "taken"),
    [("png,jpeg", "JPEG,PNG"), (" WEBP , ,PNG,png", "PNG,WebP"), ("heic,AVIF", "AVIF,HEIC")],
)
def test_formats_are_read_whatever_their_case_and_order(
    monkeypatch: pytest.MonkeyPatch, given: str, taken: str
) -> None:
    monkeypatch.setenv("GLIMPSE_FORMATS", given)
    assert load_settings().formats == taken


@pytest.mark.parametrize(
    ("given", "named"),
    [("JPEG,PDF", "PDF is no format"), (",", "nothing"), ("HEIC", "HEIC cannot be the only")],
)
def test_formats_that_are_unknown_are_refused_by_name(given: str, named: str) -> None:
    with pytest.raises(SettingsError, match=f"GLIMPSE_FORMATS={given} cannot work: {named}"):
        load_settings(formats=given)
