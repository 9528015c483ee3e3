"""What searching asks of a collection, wherever its items lie: three small protocols.

A `Collection` keeps items. A `Reading` is one consistent look at it. A `Pool` is the items of one modality that pass a
filter; it finds candidates, scores, and tells what its items are. Search knows nothing else, so that a folder on a
laptop and a cluster answer through the same code.

Handles are arrays with one entry an item (positions of a mapped file, ids of a server). Only the pool that gave them
understands them; search slices, joins and reorders them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from .filters import Where
from .store.amending import Amended
from .store.origins import Origin
from .store.overview import FieldSeen
from .store.rows import Added, Modality, Stored

if TYPE_CHECKING:
    from ..embeddings import Embedding
    from ..similarity import Similarity
    from .add import Batch

__all__ = ["Collection", "Near", "Pool", "Reading", "Spoken"]

Array = np.ndarray[Any, Any]

Spoken: TypeAlias = "Callable[[Modality, int], Embedding | None]"
"""Gives up to so many queries of a modality that the index has no items of to ask with; None where it knows none."""


@dataclass(frozen=True)
class Near:
    """Candidates of one query.

    Attributes:
        handles: (n,), in the order of the store.
        agreement: with exact search, over the first ten or (where it was looked deeper) hundred, as last measured with
            queries of the asking modality; None where what is asked is not what was measured.
    """

    handles: Array
    agreement: float | None


class Pool(Protocol):
    """The items of one modality that pass a filter, at one moment."""

    @property
    def similarity(self) -> Similarity:
        """The run's."""
        ...

    def __len__(self) -> int:
        """How many items pass."""
        ...

    def scan(self, queries: Embedding) -> tuple[Array, Array]:
        """Every item that passes, in the order of the store, and its raw scores (q, n) float32.

        Raises:
            DataError: a score is not finite.
        """
        ...

    def near(self, proxy: Array, asking: Modality, need: int) -> Near | None:
        """Candidates for the first `need` items of a query.

        Args:
            proxy: the query's (p + 2,): what the similarity gives, then what the biases of captions and of images
                asking are multiplied with (1, 0 or 0, 1; 0, 0 without them).
            asking: modality of the query.

        Returns:
            None where scoring every item is cheaper, or agreement was not measured: the search is exact then.
        """
        ...

    def scores(self, query: Embedding, handles: Array) -> Array:
        """Raw scores (n,) float32 of one query. Raises DataError when one is not finite."""
        ...

    def take(self, handles: Array) -> Embedding:
        """These items, float32."""
        ...

    def bias(self, handles: Array, asking: Modality) -> Array:
        """(n,) float32: what is subtracted from their scores when a query of this modality asks."""
        ...

    def biased(self, asking: Modality) -> bool:
        """Whether any item of the modality has a bias for queries of that one."""
        ...

    def sample(self, count: int) -> Array:
        """Handles of up to `count` items drawn evenly, the same ones every time."""
        ...

    def handle(self, item: Stored) -> Array:
        """The item's handle (1,), or none (0,) where it does not pass."""
        ...

    def words(self, text: str, count: int) -> Array:
        """Handles of the items whose words fit best by BM25, best first; none where no word is known."""
        ...

    def items(self, handles: Array) -> list[Stored]:
        """What the items are, in this order."""
        ...

    def values(self, field: str, handles: Array) -> list[list[Any]]:
        """Each item's values of a metadata field, none or several."""
        ...

    def facet(self, field: str, handles: Array | None, limit: int) -> list[tuple[Any, int]]:
        """The values of a field with the number of items that have them, the most frequent first.

        Args:
            handles: only these items; None counts every item that passes.
        """
        ...


class Reading(Protocol):
    """One consistent look at a collection."""

    @property
    def notes(self) -> Sequence[str]:
        """What whoever searches should know of the state of the collection, a line each."""
        ...

    def count(self, modality: Modality | None = None) -> int:
        """How many items."""
        ...

    def item(self, id: str) -> Stored:
        """Raises UnknownName with near ids."""
        ...

    def captions(self, id: str) -> list[str]:
        """Texts of the captions of an image, in their order."""
        ...

    def first_captions(self, ids: Sequence[str]) -> dict[str, str]:
        """Image -> text of its first caption, of those of the images that have one."""
        ...

    def embedding(self, item: Stored) -> Embedding:
        """One stored item, float32."""
        ...

    def fields(self) -> list[str]:
        """Names of the metadata fields that items have."""
        ...

    def overview(self) -> Sequence[FieldSeen]:
        """The metadata fields of images, in the order of letters, and what these hold."""
        ...

    def examples(self, n: int, seed: int) -> list[str]:
        """Up to n different captions, the same for the same seed and items."""
        ...

    def source(self, number: int) -> dict[str, Any]:
        """What `Pictures.describe` said of the pictures of this source."""
        ...

    def origins(self) -> Iterator[tuple[str, Origin]]:
        """Id and origin of the images whose origin is known."""
        ...

    def images_among(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are images of the collection."""
        ...

    def pool(self, modality: Modality, where: Where) -> Pool | None:
        """The items that pass; None before the first item of the modality."""
        ...


class Collection(Protocol):
    """Keeps items. What `put` and `delete` returned from is kept, whatever happens next."""

    def reading(self) -> AbstractContextManager[Reading]: ...

    def put(self, batch: Batch) -> Added:
        """Store a batch, all of it or nothing. Raises as `Index.add_embeddings`."""
        ...

    def amend(self, amended: Sequence[Amended], pictures: Mapping[str, Any] | None = None) -> None:
        """Change what images are called and described as, and where their pictures lie; vectors and captions stay.

        An image whose id another one takes is gone. Raises DataError: an image that is not there any more.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items and the captions of images among them; how many items went. Raises UnknownName."""
        ...

    def refresh(self, progress: Callable[[str], object] | None = None, *, wait: bool = True) -> None:
        """Make, or bring up to date, everything that only makes searching quicker, and measure the agreement.

        Args:
            wait: until it is this process's turn, then look whether there is still something to do; otherwise nothing
                is done while another one does it.
        """
        ...

    def about(self) -> dict[str, Any]:
        """`generation`, `engine` and `agreement` for each modality, as JSON."""
        ...

    def close(self) -> None: ...
