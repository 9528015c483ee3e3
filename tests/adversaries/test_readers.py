"""Every reader on its own files, damaged at random: an error that says what to do, or problems listed; nothing else.

MANYMATCH_EXAMPLES=10000 pytest -m slow -n 0 tests/adversaries/test_readers.py
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from bad_case import jpeg
from bad_features import npy
from bad_pictures import picture_samples
from bad_tars import packed
from damage import Damage, damages, damages_of_json
from format_examples import EXAMPLES
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from manymatch.data.check import check
from manymatch.data.decoding import PictureError, decode
from manymatch.data.feature_files import open_features
from manymatch.data.pairs import Item
from manymatch.data.pictures import pictures_at
from manymatch.errors import DataError, UnknownName

FEW, MANY = 12, int(os.environ.get("MANYMATCH_EXAMPLES", "150"))
"""Examples a reader, in the quick tests and in the slow ones."""

SECONDS = 20
"""A reader that takes so long on a file of a few kilobytes waits for something that never comes."""

Examples = Callable[[str], tuple[Path, Path]]

ANY = st.lists(st.one_of(damages(), damages(), damages_of_json()), min_size=1, max_size=3)


def drawn(count: int) -> settings:
    """So many examples. One that fails is shown as drawn: making it smaller would read hundreds of files again."""
    phases = [Phase.explicit, Phase.generate]
    return settings(
        max_examples=count,
        database=None,
        # The same few each time: what they find was there before a change, and a new find belongs to the many.
        derandomize=count == FEW,
        suppress_health_check=list(HealthCheck),
        phases=phases,
    )


both = pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])


@contextmanager
def in_time() -> Iterator[None]:
    """Fail where the block does not end."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Name of a format -> the folder of its example, and what is read of it."""
    made: dict[str, tuple[Path, Path]] = {}

    def of(name: str) -> tuple[Path, Path]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "whole"
            folder.mkdir()
            made[name] = folder, EXAMPLES[name](folder).relative_to(folder)
        return made[name]

    return of


def damaged(whole: Path, into: Path, changes: dict[int, list[Damage]]) -> None:
    """A copy of a folder in which some files are changed."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(whole, into)
    files = sorted(path for path in into.rglob("*") if path.is_file())
    told = [path for path in files if path.suffix not in (".jpg", ".png")] or files
    for number, each in changes.items():
        # Half of the changes are to what says something of the pictures, however many pictures there are.
        file = files[number // 2 % len(files)] if number % 2 else told[number // 2 % len(told)]
        data = file.read_bytes()
        for change in each:
            data = change(data)
        file.write_bytes(data)


def looked_through(path: Path, name: str | None) -> None:
    """`check` gives what it promises, or an error of ours in one line."""
    try:
        with in_time():
            found = check(path, format=name)
    except (DataError, UnknownName) as error:
        assert str(error).strip() and "Traceback" not in str(error) and len(str(error)) < 20_000
        return
    assert found["images"] >= 0
    for problem in found["problems"]:
        assert problem["file"] and problem["kind"] and problem["detail"] and len(problem["detail"]) < 2000, problem
        assert problem["line"] is None or problem["line"] > 0


CHANGES = st.dictionaries(st.integers(0, 40), ANY, min_size=1, max_size=2)


@both
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_damaged_data_sets(name: str, count: int, examples: Examples, tmp_path: Path) -> None:
    whole, path = examples(name)

    @drawn(count)
    @given(changes=CHANGES, named=st.booleans())
    def read(changes: dict[int, list[Damage]], named: bool) -> None:
        damaged(whole, tmp_path / "copy", changes)
        looked_through(tmp_path / "copy" / path, name if named else None)

    before = open_files()
    read()
    assert open_files() <= before + 4, "files are left open"


def open_files() -> int:
    gc.collect()
    handles = Path("/proc/self/fd")
    return len(list(handles.iterdir())) if handles.exists() else 0


def after(data: bytes, changes: list[Damage]) -> bytes:
    for change in changes:
        data = change(data)
    return data


@both
@pytest.mark.parametrize("name", sorted(picture_samples()))
def test_damaged_pictures(name: str, count: int) -> None:
    @drawn(count)
    @given(changes=st.lists(damages(), min_size=1, max_size=3))
    def read(changes: list[Damage]) -> None:
        with in_time():
            try:
                found = decode(after(picture_samples()[name], changes), name, max_pixels=10**6)
            except PictureError as error:
                assert error.kind == "unreadable picture" and str(error).startswith(f"picture '{name}': ")
            else:
                assert found.mode == "RGB" and found.width * found.height <= 10**6

    read()


def archive(packed: bool) -> bytes:
    out = io.BytesIO()
    values = {
        "vectors": np.ones((3, 2, 4), np.float32),
        "lengths": np.array([2, 1, 2]),
        "ids": np.array(["a", "b", "c"]),
    }
    (np.savez_compressed if packed else np.savez)(out, **values)
    return out.getvalue()


FEATURES = {
    "plain.npy": lambda: npy(np.ones((3, 2, 4), np.float16)),
    "stored.npz": lambda: archive(False),
    "packed.npz": lambda: archive(True),
}


@both
@pytest.mark.parametrize("name", sorted(FEATURES))
def test_damaged_features(name: str, count: int, tmp_path: Path) -> None:
    items = [Item(each, ("x",), row=row) for row, each in enumerate("abc")]

    @drawn(count)
    @given(changes=st.lists(damages(), min_size=1, max_size=3))
    def read(changes: list[Damage]) -> None:
        (tmp_path / name).write_bytes(after(FEATURES[name](), changes))
        with in_time():
            try:
                found = open_features(tmp_path / name, items=items)
                bad = found.faults(items)
                values = found.get([item for item in items if item.id not in bad])
            except DataError as error:
                assert str(error).startswith("features: ") and len(str(error)) < 2000
            else:
                assert all(np.isfinite(each).all() for each in (values.vectors, values.pooled) if each is not None)

    read()


@both
def test_damaged_tars(count: int, tmp_path: Path) -> None:
    whole = packed(("a.jpg", jpeg("red")), ("b/c.jpg", jpeg("green")), ("x" * 150 + ".jpg", jpeg("blue")))

    @drawn(count)
    @given(changes=st.lists(damages(), min_size=1, max_size=3))
    def read(changes: list[Damage]) -> None:
        (tmp_path / "x.tar").write_bytes(after(whole, changes))
        with in_time():
            try:
                pictures = pictures_at(tmp_path / "x.tar")
            except DataError as error:
                assert str(error).startswith("pictures: ")
                return
            for name in pictures.names():
                assert not name.startswith("/") and ".." not in name.split("/")
                with contextlib.suppress(PictureError):
                    pictures.open(name)

    read()
