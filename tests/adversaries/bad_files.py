"""Files as they come from strangers, broken in every way known to us: how each is written, and what must be said of it.

Each is a data set with good rows beside the bad one, so that a reader which gives up at the first is found out too.
"""

from __future__ import annotations

from bad_arrow import arrow_cases
from bad_case import Case
from bad_features import feature_cases
from bad_folders import folder_cases
from bad_json import json_cases
from bad_lines import line_cases
from bad_names import name_cases
from bad_pictures import picture_cases
from bad_tables import table_cases
from bad_tars import tar_cases

__all__ = ["CASES"]

CASES: list[Case] = [
    *picture_cases(),
    *name_cases(),
    *line_cases(),
    *feature_cases(),
    *tar_cases(),
    *json_cases(),
    *table_cases(),
    *arrow_cases(),
    *folder_cases(),
]
