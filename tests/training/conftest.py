"""What tests of training share: a small model, and a run that dies between two steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.methods import Model
from manymatch.training import TrainConfig, train

SMALL = {"dim": 16, "word_dim": 12, "hidden": 8, "batch": 16, "captions": 2, "least_count": 1}

Begin = Callable[..., dict[str, torch.Tensor]]


class Stopped(Exception):
    """Stands in for a process that dies between two steps."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Train a small model in a folder of that name, perhaps killed before step `stop` and resumed: all its weights."""

    def begin(
        name: str, pairs: Pairs, *, method: str = "vsepp", stop: int | None = None, epochs: int | None = None
    ) -> dict[str, torch.Tensor]:
        def go(resume: bool) -> None:
            model = mm.method(method, **SMALL).build(pairs)
            config = TrainConfig(epochs=epochs, save_minutes=0.0)
            train(model, pairs, validate=pairs, out=tmp_path / name, config=config, resume=resume, say=None)

        if stop is not None:
            step_of, seen = Model.training_step, 0

            def dying(self: Model, *args: object) -> object:
                nonlocal seen
                seen += 1
                if seen > stop:
                    raise Stopped
                return step_of(self, *args)  # type: ignore[arg-type]

            with monkeypatch.context() as patch:
                patch.setattr(Model, "training_step", dying)
                with pytest.raises(Stopped):
                    go(False)
        go(stop is not None)
        out = tmp_path / name
        return load_file(out / "model.safetensors") | load_file(out / "training" / "state.safetensors")

    return begin
