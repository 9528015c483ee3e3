"""`manymatch bank RUN --data DATA`: give a run that is there a query bank, or take it away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError
from .options import DataOptions, reads_data

if TYPE_CHECKING:
    from ..data.pairs import Pairs
    from ..methods import Model

__all__ = ["bank"]


@reads_data(as_option=True, store=True)
def bank(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder; its bank is replaced.")],
    data: DataOptions | None = None,
    split: Annotated[str, typer.Option(help="What queries are drawn from: what the run was trained on.")] = "train",
    val_split: Annotated[str, typer.Option(help="What chooses alpha and k; never what will be evaluated.")] = "val",
    size: Annotated[
        int, typer.Option("--size", min=1, metavar="N", help="Captions, and images, of the bank, of each at most.")
    ] = 5_000,
    remove: Annotated[bool, typer.Option("--remove", help="Take the run's bank away.")] = False,
) -> None:
    """Fit a run's query bank, which training does at its end.

    An item that scores high with everything stands before better answers. The bank's training queries say how readily
    each item scores; that bias is taken off before items are ranked. Nothing of a test split is read.
    """
    from ..evaluation import fit_bank
    from ..index.making import FILE, RUN
    from ..runs import load, names_network, save_bank

    if names_network(run):
        raise DataError(f"bank: {str(run)!r} is a pretrained network as it is and no run folder; train a run with it")
    if run.resolve().name == RUN and (run.resolve().parent / FILE).is_file():
        raise DataError(
            f"bank: {str(run)!r} is what an index keeps of its run, and its items have their biases from it; give the "
            "run itself, and index with it into another folder"
        )
    if remove:
        save_bank(run, None)
        typer.echo(f"{run} has no query bank")
        return
    if data is None:
        raise DataError("bank: give --data DATA, what the run was trained on, or --remove")
    model = load(run, device="auto")
    pairs = data.captioned()
    validation = pairs.split(val_split)
    training = pairs.split(split)
    if val_split == split:
        raise DataError(f"bank: {split!r} cannot be drawn from and choose alpha and k; give two splits")
    learned, name = model.notes.get("seen", {}).get("training"), training.name
    same = learned in (None, training.digest)
    training, validation = (model.supply(each, data.store, _told) for each in (training, validation))
    if not same and not _left_out(model, training, learned):
        typer.echo(f"{name} is not what the run was trained on; a bank may be of other pairs", err=True)
    save_bank(run, fit_bank(model, training, validation, most=size, say=typer.echo))


def _left_out(model: Model, training: Pairs, learned: str) -> bool:
    """Whether the pairs are those of that digest but for pictures that cannot be read, as training leaves them out."""
    from ..data.check import readable
    from ..evaluation.encoding import looks

    return learned == training.digest or (looks(model, training) and readable(training).digest == learned)


def _told(line: str) -> None:
    typer.echo(line, err=True)
