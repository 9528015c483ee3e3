"""One small example of every format, as `test_formats.py` needs them.

A new format adds a function that writes three images or more into an empty folder, with captions where the format has
them, and returns the path that `Pairs.read` takes; and its line in `EXAMPLES`.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLOURS = ("red", "green", "blue")


def pictures(folder: Path, names: tuple[str, ...] = ("a.jpg", "b.jpg", "c.jpg")) -> None:
    """A picture of a colour of its own at each name."""
    for name, colour in zip(names, COLOURS, strict=False):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), colour).save(path)


def jsonl(folder: Path) -> Path:
    pictures(folder / "images")
    rows = [
        {"image": "a.jpg", "captions": ["a red field", "all red"], "split": "train", "labels": ["red"], "year": 2001},
        {"image": "b.jpg", "captions": ["a green field"], "split": "val", "tags": ["x", "y"]},
        {"image": "c.jpg", "id": "blue", "captions": None, "split": "test"},
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(folder: Path) -> Path:
    pictures(folder / "images")
    path = folder / "captions.csv"
    path.write_text(
        "image,caption,split,labels,year\n"
        'a.jpg,"a red, red field",train,red,2001\n'
        "a.jpg,all red,train,red,2001\n"
        "b.jpg,a green field,val,,1999\n"
        'c.jpg,"a blue\nfield",test,"[""blue"", ""dark""]",x\n'
    )
    return path


def encoded(colour: str) -> bytes:
    """A picture of one colour as the bytes of a PNG."""
    out = io.BytesIO()
    Image.new("RGB", (12, 8), colour).save(out, "PNG")
    return out.getvalue()


def webdataset(folder: Path) -> Path:
    for name, colours in {"train-000": COLOURS, "val-000": ("white",)}.items():
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            for n, colour in enumerate(colours):
                about = {"url": f"https://example.org/{n}", "label": colour}
                members = {
                    "png": encoded(colour),
                    "txt": f"a {colour} field".encode(),
                    "json": json.dumps(about).encode(),
                }
                for suffix, data in members.items():
                    info = tarfile.TarInfo(f"{n:05}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


def parquet(folder: Path) -> Path:
    (folder / "data").mkdir()
    for split, colours in {"train": COLOURS, "validation": ("white",)}.items():
        rows = {
            "image": [{"bytes": encoded(colour), "path": f"{colour}.png"} for colour in colours],
            "captions": [[f"a {colour} field", f"all {colour}"] for colour in colours],
            "year": [2000 + n for n in range(len(colours))],
        }
        pq.write_table(pa.table(rows), folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def datasets(folder: Path) -> Path:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value, disable_progress_bars
    from datasets import Image as Pictures

    disable_progress_bars()
    features = {"image": Pictures(), "caption": List(Value("string")), "label": ClassLabel(names=list(COLOURS))}
    rows = {
        "image": [Image.new("RGB", (12, 8), colour) for colour in COLOURS],
        "caption": [[f"a {colour} field"] for colour in COLOURS],
        "label": list(range(len(COLOURS))),
    }
    whole = Dataset.from_dict(rows, features=Features(features))
    DatasetDict({"train": whole, "test": whole.select([1])}).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def coco(folder: Path) -> Path:
    (folder / "annotations").mkdir()
    for stem, names in {"train2017": ("a.jpg", "b.jpg"), "val2017": ("c.jpg",)}.items():
        pictures(folder / stem, names)
        images = [{"id": number_of(name), "file_name": name, "width": 12, "height": 8} for name in names]
        captions = [
            {"id": 10 * image["id"] + n, "image_id": image["id"], "caption": f"{image['file_name']} {n}"}
            for image in images
            for n in range(2)
        ]
        instances = {
            "images": images,
            "categories": [{"id": 1, "name": "field"}, {"id": 7, "name": "dark"}],
            "annotations": [{"id": 1, "image_id": images[0]["id"], "category_id": 7, "bbox": [0, 0, 1, 1]}],
        }
        for what, root in {"captions": {"images": images, "annotations": captions}, "instances": instances}.items():
            (folder / "annotations" / f"{what}_{stem}.json").write_text(json.dumps({"info": {}, **root}))
    return folder


def number_of(name: str) -> int:
    """A number of a name that is the same in every process."""
    return int.from_bytes(name.encode()[:2], "big")


def karpathy(folder: Path) -> Path:
    pictures(folder / "images" / "val2014")
    images = [
        {
            "filepath": "val2014",
            "filename": name,
            "imgid": n,
            "cocoid": 100 + n,
            "split": split,
            "sentids": [2 * n, 2 * n + 1],
            "sentences": [
                {"tokens": ["a", name], "raw": f"a {name}, {k}", "imgid": n, "sentid": 2 * n + k} for k in range(2)
            ],
        }
        for n, (name, split) in enumerate({"a.jpg": "restval", "b.jpg": "val", "c.jpg": "test"}.items())
    ]
    path = folder / "dataset_coco.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    return path


def precomp(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, repeated in {"train": 1, "dev": 5, "testall": 5}.items():
        features = draw.normal(size=(3, 4, 6)).astype(np.float32).repeat(repeated, axis=0)
        np.save(folder / f"{split}_ims.npy", features)
        lines = [f"{split} image {n} caption {k}\n" for n in range(3) for k in range(5)]
        (folder / f"{split}_caps.txt").write_text("".join(lines))
    (folder / "testall_ids.txt").write_text("".join(f"{1000 + n}\n" for n in range(3) for _ in range(5)))
    return folder


def tokens(folder: Path) -> Path:
    names = ("1_a.jpg", "2_b.jpg", "3_c.jpg")
    pictures(folder / "Flicker8k_Dataset", names)
    path = folder / "Flickr8k.token.txt"
    path.write_text("".join(f"{name}#{n}\tA field , {n} .\n" for name in names for n in range(2)))
    for split, name in zip(("train", "dev", "test"), names, strict=True):
        (folder / f"Flickr_8k.{split}Images.txt").write_text(f"{name}\n")
    return path


def folder(folder: Path) -> Path:
    root = folder / "photos"
    pictures(root, ("a.jpg", "2024/b.jpg", "2024/summer/c.jpg"))
    (root / "captions.csv").write_text("file_name,caption,year\na.jpg,a red field,2001\na.jpg,all red,2001\n")
    (root / "2024" / "b.txt").write_text("a green field\n\nall green\n")
    return root


EXAMPLES: dict[str, Callable[[Path], Path]] = {
    "coco": coco,
    "datasets": datasets,
    "folder": folder,
    "jsonl": jsonl,
    "karpathy": karpathy,
    "parquet": parquet,
    "precomp": precomp,
    "table": table,
    "tokens": tokens,
    "webdataset": webdataset,
}
"""Name of a format -> what writes an example of it."""
