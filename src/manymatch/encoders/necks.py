"""Between what a backbone gave and a head: fragments at the width the head reads, and one global vector."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from .base import Locals, Pool
from .dropout import Dropout
from .pooling import mean_pool

__all__ = ["MeanNeck", "Neck", "ProjectorNeck", "RegionProjector"]


class RegionProjector(nn.Module):
    """Fragments to the joint width, residually (authors' code of VSE-infinity and DivE).

        r = fc(x) + mlp(y),  mlp = Linear -> norm -> ReLU -> Linear,  y = x ("vse_infty") or fc(x) ("dive")

    `fc` starts as the authors' do: Xavier uniform without bias in VSE-infinity, the library's way in DivE.

    Args:
        inputs, dim, hidden: widths c, d and of the mlp.
        form: which `y`; "linear" is `fc` alone (VSE-infinity on grids).
        norm: "batch" as published (padding enters its statistics while training), or "layer".
    """

    def __init__(
        self,
        inputs: int,
        dim: int,
        hidden: int,
        *,
        form: Literal["dive", "vse_infty", "linear"] = "dive",
        norm: Literal["batch", "layer"] = "batch",
    ) -> None:
        super().__init__()
        self.form = form
        self.fc = nn.Linear(inputs, dim)
        if form != "dive":
            nn.init.xavier_uniform_(self.fc.weight)
            nn.init.zeros_(self.fc.bias)
        if form == "linear":
            return
        self.inner = nn.Linear(dim if form == "dive" else inputs, hidden)
        self.norm: nn.Module = nn.BatchNorm1d(hidden) if norm == "batch" else nn.LayerNorm(hidden)
        self.outer = nn.Linear(hidden, dim)

    def forward(self, vectors: Tensor) -> Tensor:
        """(n, f, c) -> (n, f, d)."""
        wide: Tensor = self.fc(vectors)
        if self.form == "linear":
            return wide
        inner = self.inner(wide if self.form == "dive" else vectors)
        inner = self.norm(inner.flatten(0, 1)).view_as(inner)
        out: Tensor = wide + self.outer(inner.relu())
        return out


class Neck(nn.Module):
    """`(raw fragments (n, f, c), valid (n, f), further global vector (n, d) or None) -> Locals`.

    Attributes:
        width: of the fragments that leave.
    """

    width: int

    def forward(self, raw: Tensor, valid: Tensor, further: Tensor | None = None) -> Locals:
        raise NotImplementedError


class ProjectorNeck(Neck):
    """Projected fragments and their pool (VSE-infinity, HREM, DivE); a further global vector is added to the pool.

    Args:
        projector: fragments to the joint width.
        pool: of the projected fragments.
        dim: width d.
        twice: the global vector comes from a second pass of the projector with a dropout mask of its own, so batch norm
            counts a batch twice, as the authors' code of DivE does; otherwise both share one pass.
        dropout: after the projector.
    """

    def __init__(
        self,
        projector: RegionProjector,
        pool: Pool,
        *,
        dim: int,
        twice: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.projector, self.pool, self.twice, self.width = projector, pool, twice, dim
        self.dropout = Dropout(dropout)

    def forward(self, raw: Tensor, valid: Tensor, further: Tensor | None = None) -> Locals:
        projected = self.dropout(self.projector(raw))
        pooled = self.pool(self.dropout(self.projector(raw)) if self.twice else projected, valid)
        return Locals(projected, valid, pooled if further is None else pooled + further)


class MeanNeck(Neck):
    """Raw fragments, and linear maps of their mean (PVSE section 3; PCME section 3.1; VSE++).

    Args:
        inputs, dim: widths c and d.
        spread: give the uncertainty head a second linear map of the mean (PCME).
        unit: bring the mean to unit length first (VSE++).
        dropout: on the global vector (PVSE).
    """

    def __init__(
        self, inputs: int, dim: int, *, spread: bool = False, unit: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.width, self.unit = inputs, unit
        self.fc = nn.Linear(inputs, dim)
        self.spread_fc = nn.Linear(inputs, dim) if spread else None
        self.dropout = Dropout(dropout)
        for layer in (self.fc, self.spread_fc):
            if layer is not None:
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, raw: Tensor, valid: Tensor, further: Tensor | None = None) -> Locals:
        mean = mean_pool(raw, valid)
        mean = functional.normalize(mean, dim=-1) if self.unit else mean
        pooled = self.dropout(self.fc(mean))
        spread = None if self.spread_fc is None else self.spread_fc(mean)
        return Locals(raw, valid, pooled if further is None else pooled + further, spread)
