"""Soft labels: what the teachers say, the divergence by hand, the shuffled control, and where nothing was prepared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from manymatch.data.batches import ImagesWithCaptions, Rows
from manymatch.data.features import Features
from manymatch.data.pairs import Item, Pairs
from manymatch.errors import DataError, UnknownName
from manymatch.losses import Scores, SoftLabels
from manymatch.losses.teachers import image_teacher, text_teacher


def prepared(pairs: Pairs, teacher: str = "features", seed: int = 0, **numbers: float) -> tuple[SoftLabels, list[str]]:
    said: list[str] = []
    term = SoftLabels(teacher, **numbers)  # type: ignore[arg-type]
    term.prepare(pairs, seed=seed, say=said.append)
    return term, said


def batch(pairs: Pairs) -> tuple[Scores, Rows]:
    rows = next(ImagesWithCaptions(8, 2).epoch(pairs, seed=0, epoch=0))
    draw = torch.Generator().manual_seed(0)
    return Scores.of(torch.rand(len(rows.images), len(rows.captions), generator=draw)), rows


# ---- teachers


def test_images_teach_the_cosine_of_their_standardised_features(featured: Pairs) -> None:
    assert featured.features is not None
    pooled = featured.features.get(featured.items).pooled
    assert pooled is not None and pooled.min() >= 0
    rooted = np.sqrt(pooled.astype(np.float64))
    spread = rooted.std(axis=0)
    unit = (rooted - rooted.mean(axis=0)) / (spread + 1e-3 * spread.mean())
    unit = np.clip(unit, -6, 6)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    found = image_teacher(featured)
    assert found is not None and found.dtype == torch.float16
    np.testing.assert_allclose((found.float() @ found.float().T).numpy(), unit @ unit.T, atol=2e-3)


def test_fewer_directions_keep_the_nearest(featured: Pairs) -> None:
    whole, some = image_teacher(featured), image_teacher(featured, 24)
    assert whole is not None and some is not None and some.shape == (len(featured), 24)
    both = [(t.float() @ t.float().T).fill_diagonal_(-2) for t in (whole, some)]
    assert float((both[0].argmax(1) == both[1].argmax(1)).float().mean()) > 0.8


class Regions:
    """Fragments alone, of which only the first ones are real; the others hold what must never be read."""

    def get(self, items: list[Item]) -> Features:
        rows = np.array([item.row for item in items])
        vectors = np.random.default_rng(0).normal(size=(200, 5, 7))[rows].astype(np.float32)
        lengths = 1 + rows % 5
        vectors[np.arange(5) >= lengths[:, None]] = 1e6
        return Features(vectors, lengths)

    def sizes(self) -> dict[str, int]:
        return {"fragments": 5, "fragment_width": 7}


def test_without_a_pooled_vector_the_mean_of_real_fragments_teaches(world: Pairs) -> None:
    found = image_teacher(Pairs(world.items, features=Regions()))  # type: ignore[arg-type]
    assert found is not None and found.shape == (len(world), 7)
    assert torch.isfinite(found).all() and float(found.float().std(dim=0).min()) > 0.05


def test_what_is_said_alike_is_near() -> None:
    said = ["red star shines", "red star", "blue ball rolls", "blue ball", "star red", "ball blue"]
    items = [Item(str(n), (text, f"{text} again"), row=n) for n, text in enumerate(said)]
    near = text_teacher(Pairs(items)).float()
    cosines = near @ near.T
    torch.testing.assert_close(cosines.diagonal(), torch.ones(6), atol=2e-3, rtol=0)
    red, blue = [0, 1, 4], [2, 3, 5]
    assert float(cosines[red][:, red].min()) > float(cosines[red][:, blue].max()) + 0.3


def test_texts_teach_the_same_every_time(world: Pairs) -> None:
    torch.manual_seed(1)
    first = text_teacher(world)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert torch.equal(first, text_teacher(world)) and torch.equal(before, torch.random.get_rng_state())


# ---- the term


def test_the_divergence_by_hand(featured: Pairs) -> None:
    term, said = prepared(featured, temperature=0.5, unit=3.0)
    scores, rows = batch(featured)
    images, texts = term.images.float(), term.texts.float()
    shown = featured.owner[rows.captions]
    want = 0.0
    for logits, queries, gallery in (
        (scores.i2t, images[rows.images], images[shown]),
        (scores.t2i, texts[shown], texts[rows.images]),
    ):
        p = (queries @ gallery.T / 0.5).softmax(1)
        q = (logits / (3.0 * 0.45)).softmax(1)
        want += float((p * (p / q).log()).sum(1).mean()) / 2
    assert float(term(scores, rows).detach()) == pytest.approx(want, abs=1e-5) and not said


def test_scores_as_the_teacher_has_them_cost_nothing(featured: Pairs) -> None:
    term, _ = prepared(featured)
    _, rows = batch(featured)
    shown = featured.owner[rows.captions]
    student = float(term.student.detach())
    i2t = student * term.images[rows.images].float() @ term.images[shown].float().T
    t2i = student * term.texts[shown].float() @ term.texts[rows.images].float().T
    assert abs(float(term(Scores(i2t, t2i), rows).detach())) < 1e-6
    assert float(term(Scores(-i2t, t2i), rows).detach()) > 0.01 < float(term(Scores(i2t, -t2i), rows).detach())


def test_gradient(featured: Pairs) -> None:
    term, _ = prepared(featured)
    term = term.double()
    scores, rows = batch(featured)
    sides = tuple(side.double().clone().requires_grad_() for side in (scores.i2t, scores.t2i))
    assert torch.autograd.gradcheck(lambda a, b: term(Scores(a, b), rows), sides)
    term(Scores(*sides), rows).backward()
    assert term.student.grad is not None and float(term.student.grad) != 0.0


def test_order_of_the_batch_does_not_matter(featured: Pairs) -> None:
    term, _ = prepared(featured)
    scores, rows = batch(featured)
    i, c = torch.randperm(len(rows.images)), torch.randperm(len(rows.captions))
    other = Rows(rows.images[i.numpy()], rows.captions[c.numpy()], rows.matches[i.numpy()][:, c.numpy()])
    torch.testing.assert_close(term(scores, rows), term(Scores.of(scores.i2t[i][:, c]), other))


def test_the_shuffled_teacher_has_the_same_values_in_other_places(featured: Pairs) -> None:
    term, same, other, plain = (
        prepared(featured, *how)[0] for how in (("shuffled", 5), ("shuffled", 5), ("shuffled", 6), ("features", 5))
    )
    assert torch.equal(term.images, same.images) and not torch.equal(term.images, other.images)
    for name in ("images", "texts"):
        mine, theirs = getattr(term, name).float(), getattr(plain, name).float()
        assert not torch.equal(mine, theirs)
        torch.testing.assert_close(mine.sum(0), theirs.sum(0), atol=1e-2, rtol=0)
    # One permutation for both teachers.
    assert torch.unique(plain.texts, dim=0).shape[0] == len(plain.texts)
    order = (term.texts.float() @ plain.texts.float().T).argmax(1)
    assert torch.equal(plain.images[order], term.images)


def test_the_temperature_stays_in_its_range(featured: Pairs) -> None:
    term, _ = prepared(featured)
    for value, kept in ((0.01, 0.1), (2.0, 0.99), (0.5, 0.5)):
        with torch.no_grad():
            term.student.fill_(value)
        term.advance(0, 10)
        assert float(term.student.detach()) == pytest.approx(kept)
    assert term.student.requires_grad


def test_pairs_without_features_say_that_captions_teach(world: Pairs) -> None:
    term, said = prepared(world)
    assert torch.equal(term.images, term.texts)
    assert said == ["soft labels: the training pairs have no features, so captions alone are the teacher, both ways"]


def test_nothing_of_the_teachers_is_saved(featured: Pairs) -> None:
    term, _ = prepared(featured)
    assert set(term.state_dict()) == {"student"}


def test_a_step_before_the_teachers_is_refused(featured: Pairs) -> None:
    scores, rows = batch(featured)
    with pytest.raises(DataError, match=r"no teacher yet; call .*prepare"):
        SoftLabels()(scores, rows)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'shuffled'"):
        SoftLabels("shufled")  # type: ignore[arg-type]
    for wrong in ({"temperature": 0.0}, {"unit": -1.0}, {"start": 1.5}):
        with pytest.raises(DataError, match="soft_labels: temperature"):
            SoftLabels(**wrong)


def test_captions_of_an_image_that_were_left_out_do_not_move_the_rows(featured: Pairs) -> None:
    items = [replace(item, captions=item.captions[: 1 + n % 5]) for n, item in enumerate(featured.items)]
    pairs = Pairs(items, features=featured.features)
    term, _ = prepared(pairs)
    rows = next(ImagesWithCaptions(200, None).epoch(pairs, seed=0, epoch=0))
    shown = term.owner[torch.as_tensor(rows.captions)]
    np.testing.assert_array_equal(rows.images[:, None] == shown.numpy()[None], rows.matches)
