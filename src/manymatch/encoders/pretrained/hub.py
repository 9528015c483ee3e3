"""Where a pretrained network's folder is: a path, a folder of towers, or the Hugging Face hub's cache.

Only JSON, word lists and safetensors are ever read. No code that lies in such a folder is run, and no pickle is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import DataError
from .numbers import check_numbers

__all__ = ["TOWERS", "Found", "config", "digest", "find", "pinned", "read_json", "weight_files", "weights"]

TOWERS = "MANYMATCH_TOWERS"
"""Environment variable that names a folder of towers: where "hf:NAME" is looked for by the last part of its name."""

_WANTED = ("*.json", "*.txt", "*.model", "*.safetensors")
_WEIGHTS = "model.safetensors"
_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_MOST_JSON = 64 * 2**20


@dataclass(frozen=True)
class Found:
    """A pretrained network on this machine.

    Attributes:
        source: as it was asked for, "hf:NAME" or "hf:FOLDER".
        folder: where its files lie.
        revision: the hub's commit; empty for a folder of the user's own.
    """

    source: str
    folder: Path
    revision: str = ""


def find(source: str) -> Found:
    """The folder of "hf:FOLDER", "hf:NAME" or "hf:NAME@REVISION".

    Looked for in this order: such a folder; a folder of the same last name below the one that `MANYMATCH_TOWERS`
    names; the hub's cache; the hub.

    Raises:
        DataError: it is in none of them, or the hub's client is not installed.
    """
    name = source.removeprefix("hf:")
    if not name.strip() or "\0" in name:
        raise DataError(f"tower {source!r}: expected hf:NAME or hf:FOLDER, such as hf:openai/clip-vit-base-patch32")
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return Found(source, folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"tower: {ascii(source)[:80]} is no name of a folder ({error})"[:300]) from None
    plain, _, revision = name.partition("@")
    towers = os.environ.get(TOWERS)
    if towers and (beside := Path(towers).expanduser() / Path(plain).name).is_dir():
        return Found(source, beside)
    if folder.is_absolute() or name.startswith((".", "~")) or plain.count("/") > 1:
        raise DataError(
            f"tower {source!r}: no such folder{f', nor {str(beside)!r}' if towers else ''}; give the folder that "
            f"save_pretrained wrote, or a folder of towers in {TOWERS}"
        )
    return _from_hub(source, plain, revision or None)


def pinned(facts: Mapping[str, Any]) -> str:
    """Under what `find` has the very network of a run again: its `source`, of the hub's with its `revision`."""
    source, revision = str(facts["source"]), str(facts.get("revision", ""))
    return f"{source}@{revision}" if revision and "@" not in source else source


def _from_hub(source: str, name: str, revision: str | None) -> Found:
    """The cached snapshot, else the hub's."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise DataError(
            f'tower {source!r}: no such folder, and the hub cannot be asked; run pip install "manymatch[hf]"'
        ) from None
    reason = ""
    for local in (True, False):
        try:
            path = snapshot_download(name, revision=revision, local_files_only=local, allow_patterns=list(_WANTED))
        # Whatever keeps a download away (no network, no such name, a proxy, a full disk) is the user's to mend.
        except Exception as error:
            # What else its message says is advice on the client's own functions.
            first = next(iter(str(error).strip().splitlines()), "").removeprefix("Got: ").partition(". ")[0]
            reason = first[:200] or type(error).__name__
            continue
        folder = Path(path)
        if not local or ((folder / "config.json").is_file() and weight_files(folder)):
            return Found(source, folder, folder.name)
        reason = f"{path} is incomplete"
    raise DataError(
        f"tower {source!r}: no such folder, and not to be had from the Hugging Face hub or its cache ({reason}); "
        f"give a folder as hf:FOLDER, or set {TOWERS} to the folder it lies in"
    )


def read_json(found: Found, name: str) -> dict[str, Any]:
    """One JSON file of the folder, an object.

    Raises:
        DataError: missing, not JSON, or not an object.
    """
    path = found.folder / name
    try:
        status = path.stat()
        if status.st_size > _MOST_JSON or not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: {status.st_size:,} bytes, or no file, expected a small JSON file")
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: missing, expected in the folder of a pretrained network") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds {type(value).__name__}, expected a JSON object")
    return value


def config(found: Found) -> dict[str, Any]:
    """What config.json says. Raises DataError where it is missing, names no `model_type`, or has impossible numbers."""
    value = read_json(found, "config.json")
    if not isinstance(value.get("model_type"), str):
        raise DataError(f"{found.folder / 'config.json'}: no model_type, expected the configuration of a network")
    check_numbers(value, found.folder / "config.json")
    return value


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the weights, of one piece or as the index lists them; empty where none do."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / f"{_WEIGHTS}.index.json").is_file():
        return []
    value = read_json(Found("", folder), f"{_WEIGHTS}.index.json").get("weight_map")
    names = sorted(set(value.values())) if isinstance(value, dict) and all(map(_plain, value.values())) else []
    if not names:
        raise DataError(f"{folder / _WEIGHTS}.index.json: expected weight_map, names of weights to files beside it")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise DataError(f"{folder / missing[0]}: missing, but listed in {_WEIGHTS}.index.json")
    return [folder / name for name in names]


def _plain(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


def weights(found: Found) -> Mapping[str, Tensor]:
    """Every weight by name, mapped from the disk: what is not used is not read.

    Raises:
        DataError: no safetensors (pickled weights are named, never loaded), a damaged file, or a name given twice.
    """
    files = weight_files(found.folder)
    if not files:
        names = sorted(p.name for p in found.folder.iterdir())
        pickled = [name for name in names if any(fnmatch(name, pattern) for pattern in _PICKLED)]
        why = (
            f"found only {', '.join(pickled[:3])}, which hold code and are never loaded; save the network again with "
            "save_pretrained, which writes safetensors"
            if pickled
            else "expected what save_pretrained writes"
        )
        raise DataError(f"{found.folder}: no {_WEIGHTS}; {why}")
    out: dict[str, Tensor] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - safe_open is not a mapping
                    if name in out:
                        raise DataError(f"{path}: weight {name!r} is in two files")
                    out[name] = file.get_tensor(name)
        except (OSError, SafetensorError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as safetensors ({error})") from None
    return out


def digest(found: Found, *patterns: str) -> str:
    """SHA-256, hex, over the names and bytes of the folder's files of these patterns, subfolders included.

    Args:
        found: where.
        patterns: "config.json", "*.safetensors", "1_Pooling/config.json"; a file that two of them name counts once.
    """
    paths = {path for pattern in patterns for path in found.folder.glob(pattern) if path.is_file()}
    names = sorted(path.relative_to(found.folder) for path in paths)
    total = hashlib.sha256()
    for name in names:
        path = found.folder / name
        facts = path.stat()
        one = _of_file(str(path), facts.st_size, facts.st_mtime_ns, facts.st_ino)
        total.update(f"{name.as_posix()}\n{facts.st_size}\n{one}\n".encode())
    return total.hexdigest()


@lru_cache(maxsize=256)
def _of_file(path: str, size: int, changed: int, inode: int) -> str:
    """Remembered while the process lives: weights of gigabytes are hashed once."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
