"""Thousands of requests made from the API's own schema, valid and not: every answer is one the schema promises.

    MANYMATCH_REQUESTS=20000 pytest -m slow -n 0 tests/adversaries/test_schema.py

All of schemathesis' checks run. One is told more than the schema can say: a search that is valid by its schema may
still be refused with 422, because OpenAPI has no words for "exactly one of q and like" among query parameters, nor for
"these bytes are a picture", nor for "this index has a calibration".
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from adversary_target import Target

pytestmark = pytest.mark.slow

REQUESTS = int(os.environ.get("MANYMATCH_REQUESTS", "2000"))
ROUND = 40
"""Examples of each operation in one round; a round is some thousand requests."""

CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 403, 404, 409, 422, 429]
"""


def answered(target: Target) -> dict[str, int]:
    """Requests the server has counted so far, by status."""
    counts: dict[str, int] = {}
    for line in httpx.get(f"{target.url}/metrics").text.splitlines():
        found = re.match(r'manymatch_requests_total\{.*status="(\d+)".*\} ([\d.e+]+)', line)
        if found:
            counts[found[1]] = counts.get(found[1], 0) + int(float(found[2]))
    return counts


def fuzz(target: Target, folder: Path, seed: int) -> subprocess.CompletedProcess[str]:
    (folder / "fuzz.toml").write_text(CONFIGURATION)
    options = ["--checks", "all", "--max-examples", str(ROUND), "--seed", str(seed), "--suppress-health-check", "all"]
    options += ["--header", f"Authorization: Bearer {target.write}", "--generation-database", "none"]
    # The client's own limit: an answer later than that is none.
    options += ["--request-timeout", "20", "--continue-on-failure"]
    start = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "fuzz.toml"), "--no-color"]
    return subprocess.run(
        [*start, "run", f"{target.url}/openapi.json", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )


def test_every_answer_is_one_the_schema_promises(target, tmp_path):
    before = answered(target)
    asked, seed = 0, 1
    while asked < REQUESTS:
        said = fuzz(target, tmp_path, seed)
        assert said.returncode == 0, said.stdout[-20_000:] + said.stderr[-2000:]
        counts = answered(target)
        now = sum(counts.values()) - sum(before.values())
        assert now > asked, "a round that asked nothing"
        asked, seed = now, seed + 1
    # Of the server's own count, not only of what was checked.
    assert not {status for status in counts if status >= "500"}, counts
    print(f"{asked} requests, answered {counts}")
