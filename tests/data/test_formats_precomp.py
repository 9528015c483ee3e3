"""The layout of the research forks: both row conventions, ids, several splits, and all that does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manymatch.data.coco_ids import caption_rows
from manymatch.data.feature_files import Stacked, open_features
from manymatch.data.pairs import Item, Pairs
from manymatch.data.sources import Reading, read_rows
from manymatch.data.stacked import StackedRows, gathered
from manymatch.errors import DataError

DRAW = np.random.default_rng(0)


def write(
    folder: Path,
    split: str,
    images: int,
    captions: int = 5,
    *,
    repeated: bool = False,
    shape: Sequence[int] = (3, 4),
    ids: Sequence[Any] | None = None,
) -> np.ndarray[Any, Any]:
    """One split; gives the features of its images, one row each."""
    features = DRAW.normal(size=(images, *shape)).astype(np.float32)
    np.save(folder / f"{split}_ims.npy", features.repeat(captions, axis=0) if repeated else features)
    lines = [f"{split} image {n} caption {k}\n" for n in range(images) for k in range(captions)]
    (folder / f"{split}_caps.txt").write_text("".join(lines))
    if ids is not None:
        (folder / f"{split}_ids.txt").write_text("".join(f"{each}\n" for each in ids))
    return features


def vectors(reading: Reading) -> np.ndarray[Any, Any]:
    found = reading.pairs.images.read_features().vectors
    assert found is not None
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=st.integers(1, 30),
    captions=st.integers(1, 6),
    repeated=st.booleans(),
    pooled=st.booleans(),
    same=st.sets(st.integers(1, 29), max_size=3),
    how=st.sampled_from(["none", "images", "rows", "captions"]),
    dtype=st.sampled_from(["f2", "f4"]),
)
def test_both_row_conventions_read_as_the_same_items(
    images: int,
    captions: int,
    repeated: bool,
    pooled: bool,
    same: set[int],
    how: str,
    dtype: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("precomp")
    features = DRAW.normal(size=(images, 5) if pooled else (images, 2, 3)).astype(dtype)
    for n in same:
        if 1 < n < images and how in ("images", "rows"):
            features[n] = features[n - 1]  # a picture that is there twice
    np.save(folder / "test_ims.npy", features.repeat(captions, axis=0) if repeated else features)
    names = [f"p{n}.jpg" for n in range(images)]
    lines = [f"{n} {k}\n" for n in range(images) for k in range(captions)]
    (folder / "test_caps.txt").write_text("".join(lines))
    ids = {"none": [], "images": names, "rows": np.repeat(names, captions), "captions": range(len(lines))}[how]
    if len(ids):
        (folder / "test_ids.txt").write_text("".join(f"{each}\n" for each in ids))
    reading = read_rows(folder, strict=True)
    assert reading.format.name == "precomp"
    assert [item.captions for item in reading.pairs] == [
        tuple(line.strip() for line in lines[n * captions : (n + 1) * captions]) for n in range(images)
    ]
    if how in ("images", "rows"):
        assert reading.pairs.image_ids == names
    found = reading.pairs.images.read_features()
    np.testing.assert_array_equal(found.pooled if pooled else found.vectors, features.astype(np.float32))


def test_a_folder_of_splits_reads_as_one(tmp_path: Path) -> None:
    train = write(tmp_path, "train", 6)
    dev = write(tmp_path, "dev", 4, repeated=True)
    testall = write(tmp_path, "testall", 3, repeated=True, ids=np.repeat([139, 285, 632], 5))
    (tmp_path / "lost_caps.txt").write_text("x\n")
    reading = read_rows(tmp_path, strict=True)
    pairs = reading.pairs
    assert pairs.splits == {"train": 6, "val": 4, "testall": 3}
    assert pairs.image_ids[5:8] == ["train-5", "val-0", "val-1"] and pairs.image_ids[-3:] == ["139", "285", "632"]
    assert [item.row for item in pairs][5:9] == [5, 6, 11, 16]
    np.testing.assert_array_equal(vectors(reading), np.concatenate([train, dev, testall]))
    mixed = pairs.take([12, 0, 7, 6, 1])
    np.testing.assert_array_equal(
        mixed.images.read_features().vectors, np.stack([testall[2], train[0], dev[1], dev[0], train[1]])
    )
    assert any("left out, as features or captions are missing: lost_caps.txt" in line for line in reading.seen)
    for name, count in (("dev_ims.npy", 4), ("testall_caps.txt", 3), ("train_caps.txt", 6)):
        one = read_rows(tmp_path / name, strict=True).pairs
        assert one.items == tuple(
            Item(i.id, i.captions, i.split, metadata=i.metadata, row=i.row - pairs.split(str(i.split)).items[0].row)
            for i in pairs.split(str(one.items[0].split))
        )
        assert len(one) == count


def test_the_file_stays_on_disk(tmp_path: Path) -> None:
    write(tmp_path, "train", 4)
    write(tmp_path, "test", 4, repeated=True)
    for path, files in ((tmp_path / "train_ims.npy", 1), (tmp_path, 2)):
        features = read_rows(path).pairs.features
        values = features._fragments.values  # type: ignore[union-attr]
        parts = values.parts if isinstance(values, StackedRows) else (values,)
        assert len(parts) == files and all(isinstance(part.base, np.memmap) for part in parts)


def test_ids_that_two_splits_share_get_the_split_in_front(tmp_path: Path) -> None:
    write(tmp_path, "test", 2, ids=["139", "285"])
    write(tmp_path, "testall", 3, ids=["139", "285", "632"])
    reading = read_rows(tmp_path, strict=True)
    assert reading.pairs.image_ids == ["139", "285", "testall/139", "testall/285", "testall/632"]
    assert any("begin with testall/" in line for line in reading.seen)


def test_ids_that_only_count_are_no_names_and_a_mapping_names_them(tmp_path: Path) -> None:
    write(tmp_path, "train", 3, ids=[0, 1, 2])
    write(tmp_path, "test", 2, ids=[0, 1])
    assert read_rows(tmp_path, strict=True).pairs.image_ids == ["train-0", "train-1", "train-2", "test-0", "test-1"]
    (tmp_path / "id_mapping.json").write_text('{"0": "a.jpg", "1": "b.jpg", "2": "c.jpg"}')
    pairs = read_rows(tmp_path / "train_ims.npy", strict=True).pairs
    assert [(item.id, item.picture) for item in pairs] == [("a.jpg",) * 2, ("b.jpg",) * 2, ("c.jpg",) * 2]


@pytest.mark.parametrize("file", ["test_ids.txt", "test_caption_ids.txt"])
def test_ids_of_captions_are_kept_with_them(tmp_path: Path, file: str) -> None:
    write(tmp_path, "test", 2, captions=3, repeated=True)
    (tmp_path / file).write_text("".join(f"{700 + n}\n" for n in range(6)))
    text = (tmp_path / "test_caps.txt").read_text().replace("test image 0 caption 1", " ")
    (tmp_path / "test_caps.txt").write_text(text)
    pairs = read_rows(tmp_path).pairs
    assert [item.metadata["caption_ids"] for item in pairs] == [[700, 702], [703, 704, 705]]
    assert caption_rows(pairs)[0] == {700: 0, 702: 1, 703: 2, 704: 3, 705: 4}
    assert [(p.line, p.kind) for p in pairs.problems] == [(2, "empty caption")]


def test_images_with_as_many_captions_as_they_happen_to_have(tmp_path: Path) -> None:
    features = DRAW.normal(size=(3, 2, 2)).astype(np.float32)
    counts = [2, 1, 4]
    ids = "".join(f"{n}\n" * k for n, k in zip("abc", counts, strict=True))
    for rows in (features, features.repeat(counts, axis=0)):
        np.save(tmp_path / "test_ims.npy", rows)
        (tmp_path / "test_caps.txt").write_text("".join(f"c{n}\n" for n in range(7)))
        (tmp_path / "test_ids.txt").write_text(ids)
        reading = read_rows(tmp_path, strict=True)
        assert [(item.id, len(item.captions)) for item in reading.pairs] == [("a", 2), ("b", 1), ("c", 4)]
        np.testing.assert_array_equal(vectors(reading), features)


def test_rows_that_are_not_finite_and_lines_that_are_not_text_are_bad_rows(tmp_path: Path) -> None:
    write(tmp_path, "train", 4, captions=2)
    array = np.load(tmp_path / "train_ims.npy")
    array[2, 1, 1] = np.nan
    np.save(tmp_path / "train_ims.npy", array)
    lines = (tmp_path / "train_caps.txt").read_bytes().splitlines()
    lines[1], lines[6], lines[7] = b"\xff", b"", b"  "
    (tmp_path / "train_caps.txt").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\r\n\n\n")
    reading = read_rows(tmp_path)
    assert [(i.id, i.captions) for i in reading.pairs] == [
        ("train-0", ("train image 0 caption 0",)),
        ("train-1", ("train image 1 caption 0", "train image 1 caption 1")),
    ]
    assert [(p.line, p.kind) for p in reading.pairs.problems] == [
        (2, "caption is not text"),
        (5, "bad features"),
        (7, "empty caption"),
        (7, "no captions"),
        (8, "empty caption"),
    ]


def remove(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def put(name: str, data: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(data)


def save(name: str, array: Any) -> Any:
    return lambda folder: np.save(folder / name, array, allow_pickle=True)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (remove("train_ims.npy"), "found no <split>_ims.npy with <split>_caps.txt beside"),
        (put("train_ims.npy", b""), "not a NumPy file"),
        (put("train_ims.npy", b"\x93NUMPY\x01\x00"), "damaged or cut short"),
        (put("train_caps.txt", b""), "4 rows and .* 0 captions"),
        (put("train_caps.txt", b"x\n" * 21), "4 rows and .* 21 captions, expected as many captions as rows"),
        (put("train_caps.txt", b"x\n" * 3), "4 rows and .* 3 captions"),
        (put("train_ids.txt", b"x\n" * 7), "has 7 lines, but there are 4 images with 20 captions"),
        (put("train_ids.txt", b"\xff\n"), "train_ids.txt':1: not UTF-8"),
        (put("train_caption_ids.txt", b"1\n"), "has 1 lines, expected one for each of the 20 captions"),
        (save("train_ims.npy", np.zeros(4)), r"shape \(4,\), expected"),
        (save("train_ims.npy", np.zeros((4, 2), np.int64)), "type int64, expected float16"),
        (save("train_ims.npy", np.zeros((0, 3, 4), np.float32)), "0 rows"),
        (save("train_ims.npy", np.array([[{}]] * 4)), "Python objects"),
        (put("id_mapping.json", b"{"), "id_mapping.json.*is not JSON"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, spoil: Any, reason: str) -> None:
    write(tmp_path, "train", 4, ids=["p", "q", "r", "s"])
    spoil(tmp_path)
    with pytest.raises(DataError, match=reason) as caught:
        read_rows(tmp_path, format="precomp")
    assert "\n" not in str(caught.value)


def test_rows_that_are_all_the_same_need_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "test_ims.npy", np.zeros((200, 3), np.float32))
    (tmp_path / "test_caps.txt").write_text("x\n" * 200)
    with pytest.raises(DataError, match=r"first 100 rows of .* are all the same.*give test_ids.txt"):
        read_rows(tmp_path)
    (tmp_path / "test_ids.txt").write_text("".join(f"{n // 5}.jpg\n" for n in range(200)))
    assert len(read_rows(tmp_path).pairs) == 40


def test_splits_of_other_widths_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", 4)
    write(tmp_path, "test", 4, shape=(3, 5))
    with pytest.raises(DataError, match=r"test_ims.npy' has shape \(4, 3, 5\) and .*train_ims.npy' \(4, 3, 4\)"):
        read_rows(tmp_path)


def test_only_folders_and_files_with_both_halves_are_known(tmp_path: Path) -> None:
    write(tmp_path, "train", 2)
    np.save(tmp_path / "other.npy", np.zeros((2, 2)))
    with pytest.raises(DataError, match="of no known format"):
        read_rows(tmp_path / "other.npy")


@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    rows=st.lists(st.integers(0, 15), max_size=8),
    wide=st.booleans(),
)
def test_rows_of_several_arrays_are_those_of_the_arrays_put_together(
    lengths: list[int], rows: list[int], wide: bool
) -> None:
    parts = [DRAW.normal(size=(n, 2, 8200 if wide else 3)).astype(np.float16) for n in lengths]
    whole = np.concatenate(parts)
    rows = [row for row in rows if row < len(whole)]
    for order in (rows, sorted(set(rows)), list(range(len(whole)))):
        wanted = np.array(order, np.int64)
        for values in (StackedRows(parts), whole):
            got = gathered(values, wanted)
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, whole[wanted].astype(np.float32))


def test_stacked_files_from_python(tmp_path: Path) -> None:
    paths = (tmp_path / "a.npy", tmp_path / "b.npy")
    np.save(paths[0], np.ones((2, 3), np.float16))
    np.save(paths[1], np.full((1, 3), 2, np.uint8))
    items = [Item(str(n), ("x",), row=n) for n in range(3)]
    files = open_features(Stacked(paths), items=items)
    np.testing.assert_array_equal(
        Pairs(items, features=files).images.read_features().pooled, [[1] * 3, [1] * 3, [2] * 3]
    )
    assert open_features(pooled=Stacked(paths), items=items).sizes() == {"pooled_width": 3}
    with pytest.raises(DataError, match=r"a.npy \+ .*b.npy' has 3 rows, but the pairs have 4 lines"):
        open_features(Stacked(paths), items=items, rows=4)
    np.savez(tmp_path / "c.npz", pooled=np.zeros((1, 3)))
    with pytest.raises(DataError, match=r"is an \.npz, expected an \.npy"):
        open_features(Stacked((*paths, tmp_path / "c.npz")), items=items)
