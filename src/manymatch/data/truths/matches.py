"""Right answers beyond the own captions, from a file: JSON Lines `{"query": id, "matches": [ids]}`.

A query is an image id (its matches are captions) or a caption id `<image id>#<n>` (its matches are images).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..files import identifier, read_objects, regular_file
from ..matches import Matches
from ..pairs import Pairs, Problem

__all__ = ["MatchesFile"]


class MatchesFile:
    """The pairs a file lists, and no others: an own caption matches only where it is listed.

    Args:
        path: the file; a query listed twice has the matches of both lines.
        strict: raise at the first bad line instead of listing it in `problems`.

    Raises:
        DataError: no such file, or nothing usable in it.
    """

    def __init__(self, path: str | Path, *, strict: bool = False) -> None:
        self.path = regular_file(path, "truth")
        self.problems: list[Problem] = []
        self._listed: dict[str, list[str]] = {}
        for line in read_objects(self.path):
            kind, detail = line.kind, line.detail
            if line.value is not None:
                kind, detail = self._take(line.value)
            if kind:
                self.problems.append(Problem(str(self.path), line.number, kind, detail))
            if kind and strict:
                raise DataError(str(self.problems[-1]))
        if not self._listed:
            first = f"; first of {len(self.problems)} problems: {self.problems[0]}" if self.problems else ""
            raise DataError(f"truth: no line of {str(self.path)!r} is usable{first}")

    def _take(self, row: Mapping[str, Any]) -> tuple[str, str]:
        query, matches = identifier(row.get("query")), row.get("matches")
        if query is None or not isinstance(matches, list):
            return "not a match", f"found {sorted(row)}, expected an id in `query` and a list of ids in `matches`"
        ids = [identifier(match) for match in matches]
        self._listed.setdefault(query, []).extend(i for i in ids if i is not None)
        return ("bad match", f"a match of {query!r} is not an id; it is left out") if None in ids else ("", "")

    def matches(self, pairs: Pairs) -> Matches:
        """What the file lists among the images and captions of `pairs`, both directions joined.

        Raises:
            DataError: it lists no image and no caption of theirs as a query.
        """
        image_of = {name: row for row, name in enumerate(pairs.image_ids)}
        caption_of = {name: row for row, name in enumerate(pairs.caption_ids)}
        images: list[int] = []
        captions: list[int] = []
        known = 0
        for query, listed in self._listed.items():
            image, caption = image_of.get(query), caption_of.get(query)
            known += image is not None or caption is not None
            for match in listed:
                if image is not None and match in caption_of:
                    images.append(image)
                    captions.append(caption_of[match])
                if caption is not None and match in image_of:
                    images.append(image_of[match])
                    captions.append(caption)
        if not known:
            raise DataError(
                f"truth: {str(self.path)!r} lists no image or caption of {pairs.name} as a query (it has "
                f"{next(iter(self._listed))!r}; here the ids are {pairs.image_ids[:1]} and {pairs.caption_ids[:1]})"
            )
        return Matches.of(images, captions, (len(image_of), len(caption_of)))
