"""How long one query takes: a caption encoded and scored against the whole gallery."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

from ..embeddings import Embedding
from ..methods import Model
from ..threads import one_thread

__all__ = ["query_time"]

_QUERIES = 30
_WARM = 3


def query_time(
    model: Model, captions: Sequence[str], images: Embedding, *, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median seconds of a query on one thread: encode one caption, score it against the images (i).

    The captions are spread evenly over those given. It depends on the machine.
    """
    step = max(len(captions) // _QUERIES, 1)
    chosen = list(captions[::step][:_QUERIES])
    taken = []
    with one_thread(), torch.inference_mode():
        for text in [*chosen[:_WARM], *chosen]:
            begin = clock()
            model.similarity(model.encode_texts([text]), images)
            taken.append(clock() - begin)
    return median(taken[min(_WARM, len(chosen)) :])
