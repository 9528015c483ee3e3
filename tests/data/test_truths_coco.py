"""ECCV Caption's and CxC's annotations: what they say of some pairs, and what is said of bad ones."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from manymatch.data.coco_ids import caption_rows, coco_id, image_rows
from manymatch.data.matches import Matches
from manymatch.data.pairs import Item, Pairs
from manymatch.data.truths import open_truths
from manymatch.data.truths.coco import Answers, EccvFiles
from manymatch.data.truths.cxc import CxcFiles
from manymatch.errors import DataError


def image(name: str, *captions: int | str) -> Item:
    return Item(name, tuple(f"text {c}" for c in captions), metadata={"caption_ids": list(captions)})


PAIRS = Pairs([image("COCO_val2014_000000000011.jpg", 1, 2), image("12", 3, "4"), image("13", 5)], name="three")


def save(path: Path, content: object) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def table(path: Path, head: str, *rows: str) -> Path:
    return save(path, "\n".join([head + ",agg_score,sampling_method", *(f"{row},x" for row in rows)]) + "\n")


def sts(folder: Path, *rows: str) -> Path:
    return table(folder / "sts_test.csv", "caption1,caption2", *rows)


def sis(folder: Path, *rows: str) -> Path:
    return table(folder / "sis_test.csv.gz", "image1,image2", *rows)


def sits(folder: Path, *rows: str) -> Path:
    return table(folder / "sits_test.csv", "caption,image", *rows)


def of(matches: Matches | None) -> set[tuple[int, int]]:
    assert matches is not None
    return set(zip(matches.images.tolist(), matches.captions.tolist(), strict=True))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (391895, 391895),
        ("391895", 391895),
        ("COCO_val2014_000000391895.jpg", 391895),
        ("val2014/000000391895.jpg", 391895),
        ("COCO_val2014:sentid:391895", 391895),
        ("0", 0),
        ("i12", None),
        ("1000268201_693b08cb0e.jpg", None),
        ("12#0", None),
        ("", None),
        (True, None),
        (-1, None),
        (1.0, None),
        (None, None),
    ],
)
def test_ids(value: object, number: int | None) -> None:
    assert coco_id(value) == number


def test_rows_of_ids() -> None:
    assert image_rows(PAIRS) == {11: 0, 12: 1, 13: 2}
    assert caption_rows(PAIRS) == ({1: 0, 2: 1, 3: 2, 4: 3, 5: 4}, [])


def test_ids_that_do_not_fit_the_captions_are_no_ids() -> None:
    cut = Item("12", ("left",), metadata={"caption_ids": [3, 4]})
    found, notes = caption_rows(Pairs([image("11", 1, 2), cut, image("13", 5), Item("14", ("x",))]))
    assert found == {1: 0, 2: 1, 5: 3}
    assert notes == [
        "1 of 4 images have not as many caption_ids as captions, so their captions have no COCO id; the first: 12"
    ]


def test_ids_must_be_there_and_once() -> None:
    with pytest.raises(DataError, match=r"pairs: no image has a COCO id.*391895.*found \['a'\]"):
        image_rows(Pairs([image("a", 1)]))
    with pytest.raises(DataError, match=r"no caption has a COCO id.*`caption_ids`"):
        caption_rows(Pairs([Item("11", ("x",))]))
    with pytest.raises(DataError, match="images '11' and '011' are both COCO's 11"):
        image_rows(Pairs([image("11", 1), image("011", 2)]))
    with pytest.raises(DataError, match="captions '11#0' and '12#1' are both COCO's 1,"):
        caption_rows(Pairs([image("11", 1), image("12", 2, 1)]))


@pytest.mark.parametrize("end", ["json", "json.gz"])
def test_lists_are_directed_and_what_lies_outside_is_said(tmp_path: Path, end: str) -> None:
    i2t = save(tmp_path / f"eccv_image_to_caption.{end}", {"11": [1, 3, 99], "77": [1], "12": [98], "13": []})
    t2i = save(tmp_path / f"eccv_caption_to_image.{end}", {"5": [11, "12"]})
    truth = EccvFiles([i2t, t2i])
    found = truth.answers(PAIRS)
    assert truth.problems == []
    assert of(found.i2t) == {(0, 0), (0, 2)}
    assert of(found.t2i) == {(4, 0), (4, 1)}
    assert found.notes == (
        "1 of 4 image queries are not in three",
        "2 of 4 right answers of image queries are not in the gallery and do not count",
    )


def test_one_direction_will_do(tmp_path: Path) -> None:
    found = EccvFiles([save(tmp_path / "eccv_caption_to_image.json", {"5": [11]})]).answers(PAIRS)
    assert found.i2t is None and of(found.t2i) == {(4, 0)} and found.notes == ()


def test_bad_entries_of_a_list_are_left_out(tmp_path: Path) -> None:
    content = {"x": [1], "12": 3, "13": [5, None], "11": [1]}
    path = save(tmp_path / "eccv_image_to_caption.json", content)
    truth = EccvFiles([path])
    assert [problem.kind for problem in truth.problems] == ["not a list", "not a list", "bad id"]
    assert of(truth.answers(PAIRS).i2t) == {(0, 0), (2, 4)}
    with pytest.raises(DataError, match=r"eccv_image_to_caption.json: not a list: 'x'"):
        EccvFiles([path], strict=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"11": [1', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "holds list, expected an object"),
        ("{}", "no list of .* is usable, it is empty"),
        ('{"a": 1, "b": 2}', "no list of .* is usable; the first problem: 'a'"),
    ],
)
def test_a_file_that_is_no_list(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=f"^truth: .*{said}[^\n]*$"):
        EccvFiles([save(tmp_path / "eccv_image_to_caption.json", text)])


def test_a_damaged_file(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"11": [1, 2]}' * 100)
    (path := tmp_path / "eccv_image_to_caption.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        EccvFiles([path])
    (path := tmp_path / "sts_test.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        CxcFiles([path])


def test_the_same_direction_twice(tmp_path: Path) -> None:
    for kind, opener in (("eccv", EccvFiles), ("cxc", CxcFiles)):
        two = [save(tmp_path / f"{kind}_image_to_caption.{end}", {"11": [1]}) for end in ("json", "json.gz")]
        with pytest.raises(DataError, match="are the same; give one"):
            opener(two)


def test_the_truth_of_other_pairs(tmp_path: Path) -> None:
    path = save(tmp_path / "eccv_image_to_caption.json", {"77": [1]})
    with pytest.raises(DataError, match=r"asks for nothing that is in three.*COCO_val2014_000000000011"):
        EccvFiles([path]).answers(PAIRS)
    for found in (sts(tmp_path, "91,92,5.0"), sits(tmp_path, "1,77,5.0"), sis(tmp_path, "11,77,5.0")):
        with pytest.raises(DataError, match=r"nothing that .* names is in three"):
            CxcFiles([found]).answers(PAIRS)


def test_pairs_without_ids(tmp_path: Path) -> None:
    plain = Pairs([Item("a", ("x",))], name="plain")
    path = save(tmp_path / "eccv_image_to_caption.json", {"77": [1]})
    with pytest.raises(DataError, match="plain: no image has a COCO id"):
        EccvFiles([path]).answers(plain)
    with pytest.raises(DataError, match="plain: no caption has a COCO id"):
        CxcFiles([sts(tmp_path, "1,2,5.0")]).answers(plain)


def test_captions_among_captions(tmp_path: Path) -> None:
    """Rated 3 or more in either order, and siblings whatever their rating; never with itself."""
    rows = ("COCO_val2014:sentid:1,COCO_val2014:sentid:3,3.0", "4,5,2.99", "3,4,0.5", "5,5,5.0", "5,2,4", "91,1,5")
    found = CxcFiles([sts(tmp_path, *rows)]).answers(PAIRS)
    siblings = {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert of(found.within["t2t"]) == {(0, 2), (2, 0), (4, 1), (1, 4)} | siblings
    assert found.i2t is None and found.t2i is None and set(found.within) == {"t2t"}
    assert found.notes == ("1 of 6 ratings of sts_test.csv name an item that is not in three",)


def test_images_among_images(tmp_path: Path) -> None:
    rows = ("COCO_val2014_000000000011.jpg,COCO_val2014_000000000012.jpg,2.5", "12,11,0.0", "12,13,2.49", "13,13,5")
    found = CxcFiles([sis(tmp_path, *rows)]).answers(PAIRS)
    assert of(found.within["i2i"]) == {(0, 1), (1, 0)}
    assert found.within["i2i"].shape == (3, 3)


def test_of_two_ratings_the_higher_counts(tmp_path: Path) -> None:
    for order in (("11,12,4.0", "11,12,1.0", "12,11,1.0"), ("12,11,1.0", "11,12,1.0", "12,11,4.0")):
        found = CxcFiles([sis(tmp_path, *order, "11,13,0.0")]).answers(PAIRS)
        assert of(found.within["i2i"]) == {(0, 1), (1, 0)}


def test_ratings_of_captions_with_images(tmp_path: Path) -> None:
    """An own image counts only where it is rated 3 or more, as in the lists."""
    rows = ("COCO_val2014:sentid:1,COCO_val2014_000000000011.jpg,5.0", "2,11,2.9", "3,12,3.0", "3,13,3.1")
    found = CxcFiles([sits(tmp_path, *rows)]).answers(PAIRS)
    assert of(found.i2t) == {(0, 0), (1, 2), (2, 2)}
    assert of(found.t2i) == {(0, 0), (2, 1), (2, 2)}


def test_lists_go_before_ratings(tmp_path: Path) -> None:
    lists = save(tmp_path / "cxc_image_to_caption.json", {"11": [1, 2]})
    files = [lists, sits(tmp_path, "1,11,5.0", "3,12,4.0")]
    found = CxcFiles(files).answers(PAIRS)
    assert of(found.i2t) == {(0, 0), (0, 1)}
    assert of(found.t2i) == {(0, 0), (2, 1)}
    other = save(tmp_path / "cxc_caption_to_image.json", {"5": [13]})
    assert of(CxcFiles([*files, other]).answers(PAIRS).t2i) == {(4, 2)}


def test_bad_rows_of_ratings_are_listed(tmp_path: Path) -> None:
    rows = ("1,3,5.0", "1,4,many", "1,4,nan", "1,4,7", "x,4,5.0", "1,y,5.0", "", "2,5,3.5")
    path = save(tmp_path / "sts_test.csv", "caption1,caption2,agg_score\n" + "\n".join(rows) + "\n2,4\n")
    truth = CxcFiles([path])
    assert [problem.line for problem in truth.problems] == [3, 4, 5, 6, 7, 10]
    assert "agg_score is 'many', expected a number from 0 to 5" in truth.problems[0].detail
    assert "'y' ends in no COCO id" in truth.problems[4].detail
    assert (0, 2) in of(truth.answers(PAIRS).within["t2t"])
    with pytest.raises(DataError, match=r"sts_test.csv:3: bad rating: agg_score is 'many'"):
        CxcFiles([path], strict=True)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has the columns 'a,b,agg_score', expected caption1,caption2,agg_score or"):
        CxcFiles([save(tmp_path / "sts_test.csv", "a,b,agg_score\n1,2,3\n")])
    with pytest.raises(DataError, match=r"has the columns ''"):
        CxcFiles([save(tmp_path / "sts_test.csv", "")])
    with pytest.raises(DataError, match=r"no rating of .* is usable, it has none"):
        CxcFiles([sts(tmp_path)])
    with pytest.raises(DataError, match=r"no rating of .* is usable; the last problem: agg_score is 'x'"):
        CxcFiles([sts(tmp_path, "1,2,x")])
    with pytest.raises(DataError, match=r"line 2, is not CSV"):
        CxcFiles([save(tmp_path / "sts_test.csv", "caption1,caption2,agg_score\n1,2," + "9" * 200_000)])


def test_files_are_known_by_name_or_columns(tmp_path: Path) -> None:
    (folder := tmp_path / "annotations").mkdir()
    save(folder / "eccv_image_to_caption.json", {"11": [1]})
    save(folder / "cxc_caption_to_image.json.gz", {"1": [11]})
    save(folder / "original_image_to_caption.json", {"11": [1]})
    save(folder / "captions_val2014.json", {})
    save(folder / "ratings.csv", "image1,image2,agg_score\n11,12,4\n")
    save(folder / "prices.csv", "name,price\nx,1\n")
    save(folder / "sis_test_raw.csv", "image1,image2,worker,score\n11,12,w,4\n")
    (folder / "binary.csv").write_bytes(b"\x1f\x8b\xff")
    found = open_truths(folder)
    assert set(found) == {"eccv", "cxc"}
    answers = found["cxc"].answers(PAIRS)
    assert of(answers.t2i) == {(0, 0)} and of(answers.within["i2i"]) == {(0, 1), (1, 0)}


def test_rows_and_problems_come_with_the_pairs(tmp_path: Path) -> None:
    data = save(tmp_path / "data.jsonl", '{"id": 11, "captions": ["a", "b"], "caption_ids": [1, 2]}')
    pairs = Pairs.read(data, truth=[sts(tmp_path, "1,2,3.0", "1,2,?")])
    assert [(problem.line, problem.kind) for problem in pairs.problems] == [(3, "bad rating")]
    assert of(pairs.truths["cxc"].answers(pairs).within["t2t"]) == {(0, 1), (1, 0)}


def test_the_published_ratings_give_the_published_lists(reference: Path) -> None:
    folder = reference / "data" / "coco_annotations"
    fields = {"id": "image_id", "labels": "labels80"}
    pairs = Pairs.read(folder / "karpathy5k_test.jsonl.gz", fields=fields)
    lists, ratings = (
        CxcFiles([folder / name for name in names]).answers(pairs)
        for names in (
            ("eccv/cxc_image_to_caption.json.gz", "eccv/cxc_caption_to_image.json.gz"),
            ("cxc/sits_test.csv.gz",),
        )
    )
    same(lists.i2t, ratings.i2t)
    same(lists.t2i, ratings.t2i)
    assert lists.t2i is not None and len(lists.t2i) == 35_585 and len(np.unique(lists.t2i.images)) == 24_972
    eccv = EccvFiles(sorted((folder / "eccv").glob("eccv_*"))).answers(pairs)
    assert counted(eccv) == ((1261, 22_548), (1332, 11_279))
    assert eccv.notes == ("2 of 22,550 right answers of image queries are not in the gallery and do not count",)


def same(one: Matches | None, other: Matches | None) -> None:
    assert one is not None and other is not None
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.captions, other.captions)


def counted(answers: Answers) -> tuple[tuple[int, int], ...]:
    """Queries with a right answer, and right answers, of both directions."""
    both = [each for each in (answers.i2t, answers.t2i) if each is not None]
    return tuple((len(np.unique(each.images)), len(each)) for each in both)
