"""Triplet whose negatives are drawn by distance (Wu et al., ICCV 2017; HREM, CVPR 2023, its default loss)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..choices import Mode, check_mode
from ..draws import draw
from ..errors import DataError
from .base import ScoreLoss, Scores, require_positives

__all__ = ["DistanceWeighted", "distance_weights"]


def distance_weights(
    scores: Tensor,
    matches: Tensor,
    *,
    farthest: float = 1.7,
    nearest: float = 0.5,
    dimension: int = 512,
    mode: Mode = "paper",
) -> Tensor:
    """How likely each column is drawn as a row's negative: rows of the result sum to 1, or are 0 if none is admissible.

        dist = max(nearest, sqrt(2 - 2 s)),    log w = (2 - n) log dist - (n - 3) / 2 log(1 - dist^2 / 4)

    w is one over the density of distances between random points on the unit sphere in n dimensions; columns that match
    or lie `farthest` or farther away have weight 0. Not differentiable: scores are detached.

    Args:
        scores: cosines (rows, columns).
        matches: (rows, columns) bool.
        farthest, nearest: in units of distance between unit vectors, 0 to 2.
        dimension: n.
        mode: "paper" scales a row by its largest admissible weight before it is made to sum to 1; "released" by the
            largest of all columns (matches as log w = 0), after which a row can sum to less than 1, or underflow to 0
            though it has admissible columns. The odds between columns are the same.
    """
    scores = scores.detach()
    # Unit vectors lie at most 2 apart; just below that the weight stays finite.
    distance = (2 - 2 * scores).clamp(min=nearest**2, max=3.9999).sqrt()
    log_weight = (2.0 - dimension) * distance.log() - (dimension - 3.0) / 2 * (1 - distance.square() / 4).log()
    admissible = ~matches & (distance < farthest)
    if mode == "released":
        largest = log_weight.masked_fill(matches, 0.0).amax(dim=1, keepdim=True)
    else:
        largest = log_weight.masked_fill(~admissible, -math.inf).amax(dim=1, keepdim=True)
    # Masked before exp: a column beyond the cut-off may outweigh the largest admissible one by more than exp can hold.
    weight = (log_weight - largest).masked_fill(~admissible, -math.inf).exp()
    total = weight.sum(dim=1, keepdim=True)
    return weight / (total + 1e-20 if mode == "released" else torch.where(total > 0, total, 1.0))


class DistanceWeighted(ScoreLoss):
    """`[margin + s(anchor, negative) - s(anchor, positive)]_+` with one negative drawn for every match, in both
    directions, summed.

    Negatives are the draw "negatives", int64 column numbers (matches,) in row-major order of the match matrix: asked
    for once a direction, images first. Scores must be cosines.

    Args:
        margin: in units of similarity.
        farthest: negatives at this distance or beyond are not drawn (1.7 for Flickr30K, 1.9 for COCO).
        nearest: closer negatives are as likely as those at this distance.
        dimension: of the sphere whose density weighs; the authors keep 512 whatever the width of the embedding.
        mode: what happens when an anchor has no admissible negative: "paper" leaves that anchor out, "released" makes
            the whole direction 0 without drawing; and as `distance_weights`.

    Raises:
        UnknownName: another mode.
        DataError: cut-offs out of order; in a step, no match at all, or recorded negatives of another shape.
    """

    def __init__(
        self,
        margin: float = 0.2,
        *,
        farthest: float = 1.7,
        nearest: float = 0.5,
        dimension: int = 512,
        mode: Mode = "paper",
    ) -> None:
        super().__init__()
        check_mode(mode)
        if not 0.0 < nearest < farthest <= 2.0:
            raise DataError(
                f"distance_weighted: nearest {nearest}, farthest {farthest}; expected 0 < nearest < farthest <= 2"
            )
        self.margin, self.farthest, self.nearest = margin, farthest, nearest
        self.dimension, self.mode = dimension, mode

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        require_positives(matches)
        return self._direction(scores.i2t, matches) + self._direction(scores.t2i, matches.T)

    def weights(self, scores: Tensor, matches: Tensor) -> Tensor:
        """`distance_weights` (rows, columns) with this loss's numbers."""
        return distance_weights(
            scores, matches, farthest=self.farthest, nearest=self.nearest, dimension=self.dimension, mode=self.mode
        )

    def _direction(self, scores: Tensor, matches: Tensor) -> Tensor:
        rows, columns = matches.nonzero(as_tuple=True)
        weights = self.weights(scores, matches)[rows]
        usable = weights.sum(dim=1) > 0
        if self.mode == "released" and not bool(usable.all()):
            return scores.sum() * 0.0
        # Anchors that are left out draw too, from anything, so that every match has its place in a recorded draw.
        weights = torch.where(usable[:, None], weights, 1.0)
        drawn = draw("negatives", lambda: torch.multinomial(weights, 1).squeeze(1))
        if drawn.shape != rows.shape:
            raise DataError(
                f"draws: negatives of shape {tuple(drawn.shape)}, expected {tuple(rows.shape)}, one for each match"
            )
        hinges = (self.margin + scores[rows, drawn.to(scores.device)] - scores[rows, columns]).clamp(min=0)
        return (hinges * usable).sum()
