"""The key file: who may read an index over the network and who may change it. Only hashes of keys are on disk.

A key is `mm_<id>_<secret>`, the secret being 256 random bits. What is derived from the secret grants reading only and
is what a browser keeps (a session), so a browser never holds what could write; what is derived from that, with a salt,
is in the file, so whoever reads the file can neither write nor read.

The hash is a fast one. Slow hashes protect what people choose, because that can be guessed; 256 random bits cannot be
searched through, however fast each trial is, and a slow hash would let anybody keep a server busy by sending keys.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import shlex
import stat
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

from ..data.files import regular_file
from ..data.writing import whole_file
from ..errors import DataError, UnknownName

__all__ = ["Access", "Key", "Keys", "new_key", "read_keys", "revoke_key"]

Access = Literal["read", "write"]
"""What a key may do; a write key reads too."""

_FORMAT = 1
_LOG = logging.getLogger(__name__)
_TOKEN = re.compile(r"mm_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_SESSION = re.compile(r"ms_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Key:
    """One key as the file has it.

    Attributes:
        id: 8 hexadecimal digits; the part of the key that may be shown.
        name: whom it was given to, in the words of who made it; may be empty.
        access: what it may do.
        created: when, ISO 8601 in UTC.
        salt: 16 bytes, hexadecimal.
        hash: SHA-256 of the salt and the session of the key, hexadecimal.
    """

    id: str
    name: str
    access: Access
    created: str
    salt: str
    hash: str

    def opens(self, session: str) -> bool:
        """Whether this is the session part of the key; takes as long whichever character is wrong."""
        return hmac.compare_digest(_hash(self.salt, session), self.hash)


class _State(NamedTuple):
    looked: tuple[int, ...] | None
    known: Mapping[str, Key]


class Keys:
    """The keys of a file, as it is now: a key that is made or revoked counts from the next request on.

    A file that was damaged, removed or opened to others while in use is warned of once, and the keys it had go on to
    count: a slip of the keeper does not shut everybody out. Safe to ask from several threads.
    """

    def __init__(self, path: Path, state: _State) -> None:
        self.path, self._state, self._lock = path, state, threading.Lock()

    @classmethod
    def open(cls, path: str | Path) -> Keys:
        """The keys of a file. Raises DataError: not there, damaged, or open to others."""
        # Absolute, since the process may go elsewhere; links are followed each time, since they may be moved.
        path = Path(os.path.abspath(path))
        return cls(path, _load(path))

    def access(self, token: str) -> Access | None:
        """What a key may do, None where it is none of this file's; any text may be asked."""
        key = self.find(token)
        return None if key is None else key.access

    def id_of(self, token: str) -> str | None:
        """The id of a key of this file, None of anything else."""
        key = self.find(token)
        return None if key is None else key.id

    def find(self, token: str) -> Key | None:
        """The entry of a key, None where it is none of this file's."""
        parts = _TOKEN.fullmatch(token)
        return None if parts is None else self._find(parts[1], _session_part(parts[2]))

    def session(self, token: str) -> str | None:
        """What a browser keeps instead of this key; it grants reading as long as the key is in the file."""
        parts = _TOKEN.fullmatch(token)
        if parts is None or self.find(token) is None:
            return None
        return f"ms_{parts[1]}_{_session_part(parts[2])}"

    def find_session(self, session: str) -> Key | None:
        """The entry of the key that a session was made from; whoever sends one may read, whatever the key may do."""
        parts = _SESSION.fullmatch(session)
        return None if parts is None else self._find(parts[1], parts[2])

    def _find(self, id: str, session: str) -> Key | None:
        # An id is no secret, so that an unknown one is answered sooner gives nothing away.
        key = self._known().get(id)
        return key if key is not None and key.opens(session) else None

    def _known(self) -> Mapping[str, Key]:
        state = self._state
        try:
            now = _looks(os.stat(self.path))
        except OSError:
            now = None
        return state.known if now == state.looked else self._read_again(state, now)

    def _read_again(self, before: _State, now: tuple[int, ...] | None) -> Mapping[str, Key]:
        with self._lock:
            if self._state is before:
                try:
                    self._state = _load(self.path)
                except DataError as error:
                    # Not looked into again until it changes.
                    self._state = _State(now, before.known)
                    _LOG.warning("%s; the keys read before (%d) go on to count", error, len(before.known))
            return self._state.known


def read_keys(path: str | Path) -> list[Key]:
    """The keys of a file, oldest first. Raises DataError: not there, damaged, or open to others."""
    return list(_load(Path(path)).known.values())


def new_key(path: str | Path, access: Access = "read", name: str = "") -> tuple[Key, str]:
    """Add a key to a file, which is made where there is none: (its entry, the key itself, which nothing keeps).

    Raises:
        DataError: the file is damaged, open to others or cannot be written; the name is not one line of up to 100
            characters.
    """
    if not _plain(name):
        raise DataError(f"name {name!r}: expected one line of at most {_LONGEST_NAME} characters")
    with _changing(path) as (real, known):
        id = secrets.token_hex(4)
        while id in known:
            id = secrets.token_hex(4)
        secret, salt = secrets.token_urlsafe(32), secrets.token_hex(16)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        key = Key(id, name, access, created, salt, _hash(salt, _session_part(secret)))
        _write(real, {**known, id: key})
    return key, f"mm_{id}_{secret}"


def revoke_key(path: str | Path, id: str) -> Key:
    """Take a key out of a file: its entry. Servers that use the file refuse it from then on.

    Raises:
        UnknownName: no key has this id.
        DataError: the file is not there, damaged, open to others or cannot be written.
    """
    regular_file(path, "key file")
    with _changing(path) as (real, known):
        if id not in known:
            raise UnknownName("key", id, known)
        _write(real, {other: key for other, key in known.items() if other != id})
    return known[id]


# ---- what is derived from what


def _session_part(secret: str) -> str:
    digest = hashlib.sha256(b"manymatch session " + secret.encode()).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")


def _hash(salt: str, session: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + session.encode()).hexdigest()


# ---- reading


def _looks(found: os.stat_result) -> tuple[int, ...]:
    """Differs when a file was replaced, written to, or opened to others."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _load(path: Path) -> _State:
    what = f"key file {str(path)!r}"
    regular_file(path, "key file")
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            _private(path, found)
            text = file.read()
    except OSError as error:
        raise DataError(f"{what}: cannot be read ({error.strerror or error})") from None
    return _State(_looks(found), _parsed(what, text))


def _private(path: Path, found: os.stat_result) -> None:
    """Whoever may write the file may give himself a key; its group may read, as a server's own group does."""
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o027:
        raise DataError(
            f"key file {str(path)!r}: others may read or change it (mode {mode:03o}), expected 600, or 640 for a group "
            f"that reads; run chmod 600 {shlex.quote(str(path))}"
        )


def _parsed(what: str, text: bytes) -> dict[str, Key]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what}: not JSON ({error}); restore it, or make a new one with manymatch key new") from None
    if not isinstance(value, dict) or "format" not in value:
        raise DataError(f"{what}: expected a file made by manymatch key new, found other JSON")
    if value["format"] != _FORMAT:
        raise DataError(
            f"{what}: format {value['format']!r}, this version reads {_FORMAT}; use the manymatch that made it"
        )
    rows = value.get("keys")
    if not isinstance(rows, list):
        raise DataError(f"{what}: expected a list of keys, found {type(rows).__name__}")
    known: dict[str, Key] = {}
    for number, row in enumerate(rows, start=1):
        key = _key(f"{what}, key {number}", row)
        if key.id in known:
            raise DataError(f"{what}, key {number}: id {key.id} for a second time, expected it once")
        known[key.id] = key
    return known


_FIELDS: Mapping[str, str] = {"id": "[0-9a-f]{8}", "salt": "[0-9a-f]{32}", "hash": "[0-9a-f]{64}"}


def _key(where: str, row: Any) -> Key:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, found {type(row).__name__}")
    told = {field: row.get(field) for field in ("id", "name", "access", "created", "salt", "hash")}
    fine = {field: isinstance(value, str) for field, value in told.items()}
    if all(fine.values()):
        fine = {field: re.fullmatch(form, told[field] or "") is not None for field, form in _FIELDS.items()}
        fine |= {"name": _plain(str(told["name"])), "access": told["access"] in get_args(Access)}
        fine["created"] = _is_time(str(told["created"]))
    wrong = next((field for field, good in fine.items() if not good), None)
    if wrong is not None:
        raise DataError(f"{where}: {wrong!r} is missing or is none; restore the file, or revoke and make keys anew")
    return Key(**cast(dict[str, Any], told))


def _plain(name: str) -> bool:
    # What is not printable could move the cursor of a terminal that lists it.
    return len(name) <= _LONGEST_NAME and name.isprintable()


def _is_time(text: str) -> bool:
    try:
        return bool(datetime.fromisoformat(text))
    except ValueError:
        return False


# ---- writing


@contextmanager
def _changing(path: str | Path) -> Iterator[tuple[Path, Mapping[str, Key]]]:
    """(the file behind any links, its keys) while nobody else changes it. Raises DataError."""
    real = Path(os.path.realpath(path))
    try:
        # The folder is locked, since the file itself is another one after each change. The lock ends with the process.
        handle = os.open(real.parent, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield real, _load(real).known if real.exists() else {}
        finally:
            os.close(handle)
    except OSError as error:
        raise DataError(f"key file {str(real)!r}: cannot be written ({error.strerror or error})") from None


def _write(path: Path, known: Mapping[str, Key]) -> None:
    value = {"format": _FORMAT, "keys": [asdict(key) for key in known.values()]}
    with whole_file(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, ensure_ascii=False)
            file.write("\n")
            _keep_owner(handle, path)


def _keep_owner(handle: int, path: Path) -> None:
    """Changed by root, a file stays that of the server's user; else the server could not read what was revoked."""
    try:
        before = os.stat(path)
    except FileNotFoundError:
        return
    mine = os.fstat(handle)
    if (before.st_uid, before.st_gid) != (mine.st_uid, mine.st_gid):
        try:
            os.fchown(handle, before.st_uid, before.st_gid)
        except PermissionError:
            raise DataError(f"key file {str(path)!r}: belongs to another user; run this as that user or root") from None
    os.fchmod(handle, stat.S_IMODE(before.st_mode))
