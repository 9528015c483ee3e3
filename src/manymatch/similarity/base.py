"""What every similarity keeps: higher is closer, q and g need not be equal, direction may matter."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..embeddings import Embedding
from ..errors import DataError

__all__ = ["Probabilistic", "Role", "Similarity"]

Role = Literal["query", "gallery"]


class Similarity(nn.Module, ABC):
    """Scores every query against every gallery item.

    Class attributes:
        kinds: embedding kinds it takes, as in `embeddings.py`.
        symmetric: True when s(a, b) equals s(b, a) transposed, so one matrix serves both directions.
        proxy_is_exact: True when ordering by inner product of proxies is ordering by the similarity.
    """

    kinds: ClassVar[tuple[str, ...]]
    symmetric: ClassVar[bool] = True
    proxy_is_exact: ClassVar[bool] = False

    @abstractmethod
    def forward(self, queries: Any, gallery: Any) -> Tensor:
        """Scores (q, g) of two embeddings of one of `kinds`, higher is closer."""

    @abstractmethod
    def proxy(self, embedding: Any, role: Role) -> Tensor | None:
        """One vector an item (n, p) whose inner product orders candidates; None means exact scan only."""

    def settings(self) -> dict[str, Any]:
        """Constructor arguments as JSON; learned scalars are parameters, not settings."""
        return {}

    def expect(self, *embeddings: Embedding) -> None:
        """Raises DataError unless every embedding is of a kind this similarity takes."""
        for embedding in embeddings:
            if embedding.kind not in self.kinds:
                raise DataError(
                    f"{type(self).__name__} got {embedding.kind}, expected {' or '.join(self.kinds)}; "
                    "use a similarity of the embedding's kind"
                )


class Probabilistic(Similarity):
    """A similarity that is the log-odds `log p - log(1 - p)` of a match, where `p` is a logistic function of a distance
    or a cosine with scale a and shift b. Log-odds do not saturate, so losses on them are cross-entropy with logits.

    Args:
        scale: a, at the start, positive.
        shift: b, at the start.
        learned: whether a and b train.

    Raises:
        DataError: a scale that is not positive, or a shift that is not finite.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: float, shift: float, *, learned: bool = True) -> None:
        super().__init__()
        if not (scale > 0 and math.isfinite(scale) and math.isfinite(shift)):
            raise DataError(
                f"{type(self).__name__}: scale {scale}, shift {shift}; expected a positive and a finite number"
            )
        self._start = {"scale": float(scale), "shift": float(shift)}
        for name, value in self._start.items():
            if learned:
                self.register_parameter(name, nn.Parameter(torch.tensor(value)))
            else:
                self.register_buffer(name, torch.tensor(value))

    def settings(self) -> dict[str, Any]:
        return dict(self._start)

    @staticmethod
    def probability(scores: Tensor) -> Tensor:
        """Scores -> match probabilities in [0, 1]."""
        return torch.sigmoid(scores)

    def scalars(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Scale and shift on that device: a model on a GPU hands out its embeddings on the CPU."""
        return self.scale.to(device), self.shift.to(device)

    def distance_proxy(self, points: Tensor, sizes: Tensor, role: Role) -> Tensor:
        """Proxy (n, p + 1) of scores that order by `-a |u_q - u_g|^2` and a number of the gallery item's own.

        Args:
            points: u (n, p).
            sizes: (n,), `|u|^2` and the number.
        """
        if role == "gallery":
            return torch.cat([points, -sizes[:, None]], dim=-1)
        # The scale may have learned to be negative: then what is far matches.
        scale, _ = self.scalars(points.device)
        return scale * torch.cat([2 * points, torch.ones_like(sizes)[:, None]], dim=-1)
