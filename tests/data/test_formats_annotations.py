"""Annotation files of the field: COCO's JSON, Karpathy's splits, and the caption lists of Flickr."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from manymatch.data.coco_ids import caption_rows
from manymatch.data.formats import known
from manymatch.data.formats.captions import split_named
from manymatch.data.sources import Reading, read_rows
from manymatch.errors import DataError

anywhere = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def image(n: int, **more: Any) -> dict[str, Any]:
    return {"id": n, "file_name": f"{n}.jpg", **more}


def caption(n: int, of: int, text: str = "a dog") -> dict[str, Any]:
    return {"id": n, "image_id": of, "caption": text}


def told(reading: Reading) -> list[str]:
    return [f"{problem.kind}: {problem.detail}" for problem in reading.pairs.problems]


# ---- COCO

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=12).filter(str.strip)
IMAGES = st.dictionaries(st.integers(0, 10**12), st.lists(TEXT, max_size=4), min_size=1, max_size=6)


@anywhere
@example(images={0: ["sentids", '"sentences": x']}, packed=False, data=None)
@given(images=IMAGES, packed=st.booleans(), data=st.data())
def test_any_coco_file_written_from_items_reads_back_as_those_items(
    images: dict[int, list[str]], packed: bool, data: st.DataObject | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    annotations = [caption(0, of, text) for of, texts in images.items() for text in texts]
    for n, annotation in enumerate(annotations):
        annotation["id"] = n
    mixed = annotations if data is None else data.draw(st.permutations(annotations))
    path = tmp_path_factory.mktemp("coco") / f"captions_val2017.json{'.gz' if packed else ''}"
    text = json.dumps({"info": {}, "images": [image(n, width=3) for n in images], "annotations": mixed})
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    reading = read_rows(path, strict=True)
    assert reading.format.name == "coco"
    assert [item.id for item in reading.pairs] == [str(n) for n in images]
    for item in reading.pairs:
        mine = [a for a in mixed if a["image_id"] == int(item.id)]
        assert item.captions == tuple(a["caption"] for a in mine)
        assert list(item.metadata.get("caption_ids", [])) == [a["id"] for a in mine]
        assert (item.split, item.picture, item.metadata["width"]) == ("val", f"{item.id}.jpg", 3)


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ROW = st.dictionaries(st.sampled_from(["id", "file_name", "image_id", "caption", "name", "x"]), NESTED, max_size=5)
ROWS = st.lists(ROW | NESTED, max_size=4) | NESTED


@anywhere
@given(images=ROWS, annotations=ROWS, instances=ROWS)
def test_any_json_gives_items_or_a_data_error(
    images: Any, annotations: Any, instances: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    write(folder / "captions_val.json", {"images": images, "annotations": annotations})
    write(folder / "instances_val.json", {"categories": images, "annotations": instances})
    write(folder / "dataset.json", {"images": images, "sentences": 1})
    for path, name in ((folder, "coco"), (folder / "captions_val.json", "coco"), (folder / "dataset.json", "karpathy")):
        try:
            reading = read_rows(path, format=name)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert reading.pairs.items


ODD_ANNOTATIONS: list[tuple[Any, str]] = [
    (5, r"not an object: annotations\[1\] is 5"),
    (None, r"not an object: annotations\[1\] is None"),
    ([], r"not an object: annotations\[1\] is a list"),
    ({"id": 9, "caption": "x"}, r"unknown image: annotations\[1\] is of image None"),
    (caption(9, 77), r"unknown image: annotations\[1\] is of image 77"),
    ({"id": 9, "image_id": [1], "caption": "x"}, r"unknown image: annotations\[1\] is of image a list"),
    ({"id": 9, "image_id": True, "caption": "x"}, r"unknown image: annotations\[1\] is of image True"),
    ({"id": 9, "image_id": float("nan"), "caption": "x"}, r"unknown image: annotations\[1\] is of image nan"),
    ({"id": 9, "image_id": 1}, r"caption is not text: the caption of annotations\[1\] is None"),
    ({"id": 9, "image_id": 1, "caption": 3}, r"caption is not text: the caption of annotations\[1\] is 3"),
    (caption(9, 1, "\ud800"), r"caption is not text: the caption of annotations\[1\] is '\\ud800'"),
    (caption(9, 1, " \n"), r"empty caption: the caption of annotations\[1\] is empty"),
]


@pytest.mark.parametrize(("odd", "reason"), ODD_ANNOTATIONS)
def test_a_bad_annotation_is_told_with_its_place_and_costs_no_other(tmp_path: Path, odd: Any, reason: str) -> None:
    root = {"images": [image(1), image(2)], "annotations": [caption(1, 1), odd, caption(2, 1, "two"), caption(3, 2)]}
    path = write(tmp_path / "captions_train2017.json", root)
    reading = read_rows(path)
    assert [item.captions for item in reading.pairs] == [("a dog", "two"), ("a dog",)]
    assert [item.metadata["caption_ids"] for item in reading.pairs] == [[1, 2], [3]]
    assert len(told(reading)) == 1
    with pytest.raises(DataError, match=reason):
        read_rows(path, strict=True)


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("x", r"not an object: images\[1\] is 'x'"),
        ({"file_name": "x.jpg"}, r"bad id: images\[1\] has the id None"),
        ({"id": 2.5, "file_name": "x.jpg"}, r"bad id: images\[1\] has the id 2.5"),
        ({"id": "\udc00", "file_name": "x.jpg"}, r"bad id: images\[1\] has the id '\\udc00'"),
        ({"id": 2, "file_name": 7}, r"bad file name: images\[1\] has the file_name 7"),
        (image(2, height=float("nan")), r"bad metadata: images\[1\] holds NaN"),
        (image(2, note="\ud800"), r"bad metadata: images\[1\] holds"),
        (image(1), "repeated id: '1' is there already|repeated id: '1'"),
        ({"id": 2, "file_name": "../x.jpg"}, "outside the folder"),
    ],
)
def test_a_bad_image_is_told_with_its_place_and_costs_no_other(tmp_path: Path, odd: Any, reason: str) -> None:
    root = {"images": [image(1), odd, image(3)], "annotations": [caption(1, 1), caption(2, 3)]}
    path = write(tmp_path / "captions.json", root)
    reading = read_rows(path, format="coco")
    assert [(item.id, item.row) for item in reading.pairs] == [("1", 0), ("3", 2)]
    with pytest.raises(DataError, match=reason):
        read_rows(path, format="coco", strict=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("[]", "begins with '.*', expected one JSON object"),
        ("\0" * 100, "begins with"),
        ('{"images": [', "is not JSON"),
        ('{"images": ' + "[" * 100_000, "nested too deeply"),
        ("{" + '"a": {' * 100_000, "nested too deeply"),
        ("{}", "images missing and annotations of type list, expected two lists; its fields are none"),
        ('{"images": {}, "annotations": 5}', "images of type dict and annotations of type int"),
        ('{"images": []}', "holds no images"),
        ('{"images": [], "annotations": []}', "holds no images"),
        ('{"images": [{"id": 1}], "annotations": [{"category_id": 1, "image_id": 1}]}', "instances of categories"),
        ('{"images": [{"id": ' + "9" * 5000 + "}]}", "is not JSON"),
    ],
)
def test_what_is_no_coco_file_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path / "captions_val2017.json", text)
    with pytest.raises(DataError, match=reason) as caught:
        read_rows(path, format="coco")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "captions_val2017.json", {"images": [image(1)], "annotations": [caption(1, 1)]})
    monkeypatch.setattr("manymatch.data.files.LARGEST", 50)
    with pytest.raises(DataError, match="more than 50 bytes of text"):
        read_rows(path)
    monkeypatch.undo()
    monkeypatch.setattr("manymatch.data.files._UNPACKED", 1000)
    bomb = tmp_path / "captions_train2017.json.gz"
    bomb.write_bytes(gzip.compress(b'{"images": [' + b" " * 10**6 + b"]}"))
    with pytest.raises(DataError, match=r"more than .* bytes of text"):
        read_rows(bomb)
    for cut in (20, 200, len(bomb.read_bytes()) - 4):
        bomb.write_bytes(bomb.read_bytes()[:cut])
        with pytest.raises(DataError):
            read_rows(bomb, format="coco")


def test_repeated_caption_ids_lose_the_id_and_keep_the_caption(tmp_path: Path) -> None:
    root = {
        "images": [image(1)],
        "annotations": [caption(5, 1), caption(5, 1, "two"), {"image_id": 1, "caption": "no id"}],
    }
    reading = read_rows(write(tmp_path / "captions_val.json", root))
    assert reading.pairs.captions == ["a dog", "two", "no id"]
    assert reading.pairs.items[0].metadata["caption_ids"] == [5, None, None]
    assert told(reading) == ["repeated id: annotations[1] has the id 5 of annotations[0]; it is kept without its id"]
    assert caption_rows(reading.pairs)[0] == {5: 0}


def test_an_image_without_captions_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "image_info_test2017.json", {"images": [image(1), image(2)]})
    reading = read_rows(path, strict=True)
    assert reading.format.name == "coco"
    assert [(item.captions, item.split) for item in reading.pairs] == [((), "test")] * 2


def test_labels_are_the_names_of_the_categories_in_their_order(tmp_path: Path) -> None:
    write(tmp_path / "captions_val.json", {"images": [image(1), image(2)], "annotations": [caption(1, 1)]})
    instances = {
        "categories": [{"id": 9, "name": "zebra"}, {"id": 2, "name": "ant"}, {"id": 3}],
        "annotations": [
            {"image_id": 1, "category_id": 2, "segmentation": [[1.5, 2.5]]},
            {"image_id": 1, "category_id": 9},
            {"image_id": 1, "category_id": 2},
            {"image_id": 1, "category_id": 4},
            {"image_id": 8, "category_id": 2},
            7,
        ],
    }
    write(tmp_path / "instances_val.json", instances)
    reading = read_rows(tmp_path)
    assert [item.labels for item in reading.pairs] == [("zebra", "ant"), ()]
    assert told(reading) == [
        "bad category: categories[2] has no id or no name",
        "unknown category: annotations[3] is of no category of the file",
        "unknown image: annotations[4] is of no image of captions_val.json",
        "unknown image: annotations[5] is of no image of captions_val.json",
    ]
    write(tmp_path / "instances_val.json", {"categories": 5})
    with pytest.raises(DataError, match="categories of type int and annotations missing"):
        read_rows(tmp_path)


def test_all_annotations_of_some_images_do_not_drown_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manymatch.data.formats.coco._LISTED", 2)
    captions = [caption(n, n) for n in range(1, 7)]
    write(tmp_path / "captions_val.json", {"images": [image(1)], "annotations": captions})
    boxes = [{"image_id": n, "category_id": 2} for n in range(1, 5)]
    write(tmp_path / "instances_val.json", {"categories": [{"id": 2, "name": "ant"}], "annotations": boxes})
    reading = read_rows(tmp_path)
    assert [item.labels for item in reading.pairs] == [("ant",)]
    assert told(reading) == [
        "unknown image: annotations[1] is of image 2, which is not among the images",
        "unknown image: annotations[2] is of image 3, which is not among the images",
        "unknown image: 3 more annotations are of no image of captions_val.json",
        "unknown image: annotations[1] is of no image of captions_val.json",
        "unknown image: annotations[2] is of no image of captions_val.json",
        "unknown image: 1 more annotations are of no image of captions_val.json",
    ]


def two_splits(folder: Path, same_numbers: bool = False) -> Path:
    for n, stem in enumerate(("train2017", "val2017"), start=1):
        number = 1 if same_numbers else n
        root = {"images": [{"id": number, "file_name": f"p{n}.jpg"}], "annotations": [caption(n, number)]}
        write(folder / f"captions_{stem}.json", root)
    return folder


def test_files_of_one_folder_are_splits_and_numbers_used_twice_are_told_apart(tmp_path: Path) -> None:
    pairs = read_rows(two_splits(tmp_path / "annotations")).pairs
    assert [(item.id, item.split, item.row) for item in pairs] == [("1", "train", 0), ("2", "val", 1)]
    reading = read_rows(two_splits(tmp_path / "again", same_numbers=True))
    assert reading.pairs.image_ids == ["1", "val2017/1"]
    assert any("their ids begin with val2017/" in line for line in reading.seen)


@pytest.mark.parametrize("given", [".", "annotations", "annotations/captions_val2017.json"])
@pytest.mark.parametrize("place", ["{stem}", "images/{stem}", "images", ".", "annotations", "tar:{stem}", "tar:."])
def test_pictures_are_found_where_coco_and_others_put_them(tmp_path: Path, place: str, given: str) -> None:
    two_splits(tmp_path / "annotations")
    inside = place.removeprefix("tar:")
    at = tmp_path / ("kept" if place.startswith("tar:") else "")
    for n, stem in enumerate(("train2017", "val2017"), start=1):
        path = at / inside.format(stem=stem) / f"p{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (100 * n, 0, 0)).save(path)
    if place.startswith("tar:"):
        with tarfile.open(tmp_path / "images_224.tar", "w") as tar:
            tar.add(at, arcname=".")
        (tmp_path / "kept").rename(tmp_path.parent / f"{tmp_path.name}-away")
    reading = read_rows(tmp_path / given, strict=True)
    assert len(reading.pairs) == (1 if given.endswith("json") else 2)
    for item, picture in zip(reading.pairs, reading.pairs.images, strict=True):
        assert picture.getpixel((0, 0))[0] == pytest.approx(100 * int(item.id), abs=3)
    assert any(line.startswith("pictures in ") for line in reading.seen)


def test_pictures_the_user_names_are_looked_into_for_the_split_folders(tmp_path: Path) -> None:
    path = two_splits(tmp_path / "annotations")
    for n, stem in enumerate(("train2017", "val2017"), start=1):
        (tmp_path / "far" / "away" / stem).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "far" / "away" / stem / f"p{n}.jpg")
    pairs = read_rows(path, images=tmp_path / "far" / "away", strict=True).pairs
    assert [item.picture for item in pairs] == ["train2017/p1.jpg", "val2017/p2.jpg"]
    one = read_rows(path / "captions_val2017.json", images=tmp_path / "far" / "away" / "val2017", strict=True).pairs
    assert [item.picture for item in one] == ["p2.jpg"]


def test_a_broken_tar_beside_is_told_and_reading_goes_on(tmp_path: Path) -> None:
    two_splits(tmp_path)
    (tmp_path / "images_224.tar").write_bytes(b"no tar at all" * 100)
    reading = read_rows(tmp_path)
    assert len(reading.pairs) == 2 and any("not looked into: " in line for line in reading.seen)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train2017", "train"),
        ("val2014", "val"),
        ("my_captions_dev", "val"),
        ("testall", None),
        ("test2015", "test"),
        ("Flickr_8k.devImages", None),
        ("captions", None),
        ("restval", "train"),
    ],
)
def test_splits_are_told_by_whole_words_of_a_name(name: str, split: str | None) -> None:
    assert split_named(name) == split


def test_coco_is_not_taken_for_lines_of_json(tmp_path: Path) -> None:
    root = {"images": [image(1), image(2)], "annotations": [caption(1, 1), caption(2, 2)]}
    for name, text in {
        "small.json": json.dumps(root),
        "indented.json": json.dumps(root, indent=1),
        "lines.json": json.dumps(root).replace("}, ", "},\n").replace("[{", "[\n{"),
    }.items():
        assert known(write(tmp_path / name, text))[0].name == "coco", name


def test_coco_mini_reads_with_pictures_and_labels(reference: Path) -> None:
    reading = read_rows(reference / "data" / "coco_mini", strict=True)
    pairs = reading.pairs
    assert (len(pairs), len(pairs.captions), pairs.splits) == (159, 795, {"train": 80, "val": 79})
    assert {len(item.captions) for item in pairs} == {5}
    assert sum(bool(item.labels) for item in pairs) > 150
    assert pairs.pictures is not None and len(pairs.pictures.names()) == 159
    assert min(pairs.images[80].size) == 224
    found, notes = caption_rows(pairs)
    assert len(found) == 795 and not notes


# ---- Karpathy's splits


def karpathy(**more: Any) -> dict[str, Any]:
    sentences = [{"tokens": ["a"], "raw": "A dog.", "imgid": 0, "sentid": n} for n in (3, 4)]
    return {"filename": "a.jpg", "imgid": 0, "split": "test", "sentences": sentences, "sentids": [3, 4], **more}


def test_karpathy_of_coco_and_of_flickr(tmp_path: Path) -> None:
    images = [
        karpathy(filepath="val2014", cocoid=391895),
        karpathy(filename="b.jpg", filepath="val2014", cocoid=2, split="restval"),
        karpathy(filename="c.jpg", filepath="train2014", cocoid=3, split="train"),
    ]
    reading = read_rows(write(tmp_path / "dataset_coco.json", {"images": images, "dataset": "coco"}), strict=True)
    assert reading.format.name == "karpathy"
    assert [(i.id, i.split, i.picture) for i in reading.pairs] == [
        ("391895", "test", "val2014/a.jpg"),
        ("2", "train", "val2014/b.jpg"),
        ("3", "train", "train2014/c.jpg"),
    ]
    assert dict(reading.pairs.items[0].metadata) == {"imgid": 0, "caption_ids": [3, 4]}
    assert "1 images of split restval are read as train, as everybody does" in reading.seen
    flickr = read_rows(write(tmp_path / "dataset_flickr30k.json", {"images": [karpathy()], "dataset": "flickr30k"}))
    item = flickr.pairs.items[0]
    assert (item.id, item.picture, dict(item.metadata)) == ("a.jpg", "a.jpg", {"imgid": 0, "sentids": [3, 4]})


def test_karpathy_pictures_lie_with_or_without_their_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset_coco.json", {"images": [karpathy(filepath="val2014")], "dataset": "coco"})
    for folder, name in (("images", "a.jpg"), ("val2014", "val2014/a.jpg")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / folder / "a.jpg")
        assert [item.picture for item in read_rows(path, strict=True).pairs] == [name]
        (tmp_path / folder / "a.jpg").unlink()
        (tmp_path / folder).rmdir()


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (4, r"not an object: images\[1\] is 4"),
        (karpathy(filename=None), r"bad file name: images\[1\] has the filename None"),
        (karpathy(filename="x", sentences="x"), r"no captions: images\[1\] has the sentences 'x'"),
        (karpathy(filename="x", imgid=float("inf")), r"bad metadata: images\[1\] holds NaN"),
        (karpathy(), "repeated id"),
        (karpathy(filename="x", split=["a"]), "bad split"),
    ],
)
def test_a_bad_image_of_karpathy_is_told(tmp_path: Path, odd: Any, reason: str) -> None:
    path = write(tmp_path / "dataset.json", {"images": [karpathy(), odd, karpathy(filename="z.jpg")]})
    assert read_rows(path).pairs.image_ids == ["a.jpg", "z.jpg"]
    with pytest.raises(DataError, match=reason):
        read_rows(path, strict=True)


def test_bad_sentences_of_karpathy_are_told_and_ids_stay_with_their_captions(tmp_path: Path) -> None:
    sentences = [{"raw": 5, "sentid": 1}, 7, {"raw": "two", "sentid": 2}, {"raw": " ", "sentid": 3}, "three"]
    reading = read_rows(write(tmp_path / "dataset.json", {"images": [karpathy(sentences=sentences, cocoid=1)]}))
    assert reading.pairs.captions == ["two", "three"]
    assert reading.pairs.items[0].metadata["caption_ids"] == [2, None]
    assert [p.detail.split(" ")[0] for p in reading.pairs.problems] == [f"images[0].sentences[{n}]" for n in (0, 1, 3)]
    with pytest.raises(DataError, match="has no list `images`, found the fields 'x'"):
        read_rows(write(tmp_path / "none.json", {"x": 1}), format="karpathy")


# ---- caption lists


def test_token_file_with_splits_a_copy_and_bad_lines(tmp_path: Path) -> None:
    lines = ["b.jpg#1\tsecond .", "b.jpg#0\tfirst .", "a.jpg#0\tone", "c.jpg.1#0\ta copy", "a.jpg#0\tagain", "nothing"]
    (tmp_path / "Flickr8k.token.txt").write_bytes("\r\n".join(lines).encode() + b"\nd.jpg#0\t\xff\nd.jpg#1\t \n")
    write(tmp_path / "Flickr_8k.trainImages.txt", "a.jpg\nc.jpg\nnever.jpg\n")
    write(tmp_path / "Flickr_8k.testImages.txt", "b.jpg\na.jpg\n")
    reading = read_rows(tmp_path)
    assert reading.format.name == "tokens"
    assert [(i.id, i.captions, i.split, i.row) for i in reading.pairs] == [
        ("b.jpg", ("first .", "second ."), "test", 0),
        ("a.jpg", ("one",), "train", 2),
        ("c.jpg", ("a copy",), "train", 3),
    ]
    assert [(Path(p.file).name, p.line, p.kind) for p in reading.pairs.problems] == [
        ("Flickr_8k.testImages.txt", 2, "two splits"),
        ("Flickr8k.token.txt", 5, "repeated id"),
        ("Flickr8k.token.txt", 6, "bad line"),
        ("Flickr8k.token.txt", 7, "not UTF-8"),
        ("Flickr8k.token.txt", 8, "empty caption"),
        ("Flickr8k.token.txt", 8, "no captions"),
    ]
    assert any("c.jpg.1: without the number" in line for line in reading.seen)
    assert any("2 images are train, 1 names in it have no captions" in line for line in reading.seen)


def test_a_copy_keeps_its_name_where_the_picture_itself_is_in_the_list(tmp_path: Path) -> None:
    path = write(tmp_path / "x.token", "a.jpg#0\tone\na.jpg.1#0\ttwo\na.jpg.2#0\tthree\nb.jpg.1#0\tx\nb.jpg.2#0\ty\n")
    assert read_rows(path, strict=True).pairs.image_ids == ["a.jpg", "a.jpg.1", "a.jpg.2", "b.jpg.1", "b.jpg"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "results.csv",
            "image_name| comment_number| comment\na.jpg| 0| Two | dogs .\na.jpg| 4   A dog runs\nb.jpg| 0| x\n",
        ),
        ("captions.txt", 'image,caption\na.jpg,Two | dogs .\na.jpg,"A dog runs"\nb.jpg,x\n'),
        ("captions.txt", "image_name,comment_number,comment\na.jpg,0,Two | dogs .\na.jpg,4,A dog runs\nb.jpg,0,x\n"),
        ("list.txt", "a.jpg#0\tTwo | dogs .\na.jpg#4\tA dog runs\nb.jpg#0\tx\n"),
    ],
)
def test_each_kind_of_list(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path / name, text)
    write(tmp_path / "train.txt", "a\n")
    write(tmp_path / "val.txt", "some caption of another file\n")
    write(tmp_path / "test.txt", "b\n")
    for place in (path, tmp_path) if name != "list.txt" else (path,):
        reading = read_rows(place, strict=True)
        assert reading.format.name == "tokens"
        assert [(i.id, i.captions, i.split) for i in reading.pairs] == [
            ("a.jpg", ("Two | dogs .", "A dog runs"), "train"),
            ("b.jpg", ("x",), "test"),
        ]


def test_quotes_commas_and_bad_lines_of_captions_txt(tmp_path: Path) -> None:
    text = 'image,caption\n"a,b.jpg",x\na.jpg,"A ""big"", dog"\nonly one\n,none\na.jpg,say "hi"\n'
    reading = read_rows(write(tmp_path / "captions.txt", text))
    assert [(i.id, i.captions) for i in reading.pairs] == [
        ("a,b.jpg", ("x",)),
        ("a.jpg", ('A "big", dog', 'say "hi"')),
    ]
    assert [(p.line, p.kind) for p in reading.pairs.problems] == [(4, "bad line"), (5, "bad line")]


def token_file(lines: list[tuple[str, int, str]]) -> str:
    return "".join(f"{name}#{number}\t{text}\n" for name, number, text in lines)


@anywhere
@given(
    captions=st.dictionaries(
        st.from_regex(r"[a-z0-9_]{1,8}\.jpg", fullmatch=True),
        st.lists(st.from_regex(r"[A-Za-z#,|'\"][ A-Za-z#,|'\".]{0,12}[a-z.]", fullmatch=True), min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    ),
    data=st.data(),
)
def test_a_token_file_in_any_order_gives_captions_by_their_numbers(
    captions: dict[str, list[str]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [(name, n, text) for name, texts in captions.items() for n, text in enumerate(texts)]
    path = tmp_path_factory.mktemp("tokens") / "captions.token"
    path.write_text(token_file(data.draw(st.permutations(lines))))
    reading = read_rows(path, strict=True)
    assert {item.id: list(item.captions) for item in reading.pairs} == captions


SEEN: list[tuple[str, Callable[[Path], Any]]] = [
    ("tokens", lambda f: write(f / "x.txt", "a.jpg#0\tx\n")),
    ("karpathy", lambda f: write(f / "x.json", {"images": [karpathy()]})),
    ("coco", lambda f: write(f / "x.json", {"images": [image(1)], "annotations": [caption(1, 1)]})),
]


@pytest.mark.parametrize(("name", "make"), SEEN)
def test_a_byte_order_mark_hides_nothing(tmp_path: Path, name: str, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    reading = read_rows(path, strict=True)
    assert reading.format.name == name
    assert len(reading.pairs) == 1 and reading.pairs.items[0].id in ("a.jpg", "1")
