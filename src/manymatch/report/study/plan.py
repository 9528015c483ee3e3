"""What a study is: data, rows (a method with its settings, or several rows made one), seeds, tests and claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...data.pairs import Pairs
from ...errors import DataError, Error, UnknownName

__all__ = ["TESTED", "Claim", "DataFiles", "Plan", "Row", "Run"]

TESTED = ("RSUM", "judged R-precision", "judged nDCG@10")
"""By what rows are tested where a study does not say it; each only where it is measured."""


@dataclass(frozen=True)
class DataFiles:
    """Where the pairs lie; as the options of `manymatch train` of these names."""

    path: Path
    images: Path | None = None
    features: Path | None = None
    pooled: Path | None = None
    truth: tuple[Path, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None

    def read(self, truth: Sequence[Path] = ()) -> Pairs:
        """The pairs with all that is known of them. Raises DataError as `Pairs.read`."""
        return Pairs.read(
            self.path,
            format=self.format,
            images=self.images,
            features=self.features,
            pooled=self.pooled,
            truth=list(truth) or None,
            fields=dict(self.fields),
        )

    def options(self, pictures: bool = False) -> list[str]:
        """DATA and its options for training; with `pictures` a run reads the pictures although there are features."""
        read = {"images": self.images} if pictures else {"features": self.features, "pooled": self.pooled}
        if not pictures and self.features is None and self.pooled is None:
            read["images"] = self.images
        named = {**{name: path for name, path in read.items() if path is not None}, "format": self.format}
        out = [str(self.path)]
        for name, value in named.items():
            out += [] if value is None else [f"--{name}", str(value)]
        for ours, theirs in self.fields.items():
            out += ["--field", f"{ours}={theirs}"]
        return out


@dataclass(frozen=True)
class Row:
    """One line of the table: what is trained once for each seed, or made of other rows' runs.

    Attributes:
        name: of the row and of its folders.
        title: how tables call it.
        seeds: one run each.
        method: trained anew; None of a row that is made of others.
        settings: `--set` of the method and of the training config.
        image_tower, text_tower: as `manymatch train` takes them; None leaves them to it.
        pictures: read the pictures, although there are features.
        join: rows whose runs are made one set model.
        options: further words for `manymatch join`.
        ensemble: rows whose runs' mean score is ranked.
        measure: further quantities shown of this row.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    method: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    image_tower: str | None = None
    text_tower: str | None = None
    pictures: bool = False
    join: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    ensemble: tuple[str, ...] = ()
    measure: tuple[str, ...] = ()

    @property
    def made_of(self) -> tuple[str, ...]:
        """The rows it is made of; none where it is trained."""
        return self.join or self.ensemble


@dataclass(frozen=True)
class Run:
    """One row with one seed.

    Attributes:
        row: of the table.
        seed: of everything random in it.
        members: the runs it is made of, in their order.
    """

    row: Row
    seed: int
    members: tuple[Run, ...] = ()

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.row.name}-{self.seed}"

    @property
    def parts(self) -> list[Run]:
        """All it is made of, what its members are made of too, each once."""
        found: dict[str, Run] = {}
        for member in self.members:
            found |= {each.name: each for each in (member, *member.parts)}
        return list(found.values())


@dataclass(frozen=True)
class Claim:
    """A direction somebody published, as a difference of two rows or of a row from a number.

    Attributes:
        name: short.
        text: in words.
        source: who says so.
        better: the row whose quantity is said to be higher.
        worse: the row whose quantity is said to be lower; None compares with `above`.
        above: the number it is said to exceed.
        metric: of the table, or a quantity of the training diary.
        bank: with the query bank, where runs have one.
        margin: where the sign is not shown, a difference shown to be smaller than this is said to be none.
        within: the claim is instead that both differ by less than this, whichever is higher.
        note: what the reader should know.
    """

    name: str
    text: str
    source: str
    better: str
    worse: str | None
    above: float | None
    metric: str
    bank: bool
    margin: float | None
    within: float | None
    note: str


@dataclass(frozen=True)
class Plan:
    """A whole study, as its file says it."""

    file: Path
    title: str
    about: str
    data: DataFiles
    rows: tuple[Row, ...]
    protocols: tuple[str, ...]
    against: str | None
    tested: tuple[str, ...]
    claims: tuple[Claim, ...]
    runs_at: str = "runs"

    def row(self, name: str) -> Row:
        """A row by its name."""
        return next(row for row in self.rows if row.name == name)

    def run(self, name: str, seed: int) -> Run:
        """A row with a seed, and the runs it is made of: a row that is named n times gives n seeds one after another.

        Raises:
            DataError: it is made of a row that does not have the seeds for it.
        """
        row, turns = self.row(name), Counter[str]()
        members = []
        for other in row.made_of:
            seeds = self.row(other).seeds
            if seed not in seeds or turns[other] >= len(seeds):
                raise DataError(
                    f"study: {str(self.file)!r}, row[{row.name}]: seed {seed} is made of row {other!r}, which has the "
                    f"seeds {', '.join(map(str, seeds))}; expected that seed, and as many as it is named"
                )
            members.append(self.run(other, seeds[(seeds.index(seed) + turns[other]) % len(seeds)]))
            turns[other] += 1
        return Run(row, seed, tuple(members))

    def fixed(self, row: Row) -> bool:
        """Whether nothing of it is trained: a closed form, or made of these alone."""
        from ...methods import method_class

        if row.method is None:
            return all(self.fixed(self.row(name)) for name in row.made_of)
        return method_class(row.method).fitted

    def expect_settings(self) -> None:
        """Look at protocols and at every row's method and settings before hours of training, not when their turn comes.

        Raises:
            UnknownName: no such protocol, method or setting.
            DataError: a setting out of its range.
        """
        from ...evaluation.protocols import PROTOCOLS
        from ...methods import method
        from ...training import TrainConfig, split_settings

        for name in self.protocols:
            if name not in PROTOCOLS:
                raise UnknownName(f"protocol in {self.file.name}", name, PROTOCOLS)
        for row in self.rows:
            if row.method is None:
                continue
            try:
                of_method, of_config = split_settings(row.method, row.settings)
                method(row.method, **of_method)
                TrainConfig(**of_config)
            except UnknownName as error:
                kind = f"{error.kind} in {self.file.name}, row[{row.name}]:"
                raise UnknownName(kind, error.name, error.known) from None
            except Error as error:
                raise DataError(f"study: {str(self.file)!r}, row[{row.name}]: {error}") from None

    @property
    def runs(self) -> list[Run]:
        """Every run: what is trained before what is made of it, the first seed of all rows before the second."""
        depth = {row.name: self._depth(row) for row in self.rows}
        asked = [(row.seeds.index(seed), depth[row.name], row.name, seed) for row in self.rows for seed in row.seeds]
        order = {row.name: n for n, row in enumerate(self.rows)}
        return [
            self.run(name, seed) for turn, deep, name, seed in sorted(asked, key=lambda a: (a[1], a[0], order[a[2]]))
        ]

    def _depth(self, row: Row) -> int:
        return 1 + max((self._depth(self.row(name)) for name in row.made_of), default=-1)

    def only(self, names: Sequence[str]) -> Plan:
        """The rows of these names, and those they are made of. Raises UnknownName."""
        known, kept = {row.name for row in self.rows}, set[str]()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in known:
                raise UnknownName("row", name, known)
            if name not in kept:
                kept.add(name)
                waiting += self.row(name).made_of
        claims = [each for each in self.claims if {each.better, each.worse} - {None} <= kept]
        rows = tuple(row for row in self.rows if row.name in kept)
        return replace(self, rows=rows, claims=tuple(claims), against=self.against if self.against in kept else None)
