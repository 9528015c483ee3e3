"""A small collection of painted walls, a run that learns their colours in seconds, and the indexes made of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import manymatch as mm
from manymatch.data.matches import Matches
from manymatch.data.pairs import Item, Pairs
from manymatch.data.pictures import FolderPictures
from manymatch.index import Index
from manymatch.training import TrainConfig

COLOURS = {"red": "warm", "orange": "warm", "blue": "cold", "green": "cold", "black": "plain", "white": "plain"}
SIZES = [(60, 40), (40, 40), (40, 60), (80, 40)]
TOWNS = ["Oslo", "Bergen", "Ås & Ski"]
OF_EACH = 10

RED, WARM, COLD = "a red wall", "a wall of warm colour", "a wall of cold colour"
PURPLE = "a purple wall"
"""Words whose first page the strangers' walls are on."""

NO_WARM_WALL = 1992
"""A year whose walls are blue, green and black."""

RUNS = "window.__hurt = (window.__hurt || 0) + 1"
MARKUP = f'<img src=x onerror="{RUNS}"><script>{RUNS}</script>'
"""What a stranger writes where words are expected; it must be shown, and nothing of it may happen."""

STRANGE = [
    Item(
        f"{MARKUP}.png", (f"a purple wall {MARKUP}", f"</title></style>{MARKUP}"), metadata={"place": MARKUP, "year": 7}
    ),
    Item("../../etc/passwd", ("a purple wall of javascript:alert(1)",), metadata={"place": "' onclick='x", "year": 8}),
    Item("a/b c?d#e&f=%2F%00+\"'.png", ("a purple wall & \"quotes\" 'n' <b>bold</b>",), metadata={MARKUP: "field"}),
    Item("数字/写真 🎨.png", ("a purple wall \u202egnp.exe end",), metadata={"note": "ünï"}),
]


class Truth:
    """A caption is true of a wall whose colour it names, or whose kind of colour."""

    def matches(self, pairs: Pairs) -> Matches:
        right = [
            (row, column)
            for column, words in enumerate(pairs.captions)
            for row, item in enumerate(pairs.items)
            if set(words.split()) & set(item.labels)
        ]
        rows, columns = np.asarray(right).T
        return Matches.of(rows, columns, (len(pairs), len(pairs.captions)))


def paint(path: Path, colour: str, number: int) -> None:
    picture = Image.new("RGB", SIZES[number % len(SIZES)], colour)
    x, y, r = number * 7 % 24, number * 11 % 24, 8 + number % 5
    draw = ImageDraw.Draw(picture)
    (draw.ellipse if number % 2 else draw.rectangle)((x, y, x + r, y + r), fill="gray")
    picture.save(path)


def walls(folder: Path) -> Pairs:
    """Ten walls of each colour, with a year, a town, and a note on every fifth."""
    items = []
    for n in range(OF_EACH * len(COLOURS)):
        colour = list(COLOURS)[n % len(COLOURS)]
        name = f"{colour}-{n // len(COLOURS)}.png"
        paint(folder / name, colour, n // len(COLOURS))
        about: dict[str, Any] = {"year": 1990 + n % 25, "place": TOWNS[n % 3 if n % 5 else 0], "listed": n % 4 == 0}
        captions = (f"a {colour} wall", f"a wall of {COLOURS[colour]} colour")
        items.append(Item(name, captions, "train", (colour, COLOURS[colour]), about, name, n))
    return Pairs(items, pictures=FolderPictures(folder), truth=Truth(), name="walls")


def strangers(folder: Path) -> Pairs:
    items = []
    for n, item in enumerate(STRANGE):
        paint(folder / f"strange-{n}.png", "purple", n)
        items.append(Item(item.id, item.captions, "train", ("purple",), item.metadata, f"strange-{n}.png", 1000 + n))
    return Pairs(items, pictures=FolderPictures(folder), name="strangers")


def learnt(pairs: Pairs, out: Path) -> Any:
    """Sets of four, trained for a moment: enough to tell warm from cold, and to be sure of it."""
    settings = {"dim": 32, "word_dim": 16, "word_drop": 0.0, "dropout": 0.0, "feature_dropout": 0.0, "region_drop": 0.0}
    small = {"batch": 10, "longest_side": 24, "least_count": 1}
    model = mm.method("dive", elements=4, **settings, **small).build(
        pairs, image_tower="cnn", text_tower="bigru", seed=0
    )
    config = TrainConfig(epochs=20, lr=0.01, seed=0, keep="last", precision="float32")
    return mm.train(model, pairs, out=out, config=config)


def built(folder: Path) -> tuple[Index, Index]:
    """The walls, four from strangers and one whose picture is lost, calibrated; the walls by an untrained run."""
    pictures = folder / "pictures"
    pictures.mkdir()
    pairs = walls(pictures)
    model = learnt(pairs, folder / "run")
    index = Index.build(model, pairs, folder / "walls.index")
    index.calibrate(pairs)
    index.add(strangers(pictures))
    lost = model.encode_images([pictures / "blue-0.png"])
    # It looks like a blue wall, and its file burnt.
    index.add_embeddings(["lost"], lost, "image", metadata=[{"note": "lost in the fire"}])
    points = mm.method("vsepp", dim=16, word_dim=8, longest_side=24, least_count=1)
    other = points.build(pairs, image_tower="cnn", text_tower="bigru", seed=1)
    return index, Index.build(other, pairs, folder / "points.index")


def emptied(folder: Path, model: Any) -> Index:
    """An index whose last item was deleted."""
    (folder / "one").mkdir()
    index = Index.build(model, walls(folder / "one").take([0]), folder / "empty.index")
    index.delete(["red-0.png"])
    return index
