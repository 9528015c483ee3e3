"""What SQLite keeps of an index, looked at from all sides: pages, settings, items, words, history."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from ...errors import DataError
from ..local.engines import AUTO, engines
from ..store.facts import facts_of, text_of
from ..store.rows import Snapshot
from ..store.store import Store
from ..store.words import for_words
from .checkup import AGAIN, MEND, RESTORE, Checkup, Told

__all__ = ["check_settings", "check_truth"]

_EVERY = 1000


def check_truth(store: Store, out: Checkup, told: Told) -> None:
    """SQLite's own checks, settings, every item, full-text tables, history. Imports no torch."""
    try:
        with store.reading() as snapshot:
            _look_at(_Look(snapshot, store.path.name, out, told), out)
    except DataError as error:
        if not any(finding.kind == "database" for finding in out.findings):
            out.say("database", store.path.name, "reading", str(error), "a file that can be read", RESTORE)
        return
    _check_words(store, out, told)


def _look_at(look: _Look, out: Checkup) -> None:
    for step in (look.at_database, look.at_settings, look.at_items, look.at_links, look.at_history):
        try:
            step()
        except sqlite3.DatabaseError as error:
            what = step.__name__.removeprefix("at_")
            out.say("database", look.file, what, str(error), "a file that can be read", RESTORE)
            return


def _check_words(store: Store, out: Checkup, told: Told) -> None:
    """Full-text tables against what they were made from. That takes the right to write, though it changes nothing."""
    told("words", 0, 0)
    before = len(out.findings)
    try:
        with store.writing() as change:
            for table in ("words", "fact_words"):
                try:
                    change.check_words(table)
                except sqlite3.DatabaseError as error:
                    out.say("text", f"{store.path.name}, {table}", "full text", str(error), "the items' words", MEND)
    except DataError as error:
        out.skipped.append(f"full text: {error}")
        return
    if len(out.findings) == before:
        out.looked.append("full text: agrees with the items")


def check_settings(settings: dict[str, Any], out: Checkup) -> None:
    where = "index.sqlite, settings"
    known = {"precision": ("float16", "float32"), "engine": (AUTO, *engines())}
    for name, allowed in known.items():
        if settings[name] not in allowed:
            out.say("setting", where, name, repr(settings[name]), " or ".join(allowed), RESTORE)
    if not 0 < settings["agreement"] <= 1:
        out.say("setting", where, "agreement", repr(settings["agreement"]), "a share above 0 and up to 1", RESTORE)
    for modality, space in settings["spaces"].items():
        fine = isinstance(space, dict) and isinstance(space.get("kind"), str) and isinstance(space.get("layout"), dict)
        if not fine or modality not in ("image", "caption"):
            out.say("setting", where, f"spaces, {modality}", repr(space), "kind and layout", RESTORE)
    if settings["calibration"]:
        from ...calibration import Calibration

        try:
            Calibration.from_json(settings["calibration"])
        except DataError as error:
            todo = "learn it again with: manymatch index-calibrate X DATA"
            out.say("setting", where, "calibration", str(error), "one that can be read", todo)


class _Look(Snapshot):
    """One generation, looked at from all sides."""

    def __init__(self, snapshot: Snapshot, file: str, out: Checkup, told: Told) -> None:
        super().__init__(snapshot._connection)
        self.file, self._out, self._told = file, out, told

    def at_database(self) -> None:
        self._told("database pages", 0, 0)
        found = [line for (line,) in self._connection.execute("PRAGMA integrity_check(20)")]
        for line in found if found != ["ok"] else ():
            mendable = "index" in line
            self._out.say("database", self.file, "integrity", line, "none", MEND if mendable else RESTORE)
        if found == ["ok"]:
            pages, size = (self._connection.execute(f"PRAGMA page_{what}").fetchone()[0] for what in ("count", "size"))
            self._out.looked.append(f"{self.file}: {pages * size:,} bytes, whole")

    def at_settings(self) -> None:
        check_settings(self.settings(), self._out)

    # ---- items

    def at_items(self) -> None:
        """Every item: its vector's checksum and length, its text and its facts."""
        settings, total = self.settings(), self.count()
        size = np.dtype(settings["precision"]).itemsize
        lengths: dict[str, Counter[int]] = {"image": Counter(), "caption": Counter()}
        odd: dict[tuple[str, int], list[str]] = {}
        damaged = strange = 0
        facts = _Facts(self._connection.execute("SELECT row, name, value FROM facts ORDER BY row, fact"))
        query = "SELECT row, id, modality, owner, caption, text, metadata, labels, crc, vector FROM items ORDER BY row"
        for done, found in enumerate(self._connection.execute(query)):
            row, id, modality, owner, caption, text, metadata, labels, crc, vector = found
            if zlib.crc32(vector) != crc:
                damaged += 1
                seen = f"checksum {zlib.crc32(vector):08x}"
                self._out.say("item", f"{self.file}, {id!r}", "vector", seen, f"{crc:08x}", AGAIN)
            lengths[modality][len(vector)] += 1
            odd.setdefault((modality, len(vector)), []).append(id)
            if len(odd[modality, len(vector)]) > _EVERY:
                del odd[modality, len(vector)][-1]
            strange += not self._same(id, modality, owner, caption, text, metadata, labels, facts.of(row))
            if done % _EVERY == 0:
                self._told("items", done, total)
        facts.of(None)
        for row in facts.strays:
            strange += 1
            self._out.say("text", f"{self.file}, row {row}", "facts", "some of no item", "none", MEND)
        self._lengths(settings["spaces"], lengths, odd, size)
        self._out.looked.append(
            f"{total:,} items: {total - damaged:,} vectors whole, metadata of all but {strange:,} as filters read it"
        )

    def _same(
        self,
        id: str,
        modality: str,
        owner: str | None,
        caption: str | None,
        text: str | None,
        metadata: str,
        labels: str,
        facts: list[tuple[str, Any]],
    ) -> bool:
        """Whether text and facts of an item are those of its metadata."""
        where = f"{self.file}, {id!r}"
        try:
            own = json.loads(metadata), json.loads(labels)
        except ValueError:
            self._out.say("item", where, "metadata", "what is not JSON", "JSON", AGAIN)
            return False
        wanted = caption if modality == "caption" else text_of(*own)
        # An index may hold texts of before they were told character by character.
        whole = text in (wanted, for_words(wanted))
        if not whole:
            self._out.say("text", where, "words", repr(text), repr(for_words(wanted)), MEND)
        expected = [] if owner is not None else list(facts_of(*own))
        if sorted(facts, key=repr) != sorted(expected, key=repr):
            self._out.say("text", where, "facts", f"{len(facts)}", f"the {len(expected)} of its metadata", MEND)
            return False
        return whole

    def _lengths(
        self,
        spaces: dict[str, Any],
        lengths: dict[str, Counter[int]],
        odd: dict[tuple[str, int], list[str]],
        size: int,
    ) -> None:
        """Vectors of one modality are of one length, but for fragments, which are several of one width."""
        for modality, seen in lengths.items():
            if not seen:
                continue
            space = spaces.get(modality)
            if space is None:
                where = f"{self.file}, settings"
                self._out.say("setting", where, f"spaces, {modality}", "none", "one, there are items", RESTORE)
                continue
            usual = size * space["layout"]["d"] if space["kind"] == "fragments" else seen.most_common(1)[0][0]
            for length in seen:
                if length != usual and (space["kind"] != "fragments" or not length or length % usual):
                    for id in odd[modality, length]:
                        where = f"{self.file}, {id!r}"
                        self._out.say("item", where, "vector", f"{length} bytes", f"{usual} bytes", AGAIN)

    def at_links(self) -> None:
        """Captions and the images they belong to."""
        self._told("captions", 0, 0)
        orphans = """
            SELECT items.id, items.owner FROM items LEFT JOIN items AS image
            ON image.id = items.owner AND image.modality = 'image'
            WHERE items.owner IS NOT NULL AND (image.id IS NULL OR items.modality != 'caption') ORDER BY items.row"""
        for id, owner in self._connection.execute(orphans):
            self._out.say(
                "item", f"{self.file}, {id!r}", "owner", repr(owner), "an image of this index", f"add {owner!r} again"
            )
        (wrong,) = self._connection.execute("""
            SELECT count(*) FROM (
                SELECT items.row, image.row FROM items LEFT JOIN items AS image ON image.id = items.owner
                WHERE items.modality = 'caption'
                EXCEPT SELECT row, image FROM captions
            )""").fetchone()
        (strange,) = self._connection.execute(
            "SELECT count(*) FROM captions WHERE row NOT IN (SELECT row FROM items WHERE modality = 'caption')"
        ).fetchone()
        if wrong or strange:
            found = f"{wrong} missing or wrong and {strange} of no caption"
            self._out.say("text", f"{self.file}, captions", "links to images", found, "one a caption", MEND)
        counts = {modality: self.count(modality) for modality in ("image", "caption")}
        self._out.looked.append(f"{counts['image']:,} images, {counts['caption']:,} captions")

    def at_history(self) -> None:
        """Generations ascend, the last is the settings', and no row was given out twice."""
        where = f"{self.file}, generations"
        counter, _, token = self.generation.partition("-")
        last = self._connection.execute(
            "SELECT counter, token, last_row FROM generations ORDER BY counter DESC"
        ).fetchone()
        if last is None or (str(last[0]), last[1]) != (counter, token):
            found = "none" if last is None else f"{last[0]}-{last[1]}"
            self._out.say("history", where, "the last", found, self.generation, RESTORE)
        (highest,) = self._connection.execute("SELECT coalesce(max(row), 0) FROM items").fetchone()
        if highest > self.last_row or (last is not None and last[2] != self.last_row):
            self._out.say("history", where, "last row", str(self.last_row), f"{highest} or more", RESTORE)
        (back,) = self._connection.execute("SELECT count(*) FROM gone JOIN items USING (row)").fetchone()
        if back:
            self._out.say("history", f"{self.file}, gone", "rows deleted and there", str(back), "none", RESTORE)
        (known,) = self._connection.execute("SELECT count(*) FROM generations").fetchone()
        self._out.looked.append(f"generation {self.generation}, {known:,} in the history")


class _Facts:
    """Facts row by row, in step with items in the order of rows."""

    def __init__(self, found: Iterator[tuple[int, str, Any]]) -> None:
        self._groups = groupby(found, key=itemgetter(0))
        self._next = next(self._groups, None)
        self.strays: list[int] = []

    def of(self, row: int | None) -> list[tuple[str, Any]]:
        """Facts of the item at a row above all asked for before; None is behind the last."""
        while self._next is not None and (row is None or self._next[0] < row):
            self.strays.append(self._next[0])
            self._next = next(self._groups, None)
        if self._next is None or self._next[0] != row:
            return []
        found = [(name, value) for _, name, value in self._next[1]]
        self._next = next(self._groups, None)
        return found
