"""A run's folder in a study: what was asked for, whether it is trained, what it cost, who is at work in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.writing import write_json
from ...errors import CheckpointError, DataError
from ...runs import make_folder, read_run
from .plan import DataFiles, Run

__all__ = ["Cost", "RunFolder", "asked_of", "digest_of", "lock", "trained_in"]

_ASKED, _COST, _LOCK, _LOG = "study.json", "cost.json", "study.lock", "train.log"
_TAIL = 16_384


@dataclass(frozen=True)
class Cost:
    """What training took, all its attempts together.

    Attributes:
        seconds: wall time.
        cpu_seconds: of all cores.
        peak_bytes: the most memory it held at once.
        threads: it was given.
        whole: False where an attempt's end was not seen: then seconds are more than these.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    threads: int
    whole: bool


class RunFolder:
    """One run's folder and the small files a study keeps in it.

    Args:
        folder: it need not exist.
        run: whose it is.
    """

    def __init__(self, folder: Path, run: Run) -> None:
        self.path, self.run = folder, run

    # ---- what was asked for

    def claim(self, data: DataFiles) -> None:
        """Make the folder this run's. Raises CheckpointError where it was made with other settings."""
        asked = asked_of(self.run, data)
        path = self.path / _ASKED
        if path.is_file():
            found = _read(path)
            odd = [key for key in {**asked, **found} if found.get(key) != asked.get(key)]
            if odd:
                what = ", ".join(f"{key} {json.dumps(found.get(key))}, now {json.dumps(asked.get(key))}" for key in odd)
                raise CheckpointError(
                    f"study: {str(self.path)!r} was made with other settings: {what}; give the row another name, or "
                    "remove that folder"
                )
            return
        if (self.path / "run.json").is_file():
            raise CheckpointError(
                f"study: {str(self.path)!r} holds a run that no study made; remove it, or give the row another name"
            )
        make_folder(self.path, "study")
        write_json(path, asked)

    # ---- how far it is

    @property
    def described(self) -> dict[str, Any] | None:
        """`run.json` of a run that is trained to its end, else None."""
        if not (self.path / "run.json").is_file():
            return None
        value = read_run(self.path)
        return value if value.get("finished", True) else None

    @property
    def trained(self) -> bool:
        return self.described is not None

    @property
    def validation(self) -> float | None:
        """RSUM on validation of the weights that were kept, where there is validation."""
        notes = (self.described or {}).get("notes", {})
        found = notes.get("best") or notes.get("validation") or {}
        value = found.get("RSUM")
        return None if value is None else float(value)

    @property
    def diary(self) -> dict[str, Any]:
        """The last row of `metrics.jsonl`, empty without one."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return dict(json.loads(lines[-1])) if lines else {}

    # ---- what it cost

    def begin(self, work: str, threads: int) -> None:
        """Note that a child begins; without `end` its attempt counts as one whose end nobody saw."""
        self._write([*self._attempts(), {"work": work, "threads": threads}])

    def end(self, seconds: float, cpu_seconds: float, peak_bytes: int, status: int) -> None:
        """What the child that began last has used, and how it ended."""
        attempts = self._attempts()
        attempts[-1] |= {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}
        attempts[-1] |= {"peak_bytes": peak_bytes, "status": status}
        self._write(attempts)

    def tried(self, work: str) -> bool:
        """Whether a child has ended this work well."""
        return any(each["work"] == work and each.get("status") == 0 for each in self._attempts())

    @property
    def cost(self) -> Cost | None:
        """All attempts together; None before the first."""
        attempts = self._attempts()
        if not attempts:
            return None
        seen = [each for each in attempts if "seconds" in each]
        return Cost(
            sum(each["seconds"] for each in seen),
            sum(each["cpu_seconds"] for each in seen),
            max((each["peak_bytes"] for each in seen), default=0),
            max(each["threads"] for each in attempts),
            len(seen) == len(attempts),
        )

    def _attempts(self) -> list[dict[str, Any]]:
        path = self.path / _COST
        return list(_read(path)["attempts"]) if path.is_file() else []

    def _write(self, attempts: list[dict[str, Any]]) -> None:
        write_json(self.path / _COST, {"attempts": attempts})

    # ---- its child

    @property
    def log(self) -> Path:
        """What its children said."""
        return self.path / _LOG

    def last_words(self) -> str:
        """The last line its child said."""
        if not self.log.is_file():
            return "it said nothing"
        with open(self.log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"

    def lock(self) -> int | None:
        """A handle that keeps others out as long as it, or a child that inherits it, is open; None: somebody is in."""
        return lock(self.path / _LOCK)


def lock(path: Path) -> int | None:
    """A handle that keeps others out of what the file stands for as long as it is open; None: somebody is in."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        # A file system without locks: two studies in one folder are the user's to avoid.
        return handle
    return handle


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trained_in(runs: Path) -> dict[str, str]:
    """Name of each run that a study, whichever, has trained to its end -> SHA-256 of its weights."""
    found = {}
    for folder in sorted(runs.iterdir()):
        weights = folder / "model.safetensors"
        made = all((folder / name).is_file() for name in (_ASKED, "run.json", weights.name))
        if made and read_run(folder).get("finished", True):
            found[folder.name] = digest_of(weights)
    return found


def asked_of(run: Run, data: DataFiles) -> dict[str, Any]:
    """Everything that makes this run the run it is. Files are known by name and size: a copy elsewhere is the same."""
    row = run.row
    read = [data.path, data.images] if row.pictures else [data.path, data.features, data.pooled]
    if not any(read[1:]):
        read.append(data.images)
    said: Mapping[str, Any] = {
        "method": row.method,
        "set": dict(row.settings),
        "image_tower": row.image_tower,
        "text_tower": row.text_tower,
        "pictures": row.pictures,
        "join": [member.name for member in run.members],
        "of": [asked_of(member, data) for member in run.members],
        "options": list(row.options),
        "field": dict(data.fields),
        "format": data.format,
        "files": [[path.name, path.stat().st_size if path.is_file() else None] for path in read if path is not None],
    }
    return {"seed": run.seed, **{key: value for key, value in said.items() if value}}


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"study: {str(path)!r} is not JSON ({error}); remove the folder it lies in") from None
    return dict(value)
