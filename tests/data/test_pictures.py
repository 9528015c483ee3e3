"""Decoding, folders and tars of pictures."""

import contextlib
import io
import os
import pickle
import tarfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manymatch.data.decoding import PictureError, decode
from manymatch.data.pairs import Pairs
from manymatch.data.pictures import FolderPictures, TarPictures, open_pictures, pictures_at
from manymatch.data.sources import read_pairs
from manymatch.errors import DataError, UnknownName

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 255, (24, 32, 3), dtype=np.uint8))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def tar_of(path: Path, members: dict[str, bytes], **options: object) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = decode(encoded(PHOTO, "PNG", exif=exif), "x")
    array = np.asarray(PHOTO)
    expected = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.transpose(1, 0, 2),
        6: np.rot90(array, -1),
        7: array[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(array, 1),
    }[orientation]
    np.testing.assert_array_equal(np.asarray(turned), expected)
    assert turned.getexif().get(0x0112) is None


def test_a_damaged_exif_block_leaves_the_picture_as_it_lies() -> None:
    data = encoded(PHOTO, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 20)
    assert decode(data, "x").size == PHOTO.size


def test_sixteen_bits_are_scaled_to_eight() -> None:
    values = np.array([[0, 257, 65535, 32896]], np.uint16)
    for format in ("PNG", "TIFF"):
        array = np.asarray(decode(encoded(Image.fromarray(values), format), "x"))
        np.testing.assert_array_equal(array[0, :, 0], [0, 1, 255, 128])
        assert array.shape == (1, 4, 3)


def test_thirty_two_bits_and_floats_are_refused() -> None:
    for values in (np.full((2, 2), 70_000, np.int32), np.zeros((2, 2), np.float32)):
        with pytest.raises(DataError, match=r"32.*expected 8 or 16"):
            decode(encoded(Image.fromarray(values), "TIFF"), "x")


def test_alpha_lies_over_white() -> None:
    clear, half = (10, 20, 30, 0), (0, 0, 0, 128)
    image = Image.new("RGBA", (2, 1), clear)
    image.putpixel((1, 0), half)
    out = decode(encoded(image, "PNG"), "x")
    assert out.getpixel((0, 0)) == (255, 255, 255)
    assert out.getpixel((1, 0)) == (127, 127, 127)


def test_transparent_palettes_and_keyed_colours_are_white_too() -> None:
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.putpixel((0, 0), 0)
    for options in ({"transparency": 0}, {"transparency": b"\x00\xff"}):
        out = decode(encoded(palette, "PNG", **options), "x")
        assert [out.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 0, 0)]
    grey = Image.fromarray(np.array([[7, 90]], np.uint8))
    assert decode(encoded(grey, "PNG", transparency=7), "x").getpixel((0, 0)) == (255, 255, 255)
    deep = Image.fromarray(np.array([[7, 257]], np.uint16))
    assert [decode(encoded(deep, "PNG", transparency=7), "x").getpixel((x, 0))[0] for x in (0, 1)] == [255, 1]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr"])
def test_every_mode_comes_out_rgb(mode: str) -> None:
    format = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    out = decode(encoded(PHOTO.convert(mode), format), "x")
    assert (out.mode, out.size) == ("RGB", PHOTO.size)


def test_an_animation_gives_its_first_frame() -> None:
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    for format in ("GIF", "PNG", "WEBP"):
        data = encoded(first, format, save_all=True, append_images=[second], lossless=True)
        assert decode(data, "x").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("format", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("WEBP", {}), ("BMP", {}), ("TIFF", {})],
)
def test_a_picture_cut_short_is_refused_wherever_it_is_cut(format: str, options: dict[str, bool]) -> None:
    data = encoded(PHOTO, format, **options)
    whole = np.asarray(decode(data, "x"))
    refused = 0
    for length in range(0, len(data), 7):
        try:
            # A trailer may be missing when every pixel is there.
            np.testing.assert_array_equal(np.asarray(decode(data[:length], "x")), whole)
        except PictureError as error:
            refused += 1
            assert error.kind == "unreadable picture"
    assert refused > len(data) // 7 * 0.9


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x00" * 100, "not a picture"),
        (b"just words", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?>\n<!-- x --><svg/>", "SVG"),
        (b"<!DOCTYPE html><p>404", "web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
    ],
)
def test_what_is_no_picture_is_said_plainly(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=f"'some.jpg'.*{reason}"):
        decode(data, "some.jpg")


def test_the_size_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (100, 50)), "PNG")
    assert decode(data, "x", max_pixels=5000).size == (100, 50)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DataError, match="100 x 50 = 5000 pixels, at most 4999"):
        decode(data, "x", max_pixels=4999)


@pytest.mark.parametrize("side", [8001, 9600, 30_000])
def test_a_bomb_is_an_error_and_warns_nobody(side: int) -> None:
    # A header that promises side x side pixels: under, over and far over what Pillow itself warns about.
    data = bytearray(encoded(Image.new("L", (1, 1)), "BMP"))
    data[18:26] = np.array([side, side], "<i4").tobytes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(DataError, match="too large"):
            decode(bytes(data), "x")
    assert not caught


def test_warnings_are_quiet_over_threads_and_filters_come_back() -> None:
    data = encoded(Image.new("P", (64, 64)), "PNG", transparency=b"\x00\xff")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        assert len(list(threads.map(lambda n: decode(data, str(n)), range(64)))) == 64
    assert list(warnings.filters) == before


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_give_a_picture_or_a_data_error(format: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(PHOTO, format))
    for position, value in changes:
        data[position % min(len(data), 200)] = value
    with contextlib.suppress(DataError):
        assert decode(bytes(data), "x", max_pixels=10_000).mode == "RGB"


def test_a_folder_lists_and_opens_only_pictures_inside(tmp_path: Path) -> None:
    (tmp_path / "p" / "sub").mkdir(parents=True)
    PHOTO.save(tmp_path / "p" / "sub" / "b.png")
    PHOTO.save(tmp_path / "out.png")
    (tmp_path / "p" / "link.png").symlink_to(tmp_path / "out.png")
    (tmp_path / "p" / "notes.txt").write_text("x")
    os.mkfifo(tmp_path / "p" / "pipe.png")
    folder = FolderPictures(tmp_path / "p")
    assert folder.names() == ["sub/b.png"]
    assert folder.open("./sub/../sub/b.png").size == PHOTO.size
    for name, reason in [
        ("../out.png", "leaves"),
        ("link.png", "a link that leads out"),
        ("pipe.png", "a pipe"),
        ("sub", "a folder"),
        ("c.png", "not in"),
        ("sub/b.png/x", "Not a directory"),
        ("x" * 300, "too long"),
    ]:
        with pytest.raises(DataError, match=reason):
            folder.read(name)
    with pytest.raises(DataError, match="no such folder"):
        FolderPictures(tmp_path / "q")


def test_a_folder_in_the_place_of_a_picture_leaves_no_handle_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").mkdir()
    folder = FolderPictures(tmp_path)
    # As if it had been put there after the check.
    monkeypatch.setattr(folder, "_locate", lambda name: str(tmp_path / name))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(PictureError, match="a folder, expected a file"):
            folder.read("a.png")
    assert len(os.listdir("/proc/self/fd")) == before


def test_exif_tags_that_overlap_do_not_fill_the_memory() -> None:
    import struct
    import tracemalloc

    count, size = 2700, 65_000
    end = 8 + 2 + 12 * count + 4
    tags = b"".join(struct.pack("<HHII", 1000 + n, 7, size - end, end) for n in range(count))
    block = (b"II*\0" + struct.pack("<IH", 8, count) + tags + bytes(4)).ljust(size, b"x")
    # Every tag says that all of the rest is its own: 90 MB in all.
    data = encoded(PHOTO, "JPEG", exif=b"Exif\0\0" + block)
    tracemalloc.start()
    try:
        assert decode(data, "x").size == PHOTO.size
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_huge_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manymatch.data.pictures.base.LARGEST", 10)
    PHOTO.save(tmp_path / "b.png")
    tar = tar_of(tmp_path / "t.tar", {"b.png": encoded(PHOTO, "PNG")})
    for pictures in (FolderPictures(tmp_path), TarPictures(tar)):
        with pytest.raises(DataError, match="more than 10 bytes"):
            pictures.read("b.png")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_tar_reads_in_place_over_threads_forks_and_pickles(tmp_path: Path) -> None:
    members = {f"./d/{n}.png": encoded(Image.new("RGB", (4, 4), (n, 0, 0)), "PNG") for n in range(20)}
    tar = TarPictures(tar_of(tmp_path / "t.tar", members | {"d/notes.txt": b"x"}))
    assert len(tar.names()) == 20
    assert tar.read("d/3.png") == members["./d/3.png"]
    with ThreadPoolExecutor(4) as threads:
        reds = list(threads.map(lambda n: tar.open(f"d/{n}.png").getpixel((0, 0))[0], range(20)))
    assert reds == list(range(20))
    child = os.fork()
    if child == 0:
        os._exit(0 if tar.read("d/7.png") == members["./d/7.png"] else 1)
    assert tar.read("d/8.png") == members["./d/8.png"]
    assert os.waitpid(child, 0)[1] == 0
    assert pickle.loads(pickle.dumps(tar)).names() == tar.names()


def test_long_names_links_and_repeats_in_a_tar(tmp_path: Path) -> None:
    long = "a" * 150 + "/" + "ü" * 60 + ".png"
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tar_of(tmp_path / "t.tar", {long: b"old", "b.png": b"1", "../c.png": b"2"}, format=format)
        with tarfile.open(path, "a", format=format) as tar:
            hard = tarfile.TarInfo("hard.png")
            hard.type, hard.linkname = tarfile.LNKTYPE, "b.png"
            tar.addfile(hard)
            soft = tarfile.TarInfo("soft.png")
            soft.type, soft.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(soft)
            again = tarfile.TarInfo(long)
            again.size = 3
            tar.addfile(again, io.BytesIO(b"new"))
        pictures = TarPictures(path)
        assert pictures.names() == [long, "b.png", "hard.png"]
        assert (pictures.read(long), pictures.read("hard.png")) == (b"new", b"1")


def test_a_tar_that_breaks_off_keeps_its_whole_members(tmp_path: Path) -> None:
    png = encoded(PHOTO, "PNG")
    path = tar_of(tmp_path / "images.tar", {f"{n}.png": png for n in range(3)})
    rows = "".join(f'{{"image": "{n}.png", "captions": ["x"]}}\n' for n in range(3))
    (tmp_path / "pairs.jsonl").write_text(rows)
    whole = path.read_bytes()
    member = 512 + -(-len(png) // 512) * 512
    for length, usable in [(2 * member + 700, 2), (2 * member + 100, 2), (2 * member, 2), (member + 600, 1)]:
        path.write_bytes(whole[:length])
        pairs = read_pairs(tmp_path / "pairs.jsonl")
        assert len(pairs) == usable
        assert {p.line for p in pairs.problems} - {None} == set(range(usable + 1, 4))
        assert all(image.size == PHOTO.size for image in pairs.images)
        with pytest.raises(DataError):
            read_pairs(tmp_path / "pairs.jsonl", strict=True)


def test_a_damaged_header_in_a_tar_is_said(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "t.tar", {f"{n}.png": b"x" for n in range(3)})
    data = bytearray(path.read_bytes())
    data[1024 + 5] ^= 0xFF
    path.write_bytes(data)
    tar = TarPictures(path)
    assert tar.names() == ["0.png"]
    assert "damaged at byte 1024" in tar.cut
    assert TarPictures(tar_of(tmp_path / "u.tar", {"a.png": b"x"})).cut == ""


def test_compressed_and_foreign_files_are_refused(tmp_path: Path) -> None:
    for mode, tool in (("gz", "gunzip"), ("bz2", "bunzip2"), ("xz", "unxz")):
        path = tmp_path / f"t.tar.{mode}"
        with tarfile.open(path, f"w:{mode}") as tar:
            tar.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
        with pytest.raises(DataError, match=f"compressed.*{tool}"):
            TarPictures(path)
    (tmp_path / "x.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match="is not a tar"):
        TarPictures(tmp_path / "x.tar")
    with pytest.raises(DataError, match=r"no such file.*'x.tar'"):
        pictures_at(tmp_path / "y.tar")


def test_descriptions_open_the_same_pictures_again(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.png")
    tar = tar_of(tmp_path / "t.tar", {"a.png": encoded(PHOTO, "PNG")})
    for pictures in (FolderPictures(tmp_path), TarPictures(tar)):
        again = open_pictures(pictures.describe())
        assert (type(again), list(again.names())) == (type(pictures), ["a.png"])
    with pytest.raises(UnknownName, match="known: folder, shards, table, tar, toy"):
        open_pictures({"kind": "web"})
    with pytest.raises(DataError, match="no 'path'"):
        open_pictures({"kind": "tar"})


def test_the_toy_world_opens_again_from_its_description() -> None:
    pytest.importorskip("manymatch.data.toy", reason="the toy world is not there")
    toy = Pairs.toy(12, seed=3, size=32)
    assert toy.pictures is not None
    again = open_pictures(toy.pictures.describe())
    assert list(again.names()) == list(toy.pictures.names())
    name = again.names()[5]
    np.testing.assert_array_equal(np.asarray(again.open(name)), np.asarray(toy.pictures.open(name)))
