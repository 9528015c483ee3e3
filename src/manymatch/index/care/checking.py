"""Whether an index is as it should be: its truth in SQLite, the run, then everything that is derived.

Nothing here changes what an index holds; mending is in `mending`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import Error
from ..banked import RESTORED, SETTING, opened_bank
from ..local.derived import leftovers
from ..making import RUN
from ..store.store import Store
from ..uploads import PICTURES
from .checkup import MEND, RESTORE, Checkup, Told
from .database import check_settings, check_truth
from .uploads import check_uploads

if TYPE_CHECKING:
    from ...methods import Model
    from ..collection import Collection

__all__ = ["check"]


def check(folder: Path, store: Store, collection: Collection, model: Callable[[], Model], told: Told) -> Checkup:
    """Everything: the truth, the run, what is derived, and whether approximate search still finds what it promises.

    Args:
        model: loads the run; called once.
    """
    began = time.perf_counter()
    out = Checkup(str(folder))
    with store.reading() as snapshot:
        settings = snapshot.settings()
    elsewhere = settings["engine"] == "qdrant"
    if elsewhere:
        check_settings(settings, out)
        _check_server(collection, out)
    else:
        check_truth(store, out, told)
    _check_pictures(folder, store, elsewhere, out, told)
    similarity = _check_run(model, out, told)
    _check_bank(str(settings.get(SETTING, "")), folder / RUN, out)
    if any(finding.kind == "database" for finding in out.findings):
        out.skipped.append("derived files: what they are made from has to be mended first")
    elif not elsewhere:
        from .inspecting import inspect_derived

        inspect_derived(folder, store, similarity, out, told)
    for path in leftovers(folder):
        size = path.stat().st_size if path.exists() else 0
        out.say(
            "leftover",
            str(path.relative_to(folder)),
            "what a writer that was killed left, or is still writing",
            f"{size:,} bytes",
            "none",
            MEND,
            harmless=True,
        )
    out.seconds = time.perf_counter() - began
    return out


def _check_pictures(folder: Path, store: Store, elsewhere: bool, out: Checkup, told: Told) -> None:
    if elsewhere:
        if (folder / PICTURES).is_dir():
            out.skipped.append(f"{PICTURES}/: the items that name its pictures lie on the Qdrant server")
    elif any(finding.kind == "database" for finding in out.findings):
        out.skipped.append(f"{PICTURES}/: what names them has to be mended first")
    else:
        check_uploads(folder, store, out, told)


def _check_run(model: Callable[[], Model], out: Checkup, told: Told) -> Any:
    """The run's similarity, or None where it cannot be had."""
    told("the run", 0, 0)
    try:
        found = model()
    except Error as error:
        # Its own words say what to do.
        out.say("run", "run/", "the copy of the run", str(error), "the run that built the index", RESTORE)
        return None
    out.looked.append(f"run/: {found.name}, {found.fingerprint()[:12]}")
    return found.similarity


def _check_bank(digest: str, run: Path, out: Checkup) -> None:
    """The query bank that new items have their biases from: whether it is what the index was made with."""
    restored = f"{RESTORED} --out {run.parent}"
    try:
        bank = opened_bank(digest, run, None)
    except Error as error:
        out.say("run", f"{RUN}/", "the query bank", str(error), "the one the index was made with", restored)
        return
    if bank is not None and not bank.sound:
        out.say("run", f"{RUN}/bank.safetensors", "the query bank", "another digest", digest[:12], restored)
    elif bank is not None:
        out.looked.append(f"{RUN}/bank.safetensors: {bank.how}, {digest[:12]}")


def _check_server(collection: Collection, out: Checkup) -> None:
    try:
        about = collection.about()
        with collection.reading() as reading:
            counts = {modality: reading.count(modality) for modality in ("image", "caption")}
            both = reading.count()
    except Error as error:
        out.say("server", "Qdrant", "the collection", str(error), "one that answers", "start the server, or restore it")
        return
    out.looked.append(
        f"{about['url']}: collection {about['collection']}, {counts['image']:,} images, {counts['caption']:,} captions"
    )
    if both != sum(counts.values()):
        # Others may write meanwhile.
        out.say("server", "Qdrant", "items", f"{both:,}", f"{sum(counts.values()):,}", "check again when nobody writes")
    out.skipped.append("vectors, words and metadata lie on the Qdrant server, which keeps checksums of its own")
