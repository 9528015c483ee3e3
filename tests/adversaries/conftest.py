"""One small collection, with secrets beside it, behind one server with keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from adversary_target import CANARY, Target

from served import keyed, served, small_index

# Where an example of every format lies.
sys.path.append(str(Path(__file__).parents[1] / "contracts"))


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("collection")
    (folder / "secret.txt").write_bytes(CANARY)
    pictures = folder / "pictures"
    index = small_index(folder, pictures)
    keys = folder / "keys.json"
    read, write = keyed(keys), keyed(keys, "--write")
    with served(index, "--key-file", keys, "--public") as server:
        yield Target(server, folder, read, write)
