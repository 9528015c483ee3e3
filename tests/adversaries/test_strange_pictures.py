"""Pictures as strangers send them: the right answer or a typed error, and memory that stays bounded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from adversary_target import Target
from PIL import Image

pytestmark = pytest.mark.slow

MIB = 2**20


def picture(colour: str | tuple[int, ...] = "red", size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it is width x height and would be."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def turned() -> bytes:
    """A photograph held sideways: the EXIF tag says how it stands upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(picture(), "JPEG", exif=exif)


def animated() -> bytes:
    frames = [picture(colour) for colour in ("red", "green", "blue")]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)


def sixteen() -> bytes:
    values = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    return saved(Image.fromarray(values), "PNG")


GOOD: dict[str, Callable[[], bytes]] = {
    "plain.png": lambda: saved(picture()),
    "plain.jpg": lambda: saved(picture(), "JPEG"),
    "plain.webp": lambda: saved(picture(), "WEBP"),
    "plain.tiff": lambda: saved(picture(), "TIFF"),
    "plain.bmp": lambda: saved(picture(), "BMP"),
    "animated.gif": animated,
    "animated.webp": lambda: saved(picture(), "WEBP", save_all=True, append_images=[picture("blue")]),
    "cmyk.jpg": lambda: saved(picture((10, 200, 30, 0), mode="CMYK"), "JPEG"),
    "sixteen.png": sixteen,
    "grey.png": lambda: saved(picture(7, mode="L")),
    "bilevel.png": lambda: saved(picture(1, mode="1")),
    "palette.png": lambda: saved(picture().convert("P")),
    "alpha.png": lambda: saved(picture((255, 0, 0, 10), mode="RGBA")),
    "turned.jpg": turned,
    "one.png": lambda: saved(picture(size=(1, 1))),
    "thin.png": lambda: saved(picture(size=(1, 9000))),
    "named.html": lambda: saved(picture(), "JPEG"),
    "large.jpg": lambda: saved(picture(size=(8000, 8000)), "JPEG", quality=30),
    '../../etc/"pass\r\nwd\x00.jpg': lambda: saved(picture(), "JPEG"),
}
"""Names and bytes that find something."""

BAD: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "empty.jpg": (lambda: b"", 422, "PictureError"),
    "cut.jpg": (lambda: saved(picture(size=(600, 400)), "JPEG")[:900], 422, "PictureError"),
    "cut.png": (lambda: saved(picture(size=(600, 400)))[:-300], 422, "PictureError"),
    "bomb.png": (lambda: bomb(60_000, 60_000), 422, "PictureError"),
    "lies.png": (lambda: saved(picture()).replace(struct.pack(">II", 64, 48), b"\xff" * 8), 422, "PictureError"),
    "page.jpg": (lambda: b"<html><script>alert(1)</script></html>", 422, "PictureError"),
    "drawing.svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', 422, "PictureError"),
    "linked.svg": (
        lambda: b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        422,
        "PictureError",
    ),
    "words.jpg": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run", 422, "PictureError"),
    "zip.jpg": (lambda: b"PK\x03\x04" + bytes(100), 422, "PictureError"),
    "noise.jpg": (lambda: np.random.default_rng(0).bytes(50_000), 422, "PictureError"),
    "start.jpg": (lambda: b"\xff\xd8\xff\xe0" + np.random.default_rng(1).bytes(50_000), 422, "PictureError"),
    "huge.jpg": (lambda: saved(picture(), "JPEG") + bytes(64 * MIB), 413, "TooLarge"),
}
"""Names, bytes, and how they are refused."""


def upload(target: Target, name: str, data: bytes) -> httpx.Response:
    files = {"image": (name, data, "image/jpeg")}
    try:
        return httpx.post(f"{target.url}/api/search/image", files=files, params={"k": 3}, timeout=60)
    except (httpx.WriteError, httpx.ReadError):
        # Refused before it was sent whole: the answer may be lost with the connection, the refusal is not.
        pytest.fail(f"{name}: the connection ended without an answer")


@pytest.mark.parametrize("name", GOOD)
def test_pictures_of_every_sort_find_something(target, name):
    answer = upload(target, name, GOOD[name]())
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["hits"]) == 3


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_usable_picture_is_refused_by_type(target, name):
    make, status, kind = BAD[name]
    answer = upload(target, name, make())
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.text
    assert "Traceback" not in answer.text and str(target.folder) not in answer.text


def test_a_turned_photograph_asks_as_the_upright_one(target):
    """Colours on the left of the one stand at the top of the other."""
    upright = Image.new("RGB", (64, 64), "blue")
    upright.paste("red", (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = saved(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    found = [upload(target, "a.png", data).json()["hits"] for data in (saved(upright), sideways)]
    assert [hit["id"] for hit in found[0]] == [hit["id"] for hit in found[1]]


def test_the_first_frame_of_an_animation_asks(target):
    first = [upload(target, "a.gif", data).json()["hits"] for data in (animated(), saved(picture(), "GIF"))]
    assert [hit["id"] for hit in first[0]] == [hit["id"] for hit in first[1]]


@pytest.mark.parametrize("name", [name for name in GOOD if "turned" in name or name == "named.html"])
def test_what_was_put_is_served_as_what_it_is(target, name):
    files = {"picture": (name, GOOD[name](), "text/html")}
    headers = {"Authorization": f"Bearer {target.write}"}
    path = f"{target.url}/api/items/stranger"
    assert httpx.put(path, files=files, headers=headers).status_code == 200
    try:
        shown = httpx.get(f"{path}/picture")
        assert shown.headers["content-type"] == "image/jpeg" and shown.headers["x-content-type-options"] == "nosniff"
    finally:
        assert httpx.delete(path, headers=headers).json() == {"deleted": 1}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_usable_picture_is_not_kept(target, name):
    make, status, kind = BAD[name]
    headers = {"Authorization": f"Bearer {target.write}"}
    kept = target.folder / "toy.index" / "pictures"
    before = sorted(kept.rglob("*"))
    answer = httpx.put(f"{target.url}/api/items/never", files={"picture": (name, make())}, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
    assert httpx.get(f"{target.url}/api/items/never").status_code == 404
    assert sorted(kept.rglob("*")) == before


def peak(process: int) -> int:
    """Bytes: the most memory the process has held since `forget`."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def forget(process: int) -> None:
    Path(f"/proc/{process}/clear_refs").write_text("5")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc to read peak memory")
def test_memory_stays_bounded_whatever_is_sent_at_once(target):
    """Eight strangers at once: the largest picture that is taken, bombs, and bodies of 64 MB."""
    from concurrent.futures import ThreadPoolExecutor

    process = target.server.process.pid
    sent = [GOOD["large.jpg"](), BAD["bomb.png"][0](), BAD["huge.jpg"][0]()]
    upload(target, "first.jpg", sent[0])
    forget(process)
    before = peak(process)
    with ThreadPoolExecutor(8) as strangers:
        answers = list(strangers.map(lambda n: upload(target, f"{n}.jpg", sent[n % 3]), range(24)))
    assert {answer.status_code for answer in answers} <= {200, 413, 422, 503}
    # One picture of 64 megapixels is 192 MB decoded; turning, scaling and sending need a few of them, not eight.
    assert peak(process) - before < 900 * MIB
