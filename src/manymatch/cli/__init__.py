"""The command line: one file per verb. Help needs no torch; an Error is one line on stderr and exit code 2."""

from __future__ import annotations

import re
import sys
from typing import Any

import typer
from typer.core import TyperCommand

from .. import __version__
from ..errors import Error
from .bank import bank
from .check import check
from .compare import compare
from .convert import convert
from .demo import demo
from .evaluate import evaluate
from .features import features
from .import_checkpoint import import_checkpoint
from .index import index, index_add, index_calibrate, index_delete
from .index_check import index_check
from .join import join
from .key import key
from .methods import methods
from .report import report
from .search import search
from .serve import serve
from .study import study
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


class _Command(TyperCommand):
    """A command whose usage names its words as its help does, `RUN RUN...`, and not `{RUN RUN...}...`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [re.sub(r"^\{(.*)\}(\.\.\.)?$", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]


for _command in (
    demo,
    check,
    convert,
    features,
    train,
    join,
    bank,
    evaluate,
    compare,
    report,
    study,
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
    app.command(_command.__name__.replace("_", "-"), cls=_Command)(_command)
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
