"""The feature store: what was put is read back whatever the order and whoever wrote, and damage is found and told."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.features import Features
from manymatch.data.pairs import Item
from manymatch.data.store import (
    Damaged,
    FeatureStore,
    Kind,
    Shelf,
    StoreFeatures,
    check_store,
    default_folder,
    open_store,
)
from manymatch.data.store import segments as segments_module
from manymatch.data.store.catalogue import Catalogue
from manymatch.data.store.segments import Segment
from manymatch.errors import DataError

KEY = "ab" * 32
BOTH = Kind(KEY, 4, 3, 5)
POOLED = Kind(KEY, 0, 0, 5)
ALONE = Kind(KEY, 4, 3, 0)


def digests(*numbers: int) -> list[bytes]:
    return [hashlib.sha256(f"picture {n}".encode()).digest() for n in numbers]


def features(kind: Kind, *numbers: int, ragged: bool = False) -> Features:
    """Features that depend on the picture's number alone."""
    rows = [
        np.random.default_rng(n).standard_normal(kind.fragments * kind.fragment_width + kind.pooled_width)
        for n in numbers
    ]
    table = np.array(rows).reshape(len(numbers), -1).astype(np.float16).astype(np.float32)
    cut = kind.fragments * kind.fragment_width
    vectors = table[:, :cut].reshape(-1, kind.fragments, kind.fragment_width) if kind.fragments else None
    lengths = np.array([1 + n % kind.fragments for n in numbers]) if ragged else None
    return Features(vectors, lengths, table[:, cut:] if kind.pooled_width else None)


def same(found: Features, wanted: Features) -> None:
    for name in ("vectors", "lengths", "pooled"):
        left, right = getattr(found, name), getattr(wanted, name)
        assert (left is None) == (right is None), name
        if left is not None:
            np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return FeatureStore(tmp_path / "store").shelf(BOTH)


# ---- what was put is read back


@settings(max_examples=30)
@given(
    kind=st.sampled_from([BOTH, POOLED, ALONE]),
    puts=st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 20), max_size=7)), min_size=1, max_size=8),
    asked=st.lists(st.integers(0, 20), min_size=1, max_size=12),
    limit=st.sampled_from([1, 1000, 2**20]),
)
def test_any_puts_by_several_writers_are_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    kind: Kind,
    puts: list[tuple[int, list[int]]],
    asked: list[int],
    limit: int,
) -> None:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments_module, "SEGMENT_BYTES", limit)
        writers = [FeatureStore(folder).shelf(kind) for _ in range(3)]
        put: set[int] = set()
        for who, numbers in puts:
            new = writers[who].put(digests(*numbers), features(kind, *numbers)) if numbers else 0
            assert new == len(set(numbers) - put)
            put |= set(numbers)
    reader = FeatureStore(folder).shelf(kind)
    assert set(reader.places(digests(*range(21)))) == set(digests(*put))
    known = [n for n in asked if n in put]
    if known:
        same(reader.get(digests(*known)), features(kind, *known))
    checked = check_store(folder)
    assert (checked.records, checked.lost, checked.faults) == (len(put), 0, ())


def test_real_lengths_are_kept(shelf: Shelf) -> None:
    wanted = features(BOTH, 1, 2, 3, ragged=True)
    shelf.put(digests(1, 2, 3), wanted)
    same(shelf.get(digests(1, 2, 3)), wanted)
    full = shelf.get(digests(3))
    assert full.lengths is None, "all four fragments of picture 3 are real"


def test_items_are_read_by_their_pictures(shelf: Shelf) -> None:
    shelf.put(digests(1, 2), features(BOTH, 1, 2))
    rows = StoreFeatures(shelf, dict(zip(["a.jpg", "b.jpg", "c.jpg"], digests(1, 2, 3), strict=True)))
    assert rows.missing == ["c.jpg"] and len(rows) == 2 and "a.jpg" in rows and rows.key == KEY
    assert rows.sizes() == {"fragments": 4, "fragment_width": 3, "pooled_width": 5}
    items = [Item(str(n), ("x",), picture=name) for n, name in enumerate(["b.jpg", "a.jpg", "b.jpg"])]
    same(rows.get(items), features(BOTH, 2, 1, 2))
    assert rows.get(items).vectors.dtype == np.float32  # type: ignore[union-attr]
    assert rows.read(items).vectors.dtype == np.float16  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"no features of item 'new' \(picture 'c.jpg'\)"):
        rows.get([Item("new", ("x",), picture="c.jpg")])


def test_a_reader_sees_what_is_written_after_it_opened(tmp_path: Path) -> None:
    writer, reader = (FeatureStore(tmp_path).shelf(BOTH) for _ in range(2))
    for n in range(3):
        writer.put(digests(n), features(BOTH, n))
        same(reader.get(digests(n)), features(BOTH, n))


def test_large_rows_are_gathered_from_several_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Kind(KEY, 36, 512, 0)
    monkeypatch.setattr(segments_module, "SEGMENT_BYTES", 3 * kind.row_bytes)
    shelf = FeatureStore(tmp_path).shelf(kind)
    shelf.put(digests(*range(8)), features(kind, *range(8)))
    assert len(list(shelf.folder.glob("*.features"))) == 3
    order = [7, 0, 3, 3, 5, 1]
    same(shelf.get(digests(*order)), features(kind, *order))


def test_one_process_goes_on_with_the_segment_of_another(tmp_path: Path) -> None:
    first, second = (FeatureStore(tmp_path).shelf(BOTH) for _ in range(2))
    first.put(digests(1), features(BOTH, 1))
    second.put(digests(2), features(BOTH, 2))
    assert len(list(first.folder.glob("*.features"))) == 2, "two writers, two segments"
    first.close()
    third = FeatureStore(tmp_path).shelf(BOTH)
    third.put(digests(3), features(BOTH, 3))
    assert len(list(first.folder.glob("*.features"))) == 2, "the third takes the one that was let go"
    same(FeatureStore(tmp_path).shelf(BOTH).get(digests(3, 2, 1)), features(BOTH, 3, 2, 1))


def test_a_segment_another_one_had_before_its_maker_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a segment's birth and its maker's taking it, another writer may take it, fill some of it and let go."""
    store = FeatureStore(tmp_path / "store")
    maker, other = store.shelf(BOTH), store.shelf(BOTH)
    take, met = segments_module.Tail._take, list[Path]()

    def first_the_other(tail: segments_module.Tail, path: Path) -> bool:
        if not met:
            met.append(path)
            other.put(digests(1, 2), features(BOTH, 1, 2))
            other.close()
        return take(tail, path)

    monkeypatch.setattr(segments_module.Tail, "_take", first_the_other)
    maker.put(digests(3, 4), features(BOTH, 3, 4))
    assert len(list(maker.folder.glob("*.features"))) == 1, "both wrote to the same segment"
    same(store.shelf(BOTH).get(digests(1, 2, 3, 4)), features(BOTH, 1, 2, 3, 4))
    assert check_store(tmp_path / "store").lost == 0


def test_what_nobody_acknowledged_is_never_written_over(shelf: Shelf) -> None:
    """Half a record at the end of a segment, as a kill leaves it: the next one begins behind it."""
    shelf.put(digests(1), features(BOTH, 1))
    shelf.close()
    (path,) = shelf.folder.glob("*.features")
    before = path.read_bytes()
    with open(path, "ab") as file:
        file.write(b"half of a record")
    shelf.put(digests(2), features(BOTH, 2))
    assert path.read_bytes().startswith(before + b"half of a record")
    same(shelf.get(digests(1, 2)), features(BOTH, 1, 2))
    assert check_store(shelf.store.folder).faults == ()


def test_backbones_do_not_meet(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    other = Kind("cd" * 32, 4, 3, 5)
    store.shelf(BOTH).put(digests(1), features(BOTH, 1))
    assert not store.shelf(other).places(digests(1))
    store.shelf(other).put(digests(1), features(BOTH, 2))
    same(store.shelf(BOTH).get(digests(1)), features(BOTH, 1))
    with pytest.raises(DataError, match="another shape under the same key"):
        store.shelf(POOLED)


# ---- what is refused


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Features(np.zeros((1, 4, 3)), pooled=np.full((1, 5), np.nan)), "pooled hold NaN"),
        (Features(np.full((1, 4, 3), 1e6), pooled=np.zeros((1, 5))), "vectors hold NaN or values beyond the range"),
        (Features(np.zeros((1, 4, 2)), pooled=np.zeros((1, 5))), r"vectors of shape \(1, 4, 3\) expected"),
        (Features(np.zeros((1, 4, 3))), "pooled of shape .* found none"),
        (Features(np.zeros((1, 4, 3)), np.array([5]), np.zeros((1, 5))), "5 real fragments, at most 4"),
    ],
)
def test_features_that_cannot_be_kept(shelf: Shelf, given: Features, why: str) -> None:
    with pytest.raises(DataError, match=why):
        shelf.put(digests(1), given)
    assert not shelf.places(digests(1))


def test_other_counts_are_refused(shelf: Shelf) -> None:
    with pytest.raises(DataError, match="1 features for 2 SHA-256"):
        shelf.put(digests(1, 2), features(BOTH, 1))
    with pytest.raises(DataError, match="1 of 2 pictures are not there"):
        shelf.put(digests(1), features(BOTH, 1))
        shelf.get(digests(1, 2))


def test_a_kind_has_something() -> None:
    with pytest.raises(DataError, match="expected at least one"):
        Kind(KEY, 0, 0, 0)


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be a folder"):
        FeatureStore(tmp_path / "file")


def test_a_store_of_another_version(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.catalogue._connection.execute("PRAGMA user_version = 7")
    store.close()
    with pytest.raises(DataError, match="has format 7, this version reads 1"):
        FeatureStore(tmp_path)


def test_a_full_disk_loses_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.put(digests(1), features(BOTH, 1))

    def full(handle: int, data: Any, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(DataError, match=r"No space left on device\); make room"):
        patch.setattr(os, "pwrite", full)
        shelf.put(digests(2), features(BOTH, 2))
    assert not shelf.places(digests(2))
    shelf.put(digests(2), features(BOTH, 2))
    same(shelf.get(digests(1, 2)), features(BOTH, 1, 2))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_who_may_not_write_still_reads(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.shelf(BOTH).put(digests(1), features(BOTH, 1))
    store.close()
    os.chmod(tmp_path, 0o555)
    try:
        shelf = FeatureStore(tmp_path).shelf(BOTH)
        same(shelf.get(digests(1)), features(BOTH, 1))
        with pytest.raises(DataError, match="cannot be written"):
            shelf.put(digests(2), features(BOTH, 2))
    finally:
        os.chmod(tmp_path, 0o755)


def test_a_catalogue_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path)
    store.shelf(BOTH).put(digests(1), features(BOTH, 1))
    store.close()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    shelf = FeatureStore(tmp_path).shelf(BOTH)
    same(shelf.get(digests(1)), features(BOTH, 1))
    with pytest.raises(DataError, match="cannot be written by this user; name another folder"):
        shelf.put(digests(2), features(BOTH, 2))


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MANYMATCH_STORE", str(tmp_path / "a"))
    assert default_folder() == tmp_path / "a" and open_store().folder == tmp_path / "a"
    monkeypatch.delenv("MANYMATCH_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert default_folder() == tmp_path / "b" / "manymatch" / "features"
    store = open_store(tmp_path / "c")
    assert open_store(store) is store


# ---- damage


def filled(folder: Path, count: int = 6) -> Path:
    """A store of `count` pictures in one segment; the segment's path."""
    shelf = FeatureStore(folder).shelf(BOTH)
    shelf.put(digests(*range(count)), features(BOTH, *range(count)))
    shelf.close()
    shelf.store.close()
    (path,) = shelf.folder.glob("*.features")
    return path


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


@given(byte=st.integers(0, BOTH.row_bytes - 1), row=st.integers(0, 5))
@settings(max_examples=25)
def test_a_changed_byte_of_a_record_is_found(tmp_path_factory: pytest.TempPathFactory, byte: int, row: int) -> None:
    folder = tmp_path_factory.mktemp("store")
    path = filled(folder)
    flip(path, 4096 + row * BOTH.row_bytes + byte)
    found = check_store(folder)
    assert (found.records, found.lost, found.rebuilt) == (5, 1, False)
    assert "bytes have changed" in found.faults[0] and path.name in found.faults[0]
    assert "1 of 6 records are taken out" in found.faults[0]
    shelf = FeatureStore(folder).shelf(BOTH)
    assert set(shelf.places(digests(*range(6)))) == set(digests(*range(6))) - set(digests(row))
    assert shelf.put(digests(*range(6)), features(BOTH, *range(6))) == 1
    same(shelf.get(digests(*range(6))), features(BOTH, *range(6)))
    assert check_store(folder).faults == ()


def test_a_segment_cut_short_counts_as_missing(tmp_path: Path) -> None:
    path = filled(tmp_path)
    os.truncate(path, 4096 + 2 * BOTH.row_bytes + 17)
    shelf = FeatureStore(tmp_path).shelf(BOTH)
    assert set(shelf.places(digests(*range(6)))) == set(digests(0, 1))
    assert shelf.broken == {path.name: "cut short after 2 records"}
    assert shelf.put(digests(*range(6)), features(BOTH, *range(6))) == 4
    same(FeatureStore(tmp_path).shelf(BOTH).get(digests(*range(6))), features(BOTH, *range(6)))
    assert check_store(tmp_path).faults == ()


def test_a_segment_cut_short_is_told_by_checking(tmp_path: Path) -> None:
    os.truncate(filled(tmp_path), 4096 + 2 * BOTH.row_bytes)
    found = check_store(tmp_path)
    assert (found.records, found.lost) == (2, 4) and "cut short after 2 records" in found.faults[0]


def test_a_segment_that_is_gone_counts_as_missing(tmp_path: Path) -> None:
    filled(tmp_path).unlink()
    shelf = FeatureStore(tmp_path).shelf(BOTH)
    assert not shelf.places(digests(*range(6))) and "missing or damaged" in next(iter(shelf.broken.values()))
    found = check_store(tmp_path)
    assert (found.records, found.lost) == (0, 6)
    assert shelf.put(digests(1), features(BOTH, 1)) == 1


@pytest.mark.parametrize("place", [3, 26, 29, 60])
def test_a_damaged_header_is_told(tmp_path: Path, place: int) -> None:
    path = filled(tmp_path)
    flip(path, place)
    with pytest.raises(DataError, match="missing or damaged"):
        Segment(path)
    shelf = FeatureStore(tmp_path).shelf(BOTH)
    assert not shelf.places(digests(*range(6)))
    assert shelf.put(digests(*range(6)), features(BOTH, *range(6))) == 6, "into another segment"
    same(shelf.get(digests(5, 0)), features(BOTH, 5, 0))


def test_a_segment_of_another_backbone_is_not_read(tmp_path: Path) -> None:
    path = filled(tmp_path)
    other = FeatureStore(tmp_path / "other").shelf(Kind("cd" * 32, 4, 3, 5))
    other.put(digests(*range(6)), features(BOTH, *range(6)))
    (stranger,) = other.folder.glob("*.features")
    path.write_bytes(stranger.read_bytes())
    shelf = FeatureStore(tmp_path).shelf(BOTH)
    assert not shelf.places(digests(1)) and "another backbone" in next(iter(shelf.broken.values()))
    assert check_store(tmp_path).lost == 6


def test_rows_that_are_exchanged_in_the_catalogue_are_found(tmp_path: Path) -> None:
    path = filled(tmp_path)
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    catalogue.enter(BOTH, [(digests(0)[0], path.name, 1), (digests(1)[0], path.name, 0)])
    catalogue.close()
    found = check_store(tmp_path)
    assert found.lost == 2 and "names another picture than the record" in found.faults[0]
    assert not FeatureStore(tmp_path).shelf(BOTH).places(digests(0, 1))


@pytest.mark.parametrize("how", ["garbage", "short", "pages"])
def test_a_damaged_catalogue_is_told_and_made_again(tmp_path: Path, how: str) -> None:
    filled(tmp_path, 40)
    path = tmp_path / "catalogue.sqlite"
    if how == "garbage":
        path.write_bytes(b"no database" * 1000)
    elif how == "short":
        os.truncate(path, path.stat().st_size // 2)
    else:
        data = bytearray(path.read_bytes())
        data[4096:] = bytes(len(data) - 4096)
        path.write_bytes(data)
    with pytest.raises(Damaged, match=r"is damaged .* made again .* by: manymatch features DATA --check"):
        FeatureStore(tmp_path).shelf(BOTH).places(digests(*range(40)))
    found = check_store(tmp_path)
    assert found.rebuilt and (found.records, found.lost) == (40, 0)
    assert "made again from the segments" in found.faults[0]
    same(FeatureStore(tmp_path).shelf(BOTH).get(digests(*range(40))), features(BOTH, *range(40)))
    assert list(tmp_path.glob("catalogue.sqlite.damaged-*"))


def test_rebuilding_leaves_damaged_records_out(tmp_path: Path) -> None:
    path = filled(tmp_path)
    flip(path, 4096 + 2 * BOTH.row_bytes + 70)
    for name in ("catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"):
        (tmp_path / name).write_bytes(b"no database at all" * 300)
    found = check_store(tmp_path)
    assert found.rebuilt and found.records == 5
    assert set(FeatureStore(tmp_path).shelf(BOTH).places(digests(*range(6)))) == set(digests(0, 1, 3, 4, 5))


def test_a_lost_catalogue_is_not_the_end(tmp_path: Path) -> None:
    """Where only the segments were copied, checking enters what they hold."""
    filled(tmp_path)
    for path in tmp_path.glob("catalogue*"):
        path.unlink()
    found = check_store(tmp_path)
    assert found.rebuilt and found.records == 6
    assert "no catalogue" in found.faults[0]


def test_checking_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is none; it is made by: manymatch features"):
        check_store(tmp_path)
