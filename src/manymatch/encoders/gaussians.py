"""Heads that say how sure an item is: a mean and a spread, as samples (PCME) or as a Gaussian (MSRM, PCME++)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..draws import draw
from ..embeddings import Embedding, Encoded, Gaussians, Points, Samples
from ..errors import DataError, UnknownName
from .base import Head, Locals
from .context import FragmentContext
from .gpo import GPO
from .noise import keyed_normal
from .pie import LocalAttention, PIENet

__all__ = ["Bound", "GaussianHead", "SampleHead", "TokenGaussianHead", "Uncertainty"]

Bound = Literal["relu6", "softplus"]
_GAIN = 0.1
"""Of the stand-in's weights at the start. Full ones make logarithms two apart of one item's dimensions, whose largest
then decide everything."""


class Uncertainty(nn.Module):
    """`Linear(attention over the fragments) + a second global vector`, unbounded (n, d) (PCME, section 3.3).

    Args:
        inputs: width c of the fragments.
        dim: width d.
        hidden: inner width of the attention, c / 2 if not given.
        spread: the tower gives the second global vector (`Locals.spread`); otherwise a linear map of `Locals.pooled`
            stands in for it.
        start: what it begins around.
    """

    def __init__(
        self, inputs: int, dim: int, *, hidden: int | None = None, spread: bool = False, start: float = 0.0
    ) -> None:
        super().__init__()
        self.attention, self.linear = LocalAttention(inputs, hidden=hidden), nn.Linear(inputs, dim)
        self.second = None if spread else nn.Linear(dim, dim)
        for layer in (self.linear, self.second):
            if layer is not None:
                nn.init.xavier_uniform_(layer.weight, gain=1.0 if spread else _GAIN)
                nn.init.zeros_(layer.bias)
        nn.init.constant_(self.linear.bias, start)

    def forward(self, local: Locals) -> Tensor:
        """Raises DataError when the tower gives a second global vector that was not announced, or gives none."""
        if (self.second is None) != (local.spread is not None):
            raise DataError(
                f"uncertainty head: built with spread={self.second is None}, but the tower gives "
                f"{'no' if local.spread is None else 'a'} second global vector; change one of them"
            )
        seen = self.linear(self.attention(local.vectors, local.valid).squeeze(1))
        if self.second is None:
            assert local.spread is not None
            return seen + local.spread
        return seen + self.second(local.pooled)


class _MeanAndUncertainty(Head):
    """What PCME's and MSRM's heads share: PIE-Net's one element, unit length, and the uncertainty path."""

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        spread: bool = False,
        start: float = 0.0,
    ) -> None:
        super().__init__()
        self.mean = PIENet(inputs, dim, hidden=hidden, dropout=dropout)
        self.uncertainty = Uncertainty(inputs, dim, hidden=hidden, spread=spread, start=start)

    def measure(self, local: Locals) -> tuple[Tensor, Tensor]:
        """Mean (n, d), unit length, and the unbounded uncertainty (n, d)."""
        mean, _ = self.mean(local.vectors, local.valid, local.pooled)
        return functional.normalize(mean.squeeze(1), dim=-1), self.uncertainty(local)

    def attend(self, local: Locals) -> Tensor:
        """Of the mean (n, 1, f); the spread has an attention of its own."""
        return self.mean.attend(local)


class SampleHead(_MeanAndUncertainty):
    """`Samples (n, j, d) = mean + exp(log_sigma) * noise` (PCME, sections 3.2 and 3.3); not unit length.

    Keeps `mean`, `log_sigma` (n, d) and `samples` (n, j, d). While training the noise is the draw "image noise" or
    "text noise"; otherwise it is made from `Locals.key`, so that an item has the same samples in every batch.

    Args:
        inputs, dim, hidden, dropout, spread, start: as `PIENet` and `Uncertainty`; the log standard deviation begins
            around `start`. At the published 0 the noise of a wide item is far larger than a unit mean.
        side: names the draw.
        samples: j.
        seed: of the noise that repeats.
        search_by: "samples", or "mean": the embedding is then the mean alone, `Points (n, d)`, the samples stay for a
            loss.
    """

    keyed = True

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        side: Literal["image", "text"],
        samples: int = 7,
        hidden: int | None = None,
        dropout: float = 0.0,
        spread: bool = False,
        start: float = 0.0,
        seed: int = 0,
        search_by: Literal["samples", "mean"] = "samples",
    ) -> None:
        super().__init__(inputs, dim, hidden=hidden, dropout=dropout, spread=spread, start=start)
        if samples < 1:
            raise DataError(f"samples {samples}, expected at least 1")
        if search_by not in ("samples", "mean"):
            raise UnknownName("what samples are searched by", search_by, ("samples", "mean"))
        self.side, self.samples, self.seed, self.search_by = side, samples, seed, search_by

    def forward(self, local: Locals) -> Encoded:
        """Raises DataError when not training and the tower gives no key."""
        mean, log_sigma = self.measure(local)
        noise = draw(f"{self.side} noise", lambda: self._noise(local, mean))
        samples = mean[:, None, :] + log_sigma.exp()[:, None, :] * noise.to(mean.device)
        embedding: Embedding = Points(mean) if self.search_by == "mean" else Samples(samples)
        return Encoded(embedding, tensors={"mean": mean, "log_sigma": log_sigma, "samples": samples})

    def _noise(self, local: Locals, mean: Tensor) -> Tensor:
        shape = (self.samples, mean.shape[-1])
        if self.training:
            return torch.randn(len(mean), *shape, device=mean.device)
        if local.key is None:
            raise DataError(f"{self.side} samples: the tower gives no key to make noise from that repeats")
        return keyed_normal(local.key, shape, self.seed)


class GaussianHead(_MeanAndUncertainty):
    """`Gaussians (n, d)`, mean of unit length, bounded variance (our reading of MSRM); keeps both as tensors.

    Args:
        inputs, dim, hidden, dropout, spread: as `PIENet` and `Uncertainty`.
        bound: "relu6" gives a variance of 1 to e^6 (as HIST's class Gaussians), so that the squared Mahalanobis
            distance between unit vectors stays below 4; "softplus" gives a variance above 0.01.
    """

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        spread: bool = False,
        bound: Bound = "relu6",
    ) -> None:
        super().__init__(inputs, dim, hidden=hidden, dropout=dropout, spread=spread)
        if bound not in get_args(Bound):
            raise UnknownName("bound", bound, get_args(Bound))
        self.bound = bound

    def forward(self, local: Locals) -> Encoded:
        mean, free = self.measure(local)
        bounded = functional.relu6(free) if self.bound == "relu6" else (functional.softplus(free) + 0.01).log()
        return _gaussians(mean, bounded)


class TokenGaussianHead(Head):
    """Mean and log-variance each pooled from tokens of their own (PCME++): `Gaussians (n, d)`, the variance free.

        mean = normalise(GPO(Linear(x))),  log_variance = GPO'(Linear'(context(x)))

    Args:
        inputs: width c of the tokens.
        dim: width d.
        context_heads: attention heads of the extra layer before the log-variance; 0 leaves it out, for a backbone
            that gives tokens of its own for it (`of_streams`).
        dropout: in that layer.
        start: what the log-variance begins around; None leaves the linear layer as it is made.
        add_pooled: the tower's global vector (n, d) is added to the mean before it is normalised.
    """

    blind = "its head pools each dimension by ranks of its values (GPO), and weighs no whole fragment"

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        context_heads: int = 8,
        dropout: float = 0.1,
        start: float | None = None,
        add_pooled: bool = False,
    ) -> None:
        super().__init__()
        self.mean, self.mean_pool = nn.Linear(inputs, dim), GPO()
        self.log_variance, self.log_variance_pool = nn.Linear(inputs, dim), GPO()
        self.context = FragmentContext(inputs, heads=context_heads, dropout=dropout) if context_heads else None
        self.add_pooled = add_pooled
        if start is not None:
            nn.init.constant_(self.log_variance.bias, start)

    def forward(self, local: Locals) -> Encoded:
        vectors = local.vectors
        spreads = vectors if self.context is None else self.context(vectors, local.valid)
        return self.of_streams(vectors, spreads, local.valid, local.pooled if self.add_pooled else None)

    def of_streams(self, means: Tensor, spreads: Tensor, valid: Tensor, pooled: Tensor | None = None) -> Encoded:
        """Tokens (n, f, c) for the mean and (n, f, c) for the log-variance, which are valid (n, f)."""
        mean = self.mean_pool(self.mean(means), valid)
        mean = mean if pooled is None else mean + pooled
        return _gaussians(functional.normalize(mean, dim=-1), self.log_variance_pool(self.log_variance(spreads), valid))


def _gaussians(mean: Tensor, log_variance: Tensor) -> Encoded:
    return Encoded(Gaussians(mean, log_variance), tensors={"mean": mean, "log_variance": log_variance})
