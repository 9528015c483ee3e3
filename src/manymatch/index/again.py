"""Indexing again: what of some data is new, changed, moved or gone since an index was made of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import DataError
from .digests import Digests, proves, size_of
from .store.amending import Amended
from .store.origins import Origin

if TYPE_CHECKING:
    from ..data.files import Progress
    from ..data.pairs import Item, Pairs

__all__ = ["Plan", "Synced", "compare"]

_PARTIAL = frozenset({"damaged file", "unreadable folder"})
"""Problems of data that could be read only in part: what is not among them may be there all the same."""

_Content = tuple[str, str]
"""Digests of what an image's embeddings were made from: of what was encoded, and of its captions."""


@dataclass(frozen=True)
class Synced:
    """How many images an index took over: new ones, changed ones, renamed or moved ones, gone ones, the others."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    gone: int = 0
    same: int = 0

    def without(self, left_out: Collection[str], known: Collection[str]) -> Synced:
        """The counts where these could not be encoded; `known` ones among them stay as they were."""
        stay = sum(id in known for id in left_out)
        added = self.added - (len(left_out) - stay)
        return replace(self, added=added, changed=self.changed - stay, same=self.same + stay)

    def __str__(self) -> str:
        return (
            f"{self.added:,} added, {self.changed:,} changed, {self.moved:,} moved, {self.gone:,} gone, "
            f"{self.same:,} as before"
        )


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        encode: items that are encoded and stored.
        known: those ids among them that are in the index already.
        amended: images that keep their vectors.
        gone: ids that are removed.
        synced: the counts once all of it is done.
        notes: what whoever indexes should know, a line each.
    """

    encode: list[Item] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    amended: list[Amended] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    synced: Synced = field(default_factory=Synced)
    notes: list[str] = field(default_factory=list)


def compare(
    pairs: Pairs,
    chosen: Sequence[Item],
    known: dict[str, Origin],
    images_among: Callable[[Sequence[str]], set[str]],
    digests: Digests,
    source: str,
    keep_gone: bool,
    progress: Progress | None = None,
) -> Plan:
    """What to do so that the index holds what `chosen` are now.

    Args:
        chosen: items of `pairs`; the others are left as they are in the index.
        known: id and origin of the images in the index whose origin is known.
        images_among: those of some ids that are images of the index.
        source: what the data are called; "" where nobody said, and then nothing moved and nothing is gone.
        keep_gone: whether images stay that came from the source and are not among `pairs`.

    Raises:
        DataError: everything that came from the source would be gone.
    """
    ids = set(pairs.image_ids)
    own = {id for id, origin in known.items() if source and origin.source == source}
    plan = Plan()
    rest = _unchanged(plan, chosen, known, digests, progress)
    displaced = _moved(plan, rest, known, own, ids, digests, progress)
    left = {one.before for one in plan.amended if one.before != one.id}
    partial = next((problem for problem in pairs.problems if problem.kind in _PARTIAL), None)
    plan.gone = sorted(own - ids - left)
    if plan.gone and partial is not None:
        plan.notes.append(f"nothing is removed, because the data could be read only in part: {partial}")
        plan.gone = []
    elif keep_gone:
        plan.gone = []
    elif plan.gone and len(plan.gone) == len(own):
        raise DataError(
            f"index: none of the {len(own):,} images that came from {source!r} is there any more, so nothing was "
            "changed; put them back, or leave them in the index with --keep-gone"
        )
    plan.known = images_among([item.id for item in plan.encode]) - left
    plan.synced = replace(
        plan.synced,
        added=len(plan.encode) - len(plan.known),
        changed=plan.synced.changed + len(plan.known),
        gone=len(plan.gone) + displaced,
    )
    _note_others(plan, known, source)
    return plan


def _unchanged(
    plan: Plan,
    chosen: Sequence[Item],
    known: dict[str, Origin],
    digests: Digests,
    progress: Progress | None,
) -> list[Item]:
    """Takes over the items that keep their vectors under their ids; the others."""
    there = [item for item in chosen if item.id in known and digests.said(item) == known[item.id].said]
    unsure = [item for item in there if not _sure(item, known[item.id], digests)]
    digests.look(unsure, progress)
    read = {item.id for item in unsure}
    same = changed = moved = 0
    stays: set[str] = set()
    for item in there:
        was = known[item.id]
        if item.id in read and (not was.seen or digests.seen(item) != was.seen):
            continue
        stays.add(item.id)
        now = digests.origin(item, was.seen)
        same += (now.place, now.told) == (was.place, was.told)
        changed += now.told != was.told
        moved += now.told == was.told and now.place != was.place
        if now != was:
            plan.amended.append(_amended(item, item.id, now, digests))
    plan.synced = Synced(changed=changed, moved=moved, same=same)
    return [item for item in chosen if item.id not in stays]


def _sure(item: Item, was: Origin, digests: Digests) -> bool:
    """Whether the file says without being read that it is what it was."""
    same = was.stamp == digests.stamp(item) and was.place == digests.place(item)
    return bool(was.seen) and proves(was.stamp) and same


def _moved(
    plan: Plan,
    rest: Sequence[Item],
    known: dict[str, Origin],
    own: Collection[str],
    ids: Collection[str],
    digests: Digests,
    progress: Progress | None,
) -> int:
    """Takes over the items that images of the index became, and those to encode; how many images lost their ids."""
    waiting = {item.id for item in rest}
    free: dict[_Content, list[str]] = {}
    for id in own:
        was = known[id]
        if was.seen and (id not in ids or id in waiting):
            free.setdefault((was.seen, was.said), []).append(id)
    candidates = _candidates(rest, [known[id] for several in free.values() for id in several], digests)
    digests.look(candidates, progress)
    maybe = {item.id for item in candidates}
    left: set[str] = set()
    taken: set[str] = set()
    for item in rest:
        content = (digests.seen(item), digests.said(item)) if item.id in maybe else ("", "")
        if free.get(content):
            before = free[content].pop()
            left.add(before)
            taken.add(item.id)
            plan.amended.append(_amended(item, before, digests.origin(item), digests))
        else:
            plan.encode.append(item)
    plan.synced = replace(plan.synced, moved=plan.synced.moved + len(taken))
    return len((taken & set(known)) - left)


def _candidates(rest: Sequence[Item], free: Sequence[Origin], digests: Digests) -> list[Item]:
    """Items that may be one of the free images: their pictures have to be read now, the others not before encoding."""
    said = {was.said for was in free}
    sizes = {size_of(was.stamp) for was in free}
    out = []
    for item in rest:
        if digests.said(item) in said:
            size = size_of(digests.stamp(item))
            if size is None or None in sizes or size in sizes:
                out.append(item)
    return out


def _amended(item: Item, before: str, origin: Origin, digests: Digests) -> Amended:
    picture = None if digests.description is None else item.picture
    return Amended(before, item.id, origin, item.metadata, item.labels, picture)


def _note_others(plan: Plan, known: dict[str, Origin], source: str) -> None:
    """Ids that images of other data had until now."""
    others = [id for id in plan.known if id in known and known[id].source not in ("", source)]
    if others:
        plan.notes.append(
            f"{len(others):,} images had ids that images from {known[min(others)].source!r} have in the index, such as "
            f"{min(others)!r}, and take their places; index such data into indexes of their own"
        )
