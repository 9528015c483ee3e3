"""The batches of a run in their order, each read from disk while the one before it is computed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ..data.batches import Rows, Sampler
from ..data.features import Features
from ..data.pairs import Pairs
from ..methods import Batch, Model
from .plan import Plan

__all__ = ["batches"]


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
