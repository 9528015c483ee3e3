"""Feature files: formats, alignment, and everything that must not be read quietly."""

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.arrays import open_arrays
from manymatch.data.feature_files import Stacked, open_features
from manymatch.data.pairs import Item
from manymatch.errors import DataError

RNG = np.random.default_rng(0)
ITEMS = [Item(f"i{n}", ("x",), row=n) for n in range(5)]


def npz(path: Path, compressed: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def npy(path: Path, array: Any) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "u1", "i1"])
def test_npy_by_its_axes(tmp_path: Path, dtype: str) -> None:
    three, two = RNG.integers(0, 100, (5, 2, 3)).astype(dtype), RNG.integers(0, 100, (5, 4)).astype(dtype)
    files = open_features(npy(tmp_path / "f.npy", three), npy(tmp_path / "p.npy", two), items=ITEMS)
    assert files.sizes() == {"fragments": 2, "fragment_width": 3, "pooled_width": 4}
    got = files.get([ITEMS[3], ITEMS[0]])
    assert got.vectors is not None and got.pooled is not None
    assert got.vectors.dtype == got.pooled.dtype == np.float32
    np.testing.assert_array_equal(got.vectors, three[[3, 0]])
    np.testing.assert_array_equal(got.pooled, two[[3, 0]])
    assert got.lengths is None
    only = open_features(tmp_path / "p.npy", items=ITEMS)
    assert only.sizes() == {"pooled_width": 4}
    assert only.get(ITEMS[1:3]).vectors is None


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("scale", [np.float32(0.5), np.array([0.5, 1, 2], np.float64)])
def test_npz_with_q_and_scale(tmp_path: Path, compressed: bool, scale: Any) -> None:
    q = RNG.integers(-128, 127, (5, 2, 3)).astype(np.int8)
    junk = {"mean": np.zeros(7), "components": np.zeros((2, 2)), "pooled": np.zeros((9, 9))}
    files = open_features(npz(tmp_path / "f.npz", compressed, q=q, scale=scale, **junk), items=ITEMS)
    assert files.sizes() == {"fragments": 2, "fragment_width": 3}
    np.testing.assert_array_equal(files.get(ITEMS[1:4]).vectors, q[1:4] * np.asarray(scale, np.float32))


def test_npz_with_lengths_zeroes_the_padding_and_ids_align(tmp_path: Path) -> None:
    vectors = RNG.normal(size=(6, 3, 2)).astype(np.float32)
    vectors[5, 1:] = np.nan  # padding: nobody's business
    lengths = np.array([3, 3, 2, 3, 3, 1])
    pooled = RNG.normal(size=(6, 4)).astype(np.float16)
    for ids in (
        np.array(["i4", "other", "i1", "i0", "i3", "i2"]),
        np.array([b"i4", b"other", b"i1", b"i0", b"i3", b"i2"]),
    ):
        path = npz(tmp_path / "f.npz", vectors=vectors, lengths=lengths, pooled=pooled, ids=ids)
        files = open_features(path, items=ITEMS)
        assert files.faults(ITEMS) == {}
        got = files.get([ITEMS[1], ITEMS[2]])
        np.testing.assert_array_equal(got.lengths, [2, 1])
        np.testing.assert_array_equal(got.pooled, pooled[[2, 5]].astype(np.float32))
        expected = np.zeros((2, 3, 2), np.float32)
        expected[0, :2], expected[1, :1] = vectors[2, :2], vectors[5, :1]
        np.testing.assert_array_equal(got.vectors, expected)


def test_an_item_without_its_id_is_a_fault_and_asking_for_it_an_error(tmp_path: Path) -> None:
    path = npz(tmp_path / "f.npz", pooled=np.zeros((2, 3), np.float32), ids=np.array(["i0", "i2"]))
    files = open_features(path, items=ITEMS)
    assert list(files.faults(ITEMS)) == ["i1", "i3", "i4"]
    with pytest.raises(DataError, match="no row for item 'i3'"):
        files.get([ITEMS[0], ITEMS[3]])
    files = open_features(npy(tmp_path / "p.npy", np.zeros((5, 2), np.float32)), items=ITEMS)
    with pytest.raises(DataError, match="no row for item 'late'"):
        files.get([Item("late", ("x",), row=5)])


def test_pooled_of_its_own_file_counts(tmp_path: Path) -> None:
    both = npz(tmp_path / "f.npz", vectors=np.zeros((5, 1, 2), np.float32), pooled=np.zeros((5, 3), np.float32))
    own = npy(tmp_path / "p.npy", np.ones((5, 4), np.float32))
    assert open_features(both, own, items=ITEMS).sizes()["pooled_width"] == 4
    assert open_features(pooled=both, items=ITEMS).sizes() == {"pooled_width": 3}
    with pytest.raises(DataError, match="holds pooled vectors too"):
        open_features(own, own, items=ITEMS)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("block", [1, 12, 10_000])
def test_a_row_that_is_not_finite_is_a_fault(
    tmp_path: Path, value: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manymatch.data.feature_files._BLOCK", block)
    array = np.zeros((5, 2, 3))
    array[2, 1, 1] = value
    steps: list[tuple[int, int]] = []
    files = open_features(npy(tmp_path / "f.npy", array), items=ITEMS)
    assert list(files.faults(ITEMS, lambda *step: steps.append(step))) == ["i2"]
    assert steps[-1] == (5, 5)
    assert files.faults(ITEMS[:2] + ITEMS[3:]) == {}


@pytest.mark.parametrize("stacked", [False, True])
def test_what_a_scan_found_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stacked: bool
) -> None:
    monkeypatch.setenv("MANYMATCH_STORE", str(tmp_path / "store"))
    monkeypatch.setattr("manymatch.data.feature_files._WORTH", 1)
    values = np.zeros((5, 2, 3), np.float32)
    values[3, 1, 1] = np.nan
    path = npy(tmp_path / "f.npy", values)
    os.utime(path, (1e9, 1e9))
    looked: list[int] = []

    def faults(items: list[Item]) -> set[str]:
        given = Stacked((path,)) if stacked else path
        return set(open_features(given, items=items, rows=5).faults(items, lambda done, total: looked.append(total)))

    # The change time cannot be set: a file of this very second is looked through each time.
    assert faults(ITEMS) == {"i3"} == faults(ITEMS) and looked == [5, 5]
    monkeypatch.setattr("manymatch.data.store.stamps.settled", lambda changed: True)
    assert faults(ITEMS) == {"i3"} == faults(ITEMS) == faults(ITEMS) and looked == [5] * 3
    # Other rows were not looked at.
    assert faults(ITEMS[:3]) == set() == faults(ITEMS[:3]) and looked == [5] * 3 + [3]
    assert faults([*ITEMS[3:], ITEMS[0]]) == {"i3"} == faults([*ITEMS[3:], ITEMS[0]]) and looked[4:] == [3]
    values[0, 0, 0] = np.inf
    npy(path, values)
    os.utime(path, (1e9, 1e9))
    assert faults(ITEMS) == {"i0", "i3"} and looked[5:] == [5]
    for verdict in (tmp_path / "store" / "scanned").iterdir():
        verdict.write_text('[99, "x"]')
    assert faults(ITEMS) == {"i0", "i3"} and looked[6:] == [5]
    monkeypatch.setenv("MANYMATCH_STORE", str(path))
    assert faults(ITEMS) == {"i0", "i3"} and looked[7:] == [5]


def test_lengths_outside_are_a_fault(tmp_path: Path) -> None:
    path = npz(tmp_path / "f.npz", vectors=np.zeros((5, 2, 3), np.float32), lengths=np.array([0, 1, 2, 3, 2], np.uint8))
    assert list(open_features(path, items=ITEMS).faults(ITEMS)) == ["i0", "i3"]


ZEROS = np.zeros((5, 2, 3), np.float32)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(5, np.float32), r"shape \(5,\), expected"),
        (np.zeros((5, 1, 1, 1), np.float32), r"shape \(5, 1, 1, 1\), expected"),
        (np.float32(1), r"shape \(\), expected"),
        (np.zeros((5, 0), np.float32), r"shape \(5, 0\)"),
        (np.zeros((5, 2), np.int64), "type int64, expected float16"),
        (np.zeros((5, 2), bool), "type bool"),
        (np.zeros((5, 2), complex), "type complex128"),
        (np.array([["a", "b"]] * 5), "type <U1"),
        (np.array([[None, {}]] * 5), "Python objects"),
        (np.zeros((5, 2), [("x", "f4")]), "expected float16"),
    ],
)
def test_other_ranks_and_types_are_refused(tmp_path: Path, array: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        open_features(npy(tmp_path / "f.npy", array), items=ITEMS)
    with pytest.raises(DataError, match=reason):
        open_features(npz(tmp_path / "f.npz", pooled=array) if np.ndim(array) != 3 else "", items=ITEMS)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": ZEROS}, "none of the arrays q, vectors, pooled"),
        ({"q": ZEROS.astype(np.int8)}, "q without scale"),
        ({"q": ZEROS.astype(np.int8), "scale": np.ones(2)}, r"scale of .* expected float \(3,\)"),
        ({"q": ZEROS.astype(np.int8), "scale": np.array([1, np.nan, 1])}, "scale of .* NaN"),
        ({"vectors": ZEROS, "lengths": np.ones(4, int)}, r"lengths of .* expected whole numbers \(5,\)"),
        ({"vectors": ZEROS, "lengths": np.ones(5)}, "lengths of .* float64"),
        ({"vectors": ZEROS[0]}, r"vectors of .* shape \(2, 3\), expected three axes"),
        ({"vectors": ZEROS, "pooled": ZEROS}, "pooled of .* expected two axes"),
        ({"vectors": ZEROS, "pooled": ZEROS[:4, 0]}, "has 4 rows, but the pairs have 5 lines"),
        ({"vectors": ZEROS, "ids": np.arange(5)}, "ids of .* expected one text a row"),
        ({"vectors": ZEROS, "ids": np.array(["a", "b"])}, "2 ids and 5 rows"),
        ({"vectors": ZEROS, "ids": np.array(["i0", "i1", "i2", "i0", "i3"])}, "id 'i0' in rows 0 and 3"),
        ({"vectors": ZEROS, "ids": np.array([b"\xff"] * 5)}, "not UTF-8"),
        ({"vectors": ZEROS, "ids": np.array(list("abcde"))}, "none of the ids .*'a'.*'i0'"),
        ({"vectors": ZEROS, "ids": np.array([None] * 5)}, "'ids' .* Python objects"),
    ],
)
def test_npz_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        open_features(npz(tmp_path / "f.npz", **arrays), items=ITEMS)


def test_rows_must_be_as_many_as_lines(tmp_path: Path) -> None:
    path = npy(tmp_path / "f.npy", ZEROS)
    for rows in (4, 6):
        with pytest.raises(DataError, match=f"has 5 rows, but the pairs have {rows} lines"):
            open_features(path, items=ITEMS[:4], rows=rows)
    with pytest.raises(DataError, match=r"pooled: .* shape \(5, 2, 3\), expected two axes"):
        open_features(pooled=path, items=ITEMS)
    with pytest.raises(DataError, match=r"no such file.*'f.npy'"):
        open_features(tmp_path / "g.npy", items=ITEMS)
    with pytest.raises(DataError, match="neither"):
        open_features(items=ITEMS)


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.abort, ())


def test_no_pickle_is_opened(tmp_path: Path) -> None:
    (tmp_path / "f.npy").write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(DataError, match="not a NumPy file"):
        open_features(tmp_path / "f.npy", items=ITEMS)
    array = np.empty((5, 2), object)
    array[:] = None
    array[0, 0] = _Trap()
    for path in (npy(tmp_path / "g.npy", array), npz(tmp_path / "g.npz", pooled=array)):
        with pytest.raises(DataError, match="Python objects"):
            open_features(path, items=ITEMS)


def test_a_header_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    header = b"-" * 9000 + b"1"
    (tmp_path / "f.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="damaged"):
        open_features(tmp_path / "f.npy", items=ITEMS)


@pytest.mark.parametrize("kind", ["npy", "npz", "packed"])
def test_a_file_cut_short_is_refused_wherever_it_is_cut(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f"
    whole = {
        "npy": lambda: npy(tmp_path / "w.npy", ZEROS),
        "npz": lambda: npz(tmp_path / "w.npz", vectors=ZEROS),
        "packed": lambda: npz(tmp_path / "w.npz", True, vectors=RNG.normal(size=(5, 2, 3))),
    }[kind]().read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            open_features(path, items=ITEMS)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["npy", "npz", "packed"]),
    changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_files_give_features_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, changes: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    if kind == "npy":
        path = npy(folder / "damaged.npy", ZEROS)
    else:
        path = npz(folder / "damaged.npz", kind == "packed", vectors=ZEROS)
    data = bytearray(path.read_bytes())
    for position, value in changes:
        data[position % len(data)] = value
    path.write_bytes(data)
    with contextlib.suppress(DataError):
        files = open_features(path, items=ITEMS)
        good = [item for item in ITEMS if item.id not in files.faults(ITEMS)]
        assert len(files.get(good)) == len(good)


def test_stored_arrays_are_mapped_and_not_read(tmp_path: Path) -> None:
    array = RNG.normal(size=(5, 2, 3)).astype(np.float32)
    path = npz(tmp_path / "f.npz", scale=np.ones(3), vectors=array, ignored=np.zeros(3))
    opened = open_arrays(path, frozenset({"vectors", "scale"}))
    assert set(opened) == {"vectors", "scale"}
    base = opened["vectors"].base
    assert isinstance(base, np.memmap) and not opened["vectors"].flags.writeable
    np.testing.assert_array_equal(opened["vectors"], array)
    fortran = open_arrays(npz(tmp_path / "g.npz", vectors=np.asfortranarray(array)), frozenset({"vectors"}))
    np.testing.assert_array_equal(fortran["vectors"], array)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "f.npz", vectors=ZEROS)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        central = archive.start_dir
    data[6] |= 1
    data[central + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        open_features(path, items=ITEMS)
