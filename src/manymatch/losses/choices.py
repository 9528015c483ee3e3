"""Words that settings of several losses take."""

from __future__ import annotations

from typing import Literal

__all__ = ["Positives", "Reduction", "Siblings"]

Positives = Literal["matches", "diagonal"]
Siblings = Literal["masked", "negatives"]
Reduction = Literal["mean", "sum"]
