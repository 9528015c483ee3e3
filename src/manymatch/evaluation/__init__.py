"""Room 9: how well a model finds right answers: ranks in one streaming pass, metrics, protocols, the report."""

from .banking import fit_bank
from .calibrating import calibrate
from .comparing import compare
from .comparison import Comparison
from .duplicates import duplicates
from .measure import evaluate, judge
from .metrics import hit_rate, map_at_r, mean_rank, median_rank, r_precision
from .protocols import PROTOCOLS
from .ranks import Ranks, rank, rank_scores, top
from .report import Report
from .scores import MatrixScores, ModelScores

__all__ = [
    "PROTOCOLS",
    "Comparison",
    "MatrixScores",
    "ModelScores",
    "Ranks",
    "Report",
    "calibrate",
    "compare",
    "duplicates",
    "evaluate",
    "fit_bank",
    "hit_rate",
    "judge",
    "map_at_r",
    "mean_rank",
    "median_rank",
    "r_precision",
    "rank",
    "rank_scores",
    "top",
]
