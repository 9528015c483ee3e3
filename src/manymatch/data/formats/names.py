"""What others call our fields."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["SYNONYMS", "synonyms"]

SYNONYMS = {
    "image": ("file_name", "filename", "filepath", "image_path", "img", "image_name"),
    "captions": ("caption", "text", "sentence", "sentences", "comment"),
}
"""Our field -> names under which it is taken where our own name is not there; the first that is there counts."""


def synonyms(fields: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """(our field -> the name it has among these, what is to be said of it, one line each).

    Only what is not called as we call it: nothing where there is `image` (or `id`, which alone is enough) and
    `captions`. Upper and lower case are the same here.
    """
    lower: dict[str, str] = {}
    for name in fields:
        lower.setdefault(name.lower(), name)
    names, seen = {}, []
    for ours, theirs in SYNONYMS.items():
        if ours in fields or (ours == "image" and "id" in fields):
            continue
        taken = next((lower[name] for name in (ours, *theirs) if name in lower), None)
        if taken is not None:
            names[ours] = taken
            seen.append(f"{taken!r} is taken for {ours}; --field {ours}=NAME takes another")
    return names, tuple(seen)
