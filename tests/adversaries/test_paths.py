"""Two thousand paths and ids that try to leave the collection, as raw request lines: nothing outside is ever served."""

from __future__ import annotations

import io
import itertools
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

import pytest
from adversary_target import CANARY, Target
from PIL import Image

pytestmark = pytest.mark.slow

REQUESTS = 2000
PREFIXES = (
    b"/api/items/",
    b"/static/",
    b"/",
    b"/api/search?like=",
    b"/api/compare/items/",
    b"/docs/",
    b"/api/elements?q=",
)
ENDINGS = (b"", b"/picture", b"/thumbnail", b"/elements", b"/../secret.txt", b"%00.png", b"?x=1", b";.png")


def climbs(folder: Path) -> Iterator[bytes]:
    """Ways up and out, each written as attackers write them."""
    ways = [b"..", b"....", b".%2e", b"%2e%2e", b"%252e%252e", b"..;", b"..%00", b"%c0%ae%c0%ae", b"\xc0\xae\xc0\xae"]
    ways += [b"%uff0e%uff0e", b"..%ef%bc%8f", b"\xef\xbc\x8e\xef\xbc\x8e", b". .", b"..\\", b"..%5c", b"%2e."]
    cuts = [b"/", b"%2f", b"%2F", b"%252f", b"\\", b"%5c", b"//", b"/./", b"%c0%af", b"%e2%88%95", b"\xe2\x88\x95"]
    goals = [b"secret.txt", b"keys.json", b"etc/passwd", b"toy.index/index.sqlite", b"run/run.json", b"outside.png"]
    for way, cut, deep, goal in itertools.product(ways, cuts, (1, 2, 6), goals):
        yield cut.join([way] * deep) + cut + goal
    inside = str(folder).encode()
    for goal in (*goals, b"pictures/linked.png", b"pictures/toy-00000.png"):
        whole = inside + b"/" + goal
        yield from (whole, b"file://" + whole, quote_from_bytes(whole, safe="").encode(), b"//" + whole)
        yield from (b"\\\\127.0.0.1\\c$" + whole.replace(b"/", b"\\"), b"C:" + whole, b"http://127.0.0.1" + whole)
        yield from (b"php://filter/resource=" + whole, b"data:text/plain," + whole, b"~root" + whole, b"%00" + whole)


def noise(seed: int) -> Iterator[bytes]:
    """Bytes and characters of every sort, percent-encoded or raw."""
    drawn = random.Random(seed)
    alphabet = "aZ0 ./\\%?#&=;:@~\x00\x7f\x85\u200b\u202e\ufeff\u0000é写\U0001f600'\"<>{}|^`"
    while True:
        text = "".join(drawn.choice(alphabet) for _ in range(drawn.randint(1, 40)))
        raw = bytes(drawn.randrange(256) for _ in range(drawn.randint(1, 30)))
        yield quote(text, safe=drawn.choice(["", "/", "/.;:@"])).encode()
        yield quote_from_bytes(raw, safe=b"/.").encode()
        yield bytes(byte for byte in raw if byte not in b"\r\n ")


def targets(folder: Path) -> list[bytes]:
    """Request targets, each once, in a drawn order."""
    made: dict[bytes, None] = {}
    drawn = random.Random(7)
    all_climbs = list(climbs(folder))
    drawn.shuffle(all_climbs)
    for climb, noisy in zip(itertools.cycle(all_climbs), noise(8), strict=False):
        if len(made) >= REQUESTS:
            return list(made)
        made[drawn.choice(PREFIXES) + climb + drawn.choice(ENDINGS)] = None
        made[drawn.choice(PREFIXES) + noisy + drawn.choice(ENDINGS)] = None
    raise AssertionError("never reached")


def ask(target: Target, line: bytes) -> tuple[int, bytes]:
    """Status and body of one raw request; status 0 where the server only closed the connection."""
    with socket.create_connection((target.server.host, target.server.port), timeout=20) as wire:
        wire.sendall(b"GET " + line + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: wire.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split(b" ", 2)[1]) if head else 0), body


@pytest.fixture(scope="module")
def links(target: Target) -> Iterator[list[str]]:
    """Pictures of the collection that have since become links out of its folder."""
    pictures = target.folder / "pictures"
    Image.new("RGB", (32, 32), (250, 0, 250)).save(target.folder / "outside.png")
    names = sorted(path.name for path in pictures.iterdir())[:4]
    kept = {name: (pictures / name).read_bytes() for name in names}
    goals = ["secret.txt", "outside.png", "keys.json", "/etc/passwd"]
    for name, goal in zip(names, goals, strict=True):
        (pictures / name).unlink()
        (pictures / name).symlink_to(target.folder / goal)
    yield names
    for name, data in kept.items():
        (pictures / name).unlink()
        (pictures / name).write_bytes(data)


def secrets(target: Target) -> list[bytes]:
    outside = (target.folder / "outside.png").read_bytes()
    hashes = [key["hash"].encode() for key in json.loads((target.folder / "keys.json").read_text())["keys"]]
    return [CANARY, b"root:x:0:0", b"SQLite format 3", outside, *hashes, str(target.folder).encode()]


def test_two_thousand_paths_lead_nowhere(target, links):
    forbidden, where = secrets(target), str(target.folder).encode()
    statuses: dict[int, int] = {}
    for line in targets(target.folder):
        status, body = ask(target, line)
        statuses[status] = statuses.get(status, 0) + 1
        assert status < 500, (line, body)
        # A refusal may say back what was asked for; that is no file.
        asked = line.replace(b"%25", b"%")
        said = body.replace(where, b"") if where in unquote_to_bytes(asked) else body
        assert not [secret for secret in forbidden if secret in said], line
        if status >= 400:
            assert b'"error"' in body or body == b"Invalid HTTP request received.", (line, body)
    assert sum(statuses.values()) == REQUESTS and statuses.get(404, 0) > REQUESTS // 2


def test_what_is_served_as_an_item_is_one_of_the_collection(target, links):
    """Every 200 below /api/items/ is an id that the index knows."""
    for line in targets(target.folder):
        path = line.partition(b"?")[0]
        if not path.startswith(b"/api/items/"):
            continue
        status, body = ask(target, path)
        if status == 200:
            assert json.loads(body)["item"]["id"].startswith("toy-")


def test_links_that_lead_out_are_not_followed(target, links):
    for name in links:
        for part in ("picture", "thumbnail"):
            status, body = ask(target, f"/api/items/{name}/{part}".encode())
            assert status == 404 and b"has no picture" in body
            assert not [secret for secret in secrets(target) if secret in body]


def test_a_picture_that_stayed_is_served(target, links):
    name = sorted(path.name for path in (target.folder / "pictures").iterdir() if not path.is_symlink())[0]
    status, body = ask(target, f"/api/items/{name}/picture".encode())
    assert status == 200 and Image.open(io.BytesIO(body)).size == (32, 32)
