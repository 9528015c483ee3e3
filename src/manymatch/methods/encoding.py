"""From items to embeddings: what two towers do together, whatever they were made by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import nn

from ..data.features import Features, Pixels
from ..data.pairs import Images, Pairs
from ..data.pictures import FolderPictures
from ..data.text import texts_of
from ..embeddings import Embedding, Encoded, Sets
from ..encoders import Attention, ImageTower, TextTower, attention_of_images, attention_of_texts
from ..errors import DataError

if TYPE_CHECKING:
    from ..data.store import Where

__all__ = ["Encoders"]

Progress = Callable[[int], object] | None


class Encoders(nn.Module):
    """Two towers that encode.

    Attributes:
        images, texts: the towers.
        elements: how many first elements of each set are used; None is all.
    """

    elements: int | None = None

    images: ImageTower
    texts: TextTower

    @property
    def image_input(self) -> str:
        """What the image tower reads: "features" or "pixels"."""
        return self.images.reads

    @property
    def device(self) -> torch.device:
        """Where it computes; a model of frozen networks alone has no parameters of its own."""
        return next((tensor.device for tensor in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    def supply(self, pairs: Pairs, store: Where = None, say: Callable[[str], None] | None = None) -> Pairs:
        """The pairs with the features of a frozen image network, from a feature store or computed into it now.

        Args:
            pairs: with pictures.
            store: the feature store or its folder; None for the usual one.
            say: told how many features were there and how many are computed.

        Returns:
            The same pairs where the image tower has no such network; without the pictures that cannot be read, each a
            problem of the pairs, where it has.
        """
        return self.images.supply(pairs, store, say)

    # ---- encoding

    def prepare_images(self, images: Any) -> Features | Pixels:
        """Anything that can be encoded, as the tower reads it.

        Args:
            images: `Images` (pairs.images), `Features`, `Pixels`, or a list of paths and PIL images.

        Features that come with `Images` are read where they are the tower's own; else their pictures are.

        Raises:
            DataError: something else, or not what this run's tower reads.
        """
        if isinstance(images, Features | Pixels):
            return images
        if isinstance(images, Images):
            if self.images.takes(images):
                return images.read_features()
            if self.image_input == "features":
                raise DataError(
                    "this run reads features of the user's own, found what a pretrained network sees in the pictures; "
                    "give those it was trained on (--features FILE)"
                )
        return self.images.prepare(_opened(images))

    def encode_images(self, images: Any, *, batch_size: int = 256, progress: Progress = None) -> Embedding:
        """Embeddings of n images, on the CPU, without gradients.

        Args:
            images: as `prepare_images`, or one path or PIL image.
            batch_size: images at a time; it changes no embedding beyond rounding.
            progress: told how many images were done after each batch.
        """
        if isinstance(images, str | Path | Image.Image):
            images = [images]
        return self._encode(images, len(images), batch_size, progress, lambda x: self.images(self.prepare_images(x)))

    def encode_texts(self, texts: Any, *, batch_size: int = 256, progress: Progress = None) -> Embedding:
        """Embeddings of n texts, on the CPU, without gradients; consecutive chunks of `batch_size`."""
        words = texts_of(texts)
        return self._encode(words, len(words), batch_size, progress, lambda x: self.texts(self.texts.prepare(x)))

    def _encode(
        self, items: Any, count: int, size: int, progress: Progress, encode: Callable[[Any], Encoded]
    ) -> Embedding:
        if size < 1:
            raise DataError(f"batch_size {size}, expected at least 1")
        if count == 0:
            raise DataError("nothing to encode: found an empty list, expected at least one item")
        parts = []
        with self.at_rest():
            for start in range(0, count, size):
                found = encode(items[start : start + size]).embedding
                if self.elements is not None and isinstance(found, Sets):
                    found = found.first(self.elements)
                parts.append(found.to("cpu", torch.float32))
                if progress is not None:
                    progress(len(parts[-1]))
        return type(parts[0]).concat(parts)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Not training, and without gradients."""
        was_training = self.training
        if was_training:
            # Only then: toggling is not safe over threads, and a loaded model never needs it.
            self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            if was_training:
                self.train()

    def attend_images(self, images: Any) -> list[Attention]:
        """What each element of n images reads of their fragments; `images` as `prepare_images`, in one batch."""
        if self.image_input == "pixels" and not isinstance(images, Features | Pixels):
            images = _opened(images)
        sizes = None if isinstance(images, Images | Features | Pixels) else [picture.size for picture in images]
        with self.at_rest():
            found = attention_of_images(self.images, self.prepare_images(images), sizes)
        return [each.first(self.elements) for each in found]

    def attend_texts(self, texts: Any) -> list[Attention]:
        """What each element of n texts reads of their words, in one batch."""
        with self.at_rest():
            found = attention_of_texts(self.texts, texts_of(texts))
        return [each.first(self.elements) for each in found]

    def knows(self, text: str) -> bool:
        """Whether the text tower knows any word of it; if not, its embedding says nothing of the text."""
        return self.texts.knows(text)


def _opened(images: Any) -> list[Image.Image]:
    return images.decode() if isinstance(images, Images) else [_open(image, n) for n, image in enumerate(images)]


def _open(image: str | Path | Image.Image, place: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, str | Path):
        raise DataError(f"images[{place}]: found {type(image).__name__}, expected a path or a PIL image")
    path = Path(image)
    return FolderPictures(path.parent).open(path.name)
