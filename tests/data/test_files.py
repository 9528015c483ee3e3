"""Lines and whole texts of files: packed or not, whole or cut, with the numbers an editor shows."""

import gzip
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manymatch.data.files import Unread, identifier, read_lines, whole_text
from manymatch.errors import DataError


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\ufeff"), max_size=8), max_size=6))
def test_lines_of_a_packed_file_are_those_of_the_plain_one(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    folder, data = tmp_path_factory.mktemp("lines"), b"\xef\xbb\xbf" + "\n".join(lines).encode()
    (folder / "plain").write_bytes(data)
    (folder / "packed").write_bytes(gzip.compress(data))
    found = [[(n, line) for n, line in read_lines(folder / name)] for name in ("plain", "packed")]
    kept = [(n, line.encode()) for n, line in enumerate(lines, 1) if line.encode().strip()]
    assert [[(n, line.rstrip(b"\n")) for n, line in each] for each in found] == [kept, kept]
    assert whole_text(folder / "plain", "text") == whole_text(folder / "packed", "text") == "\n".join(lines)


def test_a_line_too_long_is_said_and_the_next_one_follows(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 4 + b"\n" + b"y" * 50 + b"\nz\n\n" + b"v" * 5 + b"\nw")
    too_long = Unread("line too long", "the line is longer than 5 bytes")
    assert list(read_lines(path, 5)) == [(1, b"xxxx\n"), (2, too_long), (3, b"z\n"), (5, too_long), (6, b"w")]
    # Who stops there reads no more of it.
    assert list(islice(read_lines(path, 5), 2)) == [(1, b"xxxx\n"), (2, too_long)]


@pytest.mark.parametrize("blank", [False, True])
def test_a_gzip_of_nothing_is_not_unpacked_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: bool
) -> None:
    monkeypatch.setattr("manymatch.data.files._BLANK", 50)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"x\n" + b"\n" * 50 + b"y\n" + b" \n" * 26 + b"z\n"))
    found = [(n, line) for n, line in read_lines(path, blank=blank) if isinstance(line, Unread) or line.strip()]
    why = Unread("damaged file", "the gzip stream unpacks to 52 bytes of blank lines; the rest is not read")
    assert found == [(1, b"x\n"), (52, b"y\n"), (78, why)]
    path.write_bytes(gzip.decompress(path.read_bytes()))
    # What lies on the disk as it is takes no longer than it is long.
    assert list(read_lines(path, blank=blank))[-1] == (79, b"z\n")


def test_a_line_of_a_gzip_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manymatch.data.files._LINE", 40)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"x" * 39 + b"\n" + b"y" * 80 + b"\nz\n"))
    first, second, last = read_lines(path, 10)
    assert (first[0], second[0], last[0]) == (1, 2, 2) and isinstance(last[1], Unread)
    assert last[1].detail == "the gzip stream unpacks to a line of 50 bytes; the rest is not read"
    path.write_bytes(gzip.decompress(path.read_bytes()))
    assert [n for n, _ in read_lines(path, 10)] == [1, 2, 3]


def test_what_is_damaged_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    whole = gzip.compress(b"\n".join(b"%d" % n for n in np.random.default_rng(0).integers(1 << 40, size=5000)))
    path.write_bytes(whole[: len(whole) // 2])
    *lines, last = read_lines(path)
    assert lines and all(isinstance(line, bytes) for _, line in lines)
    assert last[0] == len(lines) + 1 and isinstance(last[1], Unread) and last[1].kind == "damaged file"
    with pytest.raises(DataError, match=r"^truth: '.*a.gz' cannot be read"):
        whole_text(path, "truth")
    with pytest.raises(DataError, match=r"^'.*nothing' cannot be read"):
        list(read_lines(tmp_path / "nothing"))


def test_a_whole_text_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manymatch.data.files._UNPACKED", 1000)
    path = tmp_path / "a.json"
    path.write_bytes(gzip.compress(b" " * 10_000))
    assert len(path.read_bytes()) < 100
    with pytest.raises(DataError, match=r"^truth: '.*a.json' holds more than \d+ bytes of text; split it"):
        whole_text(path, "truth")
    path.write_bytes(b" " * 10_000)
    assert len(whole_text(path, "truth")) == 10_000


def test_ids_are_texts_and_whole_numbers() -> None:
    assert [identifier(value) for value in ("a", "007", 7, 7.0, True, None, ["a"])] == ["a", "007", "7", *[None] * 4]
