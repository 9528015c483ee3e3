"""What a tower returns for n items: the seven kinds every similarity, index and search agrees on.

Letters: n items, k elements, j samples, f fragments, d width. An embedding is frozen, shape-checked when made,
sliceable by item, concatenable and storable as one row of numbers per item.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from .errors import DataError, UnknownName

__all__ = [
    "Boxes",
    "Embedding",
    "Encoded",
    "Fragments",
    "GaussianSets",
    "Gaussians",
    "Points",
    "Samples",
    "Sets",
    "embedding_kind",
]

Rows = int | slice | Sequence[int] | np.ndarray[Any, Any] | Tensor


@dataclass(frozen=True)
class Embedding:
    """Base of the kinds. Fields are tensors whose first axis counts items."""

    kind: ClassVar[str] = ""
    axes: ClassVar[Mapping[str, str]] = {}
    """Field name -> its axes, one letter each; equal letters must have equal sizes."""

    def __post_init__(self) -> None:
        sizes: dict[str, tuple[str, int]] = {}
        for name, letters in self.axes.items():
            shape = tuple(getattr(self, name).shape)
            if len(shape) != len(letters):
                raise DataError(f"{self.kind}.{name}: shape {shape}, expected axes ({', '.join(letters)})")
            for letter, size in zip(letters, shape, strict=True):
                other, seen = sizes.setdefault(letter, (name, size))
                if seen != size:
                    raise DataError(
                        f"{self.kind}.{name}: axis {letter} has {size}, but {self.kind}.{other} has {seen}; "
                        "they must be equal"
                    )

    def tensors(self) -> dict[str, Tensor]:
        """Field name -> tensor, in the order of the fields."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _map(self, change: Any) -> Self:
        return replace(self, **{name: change(value) for name, value in self.tensors().items()})

    def __len__(self) -> int:
        return int(next(iter(self.tensors().values())).shape[0])

    def __getitem__(self, rows: Rows) -> Self:
        """The chosen items; an integer keeps the item axis (length 1)."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step > 0:
                return self._map(lambda t: t[start:stop:step])
            rows = list(range(start, stop, step))
        chosen = torch.as_tensor(rows, device=next(iter(self.tensors().values())).device)
        if chosen.ndim == 0:
            row = int(chosen)
            if not -len(self) <= row < len(self):
                raise IndexError(f"item {row} of {len(self)}")
            chosen = chosen[None]
        if not len(chosen):
            chosen = chosen.long()
        return self._map(lambda t: t[chosen])

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As `Tensor.to`; boolean fields keep their dtype."""
        dtype_free = [a for a in args if not isinstance(a, torch.dtype)]
        bool_kwargs = {k: v for k, v in kwargs.items() if k != "dtype"}
        return self._map(
            lambda t: (
                t.to(*args, **kwargs)
                if t.is_floating_point()
                else t.to(*dtype_free, **bool_kwargs)
                if dtype_free or bool_kwargs
                else t
            )
        )

    def detach(self) -> Self:
        return self._map(lambda t: t.detach())

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """Items of all parts, in order. Raises DataError when there is none or shapes differ."""
        if not parts:
            raise DataError(f"{cls.kind}: nothing to concatenate, expected at least one part")
        names = [f.name for f in fields(cls)]
        try:
            return cls(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})
        except RuntimeError as error:
            raise DataError(f"{cls.kind}: parts of different shapes cannot be concatenated ({error})") from None

    def layout(self) -> dict[str, int]:
        """Sizes of the axes after n: what `unpack` needs besides the numbers."""
        return {
            letter: int(size)
            for name, letters in self.axes.items()
            for letter, size in zip(letters[1:], getattr(self, name).shape[1:], strict=True)
        }

    def pack(self) -> list[np.ndarray[Any, Any]]:
        """One flat float32 array per item, holding all that its similarity needs."""
        flat = [t.detach().float().cpu().flatten(1) for t in self.tensors().values()]
        return list(torch.cat(flat, dim=1).numpy())

    @classmethod
    def unpack(cls, rows: np.ndarray[Any, Any], layout: Mapping[str, int]) -> Self:
        """Inverse of `pack`: rows (n, p) and the sizes of the axes give the embedding, float32.

        Rows that are float32, in one piece and writeable are not copied.
        """
        flat = torch.from_numpy(np.require(rows, np.float32, ["C", "W"]))
        shapes = {name: [layout[letter] for letter in letters[1:]] for name, letters in cls.axes.items()}
        sizes = [math.prod(shape) for shape in shapes.values()]
        if sum(sizes) != flat.shape[1]:
            raise DataError(
                f"{cls.kind}: a stored row has {flat.shape[1]} numbers, expected {sum(sizes)} for {dict(layout)}"
            )
        parts = torch.split(flat, sizes, dim=1)
        return cls(**{n: part.reshape(len(flat), *shapes[n]) for n, part in zip(shapes, parts, strict=True)})

    def ambiguity(self) -> Tensor | None:
        """How much each item leaves open (n,), in units of its kind; None where the kind cannot say."""
        return None

    def first_not_finite(self) -> int | None:
        """Row of the first item with a NaN or an infinity, or None."""
        bad = torch.zeros(len(self), dtype=torch.bool)
        for value in self.tensors().values():
            if value.is_floating_point():
                bad |= ~torch.isfinite(value.detach()).flatten(1).all(dim=1).cpu()
        return int(bad.nonzero()[0]) if bool(bad.any()) else None


@dataclass(frozen=True)
class Points(Embedding):
    """One vector an item: `vectors (n, d)`."""

    kind: ClassVar[str] = "points"
    axes: ClassVar[Mapping[str, str]] = {"vectors": "nd"}
    vectors: Tensor


@dataclass(frozen=True)
class Sets(Embedding):
    """k unit-length elements an item: `elements (n, k, d)`."""

    kind: ClassVar[str] = "sets"
    axes: ClassVar[Mapping[str, str]] = {"elements": "nkd"}
    elements: Tensor

    def first(self, elements: int) -> Self:
        """The first elements of each set alone, with all that is told of each."""

        def cut(name: str, letters: str) -> Tensor:
            tensor: Tensor = getattr(self, name)
            return tensor.narrow(letters.index("k"), 0, elements) if "k" in letters else tensor

        return replace(self, **{name: cut(name, letters) for name, letters in self.axes.items()})

    def circular_variance(self) -> Tensor:
        """Spread of each set (n,): `1 - |mean of the elements|`, 0 when all are one point (DivE poster's Var.)."""
        return 1.0 - self.elements.mean(dim=1).norm(dim=-1)

    def ambiguity(self) -> Tensor:
        """The circular variance (n,), in [0, 1]."""
        return self.circular_variance()

    def log_circular_variance(self) -> float:
        """Natural log of the mean circular variance: -0.69 for four orthogonal elements, -inf for a collapsed set."""
        mean = float(self.circular_variance().mean())
        return math.log(mean) if mean > 0 else -math.inf


@dataclass(frozen=True)
class GaussianSets(Sets):
    """Sets whose elements are unsure: `elements (n, k, d)` unit length, `log_variance (n, k)`.

    `log_variance` is the natural log of an element's total variance, the sum over its dimensions. Whatever takes sets
    takes these and reads the elements.
    """

    kind: ClassVar[str] = "gaussian_sets"
    axes: ClassVar[Mapping[str, str]] = {"elements": "nkd", "log_variance": "nk"}
    log_variance: Tensor

    def ambiguity(self) -> Tensor:
        """The mean total variance of the elements (n,), at least 0: what the run has learned to say of an item.

        Not the circular variance, which stays beside it and says how far the elements lie apart: that of sets trained
        on small data is near zero for every item.
        """
        return self.log_variance.exp().mean(dim=-1)


@dataclass(frozen=True)
class Samples(Embedding):
    """j draws an item, not unit length: `vectors (n, j, d)` (PCME)."""

    kind: ClassVar[str] = "samples"
    axes: ClassVar[Mapping[str, str]] = {"vectors": "njd"}
    vectors: Tensor

    def ambiguity(self) -> Tensor:
        """The draws' variance (n,), the mean over the coordinates."""
        return self.vectors.var(dim=1, correction=0).mean(dim=-1)


@dataclass(frozen=True)
class Gaussians(Embedding):
    """A diagonal Gaussian an item: `mean (n, d)`, `log_variance (n, d)` (natural log of the variance)."""

    kind: ClassVar[str] = "gaussians"
    axes: ClassVar[Mapping[str, str]] = {"mean": "nd", "log_variance": "nd"}
    mean: Tensor
    log_variance: Tensor

    def ambiguity(self) -> Tensor:
        """The mean log-variance (n,): up to a constant and a factor, the Gaussian's entropy."""
        return self.log_variance.mean(dim=-1)


@dataclass(frozen=True)
class Boxes(Embedding):
    """An axis-aligned box an item: `center (n, d)`, `offset (n, d)`, half the side lengths (P2RM)."""

    kind: ClassVar[str] = "boxes"
    axes: ClassVar[Mapping[str, str]] = {"center": "nd", "offset": "nd"}
    center: Tensor
    offset: Tensor

    def ambiguity(self) -> Tensor:
        """Half the mean side length (n,). Not the volume: one side of length zero would make it nothing."""
        return self.offset.mean(dim=-1)


@dataclass(frozen=True)
class Fragments(Embedding):
    """Patches, regions or words of an item: `vectors (n, f, d)`, `valid (n, f)` bool, `pooled (n, d)`.

    `valid` True is a real fragment. Items of different lengths are padded; `concat` pads to the longest.
    """

    kind: ClassVar[str] = "fragments"
    axes: ClassVar[Mapping[str, str]] = {"vectors": "nfd", "valid": "nf", "pooled": "nd"}
    vectors: Tensor
    valid: Tensor
    pooled: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.valid.dtype != torch.bool:
            raise DataError(f"fragments.valid: dtype {self.valid.dtype}, expected torch.bool (True is real)")

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        longest = max((p.valid.shape[1] for p in parts), default=0)

        def padded(tensor: Tensor) -> Tensor:
            shape = (tensor.shape[0], longest - tensor.shape[1], *tensor.shape[2:])
            return torch.cat([tensor, tensor.new_zeros(shape)], dim=1)

        return super().concat([cls(padded(p.vectors), padded(p.valid), p.pooled) for p in parts])

    def pack(self) -> list[np.ndarray[Any, Any]]:
        """Pooled vector, then the valid fragments: rows of different lengths."""
        vectors, pooled = self.vectors.detach().float().cpu(), self.pooled.detach().float().cpu()
        return [torch.cat([pooled[i], vectors[i][self.valid[i].cpu()].flatten()]).numpy() for i in range(len(self))]

    @classmethod
    def unpack(cls, rows: np.ndarray[Any, Any], layout: Mapping[str, int]) -> Self:
        """Rows (n, d + f d), short ones filled with NaN behind their last fragment."""
        flat = torch.from_numpy(np.require(rows, np.float32, ["C", "W"]))
        width = layout["d"]
        if flat.shape[1] < width or flat.shape[1] % width:
            raise DataError(f"fragments: a stored row has {flat.shape[1]} numbers, expected a multiple of {width}")
        vectors = flat[:, width:].reshape(len(flat), -1, width)
        valid = ~torch.isnan(vectors).all(dim=-1)
        return cls(vectors.masked_fill(~valid[..., None], 0.0), valid, flat[:, :width])


_KINDS: dict[str, type[Embedding]] = {
    c.kind: c for c in (Points, Sets, GaussianSets, Samples, Gaussians, Boxes, Fragments)
}


def embedding_kind(name: str) -> type[Embedding]:
    """The class whose `kind` is `name`. Raises UnknownName."""
    if name not in _KINDS:
        raise UnknownName("embedding kind", name, _KINDS)
    return _KINDS[name]


@dataclass(frozen=True)
class Encoded:
    """What a tower returns. Searching keeps only `embedding`; the rest is for training.

    Attributes:
        embedding: one of the kinds, n items.
        fragments: the fragment vectors it was made from (relations read them).
        tensors: named extras a regulariser needs: `residual (n, k, d)` and `global (n, d)` of a set head, `samples`,
            `raw`.
    """

    embedding: Embedding
    fragments: Fragments | None = None
    tensors: Mapping[str, Tensor] | None = None

    def float(self) -> Encoded:
        """All in float32, gradients kept."""
        parts = {k: v.float() if v.is_floating_point() else v for k, v in (self.tensors or {}).items()}
        fragments = None if self.fragments is None else self.fragments.to(torch.float32)
        return Encoded(self.embedding.to(torch.float32), fragments, parts)

    def tensor(self, name: str) -> Tensor:
        """The named extra. Raises DataError naming what there is."""
        have = dict(self.tensors or {})
        if name not in have:
            raise DataError(f"the tower gave no {name!r}: found {sorted(have) or 'none'}; its head does not make it")
        return have[name]
