"""What the elements of a stored item, or of a query in words, attend to."""

from __future__ import annotations

from typing import Any

from ..errors import DataError
from .care.upkeep import Upkeep
from .store.rows import Modality, Stored

__all__ = ["Attending"]


class Attending(Upkeep):
    """An index whose items and queries can be asked what their elements look at."""

    def elements(self, id: str | None = None, *, query: str | None = None) -> dict[str, Any]:
        """What each element of an item, or of a query in words, attends to, as JSON.

        Args:
            id: of an item. A caption is looked at by its words, an image by its stored picture.
            query: words, in place of an id.

        Returns:
            `elements` (k); `kind` ("grid", "words" or None); `shares` (k lists, each of which sums to 1); of a grid
            `rows` and `columns`, its cells row by row; of words `words`, those the run does not know in square
            brackets. A grid parts the whole upright picture evenly, whatever its shape, unless `boxes` say where in it
            each cell lies (left, top, right, bottom, from 0 to 1), for runs that look at its middle only. Without
            shares `why` says so in one line.

        Raises:
            UnknownName: an id that is not there.
            DataError: neither an id nor a query or both, or a query without a word.
        """
        if (id is None) == (query is None):
            given = "neither" if id is None else "both"
            raise DataError(f"elements: {given} of id and query given, expected one")
        if query is not None:
            if not isinstance(query, str) or not query.strip():
                raise DataError(f"elements: query {query!r}, expected at least one word")
            return self._of_words(query)
        assert id is not None
        with self._collection.reading() as reading:
            found = reading.item(id)
        return self._of_caption(found) if found.modality == "caption" else self._of_image(found)

    def _of_caption(self, found: Stored) -> dict[str, Any]:
        if found.caption is None or not found.caption.strip():
            return self._none("caption", "its words are not in the index, only their embedding")
        return self._of_words(found.caption)

    def _of_words(self, text: str) -> dict[str, Any]:
        (attention,) = self.model.attend_texts([text])
        return attention.to_json()

    def _of_image(self, found: Stored) -> dict[str, Any]:
        if self.model.image_input != "pixels":
            return self._none("image", "the run reads precomputed features, and those are not kept in an index")
        if found.picture is None:
            return self._none("image", "its picture is not in reach of the index, only its embedding")
        try:
            picture = self.open_picture(found.id)
        except DataError:
            # The reason names folders, which are nobody's business who may only look.
            return self._none("image", "its picture cannot be read any more")
        (attention,) = self.model.attend_images([picture])
        return attention.to_json()

    def _none(self, modality: Modality, why: str) -> dict[str, Any]:
        from ..encoders import Attention

        with self._store.reading() as snapshot:
            space = snapshot.setting("spaces")[modality]
        return Attention(space["layout"].get("k", 1), why=why).to_json()
