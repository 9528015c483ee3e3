"""`manymatch key new|list|revoke`: the keys that let programs and people into a served index."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["key"]

key = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make, list and revoke the keys of a served index. A key file is given to manymatch serve as --key-file; with "
    "one, reading needs a key and writing needs a write key. It holds hashes: a key is shown once, when it is made.",
)

File = Annotated[
    Path, typer.Option("--file", metavar="F", help="The key file; nobody but its owner (and group) may read it.")
]

_FILE = Path("manymatch-keys.json")


@key.command()
def new(
    write: Annotated[
        bool, typer.Option("--write", help="The key may add and delete items too. Without it: search and look.")
    ] = False,
    name: Annotated[
        str, typer.Option("--name", metavar="TEXT", help='Whom it is for, such as "the shop"; list shows it.')
    ] = "",
    file: File = _FILE,
) -> None:
    """Make a key and print it, this once.

    The key alone goes to stdout: KEY=$(manymatch key new). Servers that use the file know it at once. It is sent as
    the header Authorization: Bearer KEY.
    """
    from ..web.keys import new_key

    is_first = not file.exists()
    made, token = new_key(file, "write" if write else "read", name)
    typer.echo(token)
    place = shlex.quote(str(file))
    typer.echo(f"{made.access} key {made.id} {'in the new file' if is_first else 'added to'} {place}", err=True)
    typer.echo("keep it: only its hash is stored, it cannot be shown again", err=True)
    if is_first:
        typer.echo(f"next: manymatch serve X --key-file {place}", err=True)


@key.command("list")
def list_keys(file: File = _FILE, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the keys of a file: id, access, when made, name. The keys themselves are not stored."""
    from ..web.keys import read_keys

    known = read_keys(file)
    if as_json:
        shown = [{"id": one.id, "name": one.name, "access": one.access, "created": one.created} for one in known]
        typer.echo(json.dumps(shown, ensure_ascii=False))
        return
    for one in known:
        typer.echo(f"{one.id}  {one.access:<5}  {one.created[:10]}  {one.name}".rstrip())
    if not known:
        typer.echo(f"no keys in {file}", err=True)


@key.command()
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="As list shows it: the digits after mm_ in the key.")],
    file: File = _FILE,
) -> None:
    """Take a key out of a file. Servers that use the file refuse it from the next request on, without a restart."""
    from ..web.keys import revoke_key

    # Given a whole key, its id is meant; and a key does not belong in a message.
    gone = revoke_key(file, id.removeprefix("mm_").partition("_")[0])
    typer.echo(f"revoked the {gone.access} key {gone.id}" + (f" ({gone.name})" if gone.name else ""))
