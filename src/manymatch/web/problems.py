"""What is answered where a request cannot be: `{"error": {"type", "message"}}`, and a status for each type."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from starlette.responses import JSONResponse

from ..data.decoding import PictureError
from ..errors import DataError, Error, IndexMismatch, UnknownName

__all__ = ["TYPES", "Refused", "problem", "status_of"]

TYPES: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        400: ("BadRequest", "BadHost"),
        401: ("Unauthorized",),
        403: ("Forbidden",),
        404: ("NotFound", "UnknownName"),
        405: ("MethodNotAllowed",),
        408: ("Timeout",),
        409: ("IndexMismatch",),
        413: ("TooLarge",),
        415: ("UnsupportedMedia",),
        422: ("DataError", "PictureError"),
        429: ("TooManyRequests",),
        500: ("InternalError",),
        503: ("Overloaded", "Stopping"),
    }
)
"""Status -> the types it comes with; the first is what a bare status means."""

_ERRORS: tuple[tuple[type[Error], int], ...] = (
    (UnknownName, 404),
    (IndexMismatch, 409),
    (PictureError, 422),
    (DataError, 422),
)


class Refused(Exception):
    """A request that is not served, raised from wherever that turns out.

    Args:
        status: of the answer.
        type: one of `TYPES[status]`.
        message: one line for the caller; names nothing of this machine.
        headers: that the answer carries besides (Retry-After, WWW-Authenticate, Allow).
    """

    def __init__(self, status: int, type: str, message: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(message)
        self.status, self.type, self.message, self.headers = status, type, message, dict(headers)

    def answer(self) -> JSONResponse:
        return problem(self.status, self.type, self.message, self.headers)


def problem(status: int, type: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer of every error, an ASGI app like all answers: `await problem(...)(scope, receive, send)`."""
    # A lone surrogate, from a path or a name, cannot be written as UTF-8.
    plain = message.encode("utf-8", "backslashreplace").decode()
    return JSONResponse({"error": {"type": type, "message": plain}}, status, dict(headers or {}))


def status_of(error: Error) -> tuple[int, str] | None:
    """Status and type of an error that the caller can mend; None where only the keeper of the index can."""
    for kind, status in _ERRORS:
        if isinstance(error, kind):
            return status, kind.__name__
    return None
