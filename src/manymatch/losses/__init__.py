"""Room 5: score losses, regularisers, and the named sum."""

from .base import Objective, Regulariser, Rescored, ScoreLoss, Scores, Term, score
from .distance_weighted import DistanceWeighted, distance_weights
from .diversity import Diversity
from .infonce import InfoNCE
from .kl_prior import KLPrior
from .match_nll import MatchNLL
from .mmd import MMD
from .pseudo_positives import PseudoPositives, pseudo_targets
from .semantic_distribution import SemanticDistribution
from .triplet import Triplet
from .uniformity import Uniformity

__all__ = [
    "MMD",
    "DistanceWeighted",
    "Diversity",
    "InfoNCE",
    "KLPrior",
    "MatchNLL",
    "Objective",
    "PseudoPositives",
    "Regulariser",
    "Rescored",
    "ScoreLoss",
    "Scores",
    "SemanticDistribution",
    "Term",
    "Triplet",
    "Uniformity",
    "distance_weights",
    "pseudo_targets",
    "score",
]
