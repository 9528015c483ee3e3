"""Pickles of other programs, read as inert data: nothing in them is imported, called or run.

A pickle is a small program that may ask for any importable name and call it. Here every name it asks for is looked up
in a table of stand-ins written in this file or given by the caller; a name outside the table is refused. The stand-ins
keep what they are given and do nothing else, so an object becomes a `Record` of its attributes.

Python's own unpickler is safe to drive on such a table, except that it believes a pickle's claims about sizes; these
are checked by reading the opcodes once beforehand.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pickle import Unpickler
from pickletools import genops
from typing import IO, Any, NoReturn

import numpy as np

from ..errors import CheckpointError

__all__ = ["ANY_MODULE", "PLAIN", "Names", "Namespace", "Record", "pickle_end", "unpickle"]

ANY_MODULE = "*"
Names = Mapping[tuple[str, str], object]
"""(module, name) -> what stands in for it. The module `ANY_MODULE` stands for all."""


class Record:
    """An object reduced to its attributes."""

    __slots__ = ("fields",)
    fields: dict[str, Any]

    def __init__(self) -> None:
        self.fields = {}

    # NEWOBJ and OBJ call `__new__` alone.
    def __new__(cls) -> Record:
        self = object.__new__(cls)
        self.fields = {}
        return self

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise TypeError("attributes that are no dict of names")
        self.fields = state


class Namespace(Record):
    """Stands in for `argparse.Namespace`."""

    __slots__ = ()


class _Dict(dict[Any, Any]):
    """Stands in for `OrderedDict` and `Counter`. A state dict carries `_metadata` there, which nobody reads here."""

    def __setstate__(self, state: object) -> None:
        pass


class _Object:
    """Stands in for `object`, which only `_reconstructor` may name."""

    __slots__ = ()


class _Reconstructor:
    """Stands in for what makes objects in protocols 0 and 1."""

    __slots__ = ()

    def __call__(self, cls: object, base: object, state: object) -> Record:
        if not (isinstance(cls, type) and issubclass(cls, Record) and base is _Object and state is None):
            raise TypeError("an object of a kind that is not read")
        return cls()


class _Encode:
    """Stands in for `_codecs.encode`, with which protocol 2 writes bytes."""

    __slots__ = ()

    def __call__(self, text: object, codec: object) -> bytes:
        if not isinstance(text, str) or codec != "latin1":
            raise TypeError("bytes in an unknown coding")
        return text.encode("latin1")


class _NumpyType:
    """Stands in for `numpy.dtype` of a bool or a real number."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biuf][1248]", code):
            raise TypeError("a NumPy type other than a bool or a real number")
        self.code, self.order = code, "="

    def __setstate__(self, state: object) -> None:
        self.order = ">" if isinstance(state, tuple) and state[1:2] == (">",) else "<"


class _NumpyScalar:
    """Stands in for what makes NumPy's scalars; gives Python's own number."""

    __slots__ = ()

    def __call__(self, kind: object, raw: object) -> Any:
        # Python 2 wrote bytes as a string.
        raw = raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw
        if not isinstance(kind, _NumpyType) or not isinstance(raw, bytes):
            raise TypeError("a NumPy scalar of an unknown kind")
        (value,) = np.frombuffer(raw, np.dtype(kind.order + kind.code))
        return value.item()


PLAIN: Names = {
    ("argparse", "Namespace"): Namespace,
    ("collections", "OrderedDict"): _Dict,
    ("collections", "Counter"): _Dict,
    ("_codecs", "encode"): _Encode(),
    ("numpy", "dtype"): _NumpyType,
    **{(module, "scalar"): _NumpyScalar() for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    ("copyreg", "_reconstructor"): _Reconstructor(),
    ("builtins", "object"): _Object,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
}
"""Containers, numbers and options. The rest of what Python calls plain has opcodes of its own."""

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "commands": "subprocess"}
"""Protocols 0 to 2 name modules as Python 2 did."""


class _Restricted(Unpickler):
    def __init__(self, data: bytes, where: str, names: Names, persistent: Callable[[Any], Any] | None) -> None:
        # Strings of Python 2 are bytes; what is not UTF-8 among them survives as surrogates.
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")
        self._where, self._names, self._persistent = where, names, persistent

    def find_class(self, module: str, name: str) -> Any:
        module = _PYTHON_2.get(module, module)
        for key in ((module, name), (ANY_MODULE, name)):
            if key in self._names:
                return self._names[key]
        _refuse(f"{module}.{name}", self._where)

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise TypeError("a reference to something outside")
        return self._persistent(pid)


def _refuse(name: str, where: str) -> NoReturn:
    shown = name if re.fullmatch(r"[\w.<>]{1,200}", name) else ascii(name[:200])
    raise CheckpointError(
        f"{where}: refuses to load {shown}; only tensors, plain containers, numbers, text, argparse.Namespace and the "
        "vocabulary class are read, since anything else could run code; get the file from its authors"
    )


def pickle_end(source: IO[bytes], where: str) -> int:
    """Position behind the pickle that begins where `source` stands, none of it executed.

    Raises:
        CheckpointError: no pickle, cut short, or one that makes the unpickler reserve memory it does not fill.
    """
    start = source.tell()
    try:
        for opcode, argument, position in genops(source):
            claim = argument if "PUT" in opcode.name else 0
            if opcode.name.startswith("EXT") or not isinstance(claim, int) or claim > (position or 0) - start + 1:
                raise CheckpointError(f"{where}: a pickle with {opcode.name} {argument}, which no program writes so")
    except CheckpointError:
        raise
    # The disassembler raises nearly anything on damaged bytes.
    except Exception as error:
        raise CheckpointError(f"{where}: damaged, cut short or not a pickle ({_say(error)}); get it again") from None
    return source.tell()


def unpickle(
    data: bytes,
    where: str,
    names: Names = PLAIN,
    *,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The tree of plain values in a pickle.

    Args:
        data: the whole pickle.
        where: what and which file, as messages begin ("vocabulary: 'vocab.pkl'").
        names: what each name stands for; give `PLAIN` and more.
        persistent: makes a value of a persistent id; without it there must be none.

    Raises:
        CheckpointError: a name outside `names`, or damaged.
    """
    pickle_end(io.BytesIO(data), where)
    try:
        return _Restricted(data, where, names, persistent).load()
    except CheckpointError:
        raise
    # An unpickler documents no list of what damaged bytes may raise; nothing here has run but the stand-ins.
    except Exception as error:
        raise CheckpointError(f"{where}: damaged, or not what it seems ({_say(error)}); get it again") from None


def _say(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {ascii(text)[1:-1][:200]}" if text else type(error).__name__
