"""How `manymatch search` prints an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..index import Hit, Results

__all__ = ["printed"]

_CAPTION = 60
"""Letters of a caption that a line shows."""

_VALUES = 8
"""Values of a facet that a line shows."""


def printed(found: Results, among: str, confident: float | None) -> str:
    """The whole answer, for people."""
    lines = [_how(found, among), *_expectation(found, confident)]
    if not found.hits:
        lines.append(f"nothing found: {_why_nothing(found, among, confident)}")
    elif found.groups is not None:
        for group in found.groups:
            lines += [f"{'(none)' if group.value is None else group.value}", *_table(group.hits, "  ")]
    else:
        lines += _table(found.hits)
    if found.meanings is not None:
        lines += ["", *_meanings(found)]
    for field, counted in (found.facets or {}).items():
        shown = ", ".join(f"{value} ({count:,})" for value, count in counted[:_VALUES])
        lines.append(f"{field}: {shown or 'no item has it'}{', ...' if len(counted) > _VALUES else ''}")
    return "\n".join(lines)


def _how(found: Results, among: str) -> str:
    how = "exact"
    if not found.exact:
        measured = "not measured" if found.agreement is None else f"{found.agreement:.3f}"
        how = f"approximate, agreement with exact search {measured}"
    corrected = "; less the query bank's biases" if found.bank else ""
    return f"{how}; {found.searched:,} {among}, {found.milliseconds:.1f} ms{corrected}"


def _expectation(found: Results, confident: float | None) -> list[str]:
    parts = []
    if found.expected_matches is not None:
        parts.append(f"about {found.expected_matches:.1f} right answers expected")
    if found.likely is not None:
        least = 0.5 if confident is None else confident
        parts.append(f"{found.likely:,} with a probability of {least:g} or more")
    if found.ambiguity is not None:
        parts.append(f"ambiguity of the query {found.ambiguity:.3g}")
    return ["; ".join(parts)] if parts else []


def _why_nothing(found: Results, among: str, confident: float | None) -> str:
    unknown = [note for note in found.notes if note.startswith("no item has a field")]
    if unknown:
        return unknown[0]
    if not found.searched:
        return f"the index holds no {among}, or none that pass the filter"
    if confident is not None:
        return f"none has a probability of {confident:g} or more, or the offset is behind the last"
    return "the offset is behind the last one"


def _table(hits: Sequence[Hit], indent: str = "") -> list[str]:
    probable = any(hit.probability is not None for hit in hits)
    rows = [("rank", "score", "prob" if probable else "", "id", "caption" if any(hit.caption for hit in hits) else "")]
    for hit in hits:
        probability = "" if hit.probability is None else f"{hit.probability:.2f}"
        rows.append((str(hit.rank), f"{hit.score:.4f}", probability, hit.id, _short(hit.caption or "")))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    out = []
    for place, (rank, score, probability, id, caption) in enumerate(rows):
        middle = f"  {probability:>{widths[2]}}" if probable else ""
        line = f"{indent}{rank:>{widths[0]}}  {score:>{widths[1]}}{middle}  {id:<{widths[3]}}  {caption}"
        out.append(line.rstrip())
        if place and hits[place - 1].why is not None:
            out += [f"{indent}      {line}" for line in _why(hits[place - 1].why or ())]
    return out


def _why(matches: Sequence[Any]) -> list[str]:
    lines = []
    for match in matches[:3]:
        asked = match.get("word") or f"query element {match['query_element']}"
        lines.append(f"{asked} ~ item element {match['item_element']}: cosine {match['cosine']:.3f}")
    return lines


def _meanings(found: Results) -> list[str]:
    meanings = found.meanings or ()
    lines = [f"it could mean {len(meanings)} thing{'' if len(meanings) == 1 else 's'} ({found.meant_by})"]
    for number, meant in enumerate(meanings, 1):
        name = ", ".join(meant.words) if meant.words else "everything" if len(meanings) == 1 else "(no word stands out)"
        examples = "; ".join(f"{hit.rank} {hit.id}" for hit in meant.hits)
        lines.append(f"  {number}. {name}: {meant.share:.0%} of the first {sum(m.count for m in meanings)}: {examples}")
    return lines


def _short(caption: str) -> str:
    plain = " ".join(caption.split())
    return plain if len(plain) <= _CAPTION else plain[: _CAPTION - 1].rstrip() + "…"
