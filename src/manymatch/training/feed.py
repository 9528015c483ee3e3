"""What a run reads: its pairs, and their batches in order, each read from disk while the one before it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from ..data.batches import Rows, Sampler
from ..data.check import readable
from ..data.features import Features
from ..data.pairs import Pairs
from ..methods import Batch, Model
from .plan import Plan

if TYPE_CHECKING:
    from ..data.store import Where

__all__ = ["batches", "supplied"]


def supplied(model: Model, pairs: Pairs, store: Where, tell: Callable[[str], None]) -> Pairs:
    """The pairs as the image tower reads them, without pictures that cannot be read."""
    kept = model.supply(pairs, store, tell)
    if model.image_input == "pixels" and not model.images.takes(kept.images):
        kept = readable(kept)
    if len(kept) < len(pairs):
        tell(
            f"{len(pairs) - len(kept)} pictures cannot be read and are left out; "
            f"the first: {kept.problems[len(pairs.problems)]}"
        )
    return kept


def batches(
    model: Model, pairs: Pairs, sampler: Sampler, plan: Plan, *, seed: int, start: int
) -> Iterator[tuple[int, Batch]]:
    """Step and batch from step `start` on; order and what is left out depend on the seed and the step alone.

    Each is for one step: the step may write over features that were read for it alone.
    """
    fresh = getattr(pairs.features, "fresh", False)

    def read(step: int, chosen: Rows) -> Batch:
        batch = model.batch(pairs, chosen.images, chosen.captions, chosen.matches, seed=(seed, step))
        if fresh and isinstance(batch.images, Features):
            return replace(batch, images=replace(batch.images, once=True))
        return batch

    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for step, chosen in _rows(pairs, sampler, plan, seed, start):
            coming = (step, pool.submit(read, step, chosen))
            if ahead is not None:
                yield ahead[0], ahead[1].result()
            ahead = coming
        if ahead is not None:
            yield ahead[0], ahead[1].result()


def _rows(pairs: Pairs, sampler: Sampler, plan: Plan, seed: int, start: int) -> Iterator[tuple[int, Rows]]:
    for epoch in range(start // plan.epoch_steps, plan.recipe.epochs):
        first = epoch * plan.epoch_steps
        for n, chosen in enumerate(sampler.epoch(pairs, seed=seed, epoch=epoch)):
            if first + n >= start:
                yield first + n, chosen
