"""The key file: what is in it, who may read it, and that a change counts at once and is never lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manymatch.errors import DataError, UnknownName
from manymatch.web.keys import Keys, new_key, read_keys, revoke_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def damage(file: Path, text: str = "{") -> None:
    file.write_text(text)
    file.chmod(0o600)


# ---- keys and their access


def test_a_key_opens_what_it_was_made_for(file: Path) -> None:
    reading, read = new_key(file, "read", "the shop")
    writing, write = new_key(file, "write")
    keys = Keys.open(file)
    assert (keys.access(read), keys.access(write)) == ("read", "write")
    assert (keys.id_of(read), keys.id_of(write)) == (reading.id, writing.id)
    assert [(key.id, key.name, key.access) for key in read_keys(file)] == [
        (reading.id, "the shop", "read"),
        (writing.id, "", "write"),
    ]


def test_neither_key_nor_secret_is_in_the_file(file: Path) -> None:
    _, token = new_key(file)
    session = Keys.open(file).session(token)
    text = file.read_text()
    assert token[len("mm_12345678_") :] not in text and session[len("ms_12345678_") :] not in text
    assert len(token) == len("mm_12345678_") + 43


def test_nothing_else_than_the_key_opens(file: Path) -> None:
    key, token = new_key(file)
    other, second = new_key(file)
    keys = Keys.open(file)
    last = "A" if token[-1] != "A" else "E"
    swapped = f"mm_{other.id}{token[len('mm_12345678') :]}"
    for wrong in ("", "mm_", key.id, token[:-1], token + "=", token[:-1] + last, swapped, f" {token}", token + "\n"):
        assert keys.access(wrong) is None and keys.id_of(wrong) is None and keys.session(wrong) is None, wrong
    assert keys.access(second) == "read"
    hashed = f"mm_{key.id}_{key.hash[:43]}"
    assert keys.access(hashed) is None


def test_a_session_reads_and_is_no_key(file: Path) -> None:
    key, token = new_key(file, "write")
    keys = Keys.open(file)
    session = keys.session(token)
    assert keys.find_session(session) == key
    assert keys.find_session(token) is None
    assert keys.access(session) is None
    assert keys.access(session.replace("ms_", "mm_")) is None, "what a browser keeps must never write"
    revoke_key(file, key.id)
    assert keys.find_session(session) is None


@pytest.fixture(scope="module")
def some_keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keys, str]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    key, _ = new_key(file)
    return Keys.open(file), key.id


@given(text=st.text() | st.from_regex(r"m[ms]_[0-9a-f]{8}_[A-Za-z0-9_-]{43}"), near=st.booleans())
def test_any_text_may_be_asked(some_keys: tuple[Keys, str], text: str, near: bool) -> None:
    keys, known = some_keys
    text = f"{text[:3]}{known}{text[11:]}" if near else text
    assert keys.access(text) is None and keys.id_of(text) is None
    assert keys.session(text) is None and keys.find_session(text) is None


# ---- a file that changes while it is used


def test_a_revoked_key_stops_and_a_new_one_works_without_opening_again(file: Path) -> None:
    first, token = new_key(file)
    keys = Keys.open(file)
    _, later = new_key(file, "write")
    assert (keys.access(token), keys.access(later)) == ("read", "write")
    revoke_key(file, first.id)
    assert (keys.access(token), keys.access(later)) == (None, "write")


@pytest.mark.parametrize("harm", ["damaged", "removed", "opened to others"])
def test_a_harmed_file_is_warned_of_once_and_its_keys_go_on(
    file: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    key, token = new_key(file)
    keys, whole = Keys.open(file), file.read_text()
    if harm == "damaged":
        damage(file)
    elif harm == "removed":
        file.unlink()
    else:
        file.chmod(0o644)
    assert [keys.access(token) for _ in range(3)] == ["read"] * 3
    (warned,) = caplog.messages
    assert "the keys read before (1) go on to count" in warned and "\n" not in warned
    # Mended, it counts again as it is.
    damage(file, whole)
    revoke_key(file, key.id)
    assert keys.access(token) is None and len(caplog.messages) == 1


def test_a_file_replaced_through_its_link_is_seen(tmp_path: Path) -> None:
    _, old = new_key(tmp_path / "a.json")
    _, new = new_key(tmp_path / "b.json")
    link = tmp_path / "keys.json"
    link.symlink_to("a.json")
    keys = Keys.open(link)
    assert keys.access(old) == "read"
    link.unlink()
    link.symlink_to("b.json")
    assert (keys.access(old), keys.access(new)) == (None, "read")


def test_a_change_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "keys.json"
    link.symlink_to("real/keys.json")
    new_key(link)
    new_key(link)
    assert link.is_symlink() and len(read_keys(tmp_path / "real" / "keys.json")) == 2


def test_keys_made_at_once_are_all_kept(file: Path) -> None:
    script = (
        "import sys; from manymatch.web.keys import new_key\n"
        "for n in range(5): print(new_key(sys.argv[1], 'read', f'{sys.argv[2]} {n}')[1])"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, file, str(n)], stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda n: new_key(file, "write", str(n))[1], range(8)))
    made += [token for process in started for token in process.communicate()[0].split()]
    assert [process.returncode for process in started] == [0] * 4
    keys = Keys.open(file)
    assert len(made) == len(set(made)) == len(read_keys(file)) == 28
    assert all(keys.access(token) for token in made)
    assert os.listdir(file.parent) == [file.name], "nothing is left beside the file"


# ---- who may read the file


def test_only_its_owner_reads_a_new_file_whatever_the_umask(file: Path) -> None:
    before = os.umask(0)
    try:
        key, _ = new_key(file)
        new_key(file)
        revoke_key(file, key.id)
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o602, 0o660, 0o777])
def test_a_file_others_may_read_or_change_is_refused(file: Path, mode: int) -> None:
    key, _ = new_key(file)
    file.chmod(mode)
    for refused in (Keys.open, read_keys, new_key, lambda path: revoke_key(path, key.id)):
        with pytest.raises(DataError, match=rf"others may read or change it \(mode {mode:03o}\).*chmod 600") as said:
            refused(file)
        assert "\n" not in str(said.value)


def test_the_group_of_a_server_may_read_and_keeps_it_when_the_file_changes(file: Path) -> None:
    key, token = new_key(file)
    file.chmod(0o640)
    assert Keys.open(file).access(token) == "read"
    revoke_key(file, key.id)
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_changed_by_root_the_file_stays_its_owner_s(file: Path) -> None:
    new_key(file)
    os.chown(file, 1234, 2345)
    new_key(file)
    assert (file.stat().st_uid, file.stat().st_gid, file.stat().st_mode & 0o777) == (1234, 2345, 0o600)


def test_a_file_of_somebody_else_says_whose_turn_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    _, token = new_key(file)
    monkeypatch.setattr(os, "fchown", refuse)
    owned = os.stat_result((0o100600, 1, 1, 1, 4321, 4321, 1, 0, 0, 0))
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: owned if path == file else real(path, **options))
    with pytest.raises(DataError, match="belongs to another user; run this as that user or root"):
        new_key(file)
    monkeypatch.undo()
    assert Keys.open(file).access(token) == "read" and os.listdir(file.parent) == [file.name]


# ---- what is told


ROW = {"id": "0123abcd", "name": "", "access": "read", "created": "2024-05-06", "salt": "0" * 32, "hash": "f" * 64}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("\xff", "not JSON"),
        ("[]", "found other JSON"),
        ({"keys": []}, "found other JSON"),
        ({"format": 2, "keys": []}, "format 2, this version reads 1"),
        ({"format": 1, "keys": {}}, "expected a list of keys, found dict"),
        ({"format": 1, "keys": [1]}, "key 1: expected an object, found int"),
        ({"format": 1, "keys": [ROW, ROW]}, "key 2: id 0123abcd for a second time"),
        *(
            ({"format": 1, "keys": [{**ROW, field: wrong}]}, f"key 1: '{field}' is missing or is none")
            for field, wrong in [
                ("id", "0123ABCD"),
                ("id", "0123abcd\n"),
                ("id", None),
                ("name", "a\x1b[2J"),
                ("name", 3),
                ("access", "all"),
                ("access", ["read"]),
                ("created", "yesterday"),
                ("salt", ""),
                ("hash", "g" * 64),
            ]
        ),
    ],
)
def test_a_damaged_file_is_one_line(file: Path, value: object, said: str) -> None:
    file.write_bytes((value if isinstance(value, str) else json.dumps(value)).encode("latin-1"))
    file.chmod(0o600)
    for reading in (Keys.open, read_keys, new_key):
        with pytest.raises(DataError, match=r"^key file '.*keys\.json'") as told:
            reading(file)
        assert said in str(told.value) and "\n" not in str(told.value)


def test_a_file_as_described_is_read(file: Path) -> None:
    damage(file, json.dumps({"format": 1, "keys": [ROW], "note": "kept apart"}))
    assert [key.id for key in read_keys(file)] == ["0123abcd"]


def test_no_file_no_folder_no_key(file: Path) -> None:
    with pytest.raises(DataError, match="key file: no such file"):
        Keys.open(file)
    with pytest.raises(DataError, match="key file: no such file"):
        revoke_key(file, "0123abcd")
    assert not file.exists()
    with pytest.raises(DataError, match="cannot be written"):
        new_key(file.parent / "nowhere" / "keys.json")
    with pytest.raises(DataError, match="is a folder, expected a file"):
        new_key(file.parent)
    key, _ = new_key(file)
    with pytest.raises(UnknownName, match=f"unknown key '{key.id[:7]}': did you mean '{key.id}'"):
        revoke_key(file, key.id[:7])


@pytest.mark.parametrize("name", ["a\nb", "x" * 101, "\x1b[31m", "\ud800"])
def test_a_name_is_one_line(file: Path, name: str) -> None:
    with pytest.raises(DataError, match="expected one line of at most 100 characters"):
        new_key(file, name=name)
    assert not file.exists()


def test_a_name_is_in_any_script(file: Path) -> None:
    new_key(file, name="Музей, 博物館")
    assert read_keys(file)[0].name == "Музей, 博物館"
