"""MSRM's hypergraph: the candidates of a batch are nodes, its Gaussian queries are hyperedges. Training only.

Wang et al. Multilateral Semantic Relations Modeling for Image Text Retrieval. CVPR 2023. No formula of it is public:
this is a reconstruction on HIST (Lim et al., Hypergraph-Induced Semantic Tuplet Loss, CVPR 2022), whose learned class
Gaussians give way to the batch's queries, and on the hypergraph convolution of Feng et al. (HGNN, AAAI 2019).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..embeddings import Encoded, Gaussians
from ..errors import DataError, UnknownName
from ..losses import Rescored
from ..losses.base import require_positives
from ..similarity import Mahalanobis
from .base import Related, Relation

__all__ = ["Hypergraph", "HypergraphNetwork", "node_classification", "operator", "over_smoothing"]

_OPTIONS = {
    "incidence": ("matches", "free", "top"),
    "use": ("queries", "places", "match"),
    "distance": ("sum", "mean"),
}


def operator(incidence: Tensor, weights: Tensor | None = None) -> Tensor:
    """Hypergraph convolution `G = Dv^-1/2 H W De^-1 H^T Dv^-1/2` (n, n) (HGNN, equation 10).

    `Dv` are the row sums of `H W`, `De` the column sums of `H`. G is symmetric, its eigenvalues lie in [0, 1], and it
    keeps `sqrt(Dv)`. A node in no edge has a row and a column of zeros; an edge without nodes adds nothing.

    Args:
        incidence: H (n, e), how much each node belongs to each edge, at least 0.
        weights: the diagonal of W (e,), at least 0; default 1.

    Raises:
        DataError: other shapes, or a number below 0.
    """
    weights = incidence.new_ones(incidence.shape[-1:]) if weights is None else weights
    if incidence.ndim != 2 or weights.shape != incidence.shape[1:]:
        raise DataError(
            f"hypergraph: incidence {tuple(incidence.shape)} and weights {tuple(weights.shape)}, "
            "expected (nodes, edges) and (edges,)"
        )
    if bool((incidence < 0).any()) or bool((weights < 0).any()):
        raise DataError("hypergraph: found a number below 0 in incidence or weights, expected all at least 0")
    nodes, edges = incidence @ weights, incidence.sum(dim=0)
    # One factor times its own transpose: symmetric and without negative eigenvalues, whatever the rounding.
    half = _power(nodes, -0.5)[:, None] * incidence * (_power(weights, 0.5) * _power(edges, -0.5))
    return half @ half.T


def _power(values: Tensor, exponent: float) -> Tensor:
    """x ** exponent, and 0 with a gradient of 0 where x is 0."""
    there = values > 0
    return torch.where(there, torch.where(there, values, 1.0) ** exponent, 0.0)


def over_smoothing(operator: Tensor) -> Tensor:
    """Mean off-diagonal entry of G (n, n): 0 where every node keeps to itself, 1 / n where all become their mean."""
    nodes = len(operator)
    return (operator.sum() - operator.diagonal().sum()) / max(nodes * (nodes - 1), 1)


def node_classification(logits: Tensor, matches: Tensor) -> Tensor:
    """Cross-entropy of each node over the edges: `-mean_j log sum_(i matches j) softmax_i(logits_j)`, a scalar.

    Args:
        logits: (n, e), nodes by edges.
        matches: (n, e) bool; a node with none is left out, one with several has their probabilities summed.

    Raises:
        DataError: no match at all.
    """
    require_positives(matches)
    known = matches.any(dim=1)
    logits, matches = logits[known], matches[known]
    right = logits.masked_fill(~matches, -torch.inf).logsumexp(dim=1)
    return (logits.logsumexp(dim=1) - right).mean()


class HypergraphNetwork(nn.Module):
    """`layers` hyperedge convolutions `X <- G (X Theta + b)`, batch normalisation and LeakyReLU 0.1 between (HIST).

    Args:
        dim: width of the nodes.
        outputs: width that leaves.
        hidden: width between two layers.
        layers: 1 is one convolution without a non-linearity.
    """

    def __init__(self, dim: int, outputs: int, *, hidden: int = 512, layers: int = 2) -> None:
        super().__init__()
        widths = [dim, *[hidden] * (layers - 1), outputs]
        self.maps = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(layers - 1))

    def forward(self, nodes: Tensor, operator: Tensor) -> Tensor:
        """(n, dim) and G (n, n) -> (n, outputs)."""
        for change, norm in zip(self.maps, self.norms, strict=False):
            nodes = functional.leaky_relu(norm(operator @ change(nodes)), 0.1)
        return operator @ self.maps[-1](nodes)


class Hypergraph(Relation):
    """Refines the candidates' means over the hypergraph of a batch's queries, in both directions, and classifies them.

    Of a direction with q queries and g candidates (means of unit length), `d2 (g, q)` is the squared Mahalanobis
    distance of each candidate's mean to each query's Gaussian. The incidence is made from it, and
    `Z (g, d) = network(means, G)`. With variances of at least 1 (MSRM's heads) d2 is at most 4, so that no incidence
    underflows. Images and texts need not be as many as one another.

    Penalties: "hyperedge", the sum of both directions with its weight; "smoothing", the mean off-diagonal entry of G
    over both, with weight 0, to be watched: a growing one says that the candidates become one another.

    Args:
        dim: width d of the Gaussians.
        hidden, layers: of the networks.
        alpha: sharpness of the incidence `exp(-alpha d2)`.
        incidence: "matches" (1 for a match, HIST), "free" (of labels: `exp(-alpha d2)` for all) or "top" (free, and
            only the `top` nearest candidates of each query).
        top: candidates of a query under "top".
        use: what is asked of Z. "queries": its cosines to the queries' means at `temperature` classify each candidate.
            "places": HIST's output layer, one class for each place in the batch, hence it minds the batch's order.
            "match": `match` of the batch with unit-length Z as the candidates' means, their variances kept.
        temperature: of the cosines.
        places: most queries of a batch under "places".
        match: the match loss under "match", an object of its own: what it learns is stored with the relation.
        covariance: "identity" takes every variance for 1 (Euclidean distance).
        distance: "sum" over dimensions; "mean" divides d2 by d, for heads whose variance may be small.
        shared: one network for both directions.
        weight: of the penalty; at 0 it is computed and shown, and trains nothing.
        start: share of the run's steps before it acts.
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 512,
        layers: int = 2,
        alpha: float = 2.0,
        incidence: Literal["matches", "free", "top"] = "matches",
        top: int = 10,
        use: Literal["queries", "places", "match"] = "queries",
        temperature: float = 0.05,
        places: int = 256,
        match: Rescored | None = None,
        covariance: Literal["diagonal", "identity"] = "diagonal",
        distance: Literal["sum", "mean"] = "sum",
        shared: bool = False,
        weight: float = 1.0,
        start: float = 0.0,
    ) -> None:
        super().__init__(start)
        said = {"incidence": incidence, "use": use, "distance": distance}
        for name, value in said.items():
            if value not in _OPTIONS[name]:
                raise UnknownName(f"{name} of the hypergraph", value, _OPTIONS[name])
        if min(layers, top, places) < 1 or min(alpha, temperature) <= 0:
            raise DataError(
                f"hypergraph: layers {layers}, top {top}, places {places}, alpha {alpha}, temperature {temperature}; "
                "expected counts of at least 1 and numbers above 0"
            )
        if (match is None) == (use == "match"):
            raise DataError(f"hypergraph: use {use!r} {'without' if match is None else 'with'} a match loss to use")
        self.alpha, self.incidence, self.top, self.temperature = alpha, incidence, top, temperature
        self.use, self.distance, self.weight = use, distance, weight
        self.similarity, self.match = Mahalanobis(covariance), match
        outputs = places if use == "places" else dim
        # One under a single name when shared: a module of two names would be stored, and averaged, twice.
        self.networks = nn.ModuleList(
            HypergraphNetwork(dim, outputs, hidden=hidden, layers=layers) for _ in range(1 if shared else 2)
        )

    def advance(self, step: int, steps: int) -> None:
        super().advance(step, steps)
        if self.match is not None:
            self.match.advance(step, steps)

    def forward(self, images: Encoded, texts: Encoded, matches: Tensor) -> Related:
        """Raises DataError for embeddings that are no Gaussians, or a batch with fewer than two of either."""
        pictures, captions = _gaussians(images, "images"), _gaussians(texts, "texts")
        refined_texts, of_texts = self._refine(self.networks[0], pictures, captions, matches.T)
        refined_images, of_images = self._refine(self.networks[-1], captions, pictures, matches)
        if self.match is not None:
            i2t = self.match(images, _with_means(refined_texts, captions), matches)
            t2i = self.match(_with_means(refined_images, pictures), texts, matches)
        else:
            i2t = self._classify(refined_texts, pictures, matches.T)
            t2i = self._classify(refined_images, captions, matches)
        smoothing = (over_smoothing(of_texts) + over_smoothing(of_images)).detach() / 2
        return Related(penalties={"hyperedge": (self.weight, i2t + t2i), "smoothing": (0.0, smoothing)})

    def distances(self, queries: Gaussians, candidates: Gaussians) -> Tensor:
        """d2 (g, q): of each candidate's mean to each query's Gaussian."""
        d2: Tensor = -self.similarity(queries, candidates).T
        return d2 if self.distance == "sum" else d2 / queries.mean.shape[1]

    def incidences(self, d2: Tensor, matches: Tensor) -> Tensor:
        """H (g, q) of distances d2 (g, q) and matches (g, q) bool; gradients flow through it."""
        incidence = (-self.alpha * d2).exp()
        if self.incidence == "matches":
            return incidence.masked_fill(matches, 1.0)
        if self.incidence == "free":
            return incidence
        nearest = d2.topk(min(self.top, len(d2)), dim=0, largest=False).indices
        return incidence * torch.zeros_like(d2).scatter(0, nearest, 1.0)

    def _refine(
        self, network: nn.Module, queries: Gaussians, candidates: Gaussians, matches: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Z (g, d) and G (g, g) of a direction."""
        if len(candidates) < 2:
            raise DataError(f"hypergraph: {len(candidates)} candidate in a batch, expected at least 2; raise the batch")
        convolution = operator(self.incidences(self.distances(queries, candidates), matches))
        return network(candidates.mean, convolution), convolution

    def _classify(self, refined: Tensor, queries: Gaussians, matches: Tensor) -> Tensor:
        if self.use == "queries":
            cosines = functional.normalize(refined, dim=-1) @ functional.normalize(queries.mean, dim=-1).T
            return node_classification(cosines / self.temperature, matches)
        if len(queries) > refined.shape[1]:
            raise DataError(
                f"hypergraph: {len(queries)} queries in a batch, but {refined.shape[1]} places; raise places"
            )
        return node_classification(refined[:, : len(queries)], matches)


def _gaussians(encoded: Encoded, side: str) -> Gaussians:
    if not isinstance(encoded.embedding, Gaussians):
        raise DataError(
            f"hypergraph: {side} are {encoded.embedding.kind}, expected gaussians; give a head that makes them"
        )
    return encoded.embedding


def _with_means(refined: Tensor, candidates: Gaussians) -> Encoded:
    return Encoded(Gaussians(functional.normalize(refined, dim=-1), candidates.log_variance))
