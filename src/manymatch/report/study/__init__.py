"""Studies: methods x settings x seeds, trained alike, chosen on validation, measured on test once, and compared."""

from .plan import Plan
from .reading import read_plan
from .study import study

__all__ = ["Plan", "read_plan", "study"]
