"""From a request to what it asks: the id in its path, its body, its form."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from ..problems import Refused
from .asked import ID_LENGTH
from .multipart import File, read_form
from .telling import FORM

if TYPE_CHECKING:
    from fastapi import Request

    from ..threads import Threads

__all__ = ["form_of", "item_id", "json_of"]


def item_id(request: Request) -> str:
    """The id as the caller meant it; `Doorway` left it percent-encoded. Raises Refused."""
    sent = str(request.path_params["id"])
    try:
        found = unquote(sent, errors="strict")
    except UnicodeDecodeError:
        raise Refused(404, "UnknownName", "an id that is not UTF-8 is none of this index") from None
    if not 0 < len(found) <= ID_LENGTH:
        raise Refused(404, "UnknownName", f"an id has 1 to {ID_LENGTH} characters")
    return found


async def json_of(request: Request) -> bytes:
    """The JSON body. Raises Refused: another content type, too large, too slow."""
    _expect(request, "application/json")
    return await request.body()


async def form_of(
    request: Request, threads: Threads, most: int, files: tuple[str, ...], texts: tuple[str, ...] = ()
) -> dict[str, File | str]:
    """The form's fields, texts of up to `most` bytes. Raises Refused as `json_of`, and as `read_form`."""
    content_type = _expect(request, FORM)
    return await threads.read(read_form, content_type, await request.body(), files, texts, most)


def _expect(request: Request, wanted: str) -> str:
    sent = request.headers.get("content-type", "")
    if sent.partition(";")[0].strip().lower() != wanted:
        found = repr(sent) if sent else "none"
        raise Refused(415, "UnsupportedMedia", f"the body's content type is {found}, expected {wanted}")
    return sent
