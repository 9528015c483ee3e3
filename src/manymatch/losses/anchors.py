"""Which pairs of a batch are positives, and what stands against each of them: what ranking losses agree on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..choices import check_choice
from ..errors import DataError
from .choices import Positives, Siblings

__all__ = ["Anchors", "Pairing", "diagonal"]


@dataclass(frozen=True)
class Anchors:
    """The p positive pairs of a matrix in row-major order, its rows being the anchors.

    Pairs of one anchor share their negatives where they can: there are m lists of them, not p.

    Attributes:
        rows, columns: of each pair (p,).
        askers: the row of each list (m,).
        negatives: the lists (m, columns) bool.
        lists: which list is a pair's (p,).
    """

    rows: Tensor
    columns: Tensor
    askers: Tensor
    negatives: Tensor
    lists: Tensor

    def positive(self, scores: Tensor) -> Tensor:
        """Every pair's own score (p,)."""
        return scores[self.rows, self.columns]

    def against(self, scores: Tensor) -> Tensor:
        """Every list's scores (m, columns), minus infinity where there is no negative."""
        return scores[self.askers].masked_fill(~self.negatives, -math.inf)


@dataclass(frozen=True)
class Pairing:
    """How a ranking loss takes its pairs.

    Attributes:
        positives: "matches", every match is a pair to be ranked first; "diagonal", only caption i of row i is, in a
            batch of as many images as captions (VSE++, VSE-infinity, PVSE).
        siblings: "masked", no other match of an anchor is ever a negative; "negatives", all but the pair itself is, as
            the authors' code of VSE++, VSE-infinity and PVSE has it.

    Raises:
        UnknownName: another word for either.
    """

    positives: Positives = "matches"
    siblings: Siblings = "masked"

    def __post_init__(self) -> None:
        check_choice("positives", self.positives, Positives)
        check_choice("siblings", self.siblings, Siblings)

    def masks(self, matches: Tensor) -> tuple[Tensor, Tensor]:
        """Of matches (rows, columns) bool: which are positives of a row, and which are negatives to all of them."""
        chosen = diagonal(matches) if self.positives == "diagonal" else matches
        return chosen, ~matches if self.siblings == "masked" else ~chosen

    def anchors(self, matches: Tensor) -> Anchors:
        """The pairs of matches (rows, columns) bool. Raises DataError as `diagonal` does."""
        chosen, _ = self.masks(matches)
        rows, columns = chosen.nonzero(as_tuple=True)
        if self.siblings == "masked":
            return Anchors(rows, columns, torch.arange(len(matches), device=rows.device), ~matches, rows)
        others = torch.arange(matches.shape[1], device=rows.device) != columns[:, None]
        return Anchors(rows, columns, rows, others, torch.arange(len(rows), device=rows.device))


def diagonal(matches: Tensor) -> Tensor:
    """The diagonal (n, n) bool of a batch in which caption i was taken for row i.

    Raises:
        DataError: not as many images as captions, or a caption that does not match its row.
    """
    if matches.shape[0] != matches.shape[1]:
        raise DataError(
            f"positives='diagonal': found {matches.shape[0]} rows and {matches.shape[1]} columns, expected as many "
            "images as captions; take one caption an image, or positives='matches'"
        )
    own = torch.eye(len(matches), dtype=torch.bool, device=matches.device)
    wrong = (own & ~matches.bool()).any(dim=1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise DataError(f"positives='diagonal': row {row} and column {row} do not match, expected pairs in order")
    return own
