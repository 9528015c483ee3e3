"""Files that are one JSON object, COCO's and Karpathy's: cut, nested, of other types, and bombs."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from bad_case import ODD, ROW, Case, Write, changed, either, fine, listed, plain_json, refused, written

__all__ = ["json_cases"]


def json_cases() -> list[Case]:
    return [*_coco(), *_karpathy()]


COCO: dict[str, Any] = {
    "info": {"year": 2014},
    "images": [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2, 3)],
    "annotations": [{"id": 10 + n, "image_id": n, "caption": f"caption of {n}"} for n in (1, 2, 3)],
}
KARPATHY: dict[str, Any] = {
    "dataset": "own",
    "images": [
        {
            "imgid": n,
            "filename": f"{n}.jpg",
            "split": "train",
            "sentids": [n],
            "sentences": [{"raw": f"caption of {n}", "tokens": ["caption"], "sentid": n, "imgid": n}],
        }
        for n in (0, 1, 2)
    ],
}


def _whole_json(name: str, file: str, value: dict[str, Any]) -> Iterator[Case]:
    """What can be wrong with any file that is one JSON object."""
    whole = plain_json(value)
    command = ("--format", name)

    def given(data: bytes | Callable[[], bytes]) -> Write:
        return written({file: data}, file, *command)

    for part in (0.1, 0.5, 0.9, 0.999):
        yield refused(f"{name}-cut-{part}", given(whole[: int(len(whole) * part)]), "not JSON|cannot")
    bad = {
        "empty": b"",
        "null": b"null",
        "list": b"[]",
        "object": b"{}",
        "number": b"1" * 100_000,
        "twice": whole + whole,
        "utf-16": whole.decode().encode("utf-16"),
        "latin-1": whole.replace(b"caption of", "\xe9t\xe9".encode("latin-1")),
        "gzip-cut": gzip.compress(whole)[:-20],
        "deep": b'{"images": ' + b"[" * 200_000,
        "deep-closed": b'{"images": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "deep-objects": b'{"images":' * 50_000 + b"1" + b"}" * 50_000,
        "images-missing": plain_json(changed(value, "images", ...)),
        "images-empty": plain_json(changed(value, "images", [])),
        "images-null": plain_json(changed(value, "images", None)),
        "images-object": plain_json(changed(value, "images", {"1": {}})),
        "images-text": plain_json(changed(value, "images", "images")),
        "images-numbers": plain_json(changed(value, "images", [1, 2, 3])),
        "zeros": bytes(5000),
        "many-digits": b'{"images": ' + b"9" * 100_000 + b"}",
    }
    for kind, data in bad.items():
        yield refused(f"{name}-{kind}", given(data), ".")
    yield refused(f"{name}-bomb", given(_gzip_bomb), ".")
    yield refused(f"{name}-missing", lambda f: [file, *command], "no such")
    yield refused(f"{name}-folder", lambda f: ((f / file).mkdir(), [file, *command])[1], ".")
    yield refused(f"{name}-pipe", lambda f: (os.mkfifo(f / file), [file, *command])[1], "pipe")
    yield refused(f"{name}-device", lambda f: ["/dev/zero", *command], "device|expected|known")
    yield fine(f"{name}-mark", given(b"\xef\xbb\xbf" + whole))
    yield fine(f"{name}-gzip", given(gzip.compress(whole)))
    yield fine(f"{name}-spaces", given(json.dumps(value, indent=8).replace("\n", "\r\n").encode()))
    for kind, new in ODD.items():
        yield listed(
            f"{name}-image-{kind}", given(plain_json(changed(value, "images", 1, new if new is not ... else 0))), *ROW
        )


@cache
def _gzip_bomb() -> bytes:
    """A JSON object of 400 MB in half a megabyte."""
    return gzip.compress(b'{"images": [' + b"0," * (200 * 2**20) + b"0]}", 6)


def _coco() -> Iterator[Case]:
    name = "captions_train2014.json"
    yield from _whole_json("coco", name, COCO)

    def given(value: Any, more: Mapping[str, bytes] | None = None) -> Write:
        return written({name: plain_json(value), **(more or {})}, name)

    for kind in ("null", "object", "list", "half-a-pair", "list-of-null", "nothing"):
        for field in ("id", "file_name"):
            write = given(changed(COCO, "images", 1, field, ODD[kind]))
            if field == "file_name" and kind in ("null", "nothing"):
                yield fine(f"coco-{field}-{kind}", write)
            else:
                yield listed(f"coco-{field}-{kind}", write, *ROW)
    for kind in ("null", "object", "list", "number", "true", "half-a-pair", "nothing"):
        for field in ("caption", "image_id"):
            write = given(changed(COCO, "annotations", 1, field, ODD[kind]))
            yield Case(f"coco-annotation-{field}-{kind}", write, _COCO, good=-1)
    for kind in ODD:
        if kind != "nothing":
            write = given(changed(COCO, "annotations", 1, ODD[kind]))
            yield Case(f"coco-annotation-{kind}", write, _COCO, good=-1)
    for kind in ("null", "object", "text", "number"):
        yield either(f"coco-annotations-{kind}", given(changed(COCO, "annotations", ODD[kind])), "annotations", *_COCO)
    yield listed("coco-image-twice", given(changed(COCO, "images", 1, "id", 1)), *ROW, *_COCO)
    yield listed("coco-id-nan", given(changed(COCO, "images", 1, "id", float("nan"))), *ROW)
    yield listed("coco-width-infinity", given(changed(COCO, "images", 1, "width", float("inf"))), *ROW)
    yield listed("coco-name-up", given(changed(COCO, "images", 1, "file_name", "../../etc/passwd")), *ROW)
    yield listed("coco-name-absolute", given(changed(COCO, "images", 1, "file_name", "/etc/passwd")), *ROW)
    yield fine("coco-url-of-a-file", given(changed(COCO, "images", 1, "coco_url", "file:///etc/passwd")))
    beside = {
        "half": b'{"annotations": [',
        "list": b"[]",
        "wrong": b'{"annotations": [1, null, {"image_id": [], "category_id": {}}], "categories": [1, {"id": []}]}',
        "wrong-again": b'{"annotations": {"a": 1}, "categories": "x"}',
        "deep": b'{"annotations":' + b"[" * 100_000,
        "nan": b'{"annotations": [{"image_id": 1, "category_id": NaN}], "categories": [{"id": NaN, "name": 5}]}',
        "empty": b"",
    }
    for kind, data in beside.items():
        both = {name: plain_json(COCO), "instances_train2014.json": data}
        yield either(f"coco-instances-{kind}", written(both, name), "instances|JSON|.", "damaged file", *_COCO)
    yield refused(
        "coco-only-instances",
        written(
            {
                "instances_val2014.json": plain_json(
                    {"images": COCO["images"], "annotations": [{"id": 1, "image_id": 1, "category_id": 1}]}
                )
            }
        ),
        "instances",
    )


_COCO = (
    "not an object",
    "bad id",
    "no such image",
    "unknown image",
    "bad annotation",
    "caption is not text",
    "empty caption",
    "repeated id",
    "no captions",
    "bad labels",
    "loose caption",
    "no image",
    "bad category",
)


def _karpathy() -> Iterator[Case]:
    name = "dataset_own.json"
    yield from _whole_json("karpathy", name, KARPATHY)

    def given(value: Any) -> Write:
        return written({name: plain_json(value)}, name, "--format", "karpathy")

    for kind in ODD:
        for field in ("filename", "sentences", "split", "imgid", "sentids"):
            value = changed(KARPATHY, "images", 1, field, ODD[kind])
            yield either(f"karpathy-{field}-{kind}", given(value), ".", *ROW)
        for field in ("raw", "sentid"):
            value = changed(KARPATHY, "images", 1, "sentences", 0, field, ODD[kind])
            yield either(f"karpathy-sentence-{field}-{kind}", given(value), ".", *ROW)
    yield listed("karpathy-sentence-null", given(changed(KARPATHY, "images", 1, "sentences", [None])), *ROW, good=-1)
    yield listed("karpathy-name-twice", given(changed(KARPATHY, "images", 1, "filename", "0.jpg")), *ROW)
    yield listed("karpathy-name-up", given(changed(KARPATHY, "images", 1, "filename", "../0.jpg")), *ROW)
    yield either("karpathy-folder-up", given(changed(KARPATHY, "images", 1, "filepath", "../../etc")), ".", *ROW)
