"""Relations: the strongest ties between the items of one small batch, as the training-time graph has them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ...embeddings import Gaussians
from ...relations import AssociationGraph, Hypergraph
from ...training.state import STATE
from ..axes import short
from ..charts import figure, heat
from ..gather import Material, Run, Seen
from ..markup import Html, join, tag

__all__ = ["relations"]

_BATCH = 8
_STRONGEST = 5


@dataclass(frozen=True)
class _Ties:
    """Weights (c, i) of captions with images, what they are, in a sentence, and their name."""

    weights: np.ndarray[Any, np.dtype[np.float64]]
    text: str
    name: str


def relations(material: Material) -> Html:
    """For each run with a relation: the weights of a batch drawn by seed, strongest ties first."""
    parts: list[Html] = []
    rows = _batch(material)
    for seen in material.seen:
        if seen.run.model.relation is None:
            continue
        name = tag("span", seen.name, class_=f"run s{seen.style % 6}")
        found = _ties(material, seen, rows)
        shown = tag("p", found, class_="none") if isinstance(found, str) else _drawn(material, found, rows)
        parts += [tag("h3", "Relation of ", name), shown]
    none = "None of the runs was trained with a relation between items."
    return join(parts) if parts else tag("p", none, class_="none")


def _batch(material: Material) -> list[int]:
    drawn = np.random.default_rng(material.asked.seed).permutation(len(material.pairs)).tolist()
    return [row for row in drawn if material.pairs.items[row].captions][:_BATCH]


def _ties(material: Material, seen: Seen, rows: list[int]) -> _Ties | str:
    relation = seen.run.model.relation
    captions = [int(np.searchsorted(material.pairs.owner, row)) for row in rows]
    if len(rows) < 2:
        return "The data have fewer than two images with captions: no batch to relate."
    if isinstance(relation, Hypergraph) and isinstance(seen.texts, Gaussians) and isinstance(seen.images, Gaussians):
        return _hyperedges(relation, seen.images[rows], seen.texts[captions])
    if isinstance(relation, AssociationGraph):
        learned = _learned(seen.run, relation)
        if learned is None:
            return "The weights of its relation were not kept: they are needed for training alone."
        return _relevance(material, seen, learned, rows, captions)
    return f"Nothing is drawn of a relation of kind {type(relation).__name__}."


def _hyperedges(relation: Hypergraph, images: Gaussians, texts: Gaussians) -> _Ties:
    with torch.inference_mode():
        d2 = relation.distances(texts, images)
        incidence = relation.incidences(d2, torch.zeros_like(d2, dtype=torch.bool))
    text = (
        "Each caption is a hyperedge, each image a node. The weight is exp(−α d²), with d the Mahalanobis distance "
        "from the caption's Gaussian to the image's mean, before labels set those of matches to 1."
    )
    return _Ties(np.asarray(incidence.T.double()), text, "hyperedge weight")


def _relevance(
    material: Material, seen: Seen, relation: AssociationGraph, rows: list[int], captions: list[int]
) -> _Ties:
    model, pairs = seen.run.model, material.pairs
    with torch.inference_mode():
        images = model.images(model.prepare_images(pairs.images.take(rows))).float()
        texts = model.texts(model.texts.prepare([pairs.captions[c] for c in captions])).float()
        graph = relation.graph(images, texts)
    block = graph.relevance[len(rows) :, : len(rows)].masked_fill(~graph.connected[len(rows) :, : len(rows)], 0.0)
    text = (
        "How much each caption listens to each image: the learned relevance S of the association graph, 0 where the "
        "two are not connected. The relation's weights are those of the last step."
    )
    return _Ties(np.asarray(block.double()), text, "relevance")


def _learned(run: Run, relation: AssociationGraph) -> AssociationGraph | None:
    """The relation with its trained weights: those of an imported run, or of the state training left; None without."""
    if run.folder is None:
        return relation if run.model.notes.get("relation acted") else None
    if (run.folder / "training" / "weights.safetensors").is_file():
        return relation
    try:
        with safe_open(run.folder / STATE, framework="pt") as file:
            state = {k: file.get_tensor(k) for k in file.keys() if k.startswith("model.relation.")}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    copy = deepcopy(relation)
    copy.load_state_dict({key.removeprefix("model.relation."): value for key, value in state.items()})
    return copy.eval()


def _drawn(material: Material, ties: _Ties, rows: list[int]) -> Html:
    numbers = [str(n + 1) for n in range(len(rows))]
    title = f"{ties.name} of {len(rows)} captions with {len(rows)} images"
    picture = heat(title, ties.weights.tolist(), (numbers, numbers), ("captions", "images"))
    others = ties.weights.copy()
    np.fill_diagonal(others, -np.inf)
    order = np.argsort(-others, axis=None, kind="stable")[:_STRONGEST]
    lines = [_tie(material, rows, *divmod(int(flat), len(rows)), others.flat[flat]) for flat in order]
    strongest = tag("div", tag("h4", "Strongest ties that are no own pair"), tag("ol", *lines, class_="ties"))
    plot = figure(picture, "A caption and the image of the same number belong together; their cells are framed.")
    return join([tag("p", ties.text, class_="lead"), tag("div", plot, strongest, class_="beside")])


def _tie(material: Material, rows: list[int], caption: int, image: int, weight: float) -> Html:
    said = material.pairs.items[rows[caption]].captions[0]
    words = tag("span", tag("b", f"{caption + 1} → {image + 1} "), tag("span", said, dir="auto"), class_="said")
    return tag("li", material.pictures.shown(rows[image]), words, tag("span", short(float(weight)), class_="num"))
