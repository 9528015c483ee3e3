"""Against numbers recorded from the official evaluators of VSE-infinity and DivE (ranks there count from 0)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from manymatch.data.matches import Matches
from manymatch.embeddings import Points, Sets
from manymatch.evaluation import hit_rate, mean_rank, median_rank, rank, rank_scores
from manymatch.similarity import Cosine, SmoothChamfer

RECORDED = Path(__file__).parents[1] / "parity"
OWN = Matches.from_owner(np.arange(250) // 5, 50)


def recorded(name):
    return np.load(RECORDED / f"{name}.npz", allow_pickle=False)


def table(ranks):
    return [*(100 * hit_rate(ranks, k) for k in (1, 5, 10)), median_rank(ranks), mean_rank(ranks)]


def best(ranks):
    return np.minimum.reduceat(ranks.above, ranks.indptr[:-1])


def fold(scores, number):
    return scores[10 * number : 10 * number + 10, 50 * number : 50 * number + 50]


def test_vse_infinity_ranks_and_metrics():
    with recorded("vse_infty_evaluator") as official:
        both = dict(zip(("i2t", "t2i"), rank_scores(official["out.sims"], None, OWN), strict=True))
        for direction, ranks in both.items():
            assert np.array_equal(best(ranks), official[f"out.{direction}_ranks"])
            np.testing.assert_allclose(table(ranks), official[f"out.{direction}"], rtol=1e-12)


def test_vse_infinity_from_embeddings():
    with recorded("vse_infty_evaluator") as official:
        images, captions = (Points(torch.from_numpy(official[f"in.{side}"])) for side in ("img", "cap"))
        for direction, ranks in zip(("i2t", "t2i"), rank(Cosine(), images, captions, OWN), strict=True):
            assert np.array_equal(best(ranks), official[f"out.{direction}_ranks"])


def test_vse_infinity_folds():
    own = Matches.from_owner(np.arange(50) // 5, 10)
    with recorded("vse_infty_evaluator") as official:
        for number in range(5):
            both = rank_scores(fold(official["out.sims"], number), None, own)
            for direction, ranks in zip(("i2t", "t2i"), both, strict=True):
                np.testing.assert_allclose(table(ranks), official[f"out.{direction}_folds"][number], rtol=1e-12)


@pytest.mark.parametrize("elements", [1, 2, 4])
@pytest.mark.parametrize("block", [None, (16, 48)])
def test_dive_smooth_chamfer(elements, block):
    with recorded("dive_evaluator") as official:
        images, captions = (Sets(torch.from_numpy(official[f"in.{side}_k{elements}"])) for side in ("img", "cap"))
        both = rank(SmoothChamfer(alpha=16), images, captions, OWN, block=block)
        for direction, ranks in zip(("i2t", "t2i"), both, strict=True):
            assert np.array_equal(best(ranks), official[f"out.{direction}_ranks_smooth_chamfer_k{elements}"])
            expected = official[f"out.{direction}_smooth_chamfer_k{elements}"]
            np.testing.assert_allclose(table(ranks), expected, rtol=1e-12)
