"""What an importer says of its system, and how a model is built from that. Every tensor of theirs is accounted for.

A name that an importer neither translates nor leaves out, or a weight of ours that nothing of theirs fills, is an
error: a checkpoint of another variant never becomes a model that runs and is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...data.official_text import official_vocabulary, wordpiece_vocabulary
from ...data.text import Vocabulary
from ...encoders import ImageInput, TextInput
from ...errors import CheckpointError
from ...methods import Model, method
from ..official_files import OfficialCheckpoint, OfficialVocabulary

__all__ = ["Importer", "Sizes"]

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Enough to build the model: fields of the method, and what its towers read."""

    settings: Mapping[str, Any]
    images: ImageInput
    texts: TextInput


@dataclass(frozen=True)
class Importer:
    """How checkpoints of one system are read.

    Attributes:
        system: as on the command line, and the name of the method it becomes.
        names: start of their name -> start of ours; of several that fit, the longest counts.
        left_out: starts of their names that a model does not need (copies of shared weights, counters).
        sizes: (checkpoint, its state, vocabulary) -> Sizes. Refuses, by CheckpointError, options we do not have.
        expected: options that must be as given where the checkpoint has them; others would be another system.
        prefixes: put before the names of each part, for checkpoints that hold a list of encoders.
        mask: their script appends `<mask>` to the vocabulary after reading it.
    """

    system: str
    names: Mapping[str, str]
    sizes: Callable[[OfficialCheckpoint, State, Vocabulary], Sizes]
    left_out: tuple[str, ...] = ()
    expected: Mapping[str, Any] | None = None
    prefixes: tuple[str, ...] = ()
    mask: bool = False

    def rename(self, name: str) -> str | None:
        """Our name of one of theirs, None for what is left out. Raises CheckpointError for a name unheard of."""
        if name.startswith(self.left_out):
            return None
        start = max((start for start in self.names if name.startswith(start)), key=len, default=None)
        if start is None:
            raise CheckpointError(f"checkpoint: {name!r} is no weight of {self.system}; is it another system's?")
        return self.names[start] + name[len(start) :]

    def build(self, checkpoint: OfficialCheckpoint, vocabulary: OfficialVocabulary) -> Model:
        """The model with their weights, in eval mode.

        Raises:
            CheckpointError: another system's, another variant, or weights that do not fit.
            DataError: a vocabulary that lacks what the system needs.
        """
        state = checkpoint.state(*self.prefixes)
        self._check(checkpoint)
        if vocabulary.wordpiece:
            words = wordpiece_vocabulary(vocabulary.words)
        else:
            words = official_vocabulary(vocabulary.numbers, mask=self.mask)
        sizes = self.sizes(checkpoint, state, words)
        model = Model(method(self.system, mode="released", **sizes.settings), sizes.images, sizes.texts)
        renamed = {self.rename(name): value for name, value in state.items()}
        model.load_search_state({name: value for name, value in renamed.items() if name is not None})
        return model.eval()

    def _check(self, checkpoint: OfficialCheckpoint) -> None:
        for name, wanted in (self.expected or {}).items():
            found = checkpoint.options.get(name, wanted)
            if found != wanted:
                raise CheckpointError(
                    f"checkpoint: {checkpoint.path!r} was trained with {name}={found!r}, only {wanted!r} is imported"
                )
