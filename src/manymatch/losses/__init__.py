"""Room 5: score losses, regularisers, and the named sum."""

from .base import Containment, Objective, Regulariser, Rescored, ScoreLoss, Scores, Taught, Term, score
from .distance_weighted import DistanceWeighted, distance_weights
from .diversity import Diversity
from .expanding import Expanding
from .global_discriminative import GlobalDiscriminative
from .inclusion import Inclusion
from .infonce import InfoNCE
from .intra_set_divergence import IntraSetDivergence
from .kl_prior import KLPrior
from .match_nll import MatchNLL
from .mmd import MMD
from .nested import Nested, prefixes_of
from .pseudo_positives import PseudoPositives, pseudo_targets
from .semantic_distribution import SemanticDistribution
from .soft_labels import SoftLabels
from .triplet import Triplet
from .uniformity import Uniformity

__all__ = [
    "MMD",
    "Containment",
    "DistanceWeighted",
    "Diversity",
    "Expanding",
    "GlobalDiscriminative",
    "Inclusion",
    "InfoNCE",
    "IntraSetDivergence",
    "KLPrior",
    "MatchNLL",
    "Nested",
    "Objective",
    "PseudoPositives",
    "Regulariser",
    "Rescored",
    "ScoreLoss",
    "Scores",
    "SemanticDistribution",
    "SoftLabels",
    "Taught",
    "Term",
    "Triplet",
    "Uniformity",
    "distance_weights",
    "prefixes_of",
    "pseudo_targets",
    "score",
]
