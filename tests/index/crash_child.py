"""A process that forks children which write to, read from or build an index until they are killed.

    python crash_child.py [--warm]

It reads commands from stdin, a line each, and says on stdout what happens, one JSON object a line with the process that
says it: `["write" | "read" | "watch" | "build", FOLDER, SEED]` forks a child and tells its `pid`; `["reap", PID]` waits
for one and tells that it is `gone`. A child tells each call before it begins and after it returned; a line is one write
to a pipe, so what was said before a kill is not lost. Children are forked, because starting Python takes longer than
most of them live. Without `--warm` there is no torch in the process, and no faiss.

Items come in groups: all images of a group are added, updated and deleted in one call, and say so in their metadata, so
that whoever reads can tell a whole change from a part of one.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
import zlib
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from manymatch.errors import DataError
from manymatch.index import Index
from manymatch.index.filters import Where
from manymatch.index.local.vectors import Space, Vectors
from manymatch.index.store.packed import Packed
from manymatch.index.store.rows import Modality, Snapshot
from manymatch.index.store.store import Store

WIDTH = 16
MANY_GROUPS = 25


class Group(NamedTuple):
    """Images that belong together: the batch they were last written in, how many there are, their captions' batch."""

    batch: int
    count: int
    captions: int | None


def numbers_of(batch: int, count: int) -> np.ndarray[Any, Any]:
    """The embeddings (count, WIDTH) of a batch."""
    drawn = np.random.default_rng(batch).standard_normal((count, WIDTH))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float16)


def groups_of(snapshot: Snapshot) -> dict[str, Group]:
    """The groups in a store. Raises AssertionError where one is not whole, or a vector is not its batch's."""
    out: dict[str, Group] = {}
    images = _by_group(snapshot, "image")
    captions = _by_group(snapshot, "caption")
    assert set(captions) <= set(images), "captions without their images"
    for name, members in images.items():
        batch, count = members[0][1]["batch"], members[0][1]["count"]
        places = [id.rpartition(".")[2] for id, _, _ in members]
        assert places == [str(n) for n in range(count)], f"{name}: {places} of {count}"
        assert all(metadata == members[0][1] for _, metadata, _ in members), f"{name}: images of several batches"
        _expect([blob for *_, blob in members], numbers_of(batch, count), name)
        out[name] = Group(batch, count, None)
        if name in captions:
            said = captions[name]
            batches = {int(text.split()[0]) for _, text, _ in said}
            assert len(said) == count and len(batches) == 1, f"{name}: {len(said)} captions of {batches}"
            _expect([blob for *_, blob in said], numbers_of(min(batches), count), name)
            out[name] = Group(batch, count, min(batches))
    return out


def _by_group(snapshot: Snapshot, modality: Modality) -> dict[str, list[tuple[str, Any, bytes]]]:
    found: dict[str, list[tuple[str, Any, bytes]]] = {}
    blobs = dict(snapshot.vectors(modality))
    for item in snapshot.items(list(blobs)):
        told = item.metadata if modality == "image" else item.caption
        owner = item.id if modality == "image" else str(item.owner)
        found.setdefault(owner.rpartition(".")[0], []).append((owner, told, blobs[item.row]))
    return {name: sorted(members, key=lambda m: int(m[0].rpartition(".")[2])) for name, members in found.items()}


def _expect(blobs: list[bytes], numbers: np.ndarray[Any, Any], name: str) -> None:
    assert b"".join(blobs) == numbers.tobytes(), f"{name}: vectors of another batch"


# ---- what children do


def write(folder: str, seed: int, say: Any) -> None:
    """Change the index for ever: add, update, delete, describe and compact."""
    rng, index = random.Random(seed), Index.open(folder)
    compacts = index.settings()["engine"] != "faiss"
    with Store(Path(folder) / "index.sqlite").reading() as snapshot:
        groups = groups_of(snapshot)
    for step in count():
        batch = seed * 100_000 + step
        kinds = ["add"] * 4 + ["update"] * 3 + ["caption"] * 2 + ["delete"] * 3 + ["compact"] * compacts
        kind = rng.choice(kinds)
        if kind == "add" and len(groups) >= MANY_GROUPS:
            kind = "delete"
        name = f"g{batch}" if kind == "add" or not groups else rng.choice(sorted(groups))
        if kind != "compact" and name not in groups:
            kind = "add"
        if kind == "caption" and groups[name].captions is not None:
            kind = "update"
        before = groups.get(name)
        size = rng.randint(3, 20) if before is None else before.count
        after = {"add": Group(batch, size, None), "update": Group(batch, size, None), "delete": None}.get(kind, before)
        if kind == "caption" and before is not None:
            after = before._replace(captions=batch)
        say(begin=kind, group=name, after=after, t=time.monotonic())
        _change(index, kind, name, size, batch)
        assert "torch" not in sys.modules, "storing and compacting need no run"
        say(done=kind, t=time.monotonic())
        groups.pop(name, None)
        if after is not None:
            groups[name] = after


def _change(index: Index, kind: str, name: str, count: int, batch: int) -> None:
    ids = [f"{name}.{n}" for n in range(count)]
    packed = Packed("points", {"d": WIDTH}, numbers_of(batch, count))
    if kind == "compact":
        index.compact()
    elif kind == "delete":
        index.delete(ids)
    elif kind == "caption":
        texts = [f"{batch} word{n % 5}" for n in range(count)]
        index.add_embeddings([f"{id}#0" for id in ids], packed, "caption", owners=ids, captions=texts)
    else:
        index.add_embeddings(ids, packed, "image", [{"batch": batch, "count": count}] * count)


def read(folder: str, seed: int, say: Any) -> None:
    """Look for ever whether what is there is whole, in the store and in the mapped rows beside it."""
    store, last, looks, mapped = Store(Path(folder) / "index.sqlite"), 0, 0, 0
    space = Space("points", {"d": WIDTH}, "float16")
    while True:
        rows = Vectors.open(Path(folder) / "vectors-image.bin", space)
        with store.reading() as snapshot:
            groups_of(snapshot)
            counter = int(snapshot.generation.partition("-")[0])
            assert counter >= last, f"generation {counter} after {last}"
            last = counter
            mapped += rows is not None and _as_mapped(rows, snapshot)
        looks += 1
        if looks % 10 == 0:
            say(looks=looks, mapped=mapped)
        time.sleep(0.005)


def watch(folder: str, seed: int, say: Any) -> None:
    """Look for ever, as a user who may not write there."""
    # That user may not be able to read the program either: whatever is imported late has to be there before.
    first = Store(Path(folder) / "index.sqlite")
    with first.reading() as snapshot:
        groups_of(snapshot)
    first.close()
    numbers_of(0, 1)
    os.chdir("/")
    os.setuid(65534)
    try:
        Path(folder, "probe").touch()
    except PermissionError:
        pass
    else:
        raise AssertionError("this user may write")
    store, looks, torn = Store(Path(folder) / "index.sqlite"), 0, 0
    while True:
        try:
            with store.reading() as snapshot:
                groups_of(snapshot)
                counter = int(snapshot.generation.partition("-")[0])
        except DataError as error:
            assert "somebody wrote while it was read" in str(error), error
            torn += 1
        else:
            looks += 1
            say(looks=looks, torn=torn, generation=counter)
        time.sleep(0.005)


def _as_mapped(rows: Vectors, snapshot: Snapshot) -> bool:
    """Whether mapped rows could be brought up to date. Raises AssertionError where that is not what the store says."""
    changes = snapshot.changes_since(rows.generation)
    if changes is None:
        return False
    late = dict(snapshot.vectors("image", rows.last))
    early = {row: data.tobytes() for row, data in zip(rows.rows.tolist(), rows.data, strict=True)}
    there = {row: blob for row, blob in early.items() if row not in set(changes.gone.tolist())} | late
    assert there == dict(snapshot.vectors("image")), "mapped rows are not the store's"
    assert sorted(there) == snapshot.passing("image", Where()).tolist()
    assert all(zlib.crc32(blob) for blob in there.values())
    return True


def build(folder: str, seed: int, say: Any) -> None:
    """Make for ever anew what is derived, candidates too; every other time by compacting."""
    from index_fakes import FakeModel

    from manymatch.index.local import view

    # So that the next change makes every file late.
    view._FEW, view._BEHIND = 0, 0.0
    index = Index.open(folder, FakeModel("points", d=WIDTH))  # type: ignore[arg-type]
    for turn in count(seed):
        kind = "build" if turn % 2 else "compact"
        say(begin=kind, t=time.monotonic())
        if kind == "build":
            index.refresh(lambda what: say(step=what))
        else:
            index.compact(lambda what, done, total: say(step=what))
        say(done=kind, t=time.monotonic())
        time.sleep(0.002)


# ---- the process they come from


def _say(**told: Any) -> None:
    line = json.dumps({"from": os.getpid(), **told}) + "\n"
    assert len(line) < 4096, "what a pipe takes whole"
    os.write(1, line.encode())


def _fork(role: str, folder: str, seed: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.close(0)
        {"write": write, "read": read, "watch": watch, "build": build}[role](folder, seed, _say)
    except BaseException as error:
        _say(failed=f"{role}: {error!r}", trace=traceback.format_exc()[-2500:])
    finally:
        os._exit(1)


def main() -> None:
    warm = "--warm" in sys.argv
    if warm:
        import faiss
        import index_fakes  # noqa: F401
        import torch

        from manymatch.index.answers import ranking  # noqa: F401
        from manymatch.index.local import candidates, gallery  # noqa: F401

        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
    else:
        assert not {"torch", "faiss"} & set(sys.modules), "children that write start without them"
    _say(ready=True)
    for line in sys.stdin:
        role, *rest = json.loads(line)
        if role == "reap":
            os.waitpid(rest[0], 0)
            _say(gone=rest[0])
        else:
            _say(pid=_fork(role, *rest), role=role)


if __name__ == "__main__":
    main()
