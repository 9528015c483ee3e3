"""Reading pairs: what is a row, what is a bad row, and where pictures are looked for."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manymatch.data.pairs import Pairs
from manymatch.data.sources import read_pairs
from manymatch.errors import DataError, UnknownName

GOOD = {"image": "a.jpg", "captions": ["a dog", "a brown dog"]}


def write(folder: Path, *rows: object, name: str = "pairs.jsonl") -> Path:
    """Rows that are bytes are written as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path = folder / name
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def picture(path: Path, colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), colour).save(path)


def found(pairs: Pairs) -> list[tuple[int | None, str]]:
    return [(problem.line, problem.kind) for problem in pairs.problems]


def test_every_field_of_a_row_finds_its_place(tmp_path: Path) -> None:
    row = {
        "image": "x/a.jpg",
        "id": "photo 1",
        "captions": ["a dog"],
        "split": "val",
        "labels": ["dog", 3],
        "captions_zh": ["狗"],
        "size": [3, 4],
    }
    (item,) = read_pairs(write(tmp_path, row)).items
    assert (item.id, item.captions, item.split, item.labels) == ("photo 1", ("a dog",), "val", ("dog", "3"))
    assert item.metadata == {"captions_zh": ["狗"], "size": [3, 4]}
    assert (item.picture, item.row) == ("x/a.jpg", 0)


def test_the_image_name_is_the_id_and_the_rest_may_be_absent(tmp_path: Path) -> None:
    (item,) = read_pairs(write(tmp_path, GOOD)).items
    assert (item.id, item.split, item.labels, dict(item.metadata)) == ("a.jpg", None, (), {})


def test_rows_count_bad_lines_but_not_blank_ones_and_lines_count_all(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, b"", b"{half", b"   ", GOOD | {"image": "b.jpg"})
    pairs = read_pairs(path)
    assert [item.row for item in pairs] == [0, 2]
    assert found(pairs) == [(3, "not JSON")]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (b'{"image": "b.jpg", "captions": ["a d', "not JSON"),
        (b'{"image": "b.jpg", "captions": ["x"], "n": NaN}', "not JSON"),
        (b'{"image": "b.jpg", "captions": ["x"], "n": 1e999}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"image": "b.jpg", "n": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'["b.jpg"]', "not an object"),
        (b'{"image": "\xff.jpg", "captions": ["x"]}', "not UTF-8"),
        ({"image": "b.jpg"}, "no captions"),
        ({"image": "b.jpg", "captions": []}, "no captions"),
        ({"image": "b.jpg", "captions": 3}, "no captions"),
        ({"captions": ["x"]}, "no image"),
        ({"image": ["b.jpg"], "captions": ["x"]}, "bad image"),
        ({"image": "b.jpg", "id": {}, "captions": ["x"]}, "bad id"),
        ({"image": "b.jpg", "split": ["val"], "captions": ["x"]}, "bad split"),
        ({"image": "b.jpg", "labels": [["dog"]], "captions": ["x"]}, "bad labels"),
        ({"image": "b.jpg", "captions": ["x"], "note": "\ud800"}, "bad metadata"),
        ({"image": "\ud800.jpg", "captions": ["x"]}, "bad image"),
        ({"image": "../b.jpg", "captions": ["x"]}, "outside the folder"),
        ({"image": "x/../../b.jpg", "captions": ["x"]}, "outside the folder"),
        ({"image": "/b.jpg", "captions": ["x"]}, "outside the folder"),
        ({"image": "..\\b.jpg", "captions": ["x"]}, "outside the folder"),
        ({"image": "C:\\b.jpg", "captions": ["x"]}, "outside the folder"),
        ({"image": "b\0.jpg", "captions": ["x"]}, "outside the folder"),
        (GOOD, "repeated id"),
    ],
)
def test_a_bad_row_is_skipped_and_listed_and_strict_raises(tmp_path: Path, row: object, kind: str) -> None:
    path = write(tmp_path, GOOD, row, GOOD | {"image": "c.jpg"})
    pairs = read_pairs(path)
    assert [(item.id, item.row) for item in pairs] == [("a.jpg", 0), ("c.jpg", 2)]
    assert found(pairs) == [(2, kind)]
    assert pairs.problems[0].file == str(path)
    with pytest.raises(DataError, match=f"pairs.jsonl:2: {kind}"):
        read_pairs(path, strict=True)


def test_a_bad_caption_goes_and_its_image_stays_while_one_is_left(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"image": "a.jpg", "captions": [7, "a dog", "", "  ", None, "\ud800"]},
        {"image": "b.jpg", "captions": [None, ""]},
    )
    pairs = read_pairs(path)
    assert [item.captions for item in pairs] == [("a dog",)]
    text, empty = "caption is not text", "empty caption"
    assert found(pairs) == [
        (1, text), (1, empty), (1, empty), (1, text), (1, text), (2, text), (2, empty), (2, "no captions")
    ]  # fmt: skip


def test_a_caption_keeps_its_number_when_one_before_it_goes(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    truth.write_text('{"query": "b.jpg", "matches": ["a.jpg#2", "a.jpg#1"]}\n')
    a = {"image": "a.jpg", "captions": ["one", " ", "three", 4, "five"]}
    pairs = read_pairs(write(tmp_path, a, GOOD | {"image": "b.jpg", "captions": ["x"]}), truth=truth)
    assert pairs.items[0].captions == ("one", "three", "five") and pairs.items[0].numbers == (0, 2, 4)
    assert pairs.caption_ids == ["a.jpg#0", "a.jpg#2", "a.jpg#4", "b.jpg#0"]
    # Caption 2 is the third of the line; caption 1 is not there any more.
    found = pairs.exhaustive()
    assert found is not None
    assert np.argwhere(found.dense()).tolist() == [[1, 1]]
    table = tmp_path / "pairs.csv"
    table.write_text("image,caption\na.jpg,one\na.jpg,\nb.jpg,x\na.jpg,three\n")
    assert read_pairs(table).caption_ids == ["a.jpg#0", "a.jpg#2", "b.jpg#0"]
    assert [item.numbers for item in read_pairs(table, fields={"captions": "image"})] == [(), ()]
    tokens = tmp_path / "x.token.txt"
    tokens.write_text("a.jpg#0\tone\na.jpg#1\t \na.jpg#2\tthree\nb.jpg#0\tx\n")
    assert read_pairs(tokens, format="tokens").caption_ids == ["a.jpg#0", "a.jpg#2", "b.jpg#0"]
    coco = tmp_path / "captions_val.json"
    told = [{"image_id": 1, "id": 7 + n, "caption": text} for n, text in enumerate(["one", "", "three"])]
    coco.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": told}))
    assert read_pairs(coco).caption_ids == ["1#0", "1#2"]


def test_the_first_of_a_repeated_id_stays(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path, GOOD, {"image": "b.jpg", "id": "a.jpg", "captions": ["other"]}))
    assert pairs.captions == ["a dog", "a brown dog"]
    assert "line 1" in pairs.problems[0].detail


def test_null_says_that_an_image_has_no_captions(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path, GOOD, {"image": "b.jpg", "captions": None}))
    assert [item.captions for item in pairs] == [("a dog", "a brown dog"), ()]
    assert (pairs.problems, pairs.captioned().image_ids) == ((), ["a.jpg"])
    with pytest.raises(DataError, match="none of the 1 images has a caption"):
        read_pairs(write(tmp_path, {"image": "b.jpg", "captions": None})).captioned()


def test_usual_names_of_others_are_taken_where_ours_are_not_there(tmp_path: Path) -> None:
    (item,) = read_pairs(write(tmp_path, {"file_name": "a.jpg", "text": "a dog", "caption": "a cat"})).items
    assert (item.id, item.captions, item.metadata) == ("a.jpg", ("a cat",), {"text": "a dog"})
    (item,) = read_pairs(write(tmp_path, {"id": "1", "file_name": "a.jpg", "captions": "x", "text": "y"})).items
    assert (item.picture, item.captions, item.metadata) == (None, ("x",), {"file_name": "a.jpg", "text": "y"})


def test_fields_are_mapped_and_a_mapped_caption_may_be_one_text(tmp_path: Path) -> None:
    path = write(tmp_path, {"image": "a.jpg", "sentence": "a dog", "captions": ["not these"], "class_split": "val"})
    (item,) = read_pairs(path, fields={"captions": "sentence", "split": "class_split"}).items
    assert (item.captions, item.split) == (("a dog",), "val")
    assert item.metadata == {"captions": ["not these"]}


def test_a_mapped_field_no_line_has_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, {"image": "a.jpg", "sentence": "a dog"})
    with pytest.raises(UnknownName, match=r"'sentense'.*did you mean 'sentence'"):
        read_pairs(path, fields={"captions": "sentense"})
    with pytest.raises(UnknownName, match="field 'caption': did you mean 'captions'"):
        read_pairs(path, fields={"caption": "sentence"})


def test_byte_order_mark_carriage_returns_and_gzip_are_fine(tmp_path: Path) -> None:
    text = "\ufeff" + "\r\n".join(json.dumps(GOOD | {"image": f"{n}.jpg"}) for n in range(3))
    for name, data in {"a.jsonl": text.encode(), "a.jsonl.gz": gzip.compress(text.encode())}.items():
        (tmp_path / name).write_bytes(data)
        pairs = read_pairs(tmp_path / name)
        assert pairs.image_ids == ["0.jpg", "1.jpg", "2.jpg"]
        assert found(pairs) == []


def test_a_gzip_that_breaks_off_keeps_its_whole_lines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{"image": f"{n}.jpg", "captions": [rng.bytes(200).hex()]} for n in range(200)]
    whole = write(tmp_path, *rows).read_bytes()
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(whole)[:30_000])
    pairs = read_pairs(path)
    assert 0 < len(pairs) < 200
    assert pairs.problems[-1].kind == "damaged file"


def test_a_line_without_end_is_one_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manymatch.data.files.LONGEST_LINE", 100)
    path = write(tmp_path, GOOD, {"image": "b.jpg", "captions": ["x" * 1000]}, GOOD | {"image": "c.jpg"})
    pairs = read_pairs(path)
    assert [item.row for item in pairs] == [0, 2]
    assert found(pairs) == [(2, "line too long")]


def test_no_such_file_names_the_near_ones(tmp_path: Path) -> None:
    write(tmp_path, GOOD, name="captions.jsonl")
    with pytest.raises(DataError, match=r"no such file '.*caption.jsonl'.*'captions.jsonl'"):
        read_pairs(tmp_path / "caption.jsonl")
    with pytest.raises(DataError, match="no folder"):
        read_pairs(tmp_path / "nowhere" / "captions.jsonl")


def test_a_folder_or_a_pipe_is_no_pairs_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder, and of no known format; .*, and is empty; .*jsonl: JSON Lines"):
        read_pairs(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="a pipe or a device"):
        read_pairs(tmp_path / "pipe")


def test_nothing_left_is_an_error_that_shows_the_first_problem(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 2 lines of '.*' is usable; first of 2 problems: .*:1: not JSON"):
        read_pairs(write(tmp_path, b"{", b"["))
    with pytest.raises(DataError, match="holds no lines"):
        read_pairs(write(tmp_path))


def test_a_file_of_nothing_but_bad_rows_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manymatch.data.rows._MOST", 50)
    with pytest.raises(DataError, match=r"51 problems and 0 usable images so far, expected JSON Lines.*:1: not JSON"):
        read_pairs(write(tmp_path, *[b"{"] * 1000))
    good = [GOOD | {"image": f"{n}.jpg"} for n in range(20)]
    assert len(read_pairs(write(tmp_path, *good, *[b"{"] * 200)).problems) == 200


def test_pictures_are_found_beside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert read_pairs(path).pictures is None
    picture(tmp_path / "a.jpg")
    assert read_pairs(path).images[0].size == (8, 6)
    picture(tmp_path / "images" / "a.jpg", "blue")
    assert read_pairs(path).images[0].getpixel((0, 0)) != (254, 0, 0)
    assert read_pairs(path).pictures.describe()["path"] == os.path.realpath(tmp_path / "images")


def test_one_missing_picture_does_not_hide_the_folder(tmp_path: Path) -> None:
    picture(tmp_path / "b.jpg")
    pairs = read_pairs(write(tmp_path, GOOD, GOOD | {"image": "b.jpg"}))
    assert pairs.image_ids == ["b.jpg"]
    assert found(pairs) == [(1, "missing picture")]


def test_a_missing_picture_is_a_bad_row_and_rows_stay_aligned(tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "b.jpg")
    path = write(tmp_path, GOOD, {"id": "only words", "captions": ["x"]}, GOOD | {"image": "b.jpg"})
    pairs = read_pairs(path, images=tmp_path / "pictures")
    assert [(item.id, item.row) for item in pairs] == [("b.jpg", 2)]
    assert found(pairs) == [(1, "missing picture"), (2, "missing picture")]
    with pytest.raises(DataError, match=r":1: missing picture: picture 'a.jpg'"):
        read_pairs(path, images=tmp_path / "pictures", strict=True)


def test_a_link_out_of_the_folder_is_a_bad_row_and_one_inside_is_fine(tmp_path: Path) -> None:
    picture(tmp_path / "secret.jpg")
    picture(tmp_path / "images" / "real.jpg")
    (tmp_path / "images" / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    (tmp_path / "images" / "in.jpg").symlink_to("real.jpg")
    (tmp_path / "images" / "loop.jpg").symlink_to("loop.jpg")
    names = ("out.jpg", "up/secret.jpg", "in.jpg", "loop.jpg")
    pairs = read_pairs(write(tmp_path, *(GOOD | {"image": name} for name in names)))
    assert pairs.image_ids == ["in.jpg"]
    outside = "outside the folder"
    assert found(pairs) == [(1, outside), (2, outside), (4, "missing picture")]


def test_features_with_too_few_rows_name_both_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, b"{half", GOOD | {"image": "c.jpg"})
    for rows in (2, 4):
        np.save(tmp_path / "f.npy", np.zeros((rows, 2, 3), np.float32))
        with pytest.raises(DataError, match=f"has {rows} rows, but the pairs have 3 lines"):
            read_pairs(path, features=tmp_path / "f.npy")


def test_features_follow_the_row_past_a_bad_line_and_nan_drops_the_item(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, b"{half", GOOD | {"image": "c.jpg"}, GOOD | {"image": "d.jpg"})
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    values[1] = np.inf  # the bad line's own row: nobody reads it
    values[3, 1] = np.nan
    np.save(tmp_path / "p.npy", values)
    pairs = read_pairs(path, pooled=tmp_path / "p.npy")
    assert found(pairs) == [(2, "not JSON"), (4, "bad features")]
    np.testing.assert_array_equal(pairs.images.read_features().pooled, [[0, 1], [4, 5]])
    with pytest.raises(DataError, match=r":4: bad features: 'd.jpg': row 3 of .* holds NaN"):
        read_pairs(write(tmp_path, GOOD, GOOD | {"image": "b"}, GOOD | {"image": "c"}, GOOD | {"image": "d.jpg"}),
                   pooled=write_finite(tmp_path, values), strict=True)  # fmt: skip


def write_finite(folder: Path, values: np.ndarray) -> Path:
    values = values.copy()
    values[1] = 0
    np.save(folder / "q.npy", values)
    return folder / "q.npy"


def test_pairs_read_is_this_reader(tmp_path: Path) -> None:
    pairs = Pairs.read(write(tmp_path, GOOD), fields={"id": "image"})
    assert pairs.name == f"{tmp_path.name}/pairs"
    assert pairs.caption_ids == ["a.jpg#0", "a.jpg#1"]


@settings(max_examples=100, deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(["image", "captions", "id", "split", "labels", "x"]), inner, max_size=6
                    )
                ),
                max_leaves=12,
            ).map(lambda value: json.dumps(value).encode()),
        ),
        max_size=6,
    )
)
def test_any_bytes_give_pairs_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"\n".join(lines))
    try:
        pairs = read_pairs(path)
    except DataError:
        return
    assert len(pairs) > 0
    assert all(all(item.captions) for item in pairs)
    assert len({item.row for item in pairs}) == len(pairs)
    json.dumps([item.metadata for item in pairs], ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.skipif("MANYMATCH_REFERENCE" not in os.environ, reason="MANYMATCH_REFERENCE (real photographs) is not set")
def test_flickr8k_is_read_whole() -> None:
    folder = Path(os.environ["MANYMATCH_REFERENCE"]) / "data" / "flickr8k"
    pairs = read_pairs(
        folder / "captions.jsonl",
        images=folder / "images_160.tar",
        features=folder / "mobilenetv2_regions9_pca256_i8.npz",
        pooled=folder / "mobilenetv2_pool_u8.npy",
    )
    assert (len(pairs), len(pairs.captions), pairs.problems) == (8091, 40455, ())
    assert pairs.splits == {"train": 6000, "val": 1000, "test": 1000, "extra": 91}
    assert pairs.images[0].size == (160, 160)
    some = pairs.split("test").images[:3].read_features()
    stored = np.load(folder / "mobilenetv2_regions9_pca256_i8.npz")
    rows = [item.row for item in pairs.split("test").items[:3]]
    np.testing.assert_array_equal(some.vectors, stored["q"][rows] * stored["scale"])
    np.testing.assert_array_equal(some.pooled, np.load(folder / "mobilenetv2_pool_u8.npy")[rows])
