"""How well words and regions of every caption and image fit: what HREM connects and weighs captions and images by.

One matrix product of all words with all regions, and reductions of its result; nothing here passes on a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..choices import Mode, check_mode
from ..embeddings import Fragments
from ..errors import DataError

__all__ = ["FragmentScores", "fragment_scores"]

BLOCK = 2**22
"""Word-region cosines held at a time (16 MiB): a batch of 128 takes two or three products, one of 1,000 stays small."""

_TINY = 1e-12


@dataclass(frozen=True)
class FragmentScores:
    """Fragment scores of i images and c captions (HREM), in both directions.

    Attributes:
        mean_i2t: (i, c), each region's best word, averaged over the regions.
        mean_t2i: (c, i), each word's best region, averaged over the words.
        best_i2t: (i, c, k), the k largest of the regions' best, in descending order.
        best_t2i: (c, i, k), the same of the words' best.
    """

    mean_i2t: Tensor
    mean_t2i: Tensor
    best_i2t: Tensor
    best_t2i: Tensor


@torch.no_grad()
def fragment_scores(images: Fragments, texts: Fragments, *, top: int = 10, mode: Mode = "paper") -> FragmentScores:
    """Scores of every pair of an image and a caption from the cosines of their fragments.

    Where an item has fewer than `top` fragments, its smallest score fills the rest: the order holds, no padding enters,
    and the values stay those of real fragments.

    Args:
        images: regions (i, r, d).
        texts: words (c, w, d).
        top: k.
        mode: "paper" takes the cosines and leaves padding out on both sides. "released" is the authors' code: leaky
            rectified cosines, normalised over a caption's words before the maximum over regions and over an image's
            regions before the maximum over words; padded regions count, and a caption of fewer than `top` words borrows
            padded rows for everything of the direction text to image but its mean.

    Raises:
        DataError: an image or a caption without a single valid fragment.
        UnknownName: no such mode.
    """
    check_mode(mode)
    counts = {"image": images.valid.sum(1), "caption": texts.valid.sum(1)}
    for what, count in counts.items():
        if not bool(count.all()):
            raise DataError(f"relation: {what} {int((count == 0).nonzero()[0])} of the batch has no valid fragment")
    regions, words = (functional.normalize(f.vectors.detach(), dim=-1) for f in (images, texts))
    real = images.valid if mode == "paper" else torch.ones_like(images.valid)
    c, i, wide = len(words), len(regions), regions.shape[1]
    out = FragmentScores(
        words.new_empty(i, c), words.new_empty(c, i), words.new_empty(i, c, top), words.new_empty(c, i, top)
    )
    for rows, width in _blocks(texts.valid, i * wide, top if mode == "released" else 0):
        valid = texts.valid[rows, :width]
        part = words[rows, :width]
        if mode == "paper":
            by_word, by_region = _plain(_product(part, regions), valid, real)
        else:
            borrowed = valid | (torch.arange(width, device=valid.device) < top)
            by_word, by_region = _normalised(_product(part * borrowed[..., None], regions), valid, borrowed)
        out.mean_t2i[rows] = by_word.masked_fill(~valid[..., None], 0.0).sum(1) / valid.sum(1)[:, None]
        out.best_t2i[rows] = _best(by_word.transpose(1, 2), top)
        out.mean_i2t[:, rows] = (by_region.masked_fill(~real, 0.0).sum(2) / real.sum(1)).T
        out.best_i2t[:, rows] = _best(by_region, top).transpose(0, 1)
    return out


def _blocks(valid: Tensor, columns: int, least: int) -> Iterator[tuple[Tensor, int]]:
    """Captions by falling length, as many as fit into BLOCK, and how wide the longest of them is.

    Captions of one length meet, so that hardly any product is spent on padding.
    """
    places = torch.arange(1, valid.shape[1] + 1, device=valid.device)
    lengths, order = (valid * places).amax(1).sort(descending=True)
    widths, start = lengths.clamp(min(least, valid.shape[1])).tolist(), 0
    while start < len(widths):
        stop = start + max(1, BLOCK // (widths[start] * columns))
        yield order[start:stop], widths[start]
        start = stop


def _product(words: Tensor, regions: Tensor) -> Tensor:
    """Cosines (c, w, i, r) of words (c, w, d) and regions (i, r, d) of unit length."""
    return (words.flatten(0, 1) @ regions.flatten(0, 1).T).view(*words.shape[:2], *regions.shape[:2])


def _drop(valid: Tensor, like: Tensor) -> Tensor:
    """0 where valid, minus infinity elsewhere: adding it leaves padding out of a maximum, quicker than filling."""
    return like.new_zeros(valid.shape).masked_fill_(~valid, float("-inf"))


def _plain(cosines: Tensor, words: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Best region of each word (c, w, i) and best word of each region (c, i, r); padding is minus infinity."""
    cosines += _drop(regions, cosines)
    by_word = cosines.amax(3)
    cosines += _drop(words, cosines)[:, :, None, None]
    return by_word + _drop(words, cosines)[..., None], cosines.amax(1)


def _normalised(cosines: Tensor, words: Tensor, borrowed: Tensor) -> tuple[Tensor, Tensor]:
    """As `_plain` with SCAN's normalisations; a word that is not borrowed is zero and adds to no length."""
    functional.leaky_relu_(cosines, 0.1)
    scratch = cosines.square()
    lengths = scratch.sum(1, keepdim=True).sqrt_().clamp_(min=_TINY)
    by_word = torch.div(cosines, lengths, out=scratch).amax(3) + _drop(borrowed, cosines)[..., None]
    cosines /= torch.linalg.vector_norm(cosines, dim=3, keepdim=True).clamp_(min=_TINY)
    cosines += _drop(words, cosines)[:, :, None, None]
    return by_word, cosines.amax(1)


def _best(scores: Tensor, top: int) -> Tensor:
    """The `top` largest of the last axis, descending; where there are fewer, the smallest again."""
    best = scores.topk(min(top, scores.shape[-1]), dim=-1).values
    best = functional.pad(best, (0, top - best.shape[-1]), value=float("-inf"))
    there = best.isfinite()
    return torch.where(there, best, best.masked_fill(~there, float("inf")).amin(-1, keepdim=True))
