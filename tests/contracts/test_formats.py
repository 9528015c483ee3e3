"""What every format has to be: found, known by itself alone, harmless on anything strange, and kept by `convert`."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from format_examples import EXAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from manymatch.cli import app
from manymatch.data.formats import Format, format_named, formats, known
from manymatch.data.pairs import Item, Pairs
from manymatch.data.sources import Reading, read_rows
from manymatch.errors import DataError, UnknownName

EVERY = formats()
by_name = pytest.mark.parametrize("format", EVERY, ids=lambda each: each.name)


def example(format: Format, folder: Path) -> Path:
    assert format.name in EXAMPLES, f"{format.name} has no example in format_examples.py"
    return EXAMPLES[format.name](folder)


def content(item: Item) -> tuple[object, ...]:
    return (item.id, item.captions, item.split, item.labels, dict(item.metadata))


def without_waiting(look: Callable[[], object], path: Path) -> object:
    """What it gives or raises; a look that would wait for ever fails after ten seconds instead."""
    told: list[object] = []

    def run() -> None:
        try:
            told.append(look())
        except Exception as error:
            told.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert told, f"it waits on {str(path)[:80]!r}"
    return told[0]


@by_name
def test_it_has_a_name_a_title_and_a_rank_of_its_own(format: Format) -> None:
    assert format.name.isidentifier() and format.name == format.name.lower()
    assert format.title and "\n" not in format.title and not format.title.endswith(".")
    assert 0 < format.rank < 100
    assert [each.rank for each in EVERY].count(format.rank) == 1
    assert format_named(format.name).name == format.name
    assert type(format).__doc__


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(UnknownName, match="did you mean 'jsonl'"):
        format_named("jsonlines")


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[list[Path]]:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "x").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.csv")
    os.mkfifo(tmp_path / "folder" / "captions.json")
    os.mkfifo(tmp_path / "folder" / "a.jpg")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder" / "self").symlink_to(tmp_path / "folder")
    (tmp_path / "noise.json").write_bytes(random.Random(0).randbytes(100_000))
    (tmp_path / "deep.json").write_bytes(b'{"images":' + b"[" * 100_000)
    (tmp_path / "half.gz").write_bytes(b"\x1f\x8b\x08\x00\x00")
    (tmp_path / "closed").write_bytes(b"{}")
    (tmp_path / "closed").chmod(0)
    (tmp_path / "shut").mkdir(mode=0)
    suffixes = (
        ".jsonl",
        ".csv",
        ".json",
        ".tar",
        ".parquet",
        ".arrow",
        ".token",
        ".token.txt",
        "_caps.txt",
        "_ims.npy",
    )
    for suffix in suffixes:
        (tmp_path / f"empty{suffix}").write_bytes(b"")
        (tmp_path / f"noise{suffix}").write_bytes(random.Random(1).randbytes(3000))
        (tmp_path / f"folder{suffix}").mkdir()
    odd = [Path("/dev/zero"), Path("/dev/stdin"), Path("/proc/self/mem"), Path("x" * 300), Path("a/" * 3000), Path("")]
    yield [*odd, tmp_path / "nowhere", tmp_path / "empty" / "below", tmp_path / "\udcff\n", *tmp_path.rglob("*")]
    (tmp_path / "shut").chmod(0o700)


@by_name
def test_looking_never_raises_and_never_waits(format: Format, strange: list[Path]) -> None:
    for path in strange:
        words = without_waiting(lambda path=path: format.sees(path), path)
        assert words is None or (isinstance(words, str) and words), f"{str(path)[:80]!r}: {words!r:.200}"


@by_name
def test_opening_what_it_is_not_raises_data_errors_alone(format: Format, strange: list[Path]) -> None:
    for path in strange:
        told = without_waiting(lambda path=path: read_rows(path, format=format.name), path)
        assert isinstance(told, DataError | Reading), f"{str(path)[:80]!r}: {told!r:.200}"


def test_asking_all_of_them_raises_data_errors_alone(strange: list[Path]) -> None:
    for path in strange:
        told = without_waiting(lambda path=path: known(path), path)
        assert isinstance(told, DataError | tuple), f"{str(path)[:80]!r}: {told!r:.200}"


@by_name
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_looking_at_any_bytes_never_raises(format: Format, data: bytes, tmp_path: Path) -> None:
    for name in ("x", "x.json", "x.jsonl", "x.csv", "x.txt", "x.tar", "x.parquet"):
        (tmp_path / name).write_bytes(data)
        format.sees(tmp_path / name)


@by_name
def test_its_example_is_known_to_it_before_all_others(format: Format, tmp_path: Path) -> None:
    path = example(format, tmp_path)
    found, words = known(path)
    assert found.name == format.name
    assert words and "\n" not in words


def read_example(format: Format, folder: Path) -> tuple[Path, Reading]:
    path = example(format, folder)
    reading = read_rows(path, strict=True)
    return path, reading


@by_name
def test_reading_says_what_was_seen_and_gives_items(format: Format, tmp_path: Path) -> None:
    path, reading = read_example(format, tmp_path)
    assert reading.format.name == format.name
    assert reading.seen and all(line and "\n" not in line for line in reading.seen)
    assert len(reading.pairs) >= 3 and not reading.pairs.problems
    assert set(reading.lines) == set(reading.pairs.image_ids)
    by_its_name = Pairs.read(path, format=format.name)
    assert by_its_name.items == reading.pairs.items


@by_name
def test_check_names_the_format_first(format: Format, tmp_path: Path) -> None:
    path, reading = read_example(format, tmp_path)
    told = CliRunner().invoke(app, ["check", str(path)])
    assert told.exit_code == 0, told.output
    assert " ".join(told.stdout.splitlines()[0].split()) == f"format {format.title}"
    assert all(line in told.stdout for line in reading.seen)


@by_name
def test_convert_keeps_everything(format: Format, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path, reading = read_example(format, tmp_path / "in")
    pairs = reading.pairs
    out, copied = tmp_path / "out.jsonl", tmp_path / "copied"
    more = [] if pairs.pictures is None else ["--pictures", str(copied)]
    told = CliRunner().invoke(app, ["convert", str(path), str(out), "--strict", *more])
    assert told.exit_code == 0, told.output
    again = Pairs.read(out, images=None if pairs.pictures is None else copied, strict=True)
    assert [content(item) for item in again] == [content(item) for item in pairs]
    if pairs.pictures is not None:
        for item, other in zip(pairs, again, strict=True):
            assert pairs.pictures.read(str(item.picture)) == again.pictures.read(str(other.picture))


@by_name
def test_convert_leaves_reachable_pictures_where_they_are(format: Format, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path, reading = read_example(format, tmp_path / "in")
    out = tmp_path / "out.jsonl"
    told = CliRunner().invoke(app, ["convert", str(path), str(out)])
    assert told.exit_code == 0, told.output
    if reading.images_at is None:
        assert all(item.picture is None for item in Pairs.read(out)) or reading.pairs.pictures is None
        return
    again = Pairs.read(out, images=reading.images_at, strict=True)
    assert [(*content(item), item.picture) for item in again] == [
        (*content(item), item.picture) for item in reading.pairs
    ]


def test_a_folder_of_nothing_says_what_was_looked_for_and_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, and of no known format; it holds no file of a known format"):
        known(tmp_path)
    (tmp_path / "captions.jsonl").write_text('{"image": "a.jpg", "captions": ["x"]}\n')
    with pytest.raises(DataError, match=r"it holds '.*captions\.jsonl': give that file"):
        known(tmp_path)
    for format in EVERY:
        with pytest.raises(DataError, match=f"{format.name}: "):
            known(tmp_path)


def test_every_format_has_its_example() -> None:
    assert set(EXAMPLES) == {format.name for format in EVERY}
