"""Asking an index: words, pictures and items in, results out; the run is loaded when a query first needs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import CheckpointError, DataError
from . import making
from .answers.asking import Asked, Options, company_counts, in_words
from .answers.encodings import Encodings
from .answers.results import Results
from .banked import SETTING
from .collection import Collection
from .contents import Contents
from .store.store import Store

if TYPE_CHECKING:
    from PIL import Image

    from ..bank import Bank
    from ..calibration import Calibration
    from ..methods import Model
    from .filters import Where

__all__ = ["Searchable"]

_NAMES = {field.name for field in fields(Options)}


class Searchable(Contents):
    """Contents that can be searched.

    Args:
        path: the index folder.
        store: its settings, and its truth unless that lies elsewhere.
        collection: where its items lie.
        model: the run, where it is loaded already.
    """

    def __init__(self, path: Path, store: Store, collection: Collection, model: Model | None) -> None:
        super().__init__(path, collection)
        self._store, self._model, self._given = store, model, model
        self._lock = threading.RLock()
        self._bank: tuple[Bank | None] | None = None
        self._calibrated: tuple[str, Calibration | None] = "", None
        self._encodings = Encodings()

    def search(
        self,
        query: str | Path | Image.Image | None = None,
        k: int = 10,
        *,
        like: str | None = None,
        unlike: str | Path | Image.Image | None = None,
        unlike_item: str | None = None,
        among: Literal["images", "captions"] | None = None,
        where: Mapping[str, Any] | Where | None = None,
        exact: bool | None = None,
        offset: int = 0,
        confident: float | None = None,
        bank: bool | None = None,
        hybrid: bool = False,
        diverse: float | None = None,
        group_by: str | None = None,
        per_group: int = 3,
        facets: Sequence[str] = (),
        meanings: bool = False,
        explain: bool = False,
    ) -> Results:
        """The k best items for a query, ordered by the run's own similarity.

        Args:
            query: words, or a picture as a path or decoded. A str is always words, so that what a visitor types
                never opens a file.
            like: in place of a query, the id of an item to start from; it is never among the results.
            unlike, unlike_item: words or a picture, or the id of an item, that the results shall not be like: half
                its similarity is subtracted. Such an order is exact, or its agreement unknown.
            among: "images" (the default) or "captions".
            where: conditions on metadata that must all hold: `{"year": {"gte": 2000}, "tag": ["dog", "cat"],
                "note": {"exists": True}, "title": {"text": "snow"}}`. A caption has its image's metadata.
            exact: True scores every item; otherwise the index's engine decides.
            offset: how many results to pass over first. Pages of an exact answer go on from each other; those of an
                approximate one, which looks at more candidates the deeper it goes, may rarely repeat or miss an item.
            confident: only items that are right with at least this probability, in unchanged order. Where biases take
                part every item is scored for it, because candidates are not the most probable ones.
            bank: whether items' biases take part in the order; by default where there are any. Without them every item
                is scored, because candidates were measured with them.
            hybrid: fuse with a search by the query's words (BM25), by reciprocal ranks.
            diverse: from 0, as unlike each other as can be, to 1, plain order: maximal marginal relevance.
            group_by: a metadata field ("owner": a caption's image); the hits are the best of each value.
            per_group: items shown at most of each group and each meaning. The first 2000 answers are looked through to
                fill the groups; of an approximate search only as many as the groups themselves need.
            facets: metadata fields to count the values of, over all that pass, or over all that are confident.
            meanings: also what the query could mean, each with examples.
            explain: also which elements of query and item matched.

        Raises:
            DataError: no query or two, an empty one, a number out of range, a picture the run cannot look at, or
                `confident` without a calibration.
            UnknownName: `like` is not in the index, or no item has a field asked for.
        """
        options = _options(locals())
        return self._searched([query], like, (unlike, unlike_item), among, where, options)[0]

    def search_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        among: Literal["images", "captions"] | None = None,
        where: Mapping[str, Any] | Where | None = None,
        **options: Any,
    ) -> list[Results]:
        """Several queries in words at once: encoded together, and scored in one pass where the search is exact.

        Args:
            queries: texts.
            k, among, where, options: as `search`, the same for all.
        """
        if isinstance(queries, str):
            raise DataError(f"search_many: queries is the string {queries!r}, expected a list of texts")
        for query in queries:
            if not isinstance(query, str):
                raise DataError(
                    f"search_many: a query is {type(query).__name__}, expected texts; `search` takes pictures"
                )
        wanted = _options({"k": k, **options}, known=options)
        return self._searched(list(queries), None, (None, None), among, where, wanted)

    def in_words(self, texts: Sequence[str]) -> list[Asked]:
        """Texts as queries: what was asked lately is known, the others are encoded together."""
        if len(texts) > 1 and company_counts(self.model):
            return in_words(texts, self.model.encode_texts(list(texts)))
        return self._encodings.get(texts, self.model.encode_texts)

    def captions_of(self, id: str, k: int = 10) -> Results:
        """The captions that fit the item best, its own included. Raises UnknownName."""
        return self.search(like=id, k=k, among="captions")

    def _searched(
        self,
        queries: Sequence[Any],
        like: str | None,
        unlike: tuple[Any, str | None],
        among: str | None,
        where: Mapping[str, Any] | Where | None,
        options: Options,
    ) -> list[Results]:
        from .answers.call import Search

        with self._collection.reading() as reading:
            search = Search(self, reading, among, where, options)
            return search.run(queries, like, unlike)

    def banked(self) -> str:
        """Digest of the query bank it was made with, empty where there was none."""
        with self._store.reading() as snapshot:
            return str(snapshot.settings().get(SETTING, ""))

    @property
    def calibration(self) -> Calibration | None:
        """Score to probability, where the index has learned it."""
        from ..calibration import Calibration

        with self._store.reading() as snapshot:
            generation = snapshot.generation
            if self._calibrated[0] != generation:
                kept = snapshot.setting("calibration")
                self._calibrated = generation, Calibration.from_json(kept) if kept else None
        return self._calibrated[1]

    @property
    def model(self) -> Model:
        """The run, loaded when first asked for. Raises IndexMismatch when the copy in the folder is another one."""
        with self._lock:
            if self._model is None:
                from .. import runs

                try:
                    # Searching reads no bank: `bank` does, where items come.
                    model = runs.load(self.path / making.RUN, bank=False)
                except (CheckpointError, FileNotFoundError) as error:
                    if (self.path / making.RUN / "run.json").is_file():
                        raise
                    raise DataError(
                        f"{self.path}: its copy of the run is gone ({making.RUN}/); put it back with: manymatch index "
                        f"DATA --model RUN --out {self.path}, with the run it was built with"
                    ) from error
                making.expect(self._store, model)
                self._model = model
            return self._model


def _options(given: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> Options:
    """The options among a call's arguments. Raises DataError."""
    strange = sorted(set(known or ()) - _NAMES)
    if strange:
        raise TypeError(f"search: unexpected argument {strange[0]!r}")
    chosen = {name: value for name, value in given.items() if name in _NAMES}
    facets = chosen.get("facets", ())
    if isinstance(facets, str):
        raise DataError(f"search: facets is the string {facets!r}, expected a list of fields")
    return Options(**chosen | {"facets": tuple(facets)})
