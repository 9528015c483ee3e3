"""Terms that come in little by little: their share of the whole rises over the first part of a run."""

from __future__ import annotations

from ..errors import DataError
from .base import Term

__all__ = ["Ramped"]


class Ramped(Term):
    """A term that multiplies its value by `share`, which rises evenly to 1 over the first `ramp` of the run.

    Args:
        ramp: share of the run; 0 is the whole from the first step, as is a term that is told of no steps.

    Raises:
        DataError: a ramp outside of [0, 1].
    """

    def __init__(self, ramp: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= ramp <= 1.0:
            raise DataError(f"{type(self).__name__}: ramp {ramp}, expected a share of the run, 0 to 1")
        self.ramp, self.share = ramp, 1.0

    def advance(self, step: int, steps: int, epochs: int = 0) -> None:
        over = self.ramp * steps
        self.share = min(1.0, (step + 1) / over) if over > 0 else 1.0
