"""What the page is made of: each run opened, its diary, its embeddings, its measures and its rankings, read once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.files import Progress
from ..data.pairs import Pairs
from ..embeddings import Embedding
from ..errors import DataError
from ..evaluation import ModelScores, Report, evaluate
from ..evaluation.banking import biases_of, usable_banks
from ..evaluation.encoding import usable
from ..evaluation.report import distinct
from ..methods import Model
from ..runs import load
from .pictures import Thumbnails
from .right import Right
from .standing import Standing, standing
from .times import query_time

__all__ = ["Asked", "Material", "Run", "Seen", "gather", "open_runs"]

_TOP = 5


@dataclass(frozen=True)
class Asked:
    """What the reader wants of the page.

    Attributes:
        examples: queries of each kind.
        protocols: names; None measures what the data's truth allows.
        resamples: behind each interval.
        times: measure how long a query takes; the one thing that differs from call to call.
        grid: fragments of feature files are the cells of a square grid, row by row.
        seed: of what is drawn at random.
        bank: rank with the runs' query banks; None where it may be.
    """

    examples: int = 8
    protocols: Sequence[str] | None = None
    resamples: int = 1000
    times: bool = True
    grid: bool = False
    seed: int = 0
    bank: bool | None = None


@dataclass(frozen=True)
class Run:
    """A system of the page: a run folder, or a model in memory.

    Attributes:
        name: what the page calls it, different for each.
        model: it.
        folder: where it lies; None in memory.
        diary: lines of its `metrics.jsonl`, one an epoch.
    """

    name: str
    model: Model
    folder: Path | None = None
    diary: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Seen:
    """What was read of one run on these pairs.

    Attributes:
        run: which.
        style: number of its colour on the page.
        images, texts: embeddings (i), (c).
        report: what `evaluate` found.
        i2t, t2i: what stands first, and where right answers do.
        seconds: median time of a query, None where not measured.
        bank: whether rankings are corrected by its query bank; None where it has none.
        said: those notes of `report` that are on its query bank.
    """

    run: Run
    style: int
    images: Embedding
    texts: Embedding
    report: Report
    i2t: Standing
    t2i: Standing
    seconds: float | None
    bank: bool | None
    said: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.run.name

    def standing(self, direction: str) -> Standing:
        """Of "i2t" or "t2i"."""
        return self.i2t if direction == "i2t" else self.t2i


@dataclass(frozen=True)
class Material:
    """All that the sections read."""

    pairs: Pairs
    seen: tuple[Seen, ...]
    right: Right
    pictures: Thumbnails
    asked: Asked
    notes: tuple[str, ...] = ()


def open_runs(runs: Sequence[Model | str | Path]) -> list[Run]:
    """Run folders and models under names that differ.

    Raises:
        DataError: none given.
        CheckpointError: a folder that is no run.
    """
    if not runs:
        raise DataError("report: found no run, expected at least one run folder or model")
    folders = [Path(given) if isinstance(given, str | Path) else None for given in runs]
    models = [load(given, device="auto") if isinstance(given, str | Path) else given for given in runs]
    names = distinct(f.resolve().name if f is not None else m.name for f, m in zip(folders, models, strict=True))
    return [Run(*each, _diary(each[-1])) for each in zip(names, models, folders, strict=True)]


def _diary(folder: Path | None) -> tuple[dict[str, Any], ...]:
    path = None if folder is None else folder / "metrics.jsonl"
    if path is None or not path.is_file():
        return ()
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            # The last line of a run that was killed while it wrote.
            continue
        if isinstance(row, dict) and isinstance(row.get("epoch"), int):
            rows.append(row)
    return tuple(rows)


def gather(runs: Sequence[Run], pairs: Pairs, asked: Asked, progress: Progress | None = None) -> Material:
    """Encode, measure and rank with every run.

    Raises:
        DataError, UnknownName: as `evaluate`.
    """
    pairs, notes = usable(any(run.model.image_input == "pixels" for run in runs), pairs, progress)
    right = Right(pairs)
    seen = tuple(_look(run, style, pairs, right, asked, progress) for style, run in enumerate(runs))
    return Material(pairs, seen, right, Thumbnails(pairs), asked, tuple(notes))


def _look(run: Run, style: int, pairs: Pairs, right: Right, asked: Asked, progress: Progress | None) -> Seen:
    once: Any = _Once(run.model)
    report = evaluate(
        once,
        pairs,
        protocol=asked.protocols,
        resamples=asked.resamples,
        run=run.name,
        bank=asked.bank,
        find_duplicates=not style,
        progress=progress,
    )
    images, texts = once.encode_images(pairs.images), once.encode_texts(pairs.captions)
    banks, said = usable_banks([run.model], [run.name], pairs, asked.bank)
    biases = biases_of([run.model], [(images, texts)], pairs, banks)
    ids: dict[str, Any] = {"image_ids": pairs.image_ids, "caption_ids": pairs.caption_ids}
    scores = ModelScores(run.model.similarity, images, texts, **ids, biases=biases)
    source = scores.kept()
    ways = {d: standing(source, d, right.of(d), _TOP) for d in ("i2t", "t2i")}
    seconds = query_time(run.model, pairs.captions, images) if asked.times else None
    used = None if getattr(run.model, "bank", None) is None else banks is not None
    return Seen(run, style, images, texts, report, ways["i2t"], ways["t2i"], seconds, used, tuple(said))


class _Once:
    """A model that encodes the same pairs once, whoever asks: measuring and showing read the same embeddings."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[Any, Embedding] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode_images(self, images: Any, **how: Any) -> Embedding:
        return self._encoded(("images", *(item.id for item in images.items)), self._model.encode_images, images, how)

    def encode_texts(self, texts: Any, **how: Any) -> Embedding:
        return self._encoded(("texts", *texts), self._model.encode_texts, texts, how)

    def _encoded(self, key: Any, encode: Callable[..., Embedding], items: Any, how: dict[str, Any]) -> Embedding:
        if key not in self._known:
            self._known[key] = encode(items, **how)
        return self._known[key]
