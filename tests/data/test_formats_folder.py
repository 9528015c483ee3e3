"""A folder of photos: what is taken from where, and that nothing in it can hurt."""

from __future__ import annotations

import io
import json
import os
import struct
import threading
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from manymatch.data.embedded import About, about
from manymatch.data.embedded.stock import is_stock
from manymatch.data.pairs import Item, Pairs
from manymatch.data.sources import Reading, read_rows
from manymatch.errors import DataError, UnknownName

DESCRIPTION, MAKE, MODEL, ORIENTATION, EXIF_IFD = 0x010E, 0x010F, 0x0110, 0x0112, 0x8769
TITLE, COMMENT, KEYWORDS = 0x9C9B, 0x9C9C, 0x9C9E
TAKEN, USER_COMMENT, GPS = 0x9003, 0x9286, 0x8825


def photo(path: Path, colour: str = "red", size: tuple[int, int] = (12, 8), **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **more)
    return path


def exif(tags: dict[int, Any], below: dict[int, Any] | None = None, gps: dict[int, Any] | None = None) -> Image.Exif:
    out = Image.Exif()
    out.update(tags)
    if below:
        out.get_ifd(EXIF_IFD).update(below)
    if gps:
        out.get_ifd(GPS).update(gps)
    return out


def iptc(*records: tuple[int, bytes], utf_8: bool = True) -> bytes:
    """An APP13 segment of Photoshop with IPTC records of the application record."""
    told = b"\x1c\x01\x5a\x00\x03\x1b%G" if utf_8 else b""
    told += b"".join(b"\x1c\x02" + bytes([kind]) + struct.pack(">H", len(text)) + text for kind, text in records)
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(told)) + told + b"\0" * (len(told) % 2)
    other = b"8BIM\x03\xed\x03abc" + struct.pack(">I", 3) + b"xyz\0"
    data = b"Photoshop 3.0\0" + other + resource
    return b"\xff\xed" + struct.pack(">H", len(data) + 2) + data


def xmp(description: str = "", subject: tuple[str, ...] = (), head: str = "") -> bytes:
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in subject)
    return (
        f"<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>{head}<x:xmpmeta xmlns:x='adobe:ns:meta/'>"
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        "<rdf:Description xmlns:dc='http://purl.org/dc/elements/1.1/'>"
        f"<dc:description><rdf:Alt><rdf:li xml:lang='x-default'>{description}</rdf:li></rdf:Alt></dc:description>"
        f"<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>a title</rdf:li></rdf:Alt></dc:title>"
        f"<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>"
        "</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    ).encode()


def with_segment(path: Path, segment: bytes) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:2] + segment + data[2:])


def read(folder: Path, **more: Any) -> Reading:
    return read_rows(folder, **more)


def items(folder: Path, **more: Any) -> dict[str, Item]:
    return {item.id: item for item in read(folder, **more).pairs}


# ---- which photos


def test_photos_at_any_depth_without_what_systems_put_there(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "2024/summer/c.webp", "2024/d.gif", "z/e.tif"):
        photo(tmp_path / name)
    for name in (".hidden.jpg", ".cache/x.jpg", "__MACOSX/._a.png", "@eaDir/a.png", "Thumbs/t.jpg", "2024/._c.jpg"):
        photo(tmp_path / name, format="JPEG")
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (tmp_path / "2024" / "notes.doc").write_bytes(b"x")
    (tmp_path / "film.heic").write_bytes(b"x")
    reading = read(tmp_path)
    assert reading.pairs.image_ids == ["a.png", "b.JPG", "2024/d.gif", "2024/summer/c.webp", "z/e.tif"]
    assert reading.format.name == "folder" and not reading.pairs.problems
    assert "5 photos in 4 folders" in reading.seen and "no captions of 5" in reading.seen
    assert "left aside, of kinds that are not read here: 1 .heic" in reading.seen
    assert all(item.captions == () and item.split is None and item.labels == () for item in reading.pairs)
    assert reading.pairs.images[0].size == (12, 8)


def test_links_never_go_round_and_never_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    photo(root / "a.jpg")
    photo(root / "below" / "b.jpg")
    photo(tmp_path / "other" / "secret.jpg")
    (root / "below" / "up").symlink_to(root)
    (root / "below" / "self").symlink_to(".")
    (root / "loop").symlink_to("loop")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "nowhere.jpg").symlink_to("gone.jpg")
    (root / "inside.jpg").symlink_to("below/b.jpg")
    (root / "out.jpg").symlink_to(tmp_path / "other" / "secret.jpg")
    (root / "outdir").symlink_to(tmp_path / "other")
    os.mkfifo(root / "pipe.jpg")
    reading = read(root)
    assert reading.pairs.image_ids == ["a.jpg", "inside.jpg", "below/b.jpg"]
    told = {(Path(p.file).name, p.kind) for p in reading.pairs.problems}
    assert told == {
        ("loop.jpg", "missing picture"),
        ("nowhere.jpg", "missing picture"),
        ("out.jpg", "outside the folder"),
        ("outdir", "outside the folder"),
        ("pipe.jpg", "missing picture"),
    }
    assert "a link that leads out" in str(reading.pairs.problems)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "shut" / "b.jpg")
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("manymatch.data.formats.folder_walk.os.scandir", refusing)
    (problem,) = read(tmp_path).pairs.problems
    assert problem.kind == "unreadable folder" and "'shut' cannot be listed (Permission denied)" in problem.detail


def test_a_folder_without_photos_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no photos; expected JPEG"):
        read(tmp_path, format="folder")
    (tmp_path / "a.heic").write_bytes(b"x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.NEF").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no photos but \.heic, \.nef, which are not read here; convert them"):
        read(tmp_path)
    (tmp_path / "deep" / "b.NEF").unlink()
    with pytest.raises(DataError, match=r"holds no photos, only \.heic, which is not read here"):
        read(tmp_path, format="folder")
    with pytest.raises(DataError, match="is no folder"):
        read(tmp_path / "a.heic", format="folder")


def test_names_no_file_system_should_have(tmp_path: Path) -> None:
    for name in ("new\nline.jpg", "tab\t.jpg", "quote'\".jpg", "#0.jpg", "雪.jpg"):
        photo(tmp_path / name)
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes((tmp_path / "#0.jpg").read_bytes())
    reading = read(tmp_path)
    assert len(reading.pairs) == 5
    assert [problem.kind for problem in reading.pairs.problems] == ["bad image"]


def test_folders_on_top_are_splits_when_all_are_called_so(tmp_path: Path) -> None:
    for name in ("train/a.jpg", "Validation/x/b.jpg", "test/c.jpg"):
        photo(tmp_path / name)
    reading = read(tmp_path)
    assert reading.pairs.splits == {"val": 1, "test": 1, "train": 1}
    assert "folders taken for splits: Validation, test, train" in reading.seen
    photo(tmp_path / "cat" / "d.jpg")
    reading = read(tmp_path)
    assert reading.pairs.splits == {} and all(item.labels == () for item in reading.pairs)
    assert "not taken for splits, because there are photos elsewhere: Validation, test, train" in reading.seen


# ---- captions


def test_captions_are_taken_in_order(tmp_path: Path) -> None:
    described = exif({DESCRIPTION: "inside"})
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        photo(tmp_path / name, exif=described)
    photo(tmp_path / "e.jpg")
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,of the table\na.jpg,and one more\n")
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("\ufeffof a text\r\n\r\n  second line \r\n")
    for name in ("b", "c"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"caption": ["of json", ""], "geo": [1, 2]}))
    found = items(tmp_path)
    assert {id: item.captions for id, item in found.items()} == {
        "a.jpg": ("of the table", "and one more"),
        "b.jpg": ("of a text", "second line"),
        "c.jpg": ("of json",),
        "d.jpg": ("inside",),
        "e.jpg": (),
    }
    seen = read(tmp_path).seen
    assert "captions.csv speaks of 2 photos" in seen or "captions.csv speaks of 1 photos" in seen
    assert "captions of 1 from tables" in seen and "captions of 2 from texts beside photos" in seen
    assert "captions of 1 from inside photos (EXIF, IPTC, XMP)" in seen and "no captions of 1" in seen
    assert "geo" not in found["c.jpg"].metadata


def test_the_image_folder_of_hugging_face(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        rows = []
        for n in range(2):
            photo(tmp_path / split / f"{n}.png")
            rows.append({"file_name": f"{n}.png", "text": f"{split} {n}", "year": 2000 + n, "code": "007"})
        (tmp_path / split / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reading = read(tmp_path)
    assert [(i.id, i.captions, i.split) for i in reading.pairs] == [
        ("train/0.png", ("train 0",), "train"),
        ("train/1.png", ("train 1",), "train"),
        ("validation/0.png", ("validation 0",), "val"),
        ("validation/1.png", ("validation 1",), "val"),
    ]
    assert reading.pairs.items[1].metadata == {"width": 12, "height": 8, "year": 2001, "code": "007"}
    assert any("'text' is taken for captions" in line for line in reading.seen)


def test_captions_come_from_the_first_table_that_has_any(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,\n")
    (tmp_path / "metadata.csv").write_text("image,caption\na.jpg,one\n")
    assert [item.captions for item in read(tmp_path).pairs] == [("one",)]


def test_a_table_beside_the_folder(tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/b.jpg", "sub/c.jpg", "x/c.jpg"):
        photo(tmp_path / "photos" / name)
    told = "image\tcaption\tyear\tlabels\nphotos/a.jpg\tone\t2001\tred\nsub/b.jpg\ttwo\t\t\nother/z.jpg\tno\t1\t\n"
    (tmp_path / "captions.tsv").write_text(told + "b.jpg\tthree\t\t\nc.jpg\tof which\t\t\n")
    reading = read(tmp_path / "photos")
    found = {item.id: item for item in reading.pairs}
    assert found["a.jpg"].captions == ("one",) and found["a.jpg"].metadata["year"] == 2001
    assert found["a.jpg"].labels == ("red",)
    # There are two c.jpg, and one b.jpg.
    assert found["sub/b.jpg"].captions == ("two",) and found["sub/c.jpg"].captions == ()
    assert not reading.pairs.problems
    assert "captions.tsv beside the folder speaks of 3 photos; 2 other rows are left out" in reading.seen


def test_a_table_of_something_else_beside_the_folder_is_left_alone(tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "a.jpg")
    (tmp_path / "metadata.csv").write_text("x,y\n1,2\n")
    (tmp_path / "captions.csv").write_bytes(b"\xff\xfe\0\0")
    reading = read(tmp_path / "photos")
    assert not reading.pairs.problems and not any("metadata" in line for line in reading.seen)


def test_what_is_wrong_with_a_table_is_told_with_its_line(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,fine\nb.jpg,gone\na.jpg\n../a.jpg,out\n")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg", "place": "here"}\nhalf\n')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "captions.csv").write_text("")
    reading = read(tmp_path)
    assert reading.pairs.items[0].captions == ("fine",) and reading.pairs.items[0].metadata["place"] == "here"
    told = {(Path(p.file).name, p.line, p.kind) for p in reading.pairs.problems}
    assert told == {
        ("captions.csv", 3, "missing picture"),
        ("captions.csv", 4, "half a row"),
        ("captions.csv", 5, "missing picture"),
        ("metadata.jsonl", 2, "not JSON"),
        ("captions.csv", None, "unreadable table"),
    }
    with pytest.raises(DataError):
        read(tmp_path, strict=True)


def test_a_data_set_in_one_folder(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "captions.jsonl").write_text(
        '{"image": "a.jpg", "captions": ["one", "two"], "id": "x", "split": "val"}\n'
    )
    found = items(tmp_path)
    assert found["x"].captions == ("one", "two") and found["x"].split == "val" and found["x"].picture == "images/a.jpg"


def test_columns_can_be_named(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "captions.csv").write_text("image,beschreibung,zip\na.jpg,ein Feld,01234\n")
    assert items(tmp_path)["a.jpg"].captions == ()
    found = items(tmp_path, fields={"captions": "beschreibung"})["a.jpg"]
    assert found.captions == ("ein Feld",) and found.metadata["zip"] == "01234"
    with pytest.raises(UnknownName):
        read(tmp_path, fields={"captions": "nothing"})


def test_texts_that_are_no_captions(tmp_path: Path) -> None:
    for name in "abcdef":
        photo(tmp_path / f"{name}.jpg")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c.json").write_text("{half")
    (tmp_path / "d.json").write_text(json.dumps({"shapes": [], "imageData": "x" * 2**20}))
    (tmp_path / "e.txt").write_bytes(b"x" * (2**20 + 1))
    (tmp_path / "f.json").write_text('["caption"]')
    reading = read(tmp_path)
    assert all(item.captions == () for item in reading.pairs) and len(reading.pairs) == 6
    assert {(Path(p.file).name, p.kind) for p in reading.pairs.problems} == {
        (name, "unreadable text") for name in ("b.txt", "c.json", "e.txt")
    }


# ---- what photos say of themselves


def test_exif_gives_captions_and_metadata_and_never_where(tmp_path: Path) -> None:
    tags = {
        DESCRIPTION: "Two  children\non a swing \0",
        MAKE: "Canon",
        MODEL: "Canon EOS 5D",
        ORIENTATION: 6,
        TITLE: "Schaukel im Schnee ❄".encode("utf-16-le") + b"\0\0",
        KEYWORDS: "snow; children ;".encode("utf-16-le") + b"\0\0",
    }
    below = {TAKEN: "2024:07:03 18:05:09", USER_COMMENT: b"UNICODE\0" + "a comment".encode("utf-16-le")}
    photo(tmp_path / "a.jpg", exif=exif(tags, below, {1: "N", 2: (59.0, 20.0, 1.0)}))
    found = items(tmp_path)["a.jpg"]
    assert found.captions == ("Two children on a swing", "Schaukel im Schnee ❄", "a comment")
    assert found.labels == ("snow", "children")
    below[USER_COMMENT] = b"UNICODE\0" + "a comment".encode("utf-16-be")
    assert about(photo(tmp_path / "other" / "b.jpg", exif=exif(tags, below))).captions[2] == "a comment"
    # As it is seen: turned.
    assert found.metadata == {"taken": "2024-07-03T18:05:09", "camera": "Canon EOS 5D", "width": 8, "height": 12}
    assert read(tmp_path).pairs.images[0].size == (8, 12)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_every_kind_of_file_is_read_without_decoding(suffix: str, tmp_path: Path) -> None:
    block = exif({DESCRIPTION: "a description", MAKE: "ACME", MODEL: "X1"}, {TAKEN: "2001:02:03 04:05:06"})
    more = {} if suffix == "tif" else {"xmp": xmp("of xmp", ("one", "two"))} if suffix in ("jpg", "webp") else {}
    path = photo(tmp_path / f"a.{suffix}", size=(31, 17), exif=block, **more)
    found = about(path)
    captions = ("a description", *(("of xmp",) if more else ()))
    # Pillow writes no second directory into a TIFF.
    taken = None if suffix == "tif" else "2001-02-03T04:05:06"
    assert found == About(31, 17, taken, "ACME X1", captions, ("one", "two") if more else ())


@pytest.mark.parametrize(("suffix", "more"), [("webp", {}), ("webp", {"lossless": True}), ("gif", {}), ("bmp", {})])
def test_sizes(suffix: str, more: dict[str, Any], tmp_path: Path) -> None:
    assert about(photo(tmp_path / f"a.{suffix}", size=(301, 117), **more)) == About(301, 117)


def test_iptc(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    with_segment(path, iptc((120, "Ett fält".encode()), (105, b"Headline"), (25, b"red"), (25, b"field"), (55, b"x")))
    found = items(tmp_path)["a.jpg"]
    assert found.captions == ("Ett fält", "Headline") and found.labels == ("red", "field")
    path = photo(tmp_path / "b.jpg")
    with_segment(path, iptc((120, "Ett fält".encode("latin-1")), utf_8=False))
    assert items(tmp_path)["b.jpg"].captions == ("Ett fält",)


def test_texts_that_say_the_same_are_one(tmp_path: Path) -> None:
    long = "A description that is longer than thirty characters, and then some more"
    path = photo(tmp_path / "a.jpg", exif=exif({DESCRIPTION: long}), xmp=xmp(long.upper()))
    with_segment(path, iptc((120, long[:60].encode()), (105, b"A headline")))
    assert about(path).captions == (long, "A headline")


def test_xmp_in_png(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    for packed in (False, True):
        told = PngInfo()
        told.add_itxt("XML:com.adobe.xmp", xmp("in a png &amp; more", ("k",)).decode(), zip=packed)
        path = photo(tmp_path / f"{packed}.png", pnginfo=told)
        assert about(path).captions == ("in a png & more",) and about(path).labels == ("k",)


@pytest.mark.parametrize(
    "text",
    [
        "OLYMPUS DIGITAL CAMERA         ",
        "KONICA MINOLTA DIGITAL CAMERA",
        "Exif_JPEG_PICTURE",
        "SONY DSC",
        "DCIM\\100MEDIA\\DJI_0023.JPG",
        "IMG_2034",
        "Created with GIMP",
        "Screenshot",
        "untitled",
        "hdrpl",
        "...",
        "12345",
        "",
        "filter: 0; jpegRotation: 0;",
        "Canon EOS 5D",
        "canon",
    ],
)
def test_what_cameras_write_by_themselves_is_no_caption(text: str, tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", exif=exif({DESCRIPTION: text, MAKE: "Canon", MODEL: "Canon EOS 5D"}))
    assert about(path).captions == () and about(path).camera == "Canon EOS 5D"


@pytest.mark.parametrize(
    "text",
    [
        "a cat with a digital camera",
        "Canon fires at dawn",
        "picture of a dog",
        "雪山",
        "scan of my knee",
        "Made in Japan",
    ],
)
def test_what_people_write_is_one(text: str) -> None:
    assert not is_stock(text)


# ---- damaged, and made to hurt


def block(entries: list[tuple[int, int, int, bytes]], rest: bytes = b"") -> bytes:
    """A TIFF structure of one directory; (tag, type, count, value or offset)."""
    told = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + told + b"\0\0\0\0" + rest


def jpeg_with(data: bytes, path: Path) -> Path:
    photo(path)
    payload = b"Exif\0\0" + data
    with_segment(path, b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload)
    return path


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "no tiff": b"what is this",
    "offset out of it": b"II*\0\xff\xff\xff\xff",
    "half a directory": b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 20,
    "value out of it": block([(DESCRIPTION, 2, 50, struct.pack("<I", 2**31))]),
    "a length of gigabytes": block([(DESCRIPTION, 2, 2**32 - 1, struct.pack("<I", 8))]),
    "an unknown type": block([(DESCRIPTION, 99, 4, b"abcd")]),
    "itself below": block([(EXIF_IFD, 4, 1, struct.pack("<I", 8))]),
    "noise": block([(DESCRIPTION, 2, 4, b"\x81\x8d\x90\0")]),
    "a date that is none": block([(TAKEN, 2, 4, b"abc\0"), (ORIENTATION, 3, 1, b"\xff\xff\0\0")]),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_block_is_no_bad_row(name: str, tmp_path: Path) -> None:
    jpeg_with(DAMAGED[name], tmp_path / "a.jpg")
    reading = read(tmp_path, strict=True)
    assert reading.pairs.items[0].metadata == {"width": 12, "height": 8} and reading.pairs.items[0].captions == ()


def test_damaged_xml_is_no_bad_row(tmp_path: Path) -> None:
    bomb = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
        f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    for number, data in enumerate(
        [
            b"<x",
            xmp("x")[:-40],
            xmp("&i;", head=f"{bomb}]>"),
            xmp("x").decode().encode("utf-16"),
            b"<a>" * 20000,
            b"\xff",
        ]
    ):
        photo(tmp_path / f"{number}.webp", xmp=data)
    reading = read(tmp_path, strict=True)
    assert len(reading.pairs) == 6 and all(item.captions == () for item in reading.pairs)


def hostile_jpeg_tags() -> bytes:
    """As many tags as fit, each of which claims the whole block: read all, they would take gigabytes."""
    entries = [(DESCRIPTION + n, 2, 60_000, struct.pack("<I", 8)) for n in range(5000)]
    return block(entries)[:65_000]


def hostile(kind: str) -> bytes:
    start = b"\xff\xd8"
    if kind == "segments":
        return start + b"\xff\xe5\0\x02" * 2_000_000
    if kind == "fill":
        return start + b"\xff" * 8_000_000
    if kind == "xmp again and again":
        told = b"http://ns.adobe.com/xap/1.0/\0" + xmp("x" * 60_000)
        return start + (b"\xff\xe1" + struct.pack(">H", len(told) + 2) + told) * 200
    if kind == "chunks":
        return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0tEXt\0\0\0\0" * 1_000_000
    if kind == "packed":
        text = zlib.compress(b"<a>" * 50_000_000, 9)
        data = b"XML:com.adobe.xmp\0\1\0\0\0" + text
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(data)) + b"iTXt" + data + b"\0" * 4
    if kind == "riff":
        return b"RIFF\xff\xff\xff\xffWEBP" + b"ANMF\0\0\0\0" * 1_000_000
    if kind == "a chunk of itself":
        return b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xfftEXt" * 1000
    return b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHI4s", DESCRIPTION, 2, 2**31, b"\x08\0\0\0") * 65535


KINDS = ["segments", "fill", "xmp again and again", "chunks", "packed", "riff", "a chunk of itself", "tiff"]


@pytest.mark.parametrize("kind", [*KINDS, "tags"])
def test_reading_is_bounded(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    if kind == "tags":
        jpeg_with(hostile_jpeg_tags(), path)
    else:
        path.write_bytes(hostile(kind))
    tracemalloc.start()
    began = time.perf_counter()
    about(path)
    seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20 and seconds < 2


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from(
        [b"", b"\xff\xd8\xff\xe1\0\x50Exif\0\0II*\0", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"MM\0*"]
    ),
    data=st.binary(max_size=200),
)
def test_any_bytes_are_read_without_an_error(start: bytes, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(start + data)
    assert isinstance(about(tmp_path / "a.jpg"), About)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_is_read_without_an_error(data: st.DataObject, tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", exif=exif({DESCRIPTION: "text", MODEL: "X"}, {TAKEN: "2001:02:03 04:05:06"}))
    with_segment(path, iptc((120, b"caption"), (25, b"key")))
    whole = bytearray(path.read_bytes()[:400])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(2, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    assert isinstance(about(path), About)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    done = threading.Event()

    def look() -> None:
        about(tmp_path / "a.jpg")
        done.set()

    threading.Thread(target=look, daemon=True).start()
    assert done.wait(5)
    assert about(tmp_path / "nothing.jpg") == About() == about(tmp_path)


def test_pictures_that_cannot_be_decoded_are_rows_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"hello")
    whole = io.BytesIO()
    Image.new("RGB", (64, 64)).save(whole, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:300])
    assert Pairs.read(tmp_path).image_ids == ["cut.jpg", "empty.jpg", "text.png"]


def test_reading_again_gives_the_same(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", exif=exif({DESCRIPTION: "text"}))
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,one\n")
    assert Pairs.read(tmp_path).items == Pairs.read(tmp_path).items
