"""The page as a whole: every section, one file, the same bytes, and nothing a caption can break."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from report_fakes import Checked, hostile, small

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.errors import CheckpointError, DataError, UnknownName
from manymatch.evaluation import fit_bank
from manymatch.report import write_report
from manymatch.training import TrainConfig

QUIET = {"times": False, "resamples": 20, "examples": 3}
TITLES = [
    "Accuracy",
    "Training",
    "Accuracy against query time",
    "Example queries",
    "Worst failures",
    "What the elements of a set see",
    "Variance",
    "Relations",
    "Ambiguity and right answers",
]


def written(path: Path) -> tuple[str, Checked]:
    text = path.read_text("utf-8")
    return text, Checked(text)


@pytest.fixture(scope="module")
def forty() -> Pairs:
    return Pairs.toy(40, seed=3, size=32)


@pytest.fixture(scope="module")
def runs(forty: Pairs, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of two epochs: sets, and Gaussians with a relation."""
    root, out = tmp_path_factory.mktemp("runs"), []
    for name in ("dive", "msrm"):
        config = TrainConfig(epochs=2, seed=0)
        train, val = forty.split("train"), forty.split("val")
        mm.train(small(train, name, batch=16), train, validate=val, out=root / name, config=config)
        out.append(root / name)
    return out


@pytest.fixture(scope="module")
def page(runs: list[Path], forty: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(runs, forty, tmp_path_factory.mktemp("page") / "report.html", **QUIET)


def test_every_section_is_there_in_order(page: Path) -> None:
    text, checked = written(page)
    found = re.findall(r'<h2><span class="number">(\d+)</span>([^<]*)</h2>', text)
    assert found == [(str(n), title) for n, title in enumerate(TITLES, 1)]
    assert {link for link in checked.links if link.startswith("#")} >= {f"#{id}" for id in checked.ids if id[0] != "p"}
    for said in ("dive and msrm on toy-40-3", "2 elements an image", "Relation of msrm", "hyperedge weight", "ζ "):
        assert said in checked.words, said
    assert "Loss terms of dive" in checked.words and "distribution" in checked.words
    assert "What the first batch of training shows of dive" in checked.words
    titles = [words for words in checked.words.split("\n") if "hardest negative" in words]
    assert titles and not any("batch hardest negative" in words for words in titles)
    assert "Spearman" in checked.words and "ρ\u00a0=\u00a0" in checked.words


def test_it_needs_no_other_file_and_no_script(page: Path) -> None:
    text, checked = written(page)
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in checked.links)
    assert not {"script", "link", "iframe", "object"} & checked.names
    assert not re.search(r"(https?:)?//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    anchors = {link[1:] for link in checked.links if link.startswith("#")}
    assert anchors <= set(checked.ids)


def test_the_same_input_gives_the_same_bytes(runs: list[Path], forty: Pairs, page: Path, tmp_path: Path) -> None:
    again = write_report(runs, forty, tmp_path / "again.html", **QUIET)
    assert again.read_bytes() == page.read_bytes()
    other = write_report(runs, forty, tmp_path / "other.html", **QUIET, seed=1)
    assert other.read_bytes() != page.read_bytes()


def test_times_are_measured_unless_refused(runs: list[Path], forty: Pairs, page: Path, tmp_path: Path) -> None:
    assert "Times were not measured" in written(page)[1].words
    threads = torch.get_num_threads()
    timed = write_report(runs[:1], forty, tmp_path / "timed.html", examples=1, resamples=0)
    assert "ms a query" in written(timed)[1].words and torch.get_num_threads() == threads


def test_words_that_mean_harm_stay_words(forty: Pairs, tmp_path: Path) -> None:
    pairs = hostile(forty.take(range(12)))
    out = write_report(
        [small(pairs, "dive"), small(pairs, "vsepp")], pairs, tmp_path / "r.html", **{**QUIET, "examples": 12}
    )
    text, checked = written(out)
    assert "script" not in checked.names and "<script" not in text.lower() and "<b>hostile" not in text
    assert "\x00" not in text and "\x1b" not in text
    assert "<script>alert('x')</script>" in checked.words and "<b>hostile</b>" in checked.words
    assert 'dir="auto">كلب' in text


def test_without_pictures_ids_and_captions_stand_for_them(featured: Pairs, tmp_path: Path) -> None:
    bare = Pairs(featured.items, features=featured.features, truth=featured.truth, name="bare").take(range(30))
    text, checked = written(write_report([small(bare, "dive")], bare, tmp_path / "r.html", **QUIET))
    assert "data:image" not in text and 'class="photo stub"' in text
    assert "shares that an element read of each fragment" in checked.words
    assert bare.image_ids[0].partition(".")[0] in checked.words


def test_a_grid_of_features_is_drawn_on_the_photos_when_said(featured: Pairs, tmp_path: Path) -> None:
    few = featured.take(range(20))
    model = small(few, "dive")
    plain, drawn = (
        written(write_report([model], few, tmp_path / f"{grid}.html", grid=grid, **QUIET))[0] for grid in (False, True)
    )
    assert 'class="shade"' not in plain and "Share of each fragment" in plain
    assert drawn.count('class="shade"') == 4 * 2 * 16


def test_points_of_own_captions_leave_sections_out_with_a_sentence(forty: Pairs, tmp_path: Path) -> None:
    own = Pairs(forty.items, pictures=forty.pictures, name="own").take(range(12))
    words = written(write_report([small(own, "vsepp")], own, tmp_path / "r.html", **QUIET))[1].words
    for said in (
        "No epochs are recorded of vsepp",
        "None of the runs embeds an item as a set",
        "None of the runs embeds an item with a variance",
        "None of the runs was trained with a relation",
        "each caption's own image",
    ):
        assert said in words, said


def test_what_a_relation_learned_is_read_from_the_state_of_training(forty: Pairs, tmp_path: Path) -> None:
    train = forty.split("train")
    settings = {"epochs": 1, "seed": 0}
    mm.train(small(train, "hrem", batch=16), train, out=tmp_path / "hrem", config=TrainConfig(**settings))
    few = forty.take(range(12))
    words = written(write_report([tmp_path / "hrem"], few, tmp_path / "r.html", **QUIET))[1].words
    assert "learned relevance S" in words
    (tmp_path / "hrem" / "training" / "state.safetensors").unlink()
    words = written(write_report([tmp_path / "hrem"], few, tmp_path / "r.html", **QUIET))[1].words
    assert "weights of its relation were not kept" in words


def test_runs_of_one_name_are_told_apart(forty: Pairs, tmp_path: Path) -> None:
    few = forty.take(range(8))
    model = small(few, "vsepp")
    words = written(write_report([model, model], few, tmp_path / "r.html", **QUIET))[1].words
    assert "vsepp and vsepp (2) on" in words


def test_it_is_said_whose_bank_corrects_what(forty: Pairs, tmp_path: Path) -> None:
    train, few = forty.take(range(24)), forty.take(range(30, 38))
    one, other = small(train, "vsepp"), small(train, "vsepp")
    words = written(write_report([one, other], few, tmp_path / "r.html", **QUIET))[1].words
    assert "query bank" not in words
    one.bank = fit_bank(one, train, forty.take(range(24, 30)), most=20)
    words = written(write_report([one, other], few, tmp_path / "r.html", **QUIET))[1].words
    assert "vsepp: with the query bank (i2t alpha" in words
    assert "vsepp (2): raw scores, it has no query bank, and others have" in words
    assert "From the scores of vsepp a query bank's biases are taken off." in words
    alone = written(write_report([one], few, tmp_path / "r.html", **QUIET))[1].words
    assert "vsepp: with the query bank" not in alone and "with the query bank (i2t alpha" in alone


def test_slips_are_named(forty: Pairs, tmp_path: Path) -> None:
    few = forty.take(range(4))
    model = small(few, "vsepp")
    with pytest.raises(DataError, match="found no run"):
        write_report([], few, tmp_path / "r.html")
    with pytest.raises(DataError, match="examples 0, expected at least 1"):
        write_report([model], few, tmp_path / "r.html", examples=0)
    with pytest.raises(DataError, match="lies in no folder that exists"):
        write_report([model], few, tmp_path / "no" / "r.html")
    with pytest.raises(DataError, match="is a folder; name a file"):
        write_report([model], few, tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        write_report([tmp_path / "nothing"], few, tmp_path / "r.html")
    with pytest.raises(UnknownName, match="did you mean 'matches'"):
        write_report([model], few, tmp_path / "r.html", protocol="match")
    assert not list(tmp_path.iterdir())
