"""CSV and TSV: what is a row, which rows are one image, and that a bad row costs itself alone."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manymatch.data.formats import known
from manymatch.data.pairs import Pairs
from manymatch.data.sources import read_pairs, read_rows
from manymatch.errors import DataError, UnknownName


def write(folder: Path, text: str | bytes, name: str = "pairs.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def found(pairs: Pairs) -> list[tuple[int | None, str]]:
    return [(problem.line, problem.kind) for problem in pairs.problems]


def captions(pairs: Pairs) -> dict[str, tuple[str, ...]]:
    return {item.id: item.captions for item in pairs}


def test_rows_of_one_image_are_one_item_wherever_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path, "image,caption,split,year\na.jpg,one,train,7\nb.jpg,two,val,8\na.jpg,three,train,7\n")
    a, b = read_pairs(path).items
    assert (a.id, a.captions, a.split, a.metadata, a.row) == ("a.jpg", ("one", "three"), "train", {"year": 7}, 0)
    assert (b.id, b.captions, b.split, b.metadata, b.row) == ("b.jpg", ("two",), "val", {"year": 8}, 1)


def test_what_differs_within_an_image_becomes_a_list(tmp_path: Path) -> None:
    path = write(tmp_path, "image,caption,n,who\na.jpg,x,0,al\na.jpg,y,1,al\na.jpg,z,2,\nb.jpg,w,0,bo\n")
    a, b = read_pairs(path).items
    assert a.metadata == {"n": [0, 1, 2], "who": ["al", "al", None]}
    assert b.metadata == {"n": 0, "who": "bo"}


def test_what_only_some_rows_of_an_image_say_has_a_place_for_each(tmp_path: Path) -> None:
    path = write(tmp_path, "image,caption,n,id\na.jpg,x,,\na.jpg,y,1,7\na.jpg,z,,\na.jpg,w,3,8\n")
    (a,) = read_pairs(path).items
    assert a.captions == ("x", "y", "z", "w")
    assert a.metadata == {"n": [None, 1, None, 3], "caption_id": [None, 7, None, 8]}


def test_bad_rows_before_the_images_are_given_do_not_refuse_a_good_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manymatch.data.rows._MOST", 50)
    good, bad = "".join(f"{n}.jpg,x\n" for n in range(20)), "half\n" * 60
    pairs = read_pairs(write(tmp_path, f"image,caption\n{good}{bad}"))
    assert len(pairs) == 20 and len(pairs.problems) == 60
    with pytest.raises(DataError, match="51 problems and 0 usable images so far"):
        read_pairs(write(tmp_path, f"image,caption\n{bad}{good}"))
    with pytest.raises(DataError, match="201 problems and 0 usable images so far"):
        read_pairs(write(tmp_path, f"image,caption\n{good}{bad * 10}"))


def test_an_id_that_differs_within_an_image_is_one_of_captions(tmp_path: Path) -> None:
    path = write(tmp_path, "id,image,caption\n1,a.jpg,x\n2,a.jpg,y\n3,b.jpg,z\n")
    a, b = read_pairs(path).items
    assert (a.id, a.metadata, b.id, b.metadata) == (
        "a.jpg",
        {"caption_id": [1, 2]},
        "b.jpg",
        {"caption_id": [3]},
    )
    path = write(tmp_path, "id,image,caption\n1,a.jpg,x\n1,a.jpg,y\n2,b.jpg,z\n")
    assert captions(read_pairs(path)) == {"1": ("x", "y"), "2": ("z",)}


def test_one_image_in_two_splits_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "image,caption,split\na.jpg,x,train\na.jpg,y,test\na.jpg,z,\n")
    pairs = read_pairs(path)
    assert [(item.captions, item.split) for item in pairs] == [(("x", "z"), "train")]
    assert found(pairs) == [(3, "another split")]
    with pytest.raises(DataError, match=r"pairs\.csv:3: another split: 'test', expected 'train'"):
        read_pairs(path, strict=True)


def test_labels_are_one_unless_the_cell_is_a_list(tmp_path: Path) -> None:
    rows = [
        "a.jpg,x,cat|dog",
        'b.jpg,x,"[""cat"", ""dog""]"',
        "c.jpg,x,",
        "d.jpg,x,cat",
        "d.jpg,y,dog",
        "e.jpg,x,[cat]",
    ]
    pairs = read_pairs(write(tmp_path, "\n".join(["image,caption,labels", *rows])))
    assert [item.labels for item in pairs] == [("cat|dog",), ("cat", "dog"), (), ("cat", "dog"), ("[cat]",)]


def test_a_caption_cell_may_be_a_list(tmp_path: Path) -> None:
    path = write(tmp_path, 'image,captions\na.jpg,"[""x"", ""y""]"\nb.jpg,[sic]\n')
    assert captions(read_pairs(path)) == {"a.jpg": ("x", "y"), "b.jpg": ("[sic]",)}


def test_numbers_of_metadata_are_numbers_and_ids_stay_text(tmp_path: Path) -> None:
    path = write(tmp_path, f"id,caption,a,b,c,d,e\n007,12,007,1.50,-2e3,{'9' * 30},nan\n")
    (item,) = read_pairs(path).items
    assert (item.id, item.captions) == ("007", ("12",))
    assert item.metadata == {"a": "007", "b": 1.5, "c": -2000.0, "d": "9" * 30, "e": "nan"}


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        ("b.jpg\nc.jpg,z\n", [(3, "half a row")]),
        ("b.jpg,y,more\nc.jpg,z\n", [(3, "row too long")]),
        (",y\nc.jpg,z\n", [(3, "no image")]),
        ("b.jpg,\nc.jpg,z\n", [(3, "empty caption"), (3, "no captions")]),
        ("../b.jpg,y\nc.jpg,z\n", [(3, "outside the folder")]),
        ('b.jpg,"never closed\nc.jpg,z\n', [(3, "not a row")]),
        ('b.jpg,"closed"early\nc.jpg,z\n', [(3, "not a row")]),
        ("b.jpg,y\rb2.jpg,y\nc.jpg,z\n", [(3, "not a row")]),
        ("a.jpg,\nc.jpg,z\n", [(3, "empty caption")]),
    ],
)
def test_a_bad_row_costs_itself_alone(tmp_path: Path, rows: str, problems: list[tuple[int, str]]) -> None:
    path = write(tmp_path, f"image,caption\na.jpg,x\n{rows}")
    pairs = read_pairs(path)
    assert captions(pairs) == {"a.jpg": ("x",), "c.jpg": ("z",)}
    assert found(pairs) == problems
    with pytest.raises(DataError, match=rf"pairs\.csv:3: {problems[0][1]}"):
        read_pairs(path, strict=True)


def test_lines_of_another_encoding_are_bad_rows_with_their_line(tmp_path: Path) -> None:
    path = write(tmp_path, "image,caption\na.jpg,ein Hünd\nb.jpg,".encode() + "zwei Hünde\nc.jpg,x\n".encode("latin-1"))
    pairs = read_pairs(path)
    assert captions(pairs) == {"a.jpg": ("ein Hünd",), "c.jpg": ("x",)}
    assert found(pairs) == [(3, "not UTF-8")]
    assert "byte 13 of the line" in pairs.problems[0].detail


def test_sixteen_bit_text_is_refused_in_words(tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-16-le"):
        with pytest.raises(DataError, match="UTF-16 or no text, expected a table in UTF-8"):
            read_pairs(write(tmp_path, "image,caption\na.jpg,x\n".encode(encoding)))


def test_byte_order_mark_carriage_returns_blank_lines_and_quoted_newlines(tmp_path: Path) -> None:
    text = '\ufeff\r\nimage,caption\r\n\r\na.jpg,"one\r\n\r\ntwo ""quoted"", three"\r\n  \r\nb.jpg,"x"'
    for name, data in {"p.csv": text.encode(), "p.csv.gz": gzip.compress(text.encode())}.items():
        reading = read_rows(write(tmp_path, data, name))
        assert captions(reading.pairs) == {"a.jpg": ('one\r\n\r\ntwo "quoted", three',), "b.jpg": ("x",)}
        assert reading.lines == {"a.jpg": 4, "b.jpg": 8}


def test_a_gzip_that_breaks_off_keeps_its_whole_rows(tmp_path: Path) -> None:
    rows = "".join(f"{n}.jpg,{hash((n, 'x'))} {n}\n" for n in range(5000))
    pairs = read_pairs(write(tmp_path, gzip.compress(f"image,caption\n{rows}".encode())[:20_000], "p.csv.gz"))
    assert 100 < len(pairs) < 5000
    assert "damaged file" in [problem.kind for problem in pairs.problems]


@pytest.mark.parametrize(("delimiter", "word"), [(",", "commas"), ("\t", "tabs"), (";", "semicolons"), ("|", "bars")])
def test_the_delimiter_is_seen_in_the_header(tmp_path: Path, delimiter: str, word: str) -> None:
    row = delimiter.join(("a.jpg", "0", "one of, many; things | here" if delimiter == "\t" else "a dog"))
    path = write(tmp_path, f"{delimiter.join(('image_name', ' number', ' comment'))}\n{row}\n")
    reading = read_rows(path)
    assert f"separated by {word}" in reading.seen
    (item,) = reading.pairs.items
    assert (item.id, item.metadata) == ("a.jpg", {"number": 0})


def test_what_a_column_is_taken_for_is_said_and_can_be_said(tmp_path: Path) -> None:
    path = write(tmp_path, "Filename,text,title\na.jpg,x,y\n")
    reading = read_rows(path)
    assert captions(reading.pairs) == {"a.jpg": ("x",)}
    assert "'Filename' is taken for image; --field image=NAME takes another" in reading.seen
    assert "'text' is taken for captions; --field captions=NAME takes another" in reading.seen
    assert captions(read_pairs(path, fields={"captions": "title"})) == {"a.jpg": ("y",)}
    with pytest.raises(UnknownName, match="did you mean 'title'"):
        read_pairs(path, fields={"captions": "titel"})
    with pytest.raises(DataError, match="no 'captions', found the fields 'image', 'beschreibung'"):
        read_pairs(write(tmp_path, "image,beschreibung\na.jpg,x\n"))


def test_headers_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no lines, expected a header"):
        read_pairs(write(tmp_path, "\n\n"))
    with pytest.raises(DataError, match="holds no rows, expected CSV or TSV"):
        read_pairs(write(tmp_path, "image,caption\n"))
    with pytest.raises(DataError, match=r":1: the column 'caption' is there twice"):
        read_pairs(write(tmp_path, "image,caption,caption\n"))
    with pytest.raises(DataError, match=r":1: not UTF-8: .*expected a header"):
        read_pairs(write(tmp_path, b"im\xffge,caption\n"))
    reading = read_rows(write(tmp_path, ",image,caption\n0,a.jpg,x\n"))
    assert "1 columns without a name are left out" in reading.seen
    assert reading.pairs.items[0].metadata == {}


def test_a_cell_and_a_line_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, f'image,caption\na.jpg,"{"x" * 200_000}"\nb.jpg,y\n')
    assert found(read_pairs(path)) == [(2, "not a row")]
    path = write(tmp_path, f"image,caption\na.jpg,{'x' * 2**21}\nb.jpg,y\n")
    assert found(read_pairs(path)) == [(2, "line too long")]


def test_a_text_file_is_a_table_when_its_header_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "filename;caption;split\na.jpg;x;train\n", "captions.txt")
    assert known(path)[0].name == "table"
    with pytest.raises(DataError, match="of no known format"):
        known(write(tmp_path, "some words, and others\n", "notes.txt"))


def test_features_go_by_the_rows_of_the_table(tmp_path: Path) -> None:
    import numpy as np

    path = write(tmp_path, "image,caption\na.jpg,x\na.jpg,y\nb.jpg\nc.jpg,z\n")
    np.save(tmp_path / "p.npy", np.arange(8, dtype=np.float32).reshape(4, 2))
    pairs = read_pairs(path, pooled=tmp_path / "p.npy")
    np.testing.assert_array_equal(pairs.images.read_features().pooled, [[0, 1], [6, 7]])


def test_features_with_one_row_an_image_are_refused_with_the_way_out(tmp_path: Path) -> None:
    import numpy as np

    path = write(tmp_path, "image,caption\na.jpg,x\na.jpg,y\nb.jpg,z\n")
    np.save(tmp_path / "p.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(DataError, match=r"has 2 rows, .* have 3 lines.*as many as there are images.*convert"):
        read_pairs(path, pooled=tmp_path / "p.npy")
    np.save(tmp_path / "p.npy", np.zeros((4, 2), np.float32))
    with pytest.raises(DataError, match=r"has 4 rows, but the pairs have 3 lines.*`ids`\)$"):
        read_pairs(path, pooled=tmp_path / "p.npy")


@given(
    rows=st.lists(
        st.tuples(
            st.text("ab./\\ ", min_size=1, max_size=4),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        ),
        max_size=6,
    ),
    delimiter=st.sampled_from(",;|\t"),
)
def test_what_python_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(["id", "caption"])
    writer.writerows(rows)
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(file.getvalue().encode())
    wanted: dict[str, list[str]] = {}
    for name, text in rows:
        if name.strip() and text.strip() and not text.strip().startswith("["):
            wanted.setdefault(name.strip(), []).append(text.strip())
    try:
        got = {item.id: list(item.captions) for item in read_pairs(path)}
    except DataError:
        got = {}
    if not any(text.strip().startswith("[") for _, text in rows):
        assert got == wanted


@given(data=st.binary(max_size=200))
def test_any_bytes_give_pairs_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(b"image,caption,x\n" + data)
    try:
        pairs = read_pairs(path)
    except DataError:
        return
    assert all(item.captions and all(item.captions) for item in pairs)
    json.dumps([item.metadata for item in pairs], ensure_ascii=False, allow_nan=False).encode()
