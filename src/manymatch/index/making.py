"""Making an index folder, and refusing one that was made with something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, IndexMismatch, UnknownName
from .banked import SETTING, bank_differs, digest_of
from .collection import Collection, Spoken
from .local.collection import LocalCollection
from .local.derived import leftovers
from .local.engines import AUTO, check_engine
from .placement import Placement
from .store.store import Store

if TYPE_CHECKING:
    from ..methods import Model
    from ..similarity import Similarity

__all__ = ["FILE", "RUN", "Wish", "collection", "expect", "prepared"]

FILE = "index.sqlite"
RUN = "run"

_BEGUN = ("run.json", "model.safetensors", "bank.safetensors")
"""What the copy of a run consists of, the last where the run has a query bank."""

_PRECISIONS = ("float16", "float32")

_AGREEMENT = 0.99


@dataclass(frozen=True)
class Wish:
    """How an index shall be made; None leaves a choice to the index that is there, or to the default.

    Raises:
        UnknownName: an engine or precision that does not exist.
        DataError: an agreement outside (0, 1], or a URL or placement without the engine that has one, or the other way
            round.
    """

    engine: str | None
    precision: str
    agreement: float | None
    url: str | None
    placement: Placement | None

    def __post_init__(self) -> None:
        if self.precision not in _PRECISIONS:
            raise UnknownName("precision", self.precision, _PRECISIONS)
        check_engine(self.engine or AUTO)
        if self.agreement is not None and not 0 < self.agreement <= 1:
            raise DataError(f"index: agreement {self.agreement}, expected a share above 0 and up to 1, such as 0.99")
        if (self.engine == "qdrant") != (self.url is not None):
            found = "no --url" if self.url is None else f"--url {self.url}"
            raise DataError(
                f"index: {found} with --engine {self.engine or AUTO}; a Qdrant server is named by both: "
                "--engine qdrant --url http://HOST:6333"
            )
        if self.placement is not None and self.engine != "qdrant":
            raise DataError(f"index: --placement is of a Qdrant collection, and the engine is {self.engine or AUTO}")


def prepared(model: Model, folder: Path, wish: Wish) -> Store:
    """An empty index of this run, or the one that is there already.

    Raises:
        IndexMismatch: the folder is an index of another run, precision or server.
        DataError: the folder is a run, or cannot be one of an index.
    """
    from .. import runs

    if (folder / "run.json").is_file():
        raise DataError(f"index: {str(folder)!r} is a run folder; choose another --out, the run is copied into it")
    if folder.is_dir() and not (folder / FILE).exists() and any(folder.iterdir()) and not _begun(folder):
        raise DataError(f"index: {str(folder)!r} holds other files and no index; choose a folder of its own for --out")
    if (folder / FILE).exists() and not Store.is_blank(folder / FILE):
        store = Store(folder / FILE)
        expect(store, model)
        _choose(store, folder, wish)
        with store.reading() as snapshot:
            digest = str(snapshot.settings().get(SETTING, ""))
        if not (folder / RUN / "run.json").is_file() or bank_differs(digest, folder / RUN):
            # Someone has removed the copy or its bank, or it is damaged; this is the run it was made of.
            _expect_bank(folder, digest, model)
            runs.save_search(model, folder / RUN)
        return store

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"index: {str(folder)!r} cannot be a folder ({error.strerror}); choose another") from None
    runs.save_search(model, folder / RUN)
    calibration = getattr(model, "calibration", None)
    settings = {
        "fingerprint": model.fingerprint(),
        "similarity": type(model.similarity).__name__,
        "model": model.name,
        "precision": wish.precision,
        "engine": wish.engine or AUTO,
        "agreement": _AGREEMENT if wish.agreement is None else wish.agreement,
        "calibration": {} if calibration is None else calibration.to_json(),
        **({SETTING: digest_of(model)} if digest_of(model) else {}),
        **({} if wish.url is None else {"url": wish.url}),
        **({} if wish.placement is None else {"placement": asdict(wish.placement)}),
    }
    return Store.create(folder / FILE, settings)


def _begun(folder: Path) -> bool:
    """Whether all there is in the folder is what making an index begins with."""
    run = folder / RUN
    if not run.is_dir() or {path.name for path in folder.iterdir()} != {RUN}:
        return False
    return {path.name for path in {*run.iterdir()} - {*leftovers(folder)}} <= {*_BEGUN}


def _choose(store: Store, folder: Path, wish: Wish) -> None:
    """Take over what was asked of an index that is there. Raises IndexMismatch for what cannot change."""
    with store.writing() as change:
        precision, engine = change.setting("precision"), change.setting("engine")
        if precision != wish.precision:
            raise IndexMismatch(
                f"{folder}: stored in {precision}, asked for {wish.precision}; "
                f"leave it at {precision}, or build into another folder"
            )
        if (engine == "qdrant") != ((wish.engine or engine) == "qdrant"):
            raise IndexMismatch(
                f"{folder}: its items lie in {'Qdrant' if engine == 'qdrant' else 'this folder'}, asked for the engine "
                f"{wish.engine}; leave it at {engine}, or build into another folder"
            )
        if wish.placement is not None and asdict(wish.placement) != change.settings().get("placement"):
            raise IndexMismatch(
                f"{folder}: its collection is laid out already; leave --placement out, or build into another folder"
            )
        wanted = {"engine": wish.engine, "agreement": wish.agreement, "url": wish.url}
        for name, value in wanted.items():
            if value is not None and value != change.settings().get(name):
                change.set(name, value)


def expect(store: Store, model: Model) -> None:
    """Raises IndexMismatch unless the store was built with this run."""
    with store.reading() as snapshot:
        wanted = {name: snapshot.setting(name) for name in ("similarity", "fingerprint", "model")}
    found = type(model.similarity).__name__
    if found != wanted["similarity"]:
        raise IndexMismatch(
            f"{store.path.parent}: built with the similarity {wanted['similarity']}, the run has {found}; "
            "use the run it was built with, or build into another folder"
        )
    if model.fingerprint() != wanted["fingerprint"]:
        raise IndexMismatch(
            f"{store.path.parent}: built with another run ({wanted['model']}, {wanted['fingerprint'][:12]}), "
            f"this one is {model.name}, {model.fingerprint()[:12]}; "
            "use the run it was built with, or build into another folder"
        )


def _expect_bank(folder: Path, digest: str, model: Model) -> None:
    """Raises IndexMismatch unless the run still has the query bank that the index's biases were made with."""
    if digest and digest_of(model) != digest:
        raise IndexMismatch(
            f"{folder}: its copy of the run, or of its query bank, is gone, and the run's query bank is not the one "
            "its items' biases were made with; build into another folder"
        )


def collection(folder: Path, store: Store, similarity: Callable[[], Similarity], spoken: Spoken) -> Collection:
    """Where the index's items lie.

    Args:
        similarity: gives the run's similarity.
        spoken: queries of a modality without items, which agreement is measured with.
    """
    with store.reading() as snapshot:
        engine = snapshot.setting("engine")
    if engine == "qdrant":
        from .qdrant import QdrantCollection

        return QdrantCollection(folder, store, similarity, spoken=spoken)
    return LocalCollection(folder, store, similarity, spoken)
