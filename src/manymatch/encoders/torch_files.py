"""Weights that other programs saved: both formats of torch.save, or safetensors, without torch's own unpickler.

A crafted file can make torch's `weights_only` reader, before torch 2.10, write outside its buffers (CVE-2026-24747). So
the pickle inside is read by `data.restricted`, and every tensor is cut out here, within bounds.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..data.files import regular_file
from ..data.restricted import Record
from ..errors import CheckpointError
from .torch_storages import Parts, Storage, View, open_parts

__all__ = ["read_torch_file", "read_weights"]

_MOST_NUMBERS = 2**28
"""In one tensor. A view of few stored numbers can claim any size; BERT-large's table of words has 31 million."""
_DEEPEST = 100


def read_torch_file(path: str | Path, *, skip: Collection[str] = (), what: str = "checkpoint") -> Any:
    """What `torch.save` wrote, as plain containers, numbers, text and tensors (cpu).

    Options (`argparse.Namespace`) and ordered dicts come as dicts. Tensors may be views of one storage.

    Args:
        path: the file.
        skip: keys of the outermost dict to leave out (an optimiser's state is twice the weights).
        what: how messages call the file.

    Raises:
        DataError: no such file.
        CheckpointError: not such a file, damaged, or one that asks for more than data.
    """
    path = regular_file(path, what)
    where = f"{what}: {str(path)!r}"
    if path.stat().st_size == 0:
        raise CheckpointError(f"{where}: empty (0 bytes); get it again")
    with open(path, "rb") as file, open_parts(file, where) as parts:
        tree = parts.tree()
        if isinstance(tree, dict):
            tree = {key: value for key, value in tree.items() if key not in skip}
        return _Resolver(parts).resolve(tree)


def read_weights(path: str | Path, *, what: str = "weights") -> dict[str, Tensor]:
    """A state dict: tensors by name, from a `.safetensors` file or one that `torch.save` wrote.

    Raises:
        DataError, CheckpointError: as `read_torch_file`; also when it holds anything but named tensors.
    """
    path = regular_file(path, what)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{what}: {str(path)!r} cannot be read ({error}); get it again") from None
    tree = read_torch_file(path, what=what)
    if isinstance(tree, dict) and tree and all(isinstance(v, Tensor) and isinstance(k, str) for k, v in tree.items()):
        return tree
    found = f"a dict of {', '.join(map(repr, list(tree)[:5]))}" if isinstance(tree, dict) else type(tree).__name__
    raise CheckpointError(f"{what}: {str(path)!r} holds {found}, expected tensors by name; save its state dict alone")


class _Resolver:
    """Claims to tensors, records to dicts. What occurs many times in a tree is made once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._done: dict[int, tuple[Any, Any]] = {}

    def resolve(self, value: Any, depth: int = 0) -> Any:
        if _plain(value):
            return value
        if depth > _DEEPEST:
            raise self._parts.broken(f"nested deeper than {_DEEPEST}")
        if id(value) not in self._done:
            # The original is kept too, so that its id stays its own.
            self._done[id(value)] = (value, self._made(value, depth + 1))
        return self._done[id(value)][1]

    def _made(self, value: Any, depth: int) -> Any:
        if isinstance(value, Record):
            value = value.fields
        if isinstance(value, dict) and all(map(_plain, value)):
            return {key: self.resolve(v, depth) for key, v in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.resolve(v, depth) for v in value)
        if isinstance(value, set | frozenset) and all(map(_plain, value)):
            return value
        if isinstance(value, View):
            return self._tensor(value)
        raise self._parts.broken(f"a {type(value).__name__.strip('_')} where it does not belong")

    def _tensor(self, view: View) -> Tensor:
        numbers = (view.offset, *_whole(view.size), *_whole(view.stride))
        if not isinstance(view.storage, Storage) or not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
            raise self._parts.broken("a tensor without a storage or a shape")
        size, stride, offset = _whole(view.size), _whole(view.stride), view.storage.start + view.offset
        count = math.prod(size)
        if len(size) != len(stride) or len(size) > 16 or math.prod(n for n in size if n) > _MOST_NUMBERS:
            raise self._parts.broken(f"a tensor of shape {ascii(size)[:100]}, at most {_MOST_NUMBERS} numbers are read")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count and last >= view.storage.numbers:
            raise self._parts.broken(f"a tensor reaches number {last} of a storage of {view.storage.numbers}")
        return (
            torch.as_strided(self._parts.storage(view.storage), size, stride, offset)
            if count
            else torch.empty(size, dtype=view.storage.dtype)
        )


def _whole(value: object) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (None,)


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | bytes | int | float)
