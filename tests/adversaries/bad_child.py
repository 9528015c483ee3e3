"""Runs commands it is told, a line of JSON each, in one process whose memory is bounded; answers a line each.

Told: `folder` to stand in, `args` of the command line, `room` in MiB. Answered: `code`, `out`, `err`, `open` (how many
files are) and `trace`, which is empty unless something went wrong that is ours to mend.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import sys
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

__all__ = ["main"]


def _data_size() -> int:
    """Bytes of memory of one's own: heap, private mappings that can be written, stacks of threads."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData"))


def run(args: list[str]) -> dict[str, Any]:
    """One command as the shell would run it."""
    from manymatch.cli import main as command

    out, err, trace, code = io.StringIO(), io.StringIO(), "", 0
    sys.argv = ["manymatch", *args]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            trace = traceback.format_exc()
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "trace": trace}


def main() -> None:
    """Until the other end closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Nine tenths of a short command are spent on making the commands.
    typer.main.get_command = cache(typer.main.get_command)
    run(["check", "--help"])
    # A library's own memory is not what a file takes.
    for name in ("numpy", "PIL.Image", "pyarrow.parquet"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    for line in sys.stdin:
        told = json.loads(line)
        os.chdir(told["folder"])
        limit = _data_size() + told["room"] * 2**20 if Path("/proc/self/status").exists() else hard
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        answer = run(told["args"])
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        os.chdir("/")
        answer["open"] = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
