"""A real server over a real small index, for tests that speak to it as strangers do: over a socket."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import manymatch as mm
from manymatch.data.pictures import FolderPictures

__all__ = ["Served", "command", "copied", "keyed", "served", "small_index"]

_STARTS_WITHIN = 60.0


@dataclass(frozen=True)
class Served:
    """A running `manymatch serve`."""

    url: str
    process: subprocess.Popen[str]
    errors: Path

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://").rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def small_index(folder: Path, pictures: Path | None = None) -> Path:
    """120 toy pictures of 32 pixels with 600 captions in `folder/toy.index`, by a calibrated run of two epochs (DivE).

    Args:
        pictures: a folder to keep the pictures in; in the index as files of it. In memory they are rendered on reading.
    """
    pairs = mm.Pairs.toy(120, seed=3, size=32)
    model = mm.method("dive", elements=4, dim=32).build(pairs.split("train"))
    run = folder / "run"
    config = mm.TrainConfig(epochs=2)
    mm.train(model, pairs.split("train"), validate=pairs.split("val"), out=run, config=config)
    if pictures is not None:
        pictures.mkdir(parents=True)
        for item, image in zip(pairs, pairs.images, strict=True):
            image.save(pictures / item.picture)
        pairs = mm.Pairs(pairs.items, pictures=FolderPictures(pictures), name=pairs.name)
    mm.Index.build(mm.load(run), pairs, out=folder / "toy.index").close()
    return folder / "toy.index"


def command(*arguments: str | Path) -> list[str]:
    """`manymatch ARGUMENTS...`, by this interpreter."""
    return [sys.executable, "-u", "-m", "manymatch", *map(str, arguments)]


def keyed(file: Path, *options: str) -> str:
    """A new key in the key file."""
    made = subprocess.run(command("key", "new", "--file", file, *options), capture_output=True, text=True, check=True)
    return made.stdout.strip()


@contextmanager
def served(index: Path, *options: str | Path, environment: dict[str, str] | None = None) -> Iterator[Served]:
    """`manymatch serve` on a free port, until it has answered /ready; stopped and its exit code checked at the end."""
    errors = index.parent / f"served-{time.monotonic_ns()}.txt"
    with errors.open("w") as kept:
        process = subprocess.Popen(
            command("serve", index, "--port", "0", *options),
            stdout=subprocess.PIPE,
            stderr=kept,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        )
    assert process.stdout is not None
    try:
        yield Served(_address(process, errors), process, errors)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0, errors.read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _address(process: subprocess.Popen[str], errors: Path) -> str:
    assert process.stdout is not None
    until = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < until:
        if select.select([process.stdout], [], [], 0.2)[0]:
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            if found:
                return found.group().rstrip("/")
        if process.poll() is not None:
            break
    raise AssertionError(f"no address within {_STARTS_WITHIN} s: {errors.read_text()}")


def copied(index: Path, to: Path) -> Path:
    """The index folder once more, to be changed."""
    return Path(shutil.copytree(index, to))
