"""The lists of names that say which split an image of Flickr8k or Flickr30k is in."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from ..files import read_lines
from ..pairs import Problem
from .captions import listed, shown

__all__ = ["splits_beside"]

_LISTS = {
    "train": ("Flickr_8k.trainImages.txt", "train.txt"),
    "val": ("Flickr_8k.devImages.txt", "val.txt", "dev.txt"),
    "test": ("Flickr_8k.testImages.txt", "test.txt"),
}


def splits_beside(file: Path, images: Collection[str]) -> tuple[dict[str, str], list[str], list[Problem]]:
    """Image -> split, what was found in words, and what is wrong in the lists.

    A name may stand without its suffix, as in Flickr30k's lists. A file that names none of the images is no such list.
    """
    by_name = {name.rsplit(".", 1)[0]: name for name in images} | {name: name for name in images}
    splits: dict[str, str] = {}
    said: list[str] = []
    problems: list[Problem] = []
    for split, names in _LISTS.items():
        for path in (file.with_name(name) for name in names):
            lines = _names(path) if os.path.isfile(path) else {}
            known = {name: by_name[name] for name in lines if name in by_name}
            if not known:
                continue
            others = f", {len(lines) - len(known)} names in it have no captions" if len(known) < len(lines) else ""
            said.append(f"{path.name}: {len(known)} images are {split}{others}")
            for name, image in known.items():
                if splits.setdefault(image, split) != split:
                    detail = f"{shown(name)} is {splits[image]} already, and stays so"
                    problems.append(Problem(str(path), lines[name], "two splits", detail))
            break
    if splits and len(splits) < len(images):
        without = [name for name in images if name not in splits]
        said.append(f"{len(without)} images are in no split: {listed(without)}")
    return splits, said, problems


def _names(path: Path) -> dict[str, int]:
    out: dict[str, int] = {}
    for number, line in read_lines(path):
        if isinstance(line, bytes):
            out.setdefault(line.decode("utf-8", "replace").strip(), number)
    return out
