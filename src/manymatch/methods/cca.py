"""CCA: one linear map of each side, fitted in closed form. On small data it beats every network from random weights.

Hotelling. Relations between two sets of variates. Biometrika 1936; regularised, on precomputed image features and
weighted words with pairs of words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

from ..data.pairs import Pairs
from ..encoders import BagOfWords, Head, ImageInput, ImageTower, LinearFeatures, PointHead, TextInput, look_at
from ..encoders.canonical import IMAGE_RIDGE, TEXT_RIDGE, fit_canonical
from ..encoders.linear import terms_known
from ..encoders.pretrained import is_pretrained, on_backbone
from ..encoders.pretrained.backed import Backed
from ..errors import DataError, UnknownName
from ..similarity import Cosine, Similarity
from .base import Method, Ranges

__all__ = ["CCA"]


@dataclass(frozen=True, kw_only=True)
class CCA(Method):
    """Canonical directions of image features and caption words, each scaled by its correlation.

    Image features are files of the user's, or the pooled vector of a pretrained network.

    Attributes:
        image_ridge: added to the image covariance, in units of its mean eigenvalue.
        text_ridge: added to the text covariance, in units of `trace / 2,500`: the mean eigenvalue if its spectrum had
            2,500 directions, so that it does not shrink as rare terms are added.
        least_pairs: captions a pair of neighbouring words must be in.
        most_terms: of more terms, the most frequent stay (memory grows with the square).
    """

    name: ClassVar[str] = "cca"
    paper: ClassVar[str] = "Hotelling, Biometrika 1936"
    summary: ClassVar[str] = "linear maps in closed form on features and weighted words; the honest control"
    fitted: ClassVar[bool] = True
    fixed: ClassVar[Mapping[str, str]] = dict.fromkeys(
        {spec.name for spec in fields(Method)} - {"dim", "least_count"}, "a closed form has no such part"
    )
    ranges: ClassVar[Ranges] = {
        **dict.fromkeys(("image_ridge", "text_ridge"), (1e-9, math.inf)),
        **dict.fromkeys(("least_pairs", "most_terms"), (1, math.inf)),
    }

    dim: int = 300
    image_ridge: float = IMAGE_RIDGE
    text_ridge: float = TEXT_RIDGE
    least_pairs: int = 8
    most_terms: int = 12_000

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return PointHead()

    def similarity(self) -> Similarity:
        return Cosine()

    def resolve(self, pairs: Pairs) -> Self:
        return self

    def inputs(self, pairs: Pairs, image_tower: str | None, text_tower: str | None) -> tuple[ImageInput, TextInput]:
        backed = is_pretrained(image_tower)
        if image_tower not in (None, "features") and not backed:
            raise UnknownName(f"image tower of {self.name}", image_tower, ("features", "hf:NAME", "onnx:FILE"))
        if text_tower not in (None, "bag"):
            raise UnknownName(f"text tower of {self.name}", text_tower, ("bag",))
        if pairs.features is None and not backed:
            raise DataError(
                f"{self.name} is a linear map of features, found none; give --features or --pooled FILE, or a "
                "pretrained network with --image-tower hf:NAME"
            )
        tower = image_tower if backed else "features"
        images = look_at(pairs, tower, longest_side=self.longest_side, fragments=not backed)
        if backed and images.fragments:
            raise DataError(
                f"{self.name}: {image_tower} gives fragments and no pooled vector, which a closed form needs; "
                "take another"
            )
        known = terms_known(pairs.captions, least=self.least_count, least_pairs=self.least_pairs, most=self.most_terms)
        return images, TextInput("bag", known)

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        if inputs.backbone is not None:
            inner = self.image_tower(replace(inputs, tower="features", backbone=None))
            return on_backbone(inputs, inner, rate=1.0, decay=1.0)
        return LinearFeatures(inputs, self.head(self.dim, "image"), dim=self.dim)

    def text_tower(self, inputs: TextInput) -> BagOfWords:
        return BagOfWords(inputs, self.head(self.dim, "text"), dim=self.dim)

    def fit(self, model: Any, pairs: Pairs, say: Callable[[str], None]) -> dict[str, Any]:
        """Streaming sums over the training split, then one symmetric eigenproblem; see `fit_canonical`."""
        images, texts = model.images.inner if isinstance(model.images, Backed) else model.images, model.texts
        assert isinstance(images, LinearFeatures) and isinstance(texts, BagOfWords)
        found = fit_canonical(images, texts, pairs, image_ridge=self.image_ridge, text_ridge=self.text_ridge, say=say)
        return {"correlations": [round(s, 4) for s in found.correlations[:10]], "terms": len(texts.vocabulary)}
