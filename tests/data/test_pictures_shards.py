"""Several tars as one place of pictures, and the headers of tars whatever is written in them."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards_made import png, tar_of

from manymatch.data.decoding import MAX_PIXELS, PictureError
from manymatch.data.pictures import FolderPictures, ShardPictures, TarPictures, open_pictures, pictures_at
from manymatch.data.pictures.headers import TarDamage, members
from manymatch.data.pictures.shards import braces, shard_paths
from manymatch.errors import DataError


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    (tmp_path / "shards").mkdir()
    return [
        tar_of(
            tmp_path / "shards" / f"train-{n:03}.tar", {f"{k}.png": png(10 * n + k) for k in range(3)} | {"0.txt": b"x"}
        )
        for n in range(3)
    ]


def test_names_are_those_of_the_shard_and_the_member(shards: list[Path]) -> None:
    pictures = ShardPictures(shards)
    assert pictures.names() == [f"train-{n:03}/{k}.png" for n in range(3) for k in range(3)]
    assert pictures.open("train-002/1.png").getpixel((0, 0)) == (21, 0, 0)
    assert ShardPictures(shards[:1]).names() == ["0.png", "1.png", "2.png"]
    for name in ("train-009/0.png", "0.png", "train-000/9.png", "train-000", "train-000/0.txt"):
        with pytest.raises(PictureError) as told:
            pictures.require(name)
        assert told.value.kind == "missing picture"
    with pytest.raises(PictureError, match="leaves the folder"):
        pictures.read("train-000/../../x")


def test_shards_in_folders_are_told_apart_by_their_path(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        tar_of(tmp_path / folder / "0.tar", {"d/x.png": png(ord(folder))})
    pictures = pictures_at(tmp_path)
    assert isinstance(pictures, ShardPictures)
    assert pictures.names() == ["a/0/d/x.png", "b/0/d/x.png"]
    assert pictures.read("b/0/d/x.png") == png(ord("b"))


def test_two_shards_of_the_same_name_and_none_are_refused(shards: list[Path]) -> None:
    with pytest.raises(DataError, match="would both be called 'train-000'"):
        ShardPictures([shards[0], shards[0]])
    with pytest.raises(DataError, match="no shard given"):
        ShardPictures([])
    with pytest.raises(DataError, match="no such file"):
        ShardPictures([shards[0].with_name("train-007.tar")])
    one_gone = ShardPictures([*shards, shards[0].with_name("train-007.tar")])
    one_gone.require("train-001/0.png")
    with pytest.raises(PictureError, match=r"'train-007/0\.png'.*cannot be read \(No such file"):
        one_gone.require("train-007/0.png")


def test_a_description_opens_the_same_again_with_its_limit(shards: list[Path]) -> None:
    pictures = ShardPictures(shards)
    assert "max_pixels" not in pictures.describe()
    pictures.max_pixels = 15
    again = open_pictures(pictures.describe())
    assert isinstance(again, ShardPictures) and again.names() == pictures.names() and again.max_pixels == 15
    with pytest.raises(PictureError, match="at most 15 are read"):
        again.open("train-000/0.png")
    assert pickle.loads(pickle.dumps(pictures)).max_pixels == 15
    assert TarPictures(shards[0]).max_pixels == MAX_PIXELS


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_threads_and_forks_share_one(shards: list[Path]) -> None:
    pictures = ShardPictures(shards)
    names = [f"train-{n:03}/{k}.png" for n in range(3) for k in range(3)] * 8
    with ThreadPoolExecutor(4) as threads:
        reds = list(threads.map(lambda name: pictures.open(name).getpixel((0, 0))[0], names))
    assert reds == [10 * n + k for n in range(3) for k in range(3)] * 8
    child = os.fork()
    if child == 0:
        os._exit(0 if pictures.read("train-001/1.png") == png(11) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_no_handle_stays_open(tmp_path: Path) -> None:
    paths = [tar_of(tmp_path / f"{n:04}.tar", {"a.png": png(n % 256)}) for n in range(40)]
    pictures = ShardPictures(paths)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    assert len(pictures.names()) == 40 and pictures.read("0007/a.png") == png(7)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_shard_that_changed_breaks_off_or_is_no_tar_is_said_of_its_pictures(shards: list[Path]) -> None:
    pictures = ShardPictures(shards)
    assert pictures.cut == ""
    whole = shards[1].read_bytes()
    shards[1].write_bytes(whole[:530])
    with pytest.raises(PictureError, match="breaks off inside it"):
        pictures.read("train-001/0.png")
    assert "train-001.tar: the tar breaks off inside '0.png', after 0 whole members" in pictures.cut
    shards[1].write_bytes(whole)
    pictures = ShardPictures(shards)
    pictures.require("train-001/0.png")
    shards[1].write_bytes(whole + b"\0" * 512)
    with pytest.raises(PictureError, match="has changed since it was opened"):
        pictures.read("train-001/0.png")
    shards[2].write_bytes(b"no tar" * 200)
    with pytest.raises(PictureError, match=r"'train-002/0\.png'.*is not a tar"):
        pictures.read("train-002/0.png")


def test_patterns_and_folders_name_shards(shards: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    assert shard_paths(folder) == shard_paths(folder / "train-{000..002}.tar") == shards
    assert shard_paths(str(folder / "train-{000,002}.tar")) == [shards[0], shards[2]]
    assert braces("{a,b}-{8..10}.tar") == [f"{x}-{n}.tar" for x in "ab" for n in (8, 9, 10)]
    assert braces("plain.tar") is None
    with pytest.raises(DataError, match=r"2 of 5 are missing, the first is '.*train-003.tar'"):
        shard_paths(folder / "train-{000..004}.tar")
    for bad in ("{0..99999999}.tar", "{3..1}.tar", "{x}.tar", "{0..999}{0..999}.tar"):
        with pytest.raises(DataError, match="shards: "):
            shard_paths(folder / bad)
    with pytest.raises(DataError, match=r"holds no \.tar"):
        shard_paths(_empty(tmp_path))
    assert isinstance(pictures_at(folder / "train-{000..002}.tar"), ShardPictures)
    (folder / "a.png").write_bytes(png(1))
    assert isinstance(pictures_at(folder), FolderPictures)


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_links_devices_and_ways_out_are_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(99))
    with tarfile.open(path, "w") as tar:
        for name, kind, link in [
            ("../secret.png", tarfile.REGTYPE, ""),
            ("/secret.png", tarfile.REGTYPE, ""),
            ("soft.png", tarfile.SYMTYPE, str(secret)),
            ("hard.png", tarfile.LNKTYPE, "../secret.png"),
            ("device.png", tarfile.CHRTYPE, ""),
            ("pipe.png", tarfile.FIFOTYPE, ""),
            ("folder.png", tarfile.DIRTYPE, ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("./good.png"))
    assert ShardPictures([path]).names() == TarPictures(path).names() == ["good.png"]


names = st.text(st.sampled_from("ab./ü-"), min_size=1, max_size=120)
kinds = st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])


@settings(max_examples=60)
@given(
    entries=st.lists(st.tuples(names, kinds, st.integers(0, 1200)), max_size=6),
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]),
)
def test_headers_are_read_as_the_standard_library_reads_them(
    entries: list[tuple[str, bytes, int]], format: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    with tarfile.open(path, "w", format=format) as tar:
        for name, kind, size in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "a/b", size if kind == tarfile.REGTYPE else 0
            try:
                tar.addfile(info, io.BytesIO(bytes(size)))
            except ValueError:
                continue
    with tarfile.open(path) as tar:
        wanted = [(m.name.rstrip("/"), m.size, m.offset_data if m.size else 0) for m in tar if m.name.strip("/")]
    handle = os.open(path, os.O_RDONLY)
    found = [(m.name.rstrip("/"), m.size, m.offset if m.size else 0) for m in members(handle) if m.name.strip("/")]
    os.close(handle)
    assert found == wanted


def header(name: bytes, kind: bytes, size: bytes) -> bytes:
    """One header, its checksum right."""
    block = bytearray(name.ljust(124, b"\0") + size.ljust(12, b"\0")[:12] + b"\0" * 376)
    block[156:157], block[257:265] = kind, b"ustar\x0000"
    block[148:156] = b"%06o\0 " % (sum(block) + 8 * 32)
    return bytes(block)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (header(b"a.png", b"0", b"\xff" * 12), "damaged at byte 0|no header"),
        (header(b"a.png", b"0", b"\x80" + b"\x7f" * 11), "breaks off inside 'a.png'"),
        (header(b"x", b"L", b"77777777777"), "a name or header of 8589934591 bytes"),
        (header(b"x", b"x", b"12") + b"9999999 a=b\n".ljust(512, b"\0"), "pax header"),
        (header(b"x", b"x", b"12") + b"x" * 512, "pax header"),
        (header(b"x", b"x", b"14") + b"14 size=-99999\n".ljust(512, b"\0") + header(b"y", b"0", b"0"), "damaged|pax"),
        (header(b"x", b"0", b"0"), "without the mark of its end"),
        (header(b"x", b"0", b"0") + b"\0" * 100, "breaks off inside a header"),
    ],
)
def test_headers_that_lie_are_said(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    handle = os.open(path, os.O_RDONLY)
    with pytest.raises(TarDamage, match=words):
        list(members(handle))
    os.close(handle)


def test_a_sparse_file_is_no_picture(tmp_path: Path) -> None:
    record = b"GNU.sparse.major=1\n"
    record = b"%d %s" % (len(record) + 3, record)
    path = tmp_path / "a.tar"
    pax = header(b"x", b"x", b"%o" % len(record)) + record.ljust(512, b"\0")
    path.write_bytes(pax + header(b"a.png", b"0", b"0") + header(b"b.png", b"0", b"0") + bytes(1024))
    assert TarPictures(path).names() == ["b.png"]
