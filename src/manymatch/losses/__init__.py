"""Room 5: score losses, regularisers, and the named sum."""

from .base import Objective, Regulariser, ScoreLoss, Scores
from .diversity import Diversity
from .infonce import InfoNCE
from .mmd import MMD
from .triplet import Triplet

__all__ = ["MMD", "Diversity", "InfoNCE", "Objective", "Regulariser", "ScoreLoss", "Scores", "Triplet"]
