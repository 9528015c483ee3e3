"""What elements attend to: shares that are shares, fragments that are named, and heads that say why they have none."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import manymatch as mm
from manymatch.data.features import Features
from manymatch.data.pairs import Pairs
from manymatch.data.text import Specials, Tokenizer, Vocabulary
from manymatch.embeddings import Encoded, Sets
from manymatch.encoders import (
    Attention,
    BackboneTower,
    BoxHead,
    GaussianHead,
    Head,
    ImageInput,
    Locals,
    MeanNeck,
    MeanPool,
    PIEHead,
    PixelTower,
    PointHead,
    SampleHead,
    SetHead,
    SlotAttention,
    TokenGaussianHead,
    attention_of_images,
)
from manymatch.encoders.base import TextTower
from manymatch.encoders.resnet import crop_of, prepare
from manymatch.methods import Model, method_class

WIDTH, DIM = 8, 6
ATTENDING = {
    "slots": lambda: SetHead(SlotAttention(WIDTH, DIM, elements=3, head_width=4, hidden=8), DIM),
    "released": lambda: SetHead(SlotAttention(WIDTH, DIM, elements=3, head_width=4, hidden=8, mode="released"), DIM),
    "transformer": lambda: SetHead(SlotAttention(WIDTH, DIM, elements=3, head_width=4, hidden=8, over="inputs"), DIM),
    "words": lambda: SetHead(SlotAttention(WIDTH, DIM, elements=3, head_width=4, positions="sequence"), DIM),
    "pie": lambda: PIEHead(WIDTH, DIM, elements=3),
    "samples": lambda: SampleHead(WIDTH, DIM, side="text"),
    "gaussian": lambda: GaussianHead(WIDTH, DIM),
    "box": lambda: BoxHead(WIDTH, DIM),
}
SMALL = {"dim": 16, "word_dim": 12, "hidden": 8, "least_count": 1, "batch": 32, "longest_side": 48}


def head_of(name: str) -> Head:
    torch.manual_seed(0)
    return ATTENDING[name]().eval()


def locals_of(lengths: list[int], longest: int, seed: int) -> Locals:
    torch.manual_seed(seed)
    vectors, pooled = torch.randn(len(lengths), longest, WIDTH), torch.randn(len(lengths), DIM)
    valid = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return Locals(vectors, valid, pooled, key=torch.arange(len(lengths)))


def small(pairs: Pairs, name: str, image_tower: str | None = None, **settings: object) -> Model:
    fixed = method_class(name).fixed
    return mm.method(name, **{k: v for k, v in {**SMALL, **settings}.items() if k not in fixed}).build(
        pairs, image_tower=image_tower
    )


# ---- heads


@pytest.mark.parametrize("name", ATTENDING)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), more=st.integers(0, 5), seed=st.integers(0, 99))
def test_shares_sum_to_one_whatever_the_padding(name: str, lengths: list[int], more: int, seed: int) -> None:
    head, local = head_of(name), locals_of(lengths, max(lengths) + more, seed)
    with torch.no_grad():
        shares = head.attend(local)
        embedding = head(local).embedding
        assert shares is not None
        assert shares.shape == (len(lengths), 3 if isinstance(embedding, Sets) else 1, local.valid.shape[1])
        assert torch.allclose(shares.sum(-1), torch.ones(shares.shape[:2]), atol=1e-5) and bool((shares >= 0).all())
        assert bool((shares.masked_fill(local.valid[:, None], 0.0) == 0).all()), "padding is read"
        for n, length in enumerate(lengths if name != "released" else ()):
            one = Locals(local.vectors[n : n + 1, :length], local.valid[n : n + 1, :length], local.pooled[n : n + 1])
            alone = head.attend(one)
            assert alone is not None
            torch.testing.assert_close(alone[0], shares[n, :, :length], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["slots", "transformer", "words", "pie"])
def test_shares_are_what_the_head_mixes_by(name: str) -> None:
    head, local = head_of(name), locals_of([6], 6, 1)
    with torch.no_grad():
        shares = head.attend(local)
    assert shares is not None
    assert not torch.allclose(shares[0, 0], shares[0, 1], atol=1e-4), "elements look at different things"
    if name == "pie":
        weights = head.net.attention.attend(local.vectors, local.valid)[1]  # type: ignore[union-attr,operator]
        torch.testing.assert_close(shares, weights.transpose(1, 2))
    else:
        won = head.slots.attend(local.vectors, local.valid)[1]  # type: ignore[union-attr,operator]
        torch.testing.assert_close(shares, (won / won.sum(-1, keepdim=True)).mean(1))


def test_a_slot_that_wins_nothing_reads_all_alike() -> None:
    head = head_of("slots")
    slots = head.slots
    assert isinstance(slots, SlotAttention)
    local = locals_of([2, 4], 4, 0)
    won = torch.full((2, slots.heads, 3, 4), 0.5)
    won[:, :, 1] = 0.0
    slots.attend = lambda vectors, valid: (None, won)  # type: ignore[method-assign,assignment,return-value]
    shares = head.attend(local)
    assert shares is not None
    assert shares[:, 1].tolist() == [[0.5, 0.5, 0.0, 0.0], [0.25] * 4] and shares[0, 0].tolist() == [0.5, 0.5, 0, 0]


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (PointHead(), "attends to no fragment"),
        (TokenGaussianHead(WIDTH, DIM, context_heads=2), "by ranks of its values"),
    ],
)
def test_heads_without_attention_say_so(head: Head, why: str) -> None:
    assert head.attend(locals_of([3], 3, 0)) is None and why in head.blind


# ---- models


@pytest.mark.parametrize(("name", "k"), [("dive", 4), ("pvse", 2), ("pcme", 1), ("msrm", 1), ("p2rm", 1)])
def test_a_run_on_pixels_attends_to_cells_and_words(name: str, k: int, world: Pairs) -> None:
    few = world.take(range(4))
    model = small(few, name)
    found = model.attend_images(few.images)
    assert [(a.elements, a.kind, a.rows, a.columns, a.boxes, a.words, a.why) for a in found] == [
        (k, "grid", 2, 2, None, None, None)
    ] * 4
    assert all(a.shares is not None and a.shares.shape == (k, 4) for a in found)
    texts = ["a red circle", "zebra"]
    first, second = model.attend_texts(texts)
    assert first.words == ("a", "red", "circle") and second.words == ("[zebra]",) and first.kind == "words"
    assert second.shares is not None and second.shares.tolist() == [[1.0]] * k
    for attention in [*found, first, second]:
        assert attention.shares is not None
        np.testing.assert_allclose(attention.shares.sum(1), 1.0, rtol=0, atol=1e-12)
        json.dumps(attention.to_json(), allow_nan=False)
    assert model.training, "asking leaves the model as it was"


@pytest.mark.parametrize("name", ["dive", "pvse"])
def test_the_same_alone_and_in_company(name: str, world: Pairs) -> None:
    few = world.take(range(4))
    model = small(few, name).eval()
    for attend, items in ((model.attend_images, few.images.decode()), (model.attend_texts, few.captions[:6])):
        for item, together in zip(items, attend(items), strict=True):
            (alone,) = attend([item])
            assert alone.shares is not None and together.shares is not None
            torch.testing.assert_close(alone.shares, together.shares, rtol=0, atol=1e-5)


def test_cells_are_told_row_by_row() -> None:
    """The middle of what a cell looks at moves to the right along a row, and down from row to row."""
    torch.manual_seed(0)
    tower = PixelTower(ImageInput("cnn", size=64), MeanPool(), PointHead(), dim=DIM).eval()
    pixels = torch.randn(1, 3, 64, 64, requires_grad=True)
    cells = tower.cnn(pixels)[0]
    assert tower.grid(64, 64) == (4, 4) and len(cells) == 16
    middles = []
    for cell in cells:
        (found,) = torch.autograd.grad(cell.sum(), pixels, retain_graph=True)
        weight = found.abs().sum((0, 1)) / found.abs().sum()
        place = torch.arange(64.0)
        middles.append((float(weight.sum(1) @ place), float(weight.sum(0) @ place)))
    down, across = np.array(middles).reshape(4, 4, 2).transpose(2, 0, 1)
    assert (np.diff(down, axis=0) > 2).all() and (np.diff(across, axis=1) > 2).all()


def test_a_run_on_features_attends_to_regions(featured: Pairs) -> None:
    few = featured.take(range(3))
    model = small(few, "dive", elements=2)
    found = model.attend_images(few.images)
    assert [(a.kind, a.rows, a.boxes, a.shares is not None and a.shares.shape) for a in found] == [
        ("regions", None, None, (2, 16))
    ] * 3
    features = few.images.read_features()
    short = Features(features.vectors, np.array([16, 5, 1]), features.pooled)
    sizes = [a.shares.shape[1] for a in model.attend_images(short) if a.shares is not None]
    assert sizes == [16, 5, 1], "padding is no region"


@pytest.mark.parametrize("name", ["vsepp", "vse_infty", "hrem", "pcmepp", "cca"])
def test_runs_without_attention_say_why(name: str, featured: Pairs) -> None:
    few = featured.take(range(12))
    model = small(few, name)
    for attention in (*model.attend_images(few.images[:2]), *model.attend_texts(["a red circle"])):
        told = attention.to_json()
        assert (told["elements"], told["kind"], told["shares"], told["words"]) == (1, None, [], None)
        assert told["why"] and "\n" not in told["why"]


class _Scored(Head):
    """A head of somebody else's: a set whose elements read the first and the last fragment."""

    def forward(self, local: Locals) -> Encoded:
        raise AssertionError("asked for shares alone")

    def attend(self, local: Locals) -> torch.Tensor:
        shares = torch.zeros(len(local.pooled), 2, local.valid.shape[1])
        shares[:, 0, 0] = 1.0
        shares[torch.arange(len(shares)), 1, local.valid.sum(1) - 1] = 1.0
        return shares


def test_a_new_head_adds_its_own(featured: Pairs) -> None:
    model = small(featured.take(range(12)), "vsepp")
    model.texts.head = _Scored()
    (found,) = model.attend_texts(["a red circle"])
    assert found.shares is not None and found.shares.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


# ---- what fragments are


def test_a_tower_that_crops_says_where_its_cells_lie() -> None:
    tower = BackboneTower(ImageInput("resnet18", size=224), MeanNeck(512, DIM), PIEHead(512, DIM, elements=2)).eval()
    pictures = [Image.new("RGB", size) for size in ((640, 320), (300, 300))]
    with torch.no_grad():
        found = attention_of_images(tower, tower.prepare(pictures), [picture.size for picture in pictures])
    wide, square = (np.array(attention.boxes) for attention in found)
    assert found[0].rows == found[0].columns == 7 and wide.shape == (49, 4)
    assert (wide >= 0).all() and (wide <= 1).all()
    # An eighth of the shorter side is cut off; of the longer one what makes it a square.
    np.testing.assert_allclose(square[0, :2], 1 / 16, atol=1e-9)
    np.testing.assert_allclose(square[-1, 2:], 15 / 16, atol=1e-9)
    np.testing.assert_allclose(wide[0, :2], [9 / 32, 1 / 16], atol=1e-9)
    np.testing.assert_allclose(wide[-1, 2:], [23 / 32, 15 / 16], atol=1e-9)
    np.testing.assert_allclose(wide[8, :2], wide[0, 2:], atol=1e-9, err_msg="row by row")
    whole = BackboneTower(ImageInput("resnet18", size=64), MeanNeck(512, DIM), PIEHead(512, DIM), whole=True).eval()
    with torch.no_grad():
        (attention,) = attention_of_images(whole, whole.prepare(pictures[:1]), [(640, 320)])
    assert (attention.rows, attention.boxes) == (2, None)


@given(width=st.integers(20, 900), height=st.integers(20, 900))
def test_the_crop_is_the_one_that_is_read(width: int, height: int) -> None:
    left, top, right, bottom = crop_of(width, height, 64)
    # A picture whose red is the place across and whose green the place down tells where it was cut.
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width)[None]
    ramp[..., 1] = np.linspace(0, 255, height)[:, None]
    seen = prepare([Image.fromarray(ramp)], 64).array[0]
    seen = seen * np.array([0.229, 0.224, 0.225])[:, None, None] + np.array([0.485, 0.456, 0.406])[:, None, None]
    for values, low, high in ((seen[0].mean(0), left, right), (seen[1].mean(1), top, bottom)):
        assert values[0] == pytest.approx(low + (high - low) / 128, abs=0.05)
        assert values[-1] == pytest.approx(high - (high - low) / 128, abs=0.05)


class _Tower(TextTower):
    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.tokens = lambda texts: vocabulary.encode(texts)  # type: ignore[method-assign,assignment]


def test_words_are_those_that_are_read() -> None:
    plain = _Tower(Vocabulary(("red", "circle")))
    assert plain.cut("The RED dog's circle!") == ["[the]", "red", "[dog]", "circle"]
    assert plain.cut("?!") == ["[unknown]"]
    assert len(plain.cut("red " * 99)) == 24
    specials = Specials(pad=0, start=1, end=2, unknown=3, mask=6)
    published = _Tower(Vocabulary(("red", "circle"), Tokenizer(0, "nltk"), specials))
    assert published.cut("A red circle.") == ["[start]", "[a]", "red", "circle", "[.]", "[end]"]


def test_word_pieces_are_told_apart() -> None:
    pytest.importorskip("tokenizers")
    specials = Specials(pad=0, start=1, end=2, unknown=3, mask=4)
    tower = _Tower(Vocabulary(("play", "##ing", "red", "!"), Tokenizer(0, "wordpiece"), specials))
    assert tower.cut("Zebra playing red!") == ["[start]", "[zebra]", "play", "##ing", "red", "!", "[end]"]
    assert tower.cut("") == ["[start]", "[end]"]


def test_there_are_as_many_words_as_fragments(world: Pairs) -> None:
    model = small(world.take(range(4)), "dive", mode="released").eval()
    texts = [*world.captions[:8], "", "zz zz red ~", "中文 red"]
    for attention in model.attend_texts(texts):
        assert attention.words is not None and attention.shares is not None
        assert len(attention.words) == attention.shares.shape[1]


def test_json_of_none() -> None:
    told = Attention(4, why="because").to_json()
    assert told.pop("shares") == [] and told.pop("why") == "because" and told.pop("elements") == 4
    assert set(told) == {"kind", "rows", "columns", "boxes", "words"} and not any(told.values())
