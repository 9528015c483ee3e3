"""Batches of images that look alike: their negatives are harder than chance would make them (HREM).

Fu et al. Learning Semantic Relationship among Instances for Image-Text Matching. CVPR 2023: cluster the training images
by their features, and make a batch of a few images of each of several clusters. The authors' code shuffles instead, so
the numbers here are a reconstruction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError
from .batches import Ints, Rows, cut, usable
from .features import Features
from .pairs import Images, Pairs

__all__ = ["NeighbourBatches", "clusters_of", "looks"]

Floats = np.ndarray[Any, np.dtype[np.float32]]

_SEED = 0
"""Of projection and k-means: the clusters are a function of the data alone, so that a resumed run finds the same."""

_BLOCK = 8 * 2**20
"""Numbers read at a time: 32 MB as float32."""

_WIDTH = 512
"""Wider vectors are projected to so many numbers at random: distances change by some 6 % (Johnson and Lindenstrauss),
and 113,000 images of 2,048 numbers take 230 MB and not 930."""

_ROUNDS = 20


@dataclass(frozen=True)
class NeighbourBatches:
    """Every caption once an epoch, a batch being `batch / groups` images each of about `groups` clusters.

    An epoch passes over the images as often as they have captions; in each pass an image brings further ones of its
    own, in random order, and a cluster gives images that it has not given yet until it is exhausted. With one caption
    an image an epoch thus has as many batches as `ShuffledPairs` has, and shows each image and caption as often.
    The turns of a cluster are spread over the pass, so large clusters do not pile up at its end.

    Attributes:
        batch: images a batch.
        captions: captions an image in a batch; None takes all it has.
        groups: clusters a batch, at most a quarter of all (a batch of every cluster would be a shuffled one), and fewer
            where there would be less than two images of each.
        size: images a cluster on average; there are at least 16 clusters, and at most half as many as images.
    """

    batch: int = 128
    captions: int | None = 1
    groups: int = 16
    size: int = 50
    _found: list[tuple[Pairs, Ints]] = field(default_factory=list, init=False, repr=False, compare=False)

    def steps(self, pairs: Pairs) -> int:
        usable(pairs)
        return len(cut(self._visits(pairs)[0], self.batch))

    def epoch(self, pairs: Pairs, *, seed: int, epoch: int) -> Iterator[Rows]:
        draw = np.random.default_rng([seed, epoch])
        # Captions by image, each image's own in random order: a visit is a run of them.
        order = np.lexsort((draw.random(len(pairs.captions)), pairs.owner))
        starts, passes = self._visits(pairs)
        clusters, ends = self.clusters(pairs), np.append(starts[1:], len(order))
        groups = max(1, min(self.groups, (int(clusters.max()) + 1) // 4))
        turns = _spread(clusters[pairs.owner[starts]], passes, max(2, self.batch // groups), draw)
        for visits in cut(turns, self.batch):
            captions = np.concatenate([order[starts[v] : ends[v]] for v in visits])
            owner = pairs.owner[captions]
            yield Rows.of(np.unique(owner), captions, owner)

    def clusters(self, pairs: Pairs) -> Ints:
        """(n,) cluster of each image, -1 without captions; found once for these pairs, by reading every image."""
        if not self._found or self._found[0][0] is not pairs:
            rows, out = usable(pairs), np.full(len(pairs), -1, np.int64)
            count = max(1, min(max(16, len(rows) // self.size), len(rows) // 2))
            out[rows] = clusters_of(looks(pairs.images.take(rows)), count)
            self._found[:] = [(pairs, out)]
        return self._found[0][1]

    def _visits(self, pairs: Pairs) -> tuple[Ints, Ints]:
        """First caption of each visit of an image (v,), captions sorted by image, and in which pass it falls (v,)."""
        counts = np.bincount(pairs.owner, minlength=len(pairs))
        first = np.cumsum(counts) - counts
        nth = np.arange(len(pairs.owner)) - first[pairs.owner]
        taken = self.captions or max(int(counts.max(initial=1)), 1)
        starts = np.flatnonzero(nth % taken == 0)
        return starts, nth[starts] // taken


def _spread(clusters: Ints, passes: Ints, size: int, draw: np.random.Generator) -> Ints:
    """An order of visits: pass by pass, runs of at most `size` of one cluster, its runs evenly far apart."""
    places, runs = [], []
    for turn in range(int(passes.max()) + 1):
        here = draw.permutation(np.flatnonzero(passes == turn))
        here = here[np.argsort(clusters[here], kind="stable")]
        for members in np.split(here, np.flatnonzero(np.diff(clusters[here])) + 1):
            cuts = np.array_split(members, math.ceil(len(members) / size))
            places.append(turn + (np.arange(len(cuts)) + draw.random(len(cuts))) / len(cuts))
            runs.extend(cuts)
    return np.concatenate([runs[n] for n in np.argsort(np.concatenate(places), kind="stable")])


def clusters_of(vectors: Floats, count: int) -> Ints:
    """(n,) which of `count` k-means clusters each vector (n, w) falls into."""
    import faiss

    kmeans = faiss.Kmeans(vectors.shape[1], count, niter=_ROUNDS, seed=_SEED, min_points_per_centroid=1)
    kmeans.train(vectors)
    return np.asarray(kmeans.index.search(vectors, 1)[1][:, 0], np.int64)


def looks(images: Images) -> Floats:
    """Unit vectors (n, w) that are close for images that look alike, read in blocks.

    The mean of the fragments, else the pooled vector, else an 8 x 8 colour thumbnail.

    Raises:
        DataError: an image with neither features nor a readable picture, or features that are not finite.
    """
    step = 64
    if images.features is not None:
        sizes = images.features.sizes()
        numbers = sizes.get("fragments", 0) * sizes.get("fragment_width", 0) + sizes.get("pooled_width", 0)
        step = max(1, _BLOCK // max(1, numbers))
    return np.concatenate([_block(images[start : start + step]) for start in range(0, len(images), step)])


def _block(images: Images) -> Floats:
    vectors = _thumbnails(images) if images.features is None else _means(images.read_features())
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        item = images.items[int(np.argmax(bad))].id
        raise DataError(f"features of image {item!r} hold NaN or infinity; look for more with: manymatch check")
    vectors = _unit(vectors)
    if vectors.shape[1] > _WIDTH:
        projection = np.random.default_rng(_SEED).standard_normal((vectors.shape[1], _WIDTH), np.float32)
        vectors = _unit(vectors @ projection)
    return vectors


def _means(features: Features) -> Floats:
    if features.vectors is None:
        return np.asarray(features.pooled, np.float32)
    vectors = np.asarray(features.vectors, np.float32)
    if features.lengths is None:
        return vectors.mean(axis=1)
    valid = np.arange(vectors.shape[1]) < features.lengths[:, None]
    total = np.where(valid[..., None], vectors, np.float32(0)).sum(axis=1)
    return np.asarray(total / np.maximum(features.lengths, 1)[:, None], np.float32)


def _thumbnails(images: Images) -> Floats:
    small = [np.asarray(images[n].resize((8, 8)), np.float32).reshape(-1) for n in range(len(images))]
    return np.stack(small) / np.float32(255)


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
