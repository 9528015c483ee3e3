"""Which values a field has on the server, and how many items have each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from ...errors import DataError
from ..filters import Value
from ..store.overview import MOST_FIELDS, MOST_VALUES, FieldSeen, all_bool, seen
from .api import models
from .filters import key, of, term_path, value_of_term
from .server import Server

__all__ = ["facet", "fields", "most_frequent", "overview", "texts"]

_MOST = 10_000
"""Different values of a field that are read at most."""


def facet(server: Server, field: str, which: models.Filter, limit: int) -> list[tuple[Value, int]]:
    """The most frequent values of what passes, then in order of values, as in a folder."""
    if not server.indexed(term_path(field), models.PayloadSchemaType.KEYWORD):
        return most_frequent(_scrolled(server, field, which), limit)
    asked = limit + 1
    while True:
        hits = _counted(server, term_path(field), which, asked)
        # The server orders equal counts by its own rule: all that tie with the last one have to be seen.
        if len(hits) < asked or hits[-1][1] < hits[limit - 1][1] or asked >= _MOST:
            return _ordered(((value_of_term(term), count) for term, count in hits), limit)
        asked = min(_MOST, 4 * asked)


def fields(server: Server) -> list[str]:
    """Names of all fields, in the order of letters."""
    return sorted(name for name, _ in _counted(server, "fields", None, _MOST))


def overview(server: Server) -> list[FieldSeen]:
    """Fields of the images, by their most frequent values: whether others are of another kind is not looked at."""
    images = of("image", models.Filter())
    counted = sorted(_counted(server, "fields", images, _MOST), key=lambda pair: -pair[1])[:MOST_FIELDS]
    return [_field(server, name, items, images) for name, items in sorted(counted)]


def _field(server: Server, name: str, items: int, images: models.Filter) -> FieldSeen:
    found = facet(server, name, images, MOST_VALUES + 1)
    numbers = [value for value, _ in found if not isinstance(value, str)]
    # All are known where there are not more of them than are told.
    bounds = (min(numbers), max(numbers)) if numbers and len(found) <= MOST_VALUES else None
    truths = bool(numbers) and {*numbers} <= {0, 1} and _truths(server, name, images)
    return seen(name, items, found[:MOST_VALUES], bounds, (isinstance(value, str) for value, _ in found), truths)


def _truths(server: Server, name: str, images: models.Filter) -> bool:
    """Whether the first images with a 0 or a 1 have them as false and true."""
    has = models.FieldCondition(key="fields", match=models.MatchValue(value=name))
    which = models.Filter(must=[*(images.must or []), has])
    page = next(server.scroll(which, ["metadata"]), [])
    return all(all_bool((record.payload or {}).get("metadata") or {}, name) for record in page)


def texts(server: Server, field: str) -> list[str]:
    """The different texts of a field.

    Raises:
        DataError: more than can be read.
    """
    server.indexed(term_path(field), models.PayloadSchemaType.KEYWORD)
    hits = _counted(server, term_path(field), None, _MOST)
    if len(hits) >= _MOST:
        raise DataError(
            f"where: {field!r} is bounded by text and has {_MOST} different values or more, too many for an index on a "
            "Qdrant server; keep a number (a year, a day) beside it and bound that"
        )
    return [value for term, _ in hits if isinstance(value := value_of_term(term), str)]


def _counted(server: Server, path: str, which: models.Filter | None, limit: int) -> list[tuple[str, int]]:
    found = server.call("facet", key=path, facet_filter=which, limit=limit, exact=True)
    return [(str(hit.value), int(hit.count)) for hit in found.hits]


def _scrolled(server: Server, field: str, which: models.Filter) -> Iterator[list[Value]]:
    for page in server.scroll(which, ["terms"]):
        for record in page:
            yield [value_of_term(term) for term in ((record.payload or {}).get("terms") or {}).get(key(field), [])]


def most_frequent(values: Iterable[Sequence[Value]], limit: int) -> list[tuple[Value, int]]:
    """Values of items (each item's own), with the number of items that have them."""
    counts = Counter(value for own in values for value in set(own))
    return _ordered(counts.items(), limit)


def _ordered(counts: Iterable[tuple[Value, int]], limit: int) -> list[tuple[Value, int]]:
    # Numbers come before texts.
    ranked = sorted(counts, key=lambda pair: (-pair[1], isinstance(pair[0], str), pair[0]))
    return ranked[:limit]
