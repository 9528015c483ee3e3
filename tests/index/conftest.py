"""Every test of this room may save and load fakes as runs."""

import pytest
from index_fakes import keep_runs


@pytest.fixture(autouse=True)
def _fake_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_runs(monkeypatch)
