"""What an importer says of its system, and how a model is built from that. Every tensor of theirs is accounted for.

A name that an importer neither translates nor leaves out, or a weight of ours that nothing of theirs fills, is an
error: a checkpoint of another variant never becomes a model that runs and is wrong.

An importer file holds a table of names and a function that works out the sizes; `bert_input` and `word_input` make its
text side and refuse a vocabulary that is not the checkpoint's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...data.official_text import OfficialVocabulary, words_by_number
from ...data.text import Vocabulary
from ...encoders import ImageInput, TextInput
from ...errors import CheckpointError, DataError
from ...methods import Model, method
from ..official_files import OfficialCheckpoint

__all__ = ["Importer", "Sizes", "bert_input", "word_input"]

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Enough to build the model: fields of the method, and what its towers read.

    Attributes:
        note: what the checkpoint left open and how it was taken; kept in the model's notes as `import`.
    """

    settings: Mapping[str, Any]
    images: ImageInput
    texts: TextInput
    note: str = ""


@dataclass(frozen=True)
class Importer:
    """How checkpoints of one system are read.

    Attributes:
        system: as on the command line, and the name of the method it becomes.
        names: start of their name -> start of ours; of several that fit, the longest counts.
        left_out: starts of their names that a model does not need (copies of shared weights, counters).
        sizes: (checkpoint, its state, vocabulary) -> Sizes. Refuses, by CheckpointError, options we do not have; a
            KeyError of the state says that it is another system's.
        expected: options that must be as given where the checkpoint has them; None: that must not be there. Others
            would be another system.
        prefixes: put before the names of each part, for checkpoints that hold a list of encoders.
        mask: their script appends `<mask>` to the vocabulary after reading it.
        criterion: as `names`, for the weights of their criterion: an entry `criterion` of the checkpoint (PCME), or a
            file of its own (HREM). Ours are of the similarity or of the relation.
        adapt: (our name, their value) -> our value, for weights that differ in form.
    """

    system: str
    names: Mapping[str, str]
    sizes: Callable[[OfficialCheckpoint, State, Vocabulary], Sizes]
    left_out: tuple[str, ...] = ()
    expected: Mapping[str, Any] | None = None
    prefixes: tuple[str, ...] = ()
    mask: bool = False
    criterion: Mapping[str, str] = field(default_factory=dict)
    adapt: Callable[[str, Tensor], Tensor] | None = None

    def rename(self, name: str) -> str | None:
        """Our name of one of theirs, None for what is left out. Raises CheckpointError for a name unheard of."""
        if name.startswith(self.left_out):
            return None
        return self._ours(name, self.names, "checkpoint")

    def build(
        self,
        checkpoint: OfficialCheckpoint,
        vocabulary: OfficialVocabulary | None = None,
        criterion: OfficialCheckpoint | None = None,
    ) -> Model:
        """The model with their weights, in eval mode.

        Args:
            checkpoint: what the training script saved.
            vocabulary: the words it was trained with; not needed where the checkpoint holds them (PCME).
            criterion: the state of their criterion, where it is a file of its own. Without it a relation, which only
                training needs, starts from fresh weights (always the same).

        Raises:
            CheckpointError: another system's, another variant, or weights that do not fit.
            DataError: a vocabulary that is missing or lacks what the system needs.
        """
        state = checkpoint.state(*self.prefixes)
        self._check(checkpoint)
        for name, value in state.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise CheckpointError(f"checkpoint: {checkpoint.path!r}, weight {name!r} holds NaN or an infinity")
        words = (vocabulary or self._own_words(checkpoint)).vocabulary(mask=self.mask)
        try:
            sizes = self.sizes(checkpoint, state, words)
        except KeyError as error:
            raise CheckpointError(
                f"checkpoint: {checkpoint.path!r} has no weight {error}; expected a checkpoint of {self.system}"
            ) from None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Model(method(self.system, mode="released", **sizes.settings), sizes.images, sizes.texts)
        if sizes.note:
            model.notes["import"] = sizes.note
        renamed = {self.rename(name): value for name, value in state.items()}
        weights = {name: value for name, value in renamed.items() if name is not None}
        self._load(model, weights, self._criterion(checkpoint, criterion))
        return model.eval()

    def _check(self, checkpoint: OfficialCheckpoint) -> None:
        for name, wanted in (self.expected or {}).items():
            checkpoint.asked.add(name)
            found = checkpoint.options.get(name, wanted)
            if found != wanted:
                only = f"only {wanted!r} is imported" if wanted is not None else "so it is another system's"
                raise CheckpointError(f"checkpoint: {checkpoint.path!r} was trained with {name}={found!r}, {only}")

    def _own_words(self, checkpoint: OfficialCheckpoint) -> OfficialVocabulary:
        if "word2idx" not in checkpoint.extra:
            raise DataError(
                f"vocabulary: {checkpoint.path!r} holds none; give the file it was trained with (--vocabulary FILE): "
                ".pkl or .json of words, or BERT's vocab.txt"
            )
        where = f"vocabulary in {checkpoint.path!r}"
        return OfficialVocabulary(words_by_number(checkpoint.extra["word2idx"], where), where=where)

    def _criterion(self, checkpoint: OfficialCheckpoint, given: OfficialCheckpoint | None) -> dict[str, Tensor]:
        """Our names -> weights of their criterion; empty where there are none."""
        if given is None:
            inside = checkpoint.extra.get("criterion")
            state = inside if self.criterion and isinstance(inside, dict) else {}
        elif not self.criterion:
            raise CheckpointError(f"criterion: {given.path!r} given, but nothing of {self.system} reads one")
        else:
            state = given.state()
        return {self._ours(name, self.criterion, "criterion"): value for name, value in state.items()}

    def _ours(self, name: str, names: Mapping[str, str], what: str) -> str:
        start = max((start for start in names if name.startswith(start)), key=len, default=None)
        if start is None:
            raise CheckpointError(f"{what}: {name!r} is no weight of {self.system}; is it another system's?")
        return names[start] + name[len(start) :]

    def _load(self, model: Model, weights: Mapping[str, Tensor], criterion: Mapping[str, Tensor]) -> None:
        if self.adapt is not None:
            weights = {name: self.adapt(name, value) for name, value in weights.items()}
            criterion = {name: self.adapt(name, value) for name, value in criterion.items()}
        searched = model.search_state()
        model.load_search_state({**weights, **{n: v for n, v in criterion.items() if n in searched}})
        further = {name: value for name, value in criterion.items() if name not in searched}
        if further:
            model.load_training_state(further)


def word_input(checkpoint: OfficialCheckpoint, words: Vocabulary, rows: int, tower: str = "bigru") -> TextInput:
    """The text side of a GRU system whose word table has so many rows.

    Raises:
        CheckpointError: a vocabulary of another size, or of word-pieces.
    """
    if words.tokenizer.kind == "wordpiece":
        raise CheckpointError(f"vocabulary: word-pieces, but {checkpoint.path!r} was trained on words; give its own")
    _expect_size(checkpoint, words, rows)
    return TextInput(tower, words)


def bert_input(checkpoint: OfficialCheckpoint, state: State, words: Vocabulary, start: str) -> TextInput:
    """The text side of a BERT system; all numbers of its BERT are read from the shapes of its weights.

    Args:
        checkpoint: for messages.
        state: their weights.
        words: BERT's word-pieces.
        start: of BERT's weights among them, such as "txt_enc.bert.".

    Raises:
        CheckpointError: a vocabulary of another size, or of words.
        KeyError: a weight that every BERT has is missing.
    """
    rows, width = state[f"{start}embeddings.word_embeddings.weight"].shape
    if words.tokenizer.kind != "wordpiece":
        raise CheckpointError(f"vocabulary: words, but {checkpoint.path!r} was trained with BERT; give its vocab.txt")
    _expect_size(checkpoint, words, rows)
    positions = state[f"{start}embeddings.position_embeddings.weight"].shape[0]
    layers = {name[len(start) :].split(".")[2] for name in state if name.startswith(f"{start}encoder.layer.")}
    config = {
        "vocab_size": rows,
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        # The one number that leaves no trace in a shape; every published BERT has heads of 64.
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": state[f"{start}encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": positions,
        "type_vocab_size": state[f"{start}embeddings.token_type_embeddings.weight"].shape[0],
    }
    return TextInput("bert", replace(words, tokenizer=replace(words.tokenizer, longest=positions - 2)), config)


def _expect_size(checkpoint: OfficialCheckpoint, words: Vocabulary, rows: int) -> None:
    if len(words) != rows:
        raise CheckpointError(
            f"vocabulary: {len(words)} words, but {checkpoint.path!r} was trained on {rows}; give its own"
        )
