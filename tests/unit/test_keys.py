"""API keys: what is stored, what is good, and how a running service follows the file."""

import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.cli import cli
from app.core.errors import KeysFileError
from app.core.keys import (
    KEY_IN_TEXT,
    KeysFile,
    KeyStore,
    add_key,
    read_keys,
    revoke_key,
    split_key,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Clock:
    """Seconds that pass when told to."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_add_key_file_has_its_digest_and_nothing_of_the_key(path: Path) -> None:
    text = add_key(path, "phone", now=NOW)
    (key,) = read_keys(path).keys
    secret = text.removeprefix("glimpse_phone_")
    assert len(secret) == 43  # 256 bits in base64url
    assert secret not in path.read_text(encoding="utf-8")
    assert key.digest == hashlib.sha256(bytes.fromhex(key.salt) + text.encode()).hexdigest()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


def test_verify_knows_each_key_and_no_other(path: Path) -> None:
    texts = {name: add_key(path, name, now=NOW) for name in ("phone", "laptop", "a-9")}
    keys = read_keys(path)
    for name, text in texts.items():
        found = keys.verify(text, NOW)
        assert found is not None
        assert found.name == name
        changed = text[:-2] + ("AA" if text[-2:] != "AA" else "BB")
        assert keys.verify(changed, NOW) is None
        assert keys.verify(text.replace(name, "nobody"), NOW) is None
    assert keys.verify(texts["phone"].replace("phone", "laptop"), NOW) is None


@given(text=st.text(max_size=200))
def test_verify_whatever_is_no_key_is_refused_without_an_error(text: str) -> None:
    assert KeysFile().verify(text.encode("utf-8", "replace").decode(), NOW) is None


def test_verify_key_is_good_until_it_expires(path: Path) -> None:
    text = add_key(path, "phone", now=NOW, expires_days=2)
    keys = read_keys(path)
    assert keys.verify(text, NOW + timedelta(days=2, seconds=-1)) is not None
    assert keys.verify(text, NOW + timedelta(days=2)) is None


def test_revoke_key_takes_that_one_alone(path: Path) -> None:
    gone, kept = add_key(path, "gone", now=NOW), add_key(path, "kept", now=NOW)
    revoke_key(path, "gone")
    keys = read_keys(path)
    assert keys.verify(gone, NOW) is None
    assert keys.verify(kept, NOW) is not None
    with pytest.raises(KeysFileError, match=r"no key named 'gone'. Keys: kept\."):
        revoke_key(path, "gone")


def test_add_key_name_that_is_taken_or_odd_is_refused_and_nothing_changes(path: Path) -> None:
    add_key(path, "phone", now=NOW)
    before = path.read_bytes()
    with pytest.raises(KeysFileError, match="already: revoke it"):
        add_key(path, "phone", now=NOW)
    for name in ("", "A", "a_b", "../x", "x" * 33, "-a", "a\n"):
        with pytest.raises(KeysFileError, match="no name of a key"):
            add_key(path, name, now=NOW)
    assert path.read_bytes() == before


def test_add_key_several_at_once_all_come_into_the_file(path: Path) -> None:
    names = [f"key-{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: add_key(path, name, now=NOW), names))
    assert sorted(key.name for key in read_keys(path).keys) == sorted(names)


def test_add_key_behind_a_link_changes_the_file_and_leaves_the_link(path: Path) -> None:
    real = path.with_name("real.json")
    path.symlink_to(real)
    add_key(path, "phone", now=NOW)
    assert path.is_symlink()
    assert len(read_keys(real).keys) == 1


def test_add_key_folder_that_is_absent_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(KeysFileError, match="cannot be read: No such file or directory"):
        add_key(tmp_path / "nowhere" / "keys.json", "phone", now=NOW)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"keys": [{"name": "a"}]}',
        b'{"version": 2, "keys": []}',
        b'{"keys": [], "more": 1}',
        b" " * 1_000_001,
        b"[" * 100_000,
    ],
    ids=lambda content: content[:20].decode(errors="replace"),
)
def test_read_keys_broken_file_is_refused_by_name_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(KeysFileError, match=r"keys\.json"):
        read_keys(path)


def test_read_keys_error_tells_nothing_of_the_content(path: Path) -> None:
    add_key(path, "phone", now=NOW)
    document = json.loads(path.read_text(encoding="utf-8"))
    digest = document["keys"][0]["digest"]
    document["keys"][0]["digest"] = f"{digest}!"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(KeysFileError) as caught:
        read_keys(path)
    assert digest not in str(caught.value)
    document["keys"] *= 2
    document["keys"][0]["digest"] = document["keys"][1]["digest"] = digest
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(KeysFileError, match="same name"):
        read_keys(path)


def test_key_store_follows_the_file_within_a_second_and_looks_no_oftener(path: Path) -> None:
    clock = Clock()
    first = add_key(path, "first", now=NOW)
    store = KeyStore(path, clock)
    second = add_key(path, "second", now=NOW)
    revoke_key(path, "first")
    clock.seconds = 0.9
    assert store.current().verify(first, NOW) is not None
    clock.seconds = 1.0
    assert store.current().verify(first, NOW) is None
    assert store.current().verify(second, NOW) is not None


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("{", "utf-8")])
def test_key_store_broken_or_absent_file_keeps_the_last_keys_and_says_so_once(
    path: Path, caplog: pytest.LogCaptureFixture, harm: "object"
) -> None:
    assert callable(harm)
    clock = Clock()
    text = add_key(path, "phone", now=NOW)
    store = KeyStore(path, clock)
    harm(path)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            clock.seconds += 2
            assert store.current().verify(text, NOW) is not None
    (record,) = caplog.records
    assert "stay good" in record.getMessage()
    path.unlink(missing_ok=True)
    other = add_key(path, "other", now=NOW)
    clock.seconds += 2
    assert store.current().verify(text, NOW) is None
    assert store.current().verify(other, NOW) is not None


def test_key_store_whose_reading_failed_once_reads_the_same_file_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_descriptors(_path: Path) -> None:
        raise KeysFileError("It cannot be read: Too many open files.")

    clock = Clock()
    revoked = add_key(path, "revoked", now=NOW)
    add_key(path, "other", now=NOW)
    store = KeyStore(path, clock)
    revoke_key(path, "revoked")
    with monkeypatch.context() as patch:
        patch.setattr("app.core.keys.read_keys", no_descriptors)
        clock.seconds += 2
        assert store.current().verify(revoked, NOW) is not None  # the last good keys

    clock.seconds += 2

    assert store.current().verify(revoked, NOW) is None


def test_key_store_absent_file_at_the_start_is_an_error(path: Path) -> None:
    with pytest.raises(KeysFileError, match="No such file"):
        KeyStore(path, Clock())


def test_key_store_file_that_others_may_read_is_warned_of(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_key(path, "phone", now=NOW)
    KeyStore(path, Clock())
    assert caplog.records == []
    path.chmod(0o644)
    KeyStore(path, Clock())
    (record,) = caplog.records
    assert "chmod 600" in record.getMessage()


def test_keys_in_a_text_are_found_wherever_they_stand(path: Path) -> None:
    text = add_key(path, "my-phone", now=NOW)
    hidden = KEY_IN_TEXT.sub(r"\1[]", f"/caption/x{text}?a={text}&b")
    assert hidden == "/caption/xglimpse_my-phone_[]?a=glimpse_my-phone_[]&b"
    assert split_key(text) == ("my-phone", text.removeprefix("glimpse_my-phone_"))


# -- the command ----


def glimpse(*arguments: str, path: Path | None) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, arguments, env={"GLIMPSE_KEYS_FILE": str(path or "")})
    return done.exit_code, done.stdout, done.stderr


def test_keys_command_makes_lists_and_revokes(path: Path) -> None:
    options = ("--expires", "30", "--requests-per-minute", "60", "--requests-per-day", "0")
    code, out, _ = glimpse("keys", "add", "phone", *options, path=path)
    assert code == 0
    now = datetime.now(UTC)
    key = read_keys(path).verify(out.strip(), now)
    assert key is not None
    assert (key.requests_per_minute, key.requests_per_day) == (60, 0)
    assert key.expires is not None
    assert timedelta(days=29) < key.expires - now <= timedelta(days=30)
    code, out, _ = glimpse("keys", "list", path=path)
    assert code == 0
    assert out.startswith("phone: made ")
    assert out.endswith("60 requests a minute, any number of requests a day\n")
    assert key.digest not in out
    assert glimpse("keys", "revoke", "phone", path=path)[0] == 0
    assert glimpse("keys", "list", path=path) == (0, "", "")


@pytest.mark.parametrize("arguments", [("add", "a"), ("list",), ("revoke", "a")])
def test_keys_command_without_a_file_says_which_setting_names_it(
    arguments: tuple[str, ...],
) -> None:
    code, out, err = glimpse("keys", *arguments, path=None)
    assert (code, out) == (2, "")
    assert "GLIMPSE_KEYS_FILE" in err


def test_keys_command_mistake_is_a_sentence(path: Path) -> None:
    assert glimpse("keys", "revoke", "a", path=path)[0] == 2
    code, _, err = glimpse("keys", "add", "No Name", path=path)
    assert code == 2
    assert "small letters" in err
    assert list(path.parent.iterdir()) == []
