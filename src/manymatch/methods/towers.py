"""The half of a method that says its towers: their numbers, and how image and text towers are put together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..encoders import (
    RESNETS,
    AttentionPool,
    BackboneTower,
    BertTower,
    BiGRUTower,
    FeatureTower,
    Head,
    ImageInput,
    ImageTower,
    MaxMeanPool,
    MaxPool,
    Neck,
    PixelTower,
    Pool,
    ProjectorNeck,
    RegionProjector,
    TextInput,
    TextTower,
)
from ..encoders.images import Tuning
from ..encoders.linear_start import begin_linear
from ..encoders.pretrained import on_backbone

__all__ = ["Pooling", "Ranges", "Towers"]

_SHARE = (0.0, 0.99)
Ranges = Mapping[str, tuple[float, float]]
Pooling = Literal["max_mean", "published", "attention"]


@dataclass(frozen=True, kw_only=True)
class Towers:
    """Towers that suit small data; a method changes what its paper changes.

    Attributes:
        dim: joint width d.
        word_dim: width of the word table.
        hidden: inner width of the region projector.
        dropout: in towers and heads.
        feature_dropout: on precomputed features (half of it on fragments).
        region_drop, word_drop: share of fragments and words left out or masked while training.
        projector: form of the region projector: its inner layers read the projected region ("dive") or the raw one
            ("vse_infty"); "linear" has none (VSE-infinity on grids).
        region_norm: "layer" or "batch" (published) inside the region projector.
        pooling: global vector: "max_mean" of projected regions and of GRU states, "attention" (their mean with learned
            weights for each dimension, as in ESA), or as "published".
        use_pooled: read the pooled image vector where the data have one.
        standardise: bring precomputed features to one scale by the training split; the published systems take them raw.
        longest_side: pictures are scaled to at most this many pixels.
        least_count: a word must occur this often in the training captions.
        image_tuning, text_tuning: what of a pretrained tower (hf:NAME) learns: nothing ("frozen"), all of it ("tuned"),
            or small matrices beside it ("lora").
        backbone_rate: learning rate of the last layer of a tower that is tuned, as a multiple of the base rate.
        layer_decay: each layer of it further from the output learns at this share of the rate of the one after it.
        lora_rank: rank of LoRA's matrices, which learn at the full rate.
        start: "linear" begins at the solution of `cca`, fitted first, with what the towers make of an item added
            through a matrix of zeros; features only.
        start_dim: directions of that solution, at most `dim`.
        start_rate: learning rate of it and of that matrix, as a multiple of the base rate.
    """

    whole_pictures: ClassVar[bool] = False
    """Whether a backbone sees the whole picture, squashed, and not its centre."""
    ranges: ClassVar[Ranges] = {
        **dict.fromkeys(("dim", "word_dim", "hidden", "least_count"), (1, math.inf)),
        **dict.fromkeys(("dropout", "feature_dropout", "region_drop", "word_drop"), _SHARE),
        "backbone_rate": (1e-6, 1e3),
        "layer_decay": (1e-3, 1.0),
        "lora_rank": (1, 4096),
        "longest_side": (16, 4096),
        "start_dim": (1, math.inf),
        "start_rate": (0.0, 1e3),
    }
    """Field -> least and largest value; a method lists those of its own fields."""

    dim: int = 512
    word_dim: int = 300
    hidden: int = 256
    dropout: float = 0.2
    feature_dropout: float = 0.3
    region_drop: float = 0.1
    word_drop: float = 0.1
    projector: Literal["dive", "vse_infty", "linear"] = "dive"
    region_norm: Literal["layer", "batch"] = "layer"
    pooling: Pooling = "max_mean"
    use_pooled: bool = True
    standardise: bool = True
    longest_side: int = 96
    least_count: int = 3
    image_tuning: Tuning = "frozen"
    text_tuning: Tuning = "frozen"
    backbone_rate: float = 0.1
    layer_decay: float = 0.8
    lora_rank: int = 8
    start: Literal["random", "linear"] = "random"
    start_dim: int = 300
    start_rate: float = 0.1

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        """The head over fragments of width `inputs`; its embedding is what is searched."""
        raise NotImplementedError

    def pool(self, side: Literal["image", "text"]) -> Pool:
        """Fragments to the global vector."""
        if self.pooling == "attention":
            return AttentionPool(self.dim)
        return MaxPool() if self.pooling == "published" else MaxMeanPool()

    @property
    def residual_dropout(self) -> float:
        """Dropout of a residual beside the global vector (PIE-Net): on small data a young global vector drowns in one,
        a sigmoid around a half, whose entries drop out."""
        return self.dropout if self.pooling == "published" else 0.0

    def neck(self, inputs: int) -> Neck:
        """Between image fragments of width `inputs` and the head."""
        projector = RegionProjector(inputs, self.dim, self.hidden, form=self.projector, norm=self.region_norm)
        return ProjectorNeck(projector, self.pool("image"), dim=self.dim, dropout=self.dropout)

    def towers(self, images: ImageInput, texts: TextInput) -> tuple[ImageTower, TextTower]:
        """Both towers, each with the start that was asked for."""
        image_tower, text_tower = self.image_tower(images), self.text_tower(texts)
        if self.start == "linear":
            begin_linear(
                image_tower,
                text_tower,
                images,
                texts,
                dim=self.dim,
                width=self.start_dim,
                rate=self.start_rate,
                feature_dropout=self.feature_dropout,
                word_drop=self.word_drop,
            )
        return image_tower, text_tower

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        """The image tower for what the data hold."""
        if inputs.backbone is not None:
            inner = self.image_tower(replace(inputs, tower="features", backbone=None))
            return on_backbone(inputs, inner, rate=self.backbone_rate, decay=self.layer_decay)
        if inputs.tower == "cnn":
            head = self.head(self.dim, "image")
            return PixelTower(inputs, self.pool("image"), head, dim=self.dim, dropout=self.dropout / 2)
        if inputs.tower != "features":
            neck = self.neck(RESNETS[inputs.tower])
            head = self.head(neck.width, "image")
            return BackboneTower(inputs, neck, head, drop=self.region_drop, whole=self.whole_pictures)
        fragments = self.neck(inputs.fragment_width) if inputs.fragments else None
        return FeatureTower(
            inputs,
            fragments,
            self.head(self.dim if fragments is None else fragments.width, "image"),
            dim=self.dim,
            use_pooled=self.use_pooled,
            pooled_form="linear" if self.pooling == "published" else "linear_mlp",
            standardise=self.standardise,
            dropout=self.dropout,
            feature_dropout=self.feature_dropout,
            drop=self.region_drop,
        )

    def text_tower(self, inputs: TextInput) -> TextTower:
        """The text tower."""
        if inputs.backbone is not None:
            return self.pretrained_texts(inputs)
        if inputs.tower == "bert":
            return self.bert(inputs)
        return self.bigru(inputs, "states", self.dim)

    def pretrained_texts(self, inputs: TextInput) -> TextTower:
        """A tower over a pretrained text network, whose head sees its projected token states."""
        if inputs.tower == "onnx":
            from ..encoders.pretrained.onnx_texts import OnnxTexts

            common: dict[str, Any] = {"dropout": self.dropout, "drop": self.word_drop}
            return OnnxTexts(inputs, self.head(self.dim, "text"), dim=self.dim, pool=self.pool("text"), **common)
        from ..encoders.pretrained.texts import PretrainedTexts

        settings: dict[str, Any] = {"tuning": self.text_tuning, "rate": self.backbone_rate, "decay": self.layer_decay}
        settings |= {"rank": self.lora_rank, "dropout": self.dropout, "drop": self.word_drop}
        return PretrainedTexts(inputs, self.head(self.dim, "text"), dim=self.dim, pool=self.pool("text"), **settings)

    def bert(self, inputs: TextInput, **settings: Any) -> BertTower:
        """A BERT tower whose head sees its projected word pieces; `settings` are further ones of the tower's."""
        common: dict[str, Any] = {"dim": self.dim, "pooling": self.pool("text"), "drop": self.word_drop}
        return BertTower(inputs, self.head(self.dim, "text"), **{**common, **settings})

    def bigru(
        self, inputs: TextInput, fragments: Literal["words", "states"], width: int, **settings: Any
    ) -> BiGRUTower:
        """A BiGRU tower whose head sees these fragments, `width` wide; `settings` are further ones of the tower's."""
        common: dict[str, Any] = {"dim": self.dim, "word_dim": self.word_dim, "dropout": self.dropout}
        common |= {"fragments": fragments, "pooling": self.pool("text"), "drop": self.word_drop}
        return BiGRUTower(inputs, self.head(width, "text"), **{**common, **settings})
