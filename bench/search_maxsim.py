"""Searching by MaxSim, as multi-vector engines do: what `bench/search.py` compares with."""

from __future__ import annotations

import faiss
import numpy as np
import torch
from search_worlds import BLOCK, World

__all__ = ["MaxSim"]


class MaxSim:
    """Sum over the query's elements of the highest cosine with an item's: the similarity of multi-vector engines.

    Elements lie in memory in float16, item by item; widening them block by block is quicker than reading float32.
    """

    def __init__(self, world: World) -> None:
        self.n, self.k, self.d = world.items, world.k, world.d
        self.elements = torch.empty(self.n, self.k * self.d, dtype=torch.float16)
        for number in range(world.blocks):
            part = torch.from_numpy(world.block(number))
            self.elements[number * BLOCK : number * BLOCK + len(part)] = part.flatten(1)

    def scores(self, query: torch.Tensor, items: torch.Tensor | slice) -> torch.Tensor:
        """(k, d) against items -> (b,)."""
        cosines = query @ self.elements[items].float().view(-1, self.d).T
        return cosines.view(len(query), -1, self.k).amax(2).sum(0)

    def scan(self, query: torch.Tensor) -> list[int]:
        with torch.inference_mode():
            parts = [self.scores(query, slice(start, start + 512)) for start in range(0, self.n, 512)]
            return torch.topk(torch.cat(parts), 10).indices.tolist()

    def lists(self) -> None:
        """Inverted lists over all elements, float32 as `IndexIVFFlat` has them."""
        self.index = faiss.IndexIVFFlat(faiss.IndexFlatIP(self.d), self.d, 2048, faiss.METRIC_INNER_PRODUCT)
        sample = self.elements[:: max(1, self.n // 20_000)]
        self.index.train(sample.float().view(-1, self.d).numpy())
        for start in range(0, self.n, BLOCK):
            self.index.add(self.elements[start : start + BLOCK].float().view(-1, self.d).numpy())

    def near(self, query: torch.Tensor, count: int, lists: int) -> list[int]:
        params = faiss.SearchParametersIVF(nprobe=lists)
        found = self.index.search(query.numpy(), count, params=params)[1]
        items = torch.from_numpy(np.unique(found[found >= 0] // self.k))
        with torch.inference_mode():
            return items[torch.topk(self.scores(query, items), 10).indices].tolist()
