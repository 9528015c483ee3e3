"""Where scores come from: a model's similarity, tile by tile, or a ready matrix. Both answer the same questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..data.files import Progress
from ..data.matches import Matches
from ..errors import DataError
from .biases import Biases
from .folds import Folds
from .ranks import Ranking, Ranks, rank_tiles, rank_within, ready_tiles, score_tiles
from .tiles import Items, Side, Tiles

__all__ = ["MatrixScores", "ModelScores", "Source"]

_WHOLE_BYTES = 1 << 30
"""Up to this size a matrix is kept, so that what reads whole rows of both directions computes scores once."""

_ROWS_BYTES = 32 << 20
"""What whole rows that are handed out together may take."""

Rows = Iterator[tuple[slice, np.ndarray[Any, Any]]]


def _most_rows(gallery: int) -> int:
    return max(1, _ROWS_BYTES // (4 * max(gallery, 1)))


class Source(Protocol):
    """Scores of i images and c captions, both ways."""

    def ranking(self, i2t: Matches, t2i: Matches, *, folds: Folds | None, best: bool) -> Ranking:
        """Where the right answers stand; arguments as `ranks.rank_tiles`."""
        ...

    def within(self, kind: str, matches: Matches) -> Ranks | None:
        """The same among items of one kind, "t2t" or "i2i"; None where there are no such scores."""
        ...

    def rows(self, direction: str) -> Rows:
        """Whole rows of "i2t" or "t2i": (queries, scores (b, g) that rank), block by block, all finite."""
        ...


class ModelScores:
    """Scores of embeddings by a similarity, never whole.

    Args:
        similarity: a `Similarity`.
        images, texts: embeddings of i images and c captions.
        image_ids, caption_ids: how messages name an item.
        biases: taken off the scores before they rank, image to text and text to image; not within a modality.
        progress: called with (done, total) tiles.
    """

    def __init__(
        self,
        similarity: Any,
        images: Items,
        texts: Items,
        *,
        image_ids: Sequence[str] | None = None,
        caption_ids: Sequence[str] | None = None,
        biases: Biases | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.similarity, self.biases, self.progress = similarity, biases, progress
        self.items = {"image": images, "caption": texts}
        self.ids = {"image": image_ids, "caption": caption_ids}

    def ranking(self, i2t: Matches, t2i: Matches, *, folds: Folds | None = None, best: bool = False) -> Ranking:
        images, captions = self.items["image"], self.items["caption"]
        tiles = score_tiles(
            self.similarity, images, captions, image_ids=self.ids["image"], caption_ids=self.ids["caption"]
        )
        return rank_tiles(*tiles, i2t, t2i, folds=folds, best=best, biases=self.biases, progress=self.progress)

    def within(self, kind: str, matches: Matches) -> Ranks:
        side = "image" if kind == "i2i" else "caption"
        items, names = self.items[side], Side(side, self.ids[side])
        tiles = Tiles.of(self.similarity, items, items, None, (names, names))
        symmetric = bool(self.similarity.symmetric)
        return rank_within(tiles.without_self(), matches, symmetric=symmetric, progress=self.progress)

    def rows(self, direction: str) -> Rows:
        return _less(self.raw_rows(direction), direction, self.biases)

    def raw_rows(self, direction: str) -> Rows:
        """As `rows`, of scores without biases."""
        asking, asked = ("image", "caption") if direction == "i2t" else ("caption", "image")
        queries, gallery = self.items[asking], self.items[asked]
        sides = Side(asking, self.ids[asking]), Side(asked, self.ids[asked])
        tiles = Tiles.of(self.similarity, queries, gallery, None, sides, most_rows=_most_rows(len(gallery)))
        return tiles.bands()

    def kept(self) -> Source:
        """The same scores as one matrix where it is small enough and serves both directions, else these."""
        shape = len(self.items["image"]), len(self.items["caption"])
        if not self.similarity.symmetric or 4 * shape[0] * shape[1] > _WHOLE_BYTES:
            return self
        whole = np.empty(shape, np.float32)
        for rows, scores in self.raw_rows("i2t"):
            whole[rows] = scores
        return _KeptScores(whole, self)


def _less(rows: Rows, direction: str, biases: Biases | None) -> Rows:
    """The same rows less the biases."""
    return rows if biases is None else ((queries, scores - biases.of(direction)) for queries, scores in rows)


class MatrixScores:
    """Ready scores, from any system, read tile by tile; of several systems their mean.

    Args:
        matrices: "i2t" (i, c), and where they are known and differ "t2i" (c, i), "t2t" (c, c), "i2i" (i, i); or a list
            of such mappings, of which all must hold a kind of items within themselves for it to be ranked.
        image_ids, caption_ids: how messages name an item.
        progress: called with (done, total) tiles.

    Attributes:
        biases: taken off the scores before they rank; none of scores from elsewhere.

    Raises:
        DataError: no "i2t", or a matrix of another name.
    """

    biases: Biases | None = None

    def __init__(
        self,
        matrices: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        image_ids: Sequence[str] | None = None,
        caption_ids: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.members = [dict(each) for each in ([matrices] if isinstance(matrices, Mapping) else matrices)]
        self.progress = progress
        self.sides = {"i": Side("image", image_ids), "t": Side("caption", caption_ids)}
        for each in self.members:
            if set(each) - {"i2t", "t2i", "t2t", "i2i"} or "i2t" not in each:
                raise DataError(f"scores: found {sorted(each)}, expected i2t and at most t2i, t2t and i2i beside it")

    def _tiles(self, kind: str, shape: tuple[int, int] | None = None, most_rows: int | None = None) -> Tiles:
        parts = tuple(each[kind] if kind in each else np.asarray(each["i2t"]).T for each in self.members)
        sides = self.sides[kind[0]], self.sides[kind[2]]
        return ready_tiles(parts, shape or np.shape(parts[0]), sides, most_rows=most_rows)

    def ranking(self, i2t: Matches, t2i: Matches, *, folds: Folds | None = None, best: bool = False) -> Ranking:
        """As `Source`. Raises DataError for a score that is not finite, naming image and caption."""
        back = self._tiles("t2i", t2i.shape) if any("t2i" in each for each in self.members) else None
        how: Any = {"folds": folds, "best": best, "biases": self.biases, "progress": self.progress}
        return rank_tiles(self._tiles("i2t", i2t.shape), back, i2t, t2i, **how)

    def within(self, kind: str, matches: Matches) -> Ranks | None:
        """As `Source`: None where some system has no such scores."""
        if not all(kind in each for each in self.members):
            return None
        return rank_within(self._tiles(kind, matches.shape).without_self(), matches, progress=self.progress)

    def rows(self, direction: str) -> Rows:
        """As `Source`."""
        shape = np.shape(self.members[0]["i2t"])
        most = _most_rows(shape[1] if direction == "i2t" else shape[0])
        return _less(self._tiles(direction, most_rows=most).bands(), direction, self.biases)


class _KeptScores(MatrixScores):
    """A model's matrix; what it does not hold is asked of the model."""

    def __init__(self, whole: np.ndarray[Any, Any], model: ModelScores) -> None:
        ids, self.model = model.ids, model
        super().__init__({"i2t": whole}, image_ids=ids["image"], caption_ids=ids["caption"], progress=model.progress)
        self.biases = model.biases

    def within(self, kind: str, matches: Matches) -> Ranks | None:
        return self.model.within(kind, matches)
