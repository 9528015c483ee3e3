"""What a relation is: a module across the items of a batch that exists only while training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from ..embeddings import Embedding, Encoded

__all__ = ["Related", "Relation"]


@dataclass(frozen=True)
class Related:
    """What a relation adds to a step.

    Attributes:
        pairs: (name, images (i), texts (c)): embeddings to score besides the batch's own, with the same similarity and
            the same score losses and against the same matches.
        penalties: name -> (weight, scalar).
    """

    pairs: Sequence[tuple[str, Embedding, Embedding]] = ()
    penalties: Mapping[str, tuple[float, Tensor]] = field(default_factory=dict)


class Relation(nn.Module):
    """Base of all relations. Nothing of it is needed, nor stored with what is needed, to search.

    Attributes:
        start: share of the run's steps before it acts.
        start_steps: steps before it acts, if that is fewer; None asks for the share alone.
        acted: steps in which it acted so far; a run in which it never did says so.
    """

    def __init__(self, start: float = 0.0, start_steps: int | None = None) -> None:
        super().__init__()
        self.start, self.start_steps = start, start_steps
        self.acted, self._step, self._steps = 0, 0, 0

    def advance(self, step: int, steps: int) -> None:
        """Told before every step which of how many it is."""
        self._step, self._steps = step, steps

    def active(self) -> bool:
        """Whether it acts in the step at hand."""
        first = self.start * self._steps
        return self._step >= (first if self.start_steps is None else min(first, self.start_steps))

    def forward(self, images: Encoded, texts: Encoded, matches: Tensor) -> Related:
        """Enhanced embeddings and penalties of a batch of i images and c texts with matches (i, c) bool."""
        raise NotImplementedError

    def health(self, images: Encoded, texts: Encoded) -> dict[str, float]:
        """What can be seen of it in a batch, by name, for the diary of a run; nothing where there is nothing to see."""
        return {}
