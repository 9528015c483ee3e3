"""`cca_tuned` begins where `cca` ends, as points and as Gaussians, and every part of it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.errors import DataError, UnknownName
from manymatch.methods import Model
from manymatch.training import train

SMALL = {"dim": 12, "least_count": 1, "hidden": 16, "batch": 16}


@pytest.fixture(scope="module")
def few(featured: Pairs) -> Pairs:
    return featured.take(range(60))


@pytest.fixture(scope="module")
def closed(few: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Model:
    model = mm.method("cca", dim=12, least_count=1).build(few)
    return train(model, few, out=tmp_path_factory.mktemp("closed") / "run", say=None)


@pytest.mark.parametrize("variance", [True, False])
def test_it_begins_at_the_closed_form(few: Pairs, featured: Pairs, closed: Model, variance: bool) -> None:
    model, other = mm.method("cca_tuned", **SMALL, variance=variance).build(few), featured.take(range(60, 90))
    ours, theirs = (
        m.similarity(m.encode_texts(other.captions), m.encode_images(other.images)) for m in (model, closed)
    )
    if variance:
        # Log-odds are twice the scale times the cosine and a number, for all are equally sure.
        ours = (ours - ours.mean()) / (2 * model.method.scale) + theirs.mean()  # type: ignore[attr-defined]
        assert model.encode_texts(other.captions).log_variance.unique().tolist() == [-7.0]  # type: ignore[attr-defined]
    torch.testing.assert_close(ours.detach(), theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variance", [True, False])
def test_every_weight_learns_in_two_steps(few: Pairs, variance: bool) -> None:
    model = mm.method("cca_tuned", **SMALL, variance=variance).build(few)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for rows in list(model.method.sampler().epoch(few, seed=0, epoch=0))[:2]:
        optimiser.zero_grad()
        model.training_step(model.batch(few, rows.images, rows.captions, rows.matches))["loss"].backward()
        optimiser.step()
    idle = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert not idle


def test_a_temperature_is_one_of_cosines(few: Pairs) -> None:
    for variance, wanted in ((True, 1.0), (False, 0.05)):
        terms = mm.method("cca_tuned", variance=variance).build(few).objective_terms.terms
        assert float(terms["infonce"].log_scale.detach().neg().exp()) == pytest.approx(wanted)  # type: ignore[operator, union-attr]


def test_what_it_has_not_is_refused(few: Pairs, world: Pairs) -> None:
    with pytest.raises(DataError, match=r"cca_tuned\.start: found 'linear', but this method is a linear start itself"):
        mm.method("cca_tuned", start="linear")
    with pytest.raises(DataError, match="cca_tuned is a linear map of features, found none"):
        mm.method("cca_tuned").build(world)
    with pytest.raises(UnknownName, match="text tower of cca_tuned"):
        mm.method("cca_tuned").build(few, text_tower="bigru")


def test_it_stops_and_goes_on(few: Pairs, tmp_path: Path) -> None:
    def built() -> Model:
        return mm.method("cca_tuned", **SMALL).build(few)

    whole = train(built(), few, out=tmp_path / "whole", say=None)
    again = train(built(), few, out=tmp_path / "whole", resume=True, say=None)
    assert again.fingerprint() == whole.fingerprint() == mm.load(tmp_path / "whole").fingerprint()
