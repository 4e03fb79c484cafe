"""API keys: made, checked and revoked, and the file that holds them. Knows no HTTP and no settings.

A key is `glimpse_<name>_<secret>`, where the secret is 256 random bits. The file has no key, only
a salted SHA-256 of each. A fast hash is right here: slow ones (bcrypt, Argon2) buy time against
someone who tries the passwords that people choose, and there is nothing to try among 2^256. It also
keeps the check cheap, so that wrong keys cost the service next to nothing. The salt keeps one key's
entry from telling anything of another's.
"""

import base64
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.core.errors import KeysFileError

__all__ = [
    "KEY_IN_TEXT",
    "ApiKey",
    "KeyStore",
    "KeysFile",
    "add_key",
    "read_keys",
    "revoke_key",
    "split_key",
]

_logger = logging.getLogger(__name__)
_NAME = r"[a-z0-9][a-z0-9-]{0,31}"
_KEY = re.compile(rf"glimpse_({_NAME})_([A-Za-z0-9_-]{{43}})")
_SECRET_BYTES = 32
_SALT_BYTES = 16
_MAX_FILE_BYTES = 1_000_000
_SECONDS_BETWEEN_LOOKS = 1.0
_NOBODYS_DIGEST = "0" * 64

KEY_IN_TEXT = re.compile(rf"(glimpse_{_NAME}_)[A-Za-z0-9_-]{{16,}}")
"""Where a text holds a key: its first group is the part that may be shown."""

_Count = Annotated[int, Field(ge=0, le=1_000_000_000)]


class ApiKey(BaseModel):
    """What the file says of one key.

    digest: SHA-256 of the salt and the whole key, in hex.
    requests_per_minute, requests_per_day: this key's own limits; 0 is none, and None leaves it to
    the service's settings.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=f"^{_NAME}$")]
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    requests_per_minute: _Count | None = None
    requests_per_day: _Count | None = None

    def is_expired(self, now: datetime) -> bool:
        """Tell whether the key's time is over."""
        return self.expires is not None and now >= self.expires


class KeysFile(BaseModel):
    """The content of the file: every key that is good, by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    keys: tuple[ApiKey, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> "KeysFile":
        names = [key.name for key in self.keys]
        if len(set(names)) < len(names):
            raise ValueError("two keys have the same name")
        return self

    def find(self, name: str) -> ApiKey | None:
        """Find a key by its name."""
        return next((key for key in self.keys if key.name == name), None)

    def verify(self, text: str, now: datetime) -> ApiKey | None:
        """Find the key that `text` is; None where it is none of these, or is expired.

        Takes as long for a name that does not exist as for a wrong secret.
        """
        parts = split_key(text)
        key = self.find(parts[0]) if parts else None
        salt, digest = (key.salt, key.digest) if key else ("", _NOBODYS_DIGEST)
        is_right = hmac.compare_digest(_digest(salt, text), digest)
        return key if key and is_right and not key.is_expired(now) else None


def split_key(text: str) -> tuple[str, str] | None:
    """Split a key into its name and its secret; None where it does not look like one."""
    found = _KEY.fullmatch(text)
    return (found[1], found[2]) if found else None


def read_keys(path: Path) -> KeysFile:
    """Read the file of keys.

    Raises KeysFileError, whose text holds nothing of the file's content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeysFileError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > _MAX_FILE_BYTES:
        raise KeysFileError(f"{path} is larger than {_MAX_FILE_BYTES} bytes.")
    try:
        return KeysFile.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise KeysFileError(f"{path} is no file of keys: {where}: {first['msg']}.") from None


def add_key(
    path: Path,
    name: str,
    *,
    now: datetime,
    expires_days: int | None = None,
    requests_per_minute: int | None = None,
    requests_per_day: int | None = None,
) -> str:
    """Make a key, put its digest into the file, and give the key: nobody can read it there later.

    Raises KeysFileError where the name is taken or no name, or the file cannot be written.
    """
    text = f"glimpse_{name}_" + _base64url(secrets.token_bytes(_SECRET_BYTES))
    salt = secrets.token_hex(_SALT_BYTES)
    if not re.fullmatch(_NAME, name):
        raise KeysFileError(
            f"{name!r} is no name of a key: use up to 32 small letters, digits and hyphens."
        )
    key = ApiKey(
        name=name,
        salt=salt,
        digest=_digest(salt, text),
        created=now,
        expires=now + timedelta(days=expires_days) if expires_days is not None else None,
        requests_per_minute=requests_per_minute,
        requests_per_day=requests_per_day,
    )
    with _changing(path) as present:
        if present.find(name):
            raise KeysFileError(
                f"There is a key named {name!r} already: revoke it, or choose another name."
            )
        _write(path, KeysFile(keys=(*present.keys, key)))
    return text


def revoke_key(path: Path, name: str) -> None:
    """Take a key out of the file: a running service refuses it about a second later.

    Raises KeysFileError where there is no such key, or the file cannot be written.
    """
    read_keys(path)
    with _changing(path) as present:
        if not present.find(name):
            names = ", ".join(key.name for key in present.keys) or "none"
            raise KeysFileError(f"There is no key named {name!r}. Keys: {names}.")
        _write(path, KeysFile(keys=tuple(key for key in present.keys if key.name != name)))


@dataclass(frozen=True, slots=True)
class _Signature:
    """What tells that a file is another one than before."""

    inode: int
    modified_ns: int
    size_bytes: int


class KeyStore:
    """The keys that are good now: follows the file as it changes, without a restart.

    The file is looked at when a key is to be checked, at most once a second. Where it is missing
    or broken, the keys that were good stay good, and the log says so once.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Read the file for the first time.

        clock: seconds that only grow.
        Raises KeysFileError: a service does not start with keys that it cannot read.
        """
        self._path = path
        self._clock = clock
        self._signature = self._look()  # of the file that the keys are from
        self._failed: _Signature | None = self._signature  # of the one that could not be read
        self._keys = read_keys(path)
        self._looked_at = clock()
        self._warn_of_readers()

    def current(self) -> KeysFile:
        """Give the keys, from the file as it was at most a second ago."""
        now = self._clock()
        if now - self._looked_at >= _SECONDS_BETWEEN_LOOKS:
            self._looked_at = now
            self._follow(self._look())
        return self._keys

    def _follow(self, signature: _Signature | None) -> None:
        """Read the file again if it is another one; one that could not be read is tried again."""
        if signature == self._signature:
            return
        try:
            self._keys = read_keys(self._path)
        except KeysFileError as error:
            if signature != self._failed:
                _logger.error("%s The keys that were good before stay good.", error)
            self._failed = signature
            return
        self._signature = self._failed = signature
        _logger.info("read the keys again: there are %d", len(self._keys.keys))
        self._warn_of_readers()

    def _look(self) -> _Signature | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return _Signature(found.st_ino, found.st_mtime_ns, found.st_size)

    def _warn_of_readers(self) -> None:
        try:
            mode = self._path.stat().st_mode
        except OSError:
            return
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            _logger.warning(
                "%s may be read or changed by others on this machine: chmod 600 it", self._path
            )


def _digest(salt: str, text: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + text.encode()).hexdigest()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@contextmanager
def _changing(path: Path) -> Iterator[KeysFile]:
    """Give the keys as they are, none where there is no file, while nobody else changes them."""
    try:
        folder = os.open(path.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise KeysFileError(f"{path.parent} cannot be read: {error.strerror}.") from error
    try:
        flock(folder, LOCK_EX)
        yield read_keys(path) if path.exists() else KeysFile()
    finally:
        os.close(folder)


def _write(path: Path, keys: KeysFile) -> None:
    """Replace the file in one step, for its owner alone (0600); its owner stays."""
    target = path.resolve()
    content = json.dumps(keys.model_dump(mode="json", exclude_none=True), indent=1) + "\n"
    if len(content) > _MAX_FILE_BYTES:
        raise KeysFileError(f"{path} would be larger than {_MAX_FILE_BYTES} bytes.")
    unfinished = None
    try:
        descriptor, unfinished = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if target.exists():
                owner = target.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).replace(target)
    except OSError as error:
        if unfinished:
            Path(unfinished).unlink(missing_ok=True)
        raise KeysFileError(f"{path} cannot be written: {error.strerror}.") from error
