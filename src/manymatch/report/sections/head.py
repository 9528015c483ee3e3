"""What this is about: the data, the runs, how they were made."""

from __future__ import annotations

from ...evaluation.banking import bankless
from ..gather import Material, Seen
from ..markup import Html, join, tag

__all__ = ["head"]


def head(material: Material) -> Html:
    """Title, facts of the data, a row for each run, and what was left out."""
    pairs = material.pairs
    names = [seen.name for seen in material.seen]
    title = tag("h1", _listed(names), " on ", pairs.name)
    facts = [
        (f"{len(pairs):,}", "images"),
        (f"{len(pairs.captions):,}", "captions"),
        (f"{len(pairs.captions) / max(len(pairs), 1):.3g}", "captions an image"),
    ]
    if material.right.truth:
        counts = material.right.counts("t2i")
        facts.append((f"{counts.mean():.3g}", "right answers a caption"))
    shown = tag("dl", *(tag("div", tag("dt", what), tag("dd", value)) for value, what in facts), class_="facts")
    notes = [*material.notes, *dict.fromkeys(note for seen in material.seen for note in _notes(seen, len(names) > 1))]
    notes += bankless({seen.name: seen.bank for seen in material.seen})
    told = tag("ul", *(tag("li", note) for note in notes), class_="notes") if notes else None
    return tag("header", tag("p", "manymatch report", class_="overline"), title, shown, _runs(material.seen), told)


def _notes(seen: Seen, several: bool) -> list[str]:
    """What is to be said of a run; whose bank it is, where there are others."""
    return [f"{seen.name}: {note}" if several and note in seen.said else note for note in seen.report.notes]


def _listed(names: list[str]) -> Html:
    parts = [tag("span", name, class_=f"run s{n % 6}") for n, name in enumerate(names)]
    return join([join(parts[:-1], ", "), " and " if len(parts) > 1 else None, parts[-1]])


def _runs(seen: tuple[Seen, ...]) -> Html:
    columns = ("run", "how it was made", "embedding", "parameters", "epoch kept", "trained")
    lines = [tag("tr", *(tag("th", name, scope="col") for name in columns))]
    for each in seen:
        notes = each.run.model.notes
        best = notes.get("best") or {}
        kept = f"{best['epoch']}" if "epoch" in best else "–"
        trained = f"{notes['seconds']:,.0f} s" if isinstance(notes.get("seconds"), int | float) else "–"
        kind = ", ".join(f"{letter} {size}" for letter, size in each.images.layout().items())
        cells = [
            each.run.model.summary.partition(": ")[2] or each.run.model.summary,
            tag("span", each.images.kind, tag("small", kind)),
            f"{each.run.model.parameter_count():,}",
            kept,
            trained,
        ]
        named = tag("th", tag("span", each.name, class_=f"run s{each.style % 6}"), _method(each), scope="row")
        lines.append(tag("tr", named, *(tag("td", cell) for cell in cells)))
    return tag(
        "div", tag("table", *lines, class_="runs"), class_="scroll", tabindex=0, role="region", aria_label="Runs"
    )


def _method(seen: Seen) -> Html | None:
    name = seen.run.model.name
    return None if seen.name == name else tag("small", name)
