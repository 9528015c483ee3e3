"""WebDataset shards: what a sample is, what of it is a caption, and what is wrong with it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards_made import png, tar_of

from manymatch.data.formats import format_named, known
from manymatch.data.pairs import Item, Pairs
from manymatch.data.sources import read_pairs, read_rows
from manymatch.errors import DataError


def one(folder: Path, members: dict[str, bytes], name: str = "a.tar") -> Pairs:
    return read_pairs(tar_of(folder / name, members))


def kinds(pairs: Pairs) -> list[str]:
    return [problem.kind for problem in pairs.problems]


def test_members_of_one_key_are_one_sample(tmp_path: Path) -> None:
    about = {"url": "https://x", "key": "7", "width": 3, "caption": "in JSON", "label": ["dog"]}
    pairs = one(
        tmp_path,
        {
            "./photos/a.b.c.PNG": png(1),
            "./photos/a.txt": "\ufeff ein großer\nHund \n".encode(),
            "photos/a.json": json.dumps(about).encode(),
            "photos/a.cls": b"3\n",
            "other/a.png": png(2),
        },
    )
    assert pairs.items[0] == Item(
        "photos/a.b.c.PNG",
        ("ein großer\nHund", "in JSON"),
        None,
        ("3", "dog"),
        {"url": "https://x", "key": "7", "width": 3},
        "photos/a.b.c.PNG",
        0,
    )
    assert pairs.items[1].picture == "other/a.png" and pairs.items[1].captions == ()
    assert pairs.images[0].getpixel((0, 0)) == (1, 0, 0)
    assert not pairs.problems


def test_several_captions_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    texts = {f"a.{n}.txt": f"number {n}".encode() for n in (10, 2, 0)}
    assert one(tmp_path, {"a.jpg": png(1), **texts}).captions == ["number 0", "number 2", "number 10"]
    sentences = {"sentences": [{"raw": "one"}, "two", None], "split": "val", "id": "x7"}
    item = one(tmp_path, {"a.jpg": png(1), "a.txt": b"two", "a.json": json.dumps(sentences).encode()}).items[0]
    assert (item.id, item.captions, item.split) == ("x7", ("two", "one"), "val")


@pytest.mark.parametrize("field", ["caption", "text", "captions", "sentences"])
def test_json_calls_captions_as_it_likes(field: str, tmp_path: Path) -> None:
    assert one(tmp_path, {"a.jpg": png(1), "a.json": json.dumps({field: ["x y"]}).encode()}).captions == ["x y"]


def test_the_name_of_a_shard_says_the_split(tmp_path: Path) -> None:
    for name in ("train-000", "train-001", "val-000", "test-000", "more"):
        tar_of(tmp_path / f"{name}.tar", {"a.png": png(1), "a.txt": b"x"})
    reading = read_rows(tmp_path)
    assert reading.pairs.splits == {"test": 1, "train": 2, "val": 1}
    assert reading.seen[:2] == (
        "a folder of tars",
        "5 shards: 1 without a split, 1 of split test, 2 of split train, 1 of split val",
    )
    assert "members of the first samples: .png, .txt" in reading.seen
    assert [item.id for item in reading.pairs][:2] == ["more/a.png", "test-000/a.png"]
    pattern = read_rows(tmp_path / "train-{000..001}.tar")
    assert pattern.pairs.image_ids == ["train-000/a.png", "train-001/a.png"]
    assert pattern.format.name == "webdataset" and pattern.seen[0] == "a pattern of 2 shards"
    with pytest.raises(DataError, match=r"1 of 3 are missing, the first is '.*train-002\.tar'"):
        read_rows(tmp_path / "train-{000..002}.tar")


def test_what_is_wrong_with_a_sample_is_said_with_its_shard(tmp_path: Path) -> None:
    pairs = one(
        tmp_path,
        {
            "no.txt": b"words alone",
            "long.png": png(1),
            "long.txt": b"x" * (2**20 + 1),
            "long.json": b" " * (2**20 + 1),
            "wrong.png": png(1),
            "wrong.txt": b"\xff\xfe",
            "wrong.json": b"{",
            "deep.png": png(1),
            "deep.json": b'{"x":' * 100_000,
            "list.png": png(1),
            "list.json": b"[1]",
            "nan.png": png(1),
            "nan.json": b'{"caption": NaN, "x": NaN, "y": 1, "z": "\\ud800"}',
            "two.png": png(1),
            "two.jpg": png(1),
            "empty.png": png(1),
            "empty.txt": b" \n",
        },
    )
    assert len(pairs) == 7 and not pairs.captions
    told = {str(problem).split(": ", 1)[1] for problem in pairs.problems}
    assert {problem.file for problem in pairs.problems} == {str(tmp_path / "a.tar")}
    assert "missing picture: sample 'no': no picture, found .txt" in told
    assert "member too large: 'long.txt' has 1048577 bytes, at most 1048576; it is left out" in told
    assert "caption is not text: 'wrong.txt': byte 1 is not UTF-8; it is left out" in told
    assert "not an object: 'list.json' is a list, expected a JSON object; it is left out" in told
    assert "several pictures: sample 'two' has 2 pictures, 'two.png' is taken" in told
    assert kinds(pairs).count("not JSON") == 2 and kinds(pairs).count("bad metadata") == 3
    assert next(item for item in pairs if item.id == "nan.png").metadata == {"y": 1}
    with pytest.raises(DataError, match=r"a\.tar: "):
        read_pairs(tmp_path / "a.tar", strict=True)


def test_a_shard_that_breaks_off_or_is_no_tar_leaves_the_others(tmp_path: Path) -> None:
    for n in range(3):
        tar_of(
            tmp_path / f"train-{n}.tar", {f"{k}.{s}": d for k in range(3) for s, d in (("txt", b"x"), ("png", png(k)))}
        )
    whole = (tmp_path / "train-1.tar").read_bytes()
    (tmp_path / "train-1.tar").write_bytes(whole[: 5 * 1024 + 520])
    (tmp_path / "train-2.tar").write_bytes(b"no tar" * 200)
    pairs = read_pairs(tmp_path)
    assert pairs.image_ids == ["train-0/0.png", "train-0/1.png", "train-0/2.png", "train-1/0.png", "train-1/1.png"]
    told = "\n".join(map(str, pairs.problems))
    assert "train-1.tar: damaged file: sample '2': the shard breaks off inside its picture" in told
    assert "train-1.tar: the tar breaks off inside '2.png', after 5 whole members" in told
    assert "train-2.tar" in told and "is not a tar" in told
    (tmp_path / "train-1.tar").write_bytes(whole[: 4 * 1024 + 513])
    pairs = read_pairs(tmp_path / "train-1.tar")
    assert pairs.image_ids == ["0.png", "1.png"]
    assert "the shard breaks off inside its" not in str(pairs.problems[0])


def test_nothing_outside_a_shard_is_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind, link in [
            ("../x.png", tarfile.REGTYPE, ""),
            ("a.txt", tarfile.SYMTYPE, str(tmp_path / "secret.txt")),
            ("a.json", tarfile.LNKTYPE, str(tmp_path / "secret.txt")),
            ("b.png", tarfile.CHRTYPE, ""),
            ("c.png", tarfile.DIRTYPE, ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info)
    with pytest.raises(DataError, match="holds no samples, expected WebDataset"):
        read_pairs(tmp_path / "a.tar")


def test_compressed_shards_say_what_to_do(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    with pytest.raises(DataError, match="decompress it once with gunzip"):
        read_pairs(tmp_path / "a.tar.gz")


def test_a_folder_is_of_shards_only_where_nothing_else_says_what_it_is(tmp_path: Path) -> None:
    tar_of(tmp_path / "00000.tar", {"0.jpg": png(1), "0.txt": b"x"})
    # What img2dataset leaves beside each shard.
    (tmp_path / "00000.parquet").write_bytes(b"PAR1")
    (tmp_path / "00000_stats.json").write_text("{}")
    assert known(tmp_path)[0].name == "webdataset"
    (tmp_path / "captions.jsonl").write_text('{"image": "0.jpg", "captions": ["x"]}\n')
    assert format_named("webdataset").sees(tmp_path) is None
    assert len(read_pairs(tmp_path, format="webdataset")) == 1


def test_the_same_pictures_are_found_by_images(tmp_path: Path) -> None:
    for name in ("train-0", "val-0"):
        tar_of(tmp_path / f"{name}.tar", {"d/a.png": png(len(name)), "d/a.txt": name.encode()})
    pairs = read_pairs(tmp_path)
    lines = "".join(json.dumps({"image": item.picture, "captions": list(item.captions)}) + "\n" for item in pairs)
    (tmp_path / "pairs.jsonl").write_text(lines)
    again = read_pairs(tmp_path / "pairs.jsonl", images=tmp_path)
    assert again.image_ids == pairs.image_ids and again.captions == pairs.captions
    assert [image.getpixel((0, 0)) for image in again.images] == [(7, 0, 0), (5, 0, 0)]


keys = st.text(st.sampled_from("ab1ü_-/"), min_size=1, max_size=8).filter(
    lambda key: not key.startswith("/") and not key.endswith("/") and "//" not in key
)
captions = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda t: t == t.strip() != ""), max_size=3
)


@settings(max_examples=40)
@given(
    shards=st.lists(
        st.dictionaries(keys, st.tuples(captions, st.integers(0, 255), st.booleans()), min_size=1, max_size=4),
        min_size=1,
        max_size=3,
    ),
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_samples_written_as_shards_read_back(
    shards: list[dict[str, tuple[list[str], int, bool]]], format: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, wanted = tmp_path_factory.mktemp("shards"), []
    for n, samples in enumerate(shards):
        members = {}
        for key, (texts, red, in_json) in samples.items():
            kept = list(dict.fromkeys(texts)) if in_json else texts
            wanted.append((f"train-{n}/{key}.png" if len(shards) > 1 else f"{key}.png", tuple(kept), red))
            members[f"{key}.png"] = png(red)
            if in_json:
                members[f"{key}.json"] = json.dumps({"captions": kept}).encode()
            else:
                members |= {f"{key}.{m}.txt": text.encode() for m, text in enumerate(texts)}
        tar_of(folder / f"train-{n}.tar", members, format=format)
    pairs = read_pairs(folder, strict=True)
    reds = [image.getpixel((0, 0))[0] for image in pairs.images]
    assert [(i.id, i.captions, red) for i, red in zip(pairs, reds, strict=True)] == wanted
    assert {item.split for item in pairs} == {"train"}
