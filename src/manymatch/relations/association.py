"""HREM's association graph: the images and captions of a batch tell each other what they are, while training.

Fu, Mao, Song and Zhang. Learning Semantic Relationship among Instances for Image-Text Matching. CVPR 2023.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..choices import Mode, check_mode
from ..embeddings import Encoded, Points
from ..errors import DataError, UnknownName
from .base import Related, Relation
from .fragment_scores import fragment_scores
from .interaction import Fusion, Standalone

__all__ = ["Association", "AssociationGraph", "Blocks", "Interaction", "connect"]

Interaction = Literal["fusion", "standalone"]
Blocks = Literal["both", "intra", "inter"]


@dataclass(frozen=True)
class Association:
    """The graph of a batch. Nodes are its i images, then its c captions; a row listens to its columns.

    Attributes:
        images: i.
        connected: (i + c, i + c) bool, who listens to whom (HREM's A).
        relevance: (i + c, i + c), how much (HREM's S).
        guide: (i, c), closeness of the global embeddings, which the cross-modal relevance is drawn to; no gradient.
    """

    images: int
    connected: Tensor
    relevance: Tensor
    guide: Tensor

    def regulariser(self) -> Tensor:
        """Kullback-Leibler divergence of the learned relevance from the guide, rows as distributions, both directions.

        Averaged over the rows of each direction; only the learned relevance gets a gradient.
        """
        i, total = self.images, self.guide.new_zeros(())
        for learned, guide in ((self.relevance[:i, i:], self.guide), (self.relevance[i:, :i], self.guide.T)):
            found, wanted = learned.log_softmax(1), guide.log_softmax(1)
            total = total + functional.kl_div(wanted, found, reduction="batchmean", log_target=True)
        return total


class AssociationGraph(Relation):
    """Enhances the global embeddings of a batch by what its other images and captions say.

    Reads `images.embedding` and `texts.embedding` (Points, unit length) and the `fragments` of both before pooling. The
    fragments get no gradient from it.

    Args:
        dim: d.
        interaction: "fusion" or "standalone".
        bias: lambda, weight of the relevance in the attention logits (1 for Flickr30K, 1.5 for COCO); 0 leaves the
            relevance out and keeps the connections.
        share: of a block's columns that a row connects to.
        top: fragment scores the learned relevance is made from.
        sigma: of the closeness `exp(-distance / sigma)`.
        squared: take the squared distance there.
        blocks: "both", "intra" (nobody listens to the other modality) or "inter" (nor to its own, but to itself).
        connections: False connects everything.
        cross_consistency: score enhanced embeddings against plain ones too.
        regularisation: weight of the relevance regulariser; 0 leaves it out.
        mode: of the fragment scores.
        heads, dropout: of the interaction.
        start, start_steps: it acts after whichever is fewer; the paper's 8,000 steps are more than many a whole run.

    Raises:
        DataError: `heads` does not divide `dim`.
        UnknownName: an interaction, blocks or mode of another name.
    """

    def __init__(
        self,
        dim: int,
        *,
        interaction: Interaction = "fusion",
        bias: float = 1.0,
        share: float = 0.5,
        top: int = 10,
        sigma: float = 1.0,
        squared: bool = False,
        blocks: Blocks = "both",
        connections: bool = True,
        cross_consistency: bool = True,
        regularisation: float = 10.0,
        mode: Mode = "paper",
        heads: int = 16,
        dropout: float = 0.1,
        start: float = 0.2,
        start_steps: int | None = 8000,
    ) -> None:
        super().__init__(start, start_steps)
        if dim % heads:
            raise DataError(f"association graph: dim {dim} is no multiple of heads {heads}; change one of them")
        check_mode(mode)
        for what, name, known in (("interaction", interaction, Interaction), ("blocks", blocks, Blocks)):
            if name not in get_args(known):
                raise UnknownName(f"{what} of the association graph", name, get_args(known))
        self.bias, self.share, self.top, self.sigma, self.squared = bias, share, top, sigma, squared
        self.blocks, self.connections, self.mode = blocks, connections, mode
        self.cross_consistency, self.regularisation = cross_consistency, regularisation
        self.interaction: Fusion | Standalone = (
            Fusion(dim, heads, dropout)
            if interaction == "fusion"
            else Standalone(dim, heads, dropout, across=blocks != "intra")
        )
        self.relevance_i2t = nn.Sequential(nn.Linear(top, top), nn.ReLU(), nn.Linear(top, 1))
        self.relevance_t2i = deepcopy(self.relevance_i2t)

    def forward(self, images: Encoded, texts: Encoded, matches: Tensor) -> Related:
        """Pairs with the enhanced embeddings, and the penalty "relevance".

        Raises:
            DataError: embeddings that are no points, or towers that give no fragments.
        """
        v, u = _vectors(images, "image"), _vectors(texts, "text")
        graph = self.graph(images, texts)
        enhanced = self._enhanced(graph, torch.cat([v, u]))
        vbar, ubar = Points(enhanced[: len(v)]), Points(enhanced[len(v) :])
        pairs = [("enhanced", vbar, ubar)]
        if self.cross_consistency:
            mixed = [("image-enhanced caption", Points(v), ubar), ("enhanced image-caption", vbar, Points(u))]
            pairs = mixed + pairs
        return Related(pairs, {"relevance": (self.regularisation, graph.regulariser())} if self.regularisation else {})

    @torch.no_grad()
    def health(self, images: Encoded, texts: Encoded) -> dict[str, float]:
        """How far it takes the nodes of a batch, whom they listen to, and where the learned relevance has gone.

        Returns:
            "enhanced cosine", mean cosine of a node's embeddings before and after; "attention entropy" in nats, mean
            over nodes, heads and layers; "relevance divergence", the regulariser, whatever its weight.

        Raises:
            DataError: as `forward`.
        """
        nodes = torch.cat([_vectors(images, "image"), _vectors(texts, "text")])
        graph, heard = self.graph(images, texts), list[Tensor]()
        cosines = (self._enhanced(graph, nodes, heard) * functional.normalize(nodes, dim=-1)).sum(dim=1)
        entropies = torch.cat([-(w * w.clamp(min=torch.finfo(w.dtype).tiny).log()).sum(-1).flatten() for w in heard])
        return {
            "enhanced cosine": float(cosines.mean()),
            "attention entropy": float(entropies.mean()),
            "relevance divergence": float(graph.regulariser()),
        }

    def _enhanced(self, graph: Association, nodes: Tensor, heard: list[Tensor] | None = None) -> Tensor:
        bias = (self.bias * graph.relevance).masked_fill(~graph.connected, float("-inf"))
        return functional.normalize(self.interaction(nodes, bias, graph.images, heard), dim=-1)

    def graph(self, images: Encoded, texts: Encoded) -> Association:
        """Who listens to whom and how much. Raises as `forward`."""
        v, u = _vectors(images, "image"), _vectors(texts, "text")
        if images.fragments is None or texts.fragments is None:
            side = "image" if images.fragments is None else "text"
            raise DataError(f"association graph: the {side} tower's head gives no fragments; take one that keeps them")
        scores = fragment_scores(images.fragments, texts.fragments, top=self.top, mode=self.mode)
        i2t = self.relevance_i2t(scores.best_i2t)[..., 0] + scores.mean_i2t
        t2i = self.relevance_t2i(scores.best_t2i)[..., 0] + scores.mean_t2i
        relevance = torch.cat([torch.cat([self._closeness(v, v), i2t], 1), torch.cat([t2i, self._closeness(u, u)], 1)])
        with torch.no_grad():
            connected = self._connected(v @ v.T, scores.mean_i2t, scores.mean_t2i, u @ u.T)
            return Association(len(v), connected, relevance, self._closeness(v, u))

    def _closeness(self, a: Tensor, b: Tensor) -> Tensor:
        # In float32 the product form of the distance would put equal vectors 3e-4 apart; the direct form would not, but
        # it adds a quarter to the time of the whole graph.
        distance = torch.cdist(a.double(), b.double(), compute_mode="use_mm_for_euclid_dist").to(a.dtype)
        return torch.exp(-(distance.square() if self.squared else distance) / self.sigma)

    def _connected(self, i2i: Tensor, i2t: Tensor, t2i: Tensor, t2t: Tensor) -> Tensor:
        inside, across = [torch.ones_like(s, dtype=torch.bool) for s in (i2i, t2t)], [i2t, t2i]
        if self.connections:
            # A node listens to itself even where rounding puts an equal embedding before its own.
            inside = [connect(s, self.share).fill_diagonal_(True) for s in (i2i, t2t)]
        if self.blocks == "inter":
            inside = [torch.eye(len(s), dtype=torch.bool, device=s.device) for s in (i2i, t2t)]
        seen = [connect(s, self.share if self.connections else 1.0) for s in across]
        if self.blocks == "intra":
            seen = [torch.zeros_like(s) for s in seen]
        return torch.cat([torch.cat([inside[0], seen[0]], 1), torch.cat([seen[1], inside[1]], 1)])


def connect(scores: Tensor, share: float) -> Tensor:
    """(n, m) bool: the `floor(share * m)` best columns of each row, at least one, and those that tie with the last."""
    kept = max(1, int(share * scores.shape[1]))
    return scores >= scores.topk(kept, dim=1).values[:, -1:]


def _vectors(side: Encoded, name: str) -> Tensor:
    if not isinstance(side.embedding, Points):
        raise DataError(f"association graph: the {name} tower gives {side.embedding.kind}, expected points")
    return side.embedding.vectors
