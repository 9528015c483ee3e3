"""`manymatch demo`: the whole line on the toy world, from rendering it to searching it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..data.pairs import Pairs
    from ..index import Index
    from ..methods import Model

__all__ = ["demo"]

_IMAGES = 6000
_ANSWERS = (3, 12, 40)
"""How many right answers the three example queries have, about."""

_SIZE = 96
"""Pixels of a picture's side on the page; the CNN sees it at 64."""

_SETTINGS = {"dim": 256, "word_dim": 128, "word_drop": 0.0, "dropout": 0.1, "batch": 128, "longest_side": 64}
"""One setting for both embeddings: the toy world has few words and small pictures."""

_EPOCHS = {"dive": 6, "vsepp": 6}


def demo(
    dir: Annotated[Path, typer.Option(help="Where the world, the runs and the index are kept.")] = Path(
        "manymatch-demo"
    ),
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Open the search page at the end.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the search page.")] = 8421,
    seed: Annotated[int, typer.Option(help="Of the world and of training.")] = 0,
) -> None:
    """Walk the whole line on a toy world.

    Renders pictures, trains sets and points on them, compares both, indexes and searches.

    About four minutes on two cores. A second call goes on where the first one stopped.
    """
    from ..data.pairs import Pairs

    began = time.perf_counter()
    data = _world(dir / f"world-{seed}", seed)
    pairs = Pairs.read(data, truth=data.with_name("truth.jsonl"))
    runs = {name: _trained(name, pairs, dir / f"runs-{seed}" / name, seed) for name in _EPOCHS}
    _compare(runs, pairs)
    index = _indexed(runs["dive"], pairs, dir / f"index-{seed}")
    _ask(index, pairs.split("test"))
    typer.echo(
        f"\nDone in {time.perf_counter() - began:.0f} s. Everything is in {dir}:\n"
        f"  {data}\n  {dir / f'runs-{seed}'}\n  {index.path}\n"
        f'Ask it yourself: manymatch search {index.path} "a green triangle above a square"'
    )
    if serve:
        from .serve import run

        run(index, port=port, open_browser=True)


def _world(folder: Path, seed: int) -> Path:
    from ..data.toy import write_toy
    from .options import bar

    data = folder / "captions.jsonl"
    if data.is_file():
        typer.echo(f"1. The toy world is in {folder} already.")
        return data
    typer.echo(f"1. Rendering {_IMAGES:,} pictures of a toy world with five captions each into {folder} ...")
    folder.mkdir(parents=True, exist_ok=True)
    with bar("rendering", "picture") as progress:
        return write_toy(folder, _IMAGES, seed=seed, size=_SIZE, progress=progress)


def _trained(name: str, pairs: Pairs, out: Path, seed: int) -> Model:
    from ..methods import method
    from ..runs import load, read_run
    from ..training import TrainConfig, train

    kind = {"dive": "sets of four (DivE)", "vsepp": "points (VSE++)"}[name]
    if (out / "run.json").is_file() and read_run(out).get("finished"):
        typer.echo(f"2. {kind} are trained already: {out}")
        return load(out)
    typer.echo(f"2. Training {kind} from pixels, seeing own captions only ...")
    config = TrainConfig(epochs=_EPOCHS[name], seed=seed)
    training = pairs.split("train")
    model = method(name, **_SETTINGS).build(training, seed=seed)
    return train(model, training, validate=pairs.split("val"), out=out, config=config, resume=out.is_dir())


def _compare(runs: dict[str, Model], pairs: Pairs) -> None:
    from ..evaluation import Report, evaluate

    typer.echo("\n3. On held-out pictures, against every right answer (the world knows them all):\n")
    test = pairs.split("test")
    reports = {name: evaluate(model, test, protocol=["own", "matches"], run=name) for name, model in runs.items()}
    rows = [row for report in reports.values() for row in report.rows]
    made = tuple(line for report in reports.values() for line in report.made)
    typer.echo(f"{Report(rows, made=made)}\n")
    found = {n: sum(r.value("mAP@R", d, "matches") for d in ("i2t", "t2i")) / 2 for n, r in reports.items()}
    first, second = sorted(found, key=lambda n: -found[n])
    typer.echo(
        f"{first} is ahead of {second} by {found[first] - found[second]:.1f} mAP@R (mean of both directions) with this "
        "seed and budget; one seed proves nothing."
    )


def _indexed(model: Model, pairs: Pairs, out: Path) -> Index:
    from ..index import Index

    test = pairs.split("test")
    if (out / "index.sqlite").is_file():
        index = Index.open(out, model)
        if index.count("image") == len(test):
            typer.echo(f"\n4. The index is in {out} already.")
            return index
    typer.echo(f"\n4. Indexing the {len(test)} held-out pictures and their captions into {out} ...")
    return Index.build(model, test, out)


def _ask(index: Index, test: Pairs) -> None:
    """Three captions with few, more and many right answers, and which of the first five hits are right."""
    truth = test.exhaustive()
    assert truth is not None
    starts = truth.transpose().indptr()
    answers = truth.transpose().captions
    for wanted in _ANSWERS:
        n = min(range(len(test.captions)), key=lambda c: abs(starts[c + 1] - starts[c] - wanted))
        right = {test.image_ids[i] for i in answers[starts[n] : starts[n + 1]]}
        typer.echo(f'\n   "{test.captions[n]}" is true of {len(right)} of {len(test)} pictures')
        for hit in index.search(test.captions[n], k=5):
            shows = ", ".join(index.item(hit.id)["labels"])
            typer.echo(f"   {hit.rank}. {hit.score:.3f}  {'right' if hit.id in right else 'wrong'}  {hit.id}  {shows}")
