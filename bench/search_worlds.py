"""Made-up collections for `bench/search.py`: sets of elements with and without something in common.

Both worlds are drawn block by block from a seed, so that any part of any size comes out the same.

- `clustered`: an item has a direction of its own near one of the topics, and its elements lie around it.
- `independent`: every element of an item lies near a topic of its own, so that the mean of the elements says little.

A query is another view of an item: the same directions, noise drawn anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["BLOCK", "World"]

BLOCK = 5000
"""Items drawn, and stored, at once."""

_NEAR = 0.5
"""Length of the noise that takes an item's direction away from its topic, which has length one."""


@dataclass(frozen=True)
class World:
    """`items` sets of `k` unit elements of width `d`.

    `spread` is the length of the noise that takes an element away from its direction. Topics grow with the items, a
    hundred items to each, but there are a thousand at least.
    """

    name: str
    items: int
    k: int = 4
    d: int = 256
    spread: float = 0.5
    seed: int = 0

    def _directions(self, block: int) -> np.ndarray:
        """(b, 1 or k, d): where the elements of a block's items lie."""
        shape = (max(1000, self.items // 100), self.d)
        topics = _unit(np.random.default_rng((self.seed, 1)).standard_normal(shape, np.float32))
        draw = np.random.default_rng((self.seed, 2, block))
        size = (min(BLOCK, self.items - block * BLOCK), self.k if self.name == "independent" else 1)
        noise = draw.standard_normal((*size, self.d), np.float32) * np.float32(_NEAR / self.d**0.5)
        return topics[draw.integers(len(topics), size=size)] + noise

    def _view(self, directions: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        shape = (len(directions), self.k, self.d)
        return _unit(directions + draw.standard_normal(shape, np.float32) * np.float32(self.spread / self.d**0.5))

    def block(self, number: int) -> np.ndarray:
        """Elements (b, k, d) of one block of items."""
        return self._view(self._directions(number), np.random.default_rng((self.seed, 3, number)))

    def queries(self, first: int, count: int) -> np.ndarray:
        """Elements (count, k, d) of other views of the items from `first` on, which lie in the first block."""
        return self._view(self._directions(0)[first : first + count], np.random.default_rng((self.seed, 4, first)))

    @property
    def blocks(self) -> int:
        return -(-self.items // BLOCK)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
