"""The query bank of an index: its own copy says the bias of every item that is added, now and later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CheckpointError, DataError, IndexMismatch
from .local.vectors import Space
from .store.packed import Packed
from .store.rows import Modality

if TYPE_CHECKING:
    from ..bank import Bank
    from ..embeddings import Embedding
    from ..methods import Model
    from ..similarity import Similarity

__all__ = [
    "RESTORED",
    "SETTING",
    "bank_differs",
    "differing",
    "digest_of",
    "expect_fitting",
    "item_biases",
    "opened_bank",
    "unpacked",
]

RESTORED = "put it back with: manymatch index DATA --model RUN"
"""What to do where an index has lost its bank; the folder follows."""

SETTING = "bank"
"""Name of the index's setting that holds the digest of its bank; an index without one has no such setting."""


def digest_of(model: Model) -> str:
    """Of the bank that a run has now; empty where it has none."""
    bank = getattr(model, "bank", None)
    return "" if bank is None else str(bank.digest)


def opened_bank(digest: str, run: Path, model: Model | None) -> Bank | None:
    """The bank of that digest: the model's, or that of the index's copy of the run.

    Raises:
        IndexMismatch: the copy holds another bank, or none.
        DataError: the copy is gone, or its bank cannot be read.
    """
    if not digest:
        return None
    if model is not None and digest_of(model) == digest:
        return model.bank
    from .. import runs

    back = f"{RESTORED} --out {run.parent}, with the run it was built with"
    try:
        bank = runs.load_bank(run)
    except CheckpointError as error:
        there = (run / "run.json").is_file()
        lost = "the query bank in its copy of the run cannot be read" if there else "its copy of the run is gone"
        raise DataError(
            f"{run.parent}: {lost} ({run.name}/), and new items have their biases from it; {back}"
        ) from error
    if bank is None or bank.digest != digest:
        raise IndexMismatch(
            f"{run.parent}: its copy of the run has {'no' if bank is None else 'another'} query bank, and its items' "
            f"biases were made with one; {back}"
        )
    return bank


def bank_differs(digest: str, run: Path) -> bool:
    """Whether the index's copy of the run lacks the bank of that digest, or what lies there cannot be read."""
    try:
        bank = opened_bank(digest, run, None)
    except (DataError, IndexMismatch):
        return True
    return bank is not None and not bank.sound


def expect_fitting(bank: Bank, modality: Modality, space: Space) -> None:
    """Raises IndexMismatch where items of a modality are not what the run of this bank makes of them."""
    queries = bank.queries[modality]
    Space(queries.kind, queries.layout, space.precision).expect(space)


def differing(digest: str, model: Model | None) -> str:
    """A line where a run comes with another bank than the index was made with; empty where it does not."""
    if model is None or digest_of(model) == digest:
        return ""
    if not digest:
        return (
            "this index was made before the run had a query bank and goes on without one; build into another folder "
            "to use it"
        )
    return "this index keeps the query bank it was made with, not the one that the run has now"


def item_biases(
    bank: Bank | None,
    similarity: Similarity,
    embedding: Embedding,
    modality: Modality,
    owners: Sequence[str],
) -> dict[Modality, np.ndarray[Any, Any]]:
    """What is taken off the items' scores, by the modality that asks: the other one than theirs.

    Args:
        bank: None corrects nothing.
        similarity: of the run.
        embedding: the items, not yet rounded to the precision of an index.
        modality: theirs.
        owners: ids of their images.

    Raises:
        DataError: a score that is not finite.
    """
    from ..bank import owner_keys

    if bank is None:
        return {}
    asking: Modality = "caption" if modality == "image" else "image"
    return {asking: bank.bias(similarity, embedding, asking, owner_keys(owners))}


def unpacked(given: Embedding | Packed) -> Embedding:
    """The same items as tensors, float32 on the CPU."""
    import torch

    from ..embeddings import embedding_kind

    if not isinstance(given, Packed):
        return given.to(torch.float32).to("cpu")
    rows = np.full((len(given), max((len(row) for row in given.rows), default=0)), np.nan, np.float32)
    for place, row in enumerate(given.rows):
        rows[place, : len(row)] = row
    return embedding_kind(given.kind).unpack(rows, given.layout)
