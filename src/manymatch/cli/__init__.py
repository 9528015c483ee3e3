"""The command line: one file per verb. Help needs no torch; an Error is one line on stderr and exit code 2."""

from __future__ import annotations

import sys

import typer

from .. import __version__
from ..errors import Error
from .check import check
from .compare import compare
from .convert import convert
from .demo import demo
from .evaluate import evaluate
from .features import features
from .import_checkpoint import import_checkpoint
from .index import index, index_add, index_calibrate, index_delete
from .index_check import index_check
from .key import key
from .methods import methods
from .report import report
from .search import search
from .serve import serve
from .train import train

__all__ = ["app", "main"]

app = typer.Typer(
    name="manymatch",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Image-text retrieval where one query has many right answers: train, evaluate, index, search and serve. "
    "A folder of photos is searched by a pretrained network in three commands: check DATA; index DATA --model hf:NAME "
    "--out X; serve X.",
)

for _command in (
    demo,
    check,
    convert,
    features,
    train,
    evaluate,
    compare,
    report,
    index,
    index_add,
    index_delete,
    index_calibrate,
    index_check,
    search,
    serve,
    methods,
    import_checkpoint,
):
    app.command(_command.__name__.replace("_", "-"))(_command)
app.add_typer(key, name="key")


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `manymatch` command."""
    try:
        app(standalone_mode=True)
    except Error as error:
        print(f"manymatch: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
