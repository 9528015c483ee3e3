"""`manymatch serve`: the search page of an index and the API behind it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError

if TYPE_CHECKING:
    from ..index import Index

__all__ = ["run", "serve"]

_HERE = ("localhost", "127.0.0.1", "[::1]")
"""What a server on loopback is called, unless it is told of other names."""


def serve(
    index: Annotated[Path, typer.Argument(metavar="X", help="The index folder.")],
    compare: Annotated[
        Path | None,
        typer.Option(metavar="Y", help="A second index, searched side by side with X by the same query."),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. 127.0.0.1 is this machine alone; 0.0.0.0 lets others in, and then says who may "
            "read: --key-file or --public."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8421,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            max=256,
            help="Processes that answer, each of which loads the run. About one a core; one is enough for a few "
            "people at a time.",
        ),
    ] = 1,
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="F",
            help="Who may read and write: keys, made by `manymatch key new --file F`. Without one, on this machine, "
            "everybody reads and nobody writes.",
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody read, key or not. Writing still needs a write key.")
    ] = False,
    title: Annotated[
        str | None, typer.Option(metavar="T", help="Title of the page. Default: the name of the index folder.")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="A name people call the server by, such as search.example.org, also behind a proxy; requests that "
            "call it otherwise are refused. Repeat it. Default on 127.0.0.1: this machine's own names; elsewhere any.",
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="A web site such as https://example.org whose pages may read the API. Repeat it."
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="A proxy before this server, such as 127.0.0.1, that is believed when it says who asks "
            "(X-Forwarded-For, X-Forwarded-Proto). Repeat it.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Requests a second that one client (its key, else its address) may make of each worker, twice as many "
            "at once; more are answered 429. Pictures do not count. Default: any number.",
        ),
    ] = None,
    searches: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Searches that may run or wait in one worker; more are answered 503 at once.",
        ),
    ] = 16,
    max_upload: Annotated[
        float, typer.Option(metavar="MB", help="Size of the largest picture that may be sent, in megabytes.")
    ] = 20.0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve the search page of an index, and its API, until Ctrl-C.

    On this machine alone, for oneself: manymatch serve X

    For others, who get keys: manymatch key new --file keys.json, then manymatch serve X --host 0.0.0.0 --key-file
    keys.json --name search.example.org. A proxy before it adds encryption.

    The page is at the address printed, the API is described at /docs there, what Prometheus collects is at /metrics.
    SIGTERM and Ctrl-C finish what is being answered, for 10 seconds at most.
    """
    from ..web.serving import Folders
    from ..web.serving import serve as serve_folders
    from ..web.settings import Settings

    if rate is not None and not 0.001 <= rate <= 1e6:
        raise DataError(f"--rate {rate:g}: expected requests a second, from 0.001 to 1,000,000")
    if not 0.001 <= max_upload <= 1000:
        raise DataError(f"--max-upload {max_upload:g}: expected megabytes, from 0.001 to 1000")
    _expect_readers(host, key_file, public)
    if key_file is not None and not key_file.exists():
        raise DataError(f"--key-file {key_file}: no such file; make it with: manymatch key new --file {key_file}")
    _expect_addresses(proxy or ())
    settings = Settings(
        title=title,
        upload_bytes=round(max_upload * 1e6),
        rate=rate,
        searches=searches,
        keys=key_file,
        public=public,
        hosts=_names(host, name),
        origins=tuple(origin or ()),
        proxies=tuple(proxy or ()),
    )
    serve_folders(Folders(index, compare), settings, host, port, workers, open_browser, typer.echo)


def run(index: Index, host: str = "127.0.0.1", port: int = 8421, *, open_browser: bool = False) -> None:
    """Serve the page of an open index until SIGINT or SIGTERM; what is being answered is finished first.

    Raises:
        DataError: the address cannot be listened on, or is not of this machine alone.
    """
    from ..web.serving import serve_open
    from ..web.settings import Settings

    _expect_readers(host, None, False)
    settings = Settings(hosts=_names(host, None))
    serve_open(index, None, settings, host, port, open_browser, typer.echo)


def _expect_readers(host: str, key_file: Path | None, public: bool) -> None:
    """Whoever lets other machines in says who may read. Raises DataError."""
    if not (_is_loopback(host) or key_file or public):
        raise DataError(
            f"serve: --host {host} lets other machines in, so say who may read: give --key-file F (made by "
            "manymatch key new), or --public to let everybody read"
        )


def _expect_addresses(proxies: Sequence[str]) -> None:
    """One that is none would quietly never be believed. Raises DataError."""
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise DataError(
                f"--proxy {proxy!r}: expected an address such as 127.0.0.1, or a network such as 10.0.0.0/8"
            ) from None


def _names(host: str, name: list[str] | None) -> tuple[str, ...]:
    """What the server may be called; none is any. Its own machine may always call it by its own names."""
    return (*_HERE, *(name or ())) if name or _is_loopback(host) else ()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
