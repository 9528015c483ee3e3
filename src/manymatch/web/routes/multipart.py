"""Forms with a file in them (multipart/form-data, RFC 7578), from a body that is in memory whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ...errors import DataError
from ..problems import Refused

__all__ = ["File", "read_form"]

_BOUNDARY = 70
"""Characters of the longest boundary there may be (RFC 2046)."""


@dataclass(frozen=True)
class File:
    """A file of a form: its bytes, and the name the sender gave it, which is for messages alone."""

    data: bytes
    name: str


def read_form(
    content_type: str, body: bytes, files: tuple[str, ...], texts: tuple[str, ...], most: int
) -> dict[str, File | str]:
    """The fields of a form by name.

    Args:
        files, texts: the names it may have.
        most: bytes of a text.

    Raises:
        Refused: 400, no such form; 413, a longer text.
        DataError: another field, one given twice, or text where a file is expected.
    """
    parts = _Parts(len(files) + len(texts))
    parts.read(body, _boundary(content_type))
    out: dict[str, File | str] = {}
    for headers, data in parts.found:
        name, filename = _disposition(headers)
        if name not in files + texts:
            raise DataError(f"unknown field {name!r} of the form, known: {', '.join(sorted(files + texts))}")
        if name in out:
            raise DataError(f"{name}: given twice, expected it once")
        if (filename is None) == (name in files):
            raise DataError(f"{name}: expected {'a file' if name in files else 'text, not a file'}")
        if filename is None and len(data) > most:
            raise Refused(413, "TooLarge", f"{name}: {len(data)} bytes, expected at most {most}")
        out[name] = _text(name, data) if filename is None else File(data, filename or "picture")
    return out


def _boundary(content_type: str) -> bytes:
    boundary = _options(content_type.encode("latin-1")).get(b"boundary", b"")
    if not 0 < len(boundary) <= _BOUNDARY:
        raise _malformed("its content type names no boundary")
    return boundary


class _Parts:
    """The parts of a body, each its headers and its data, as the parser tells of them.

    Args:
        most: parts there may be.
    """

    def __init__(self, most: int) -> None:
        self.found: list[tuple[dict[bytes, bytes], bytes]] = []
        self._most, self._ended = most, False

    def read(self, body: bytes, boundary: bytes) -> None:
        """Raises as `read_form`."""
        names = ("part_begin", "header_begin", "header_field", "header_value", "header_end", "part_data", "part_end")
        callbacks = {f"on_{name}": getattr(self, f"_{name}") for name in (*names, "end")}
        try:
            parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
            parser.write(body)
            parser.finalize()
        except FormParserError as error:
            raise _malformed(str(error)) from None
        if not self._ended:
            raise _malformed("it breaks off before its last boundary")

    def _part_begin(self) -> None:
        if len(self.found) == self._most:
            raise DataError(f"a form of more than {self._most} fields, expected at most {self._most}")
        self._headers: dict[bytes, bytes] = {}
        self._data = bytearray()

    def _header_begin(self) -> None:
        self._name, self._value = b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _part_end(self) -> None:
        self.found.append((self._headers, bytes(self._data)))

    def _end(self) -> None:
        self._ended = True


def _disposition(headers: Mapping[bytes, bytes]) -> tuple[str, str | None]:
    """Name of the field, and of the file where it is one."""
    if b"content-disposition" not in headers:
        raise _malformed("a part of it has no Content-Disposition")
    given = _options(headers[b"content-disposition"])
    filename = given.get(b"filename")
    return _plain(given.get(b"name", b"")), None if filename is None else _plain(filename)


def _options(value: bytes) -> Mapping[bytes, bytes]:
    return parse_options_header(value)[1]


def _plain(name: bytes) -> str:
    return name.decode("utf-8", "replace")[:200]


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise DataError(f"{name}: not UTF-8") from None


def _malformed(why: str) -> Refused:
    return Refused(400, "BadRequest", f"the body is no multipart/form-data: {why}")
