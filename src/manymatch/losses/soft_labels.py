"""Soft labels: how alike images, and how alike captions, look to frozen teachers of one modality (CUSA, AAAI 2024).

Huang, Nie, Wang and Shang. Cross-Modal and Uni-Modal Soft-Label Alignment for Image-Text Retrieval. AAAI 2024: its
cross-modal half (CSA) alone, with teachers of our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..choices import check_choice
from ..data.batches import Rows
from ..data.pairs import Pairs
from ..errors import DataError
from .base import Scores, Taught
from .teachers import image_teacher, text_teacher

__all__ = ["PUBLISHED_UNIT", "SoftLabels", "Teacher"]

Teacher = Literal["features", "shuffled"]

PUBLISHED_UNIT = 64.0
"""The authors' contrastive loss is a mean over all 128 x 128 pairs of a batch, added over two directions: it is 1 / 64
of a mean over anchors and directions, as `InfoNCE` is one. What they weigh by 0.1 beside theirs is to be weighed by 6.4
beside ours."""

_RANGE = (0.1, 0.99)


class SoftLabels(Taught):
    """`mean of KL(softmax(T_image / tau) | softmax(i2t / t))` and `KL(softmax(T_text / tau) | softmax(t2i / t))`.

    T are cosines of what frozen teachers make of the training pairs, see `teachers`: T_image of a batch's images with
    the images of its captions, T_text of what is said of the one with what is said of the other. Where the training
    pairs have no features, as with towers that read pixels, T_text stands in for T_image, and a line says so.

    With cosines at tau = 1 the targets are nearly even, hardly more than a smoothing of labels. "shuffled" is the
    control for that: the same teachers, each image in the place of another one that the run's seed drew once. Targets
    have the same values, and an own pair still the highest, but which others are near says nothing.

    Args:
        teacher: "features" or "shuffled".
        temperature: tau.
        unit: what of the scores is as much as 1 of a cosine.
        start: t at the start; learned between 0.1 and 0.99.

    Raises:
        UnknownName: another teacher.
        DataError: a temperature or a unit that is not positive, a start outside its range; in a step, before `prepare`.
    """

    images: Tensor
    texts: Tensor
    owner: Tensor

    def __init__(
        self, teacher: Teacher = "features", *, temperature: float = 1.0, unit: float = 1.0, start: float = 0.45
    ) -> None:
        super().__init__()
        check_choice("soft labels' teacher", teacher, Teacher)
        low, high = _RANGE
        if not (0.0 < temperature < math.inf and 0.0 < unit < math.inf and low <= start <= high):
            raise DataError(
                f"soft_labels: temperature {temperature}, unit {unit}, start {start}; expected positive numbers, and a "
                f"start from {low} to {high}"
            )
        self.teacher, self.temperature, self.unit = teacher, temperature, unit
        self.student = nn.Parameter(torch.tensor(start))
        # Of the training pairs, not of the model: made again by every `prepare`, and in no file.
        for name in ("images", "texts"):
            self.register_buffer(name, torch.zeros(0, 0), persistent=False)
        self.register_buffer("owner", torch.zeros(0, dtype=torch.long), persistent=False)

    def prepare(self, pairs: Pairs, *, seed: int, say: Callable[[str], None]) -> None:
        texts, images = text_teacher(pairs), image_teacher(pairs)
        if images is None:
            say("soft labels: the training pairs have no features, so captions alone are the teacher, both ways")
            images = texts
        if self.teacher == "shuffled":
            order = torch.from_numpy(np.random.default_rng([seed, len(pairs)]).permutation(len(pairs)))
            images, texts = images[order], texts[order]
        device = self.student.device
        self.images, self.texts = images.to(device), texts.to(device)
        self.owner = torch.from_numpy(np.asarray(pairs.owner, np.int64)).to(device)

    def advance(self, step: int, steps: int, epochs: int = 0) -> None:
        # The number itself, as in the authors' code: a clamp on the way forward would leave it no gradient outside.
        with torch.no_grad():
            self.student.clamp_(*_RANGE)

    def forward(self, scores: Scores, rows: Rows) -> Tensor:
        if not len(self.texts):
            raise DataError("soft_labels: no teacher yet; call model.objective_terms.prepare(pairs, ...) before a step")
        device = self.texts.device
        images = torch.as_tensor(rows.images, device=device)
        shown = self.owner[torch.as_tensor(rows.captions, device=device)]
        first = self._direction(scores.i2t, self.images[images], self.images[shown])
        return (first + self._direction(scores.t2i, self.texts[shown], self.texts[images])) / 2

    def _direction(self, scores: Tensor, queries: Tensor, gallery: Tensor) -> Tensor:
        targets = (queries.to(scores.dtype) @ gallery.to(scores.dtype).T / self.temperature).softmax(dim=1)
        logits = scores / (self.unit * self.student)
        return functional.kl_div(logits.log_softmax(dim=1), targets, reduction="batchmean")
