"""What a loss sees, and the named sum that training minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..data.batches import Rows
from ..data.pairs import Pairs
from ..embeddings import Embedding, Encoded
from ..errors import DataError
from ..similarity import Similarity

__all__ = [
    "Containment",
    "Objective",
    "PartScored",
    "Regulariser",
    "Rescored",
    "ScoreLoss",
    "Scores",
    "Taught",
    "Term",
    "require_positives",
    "score",
]


@dataclass(frozen=True)
class Scores:
    """A batch's similarities in both directions: `i2t (i, c)`, `t2i (c, i)`, higher is closer.

    One matrix and its transpose when the similarity is symmetric.
    """

    i2t: Tensor
    t2i: Tensor

    @classmethod
    def of(cls, i2t: Tensor, t2i: Tensor | None = None) -> Scores:
        return cls(i2t, i2t.T if t2i is None else t2i)


class Term(nn.Module):
    """Base of all terms of an objective."""

    def advance(self, step: int, steps: int, epochs: int = 0) -> None:
        """Told before every step which of how many it is; terms with a warm-up read it.

        Args:
            step: from 0.
            steps: of the run.
            epochs: of the run, 0 where there are none.
        """

    def prepare(self, pairs: Pairs, *, seed: int, say: Callable[[str], None]) -> None:
        """Told once before training, and again before it goes on; what a term learns of the training pairs.

        Args:
            pairs: the training split, with the features that its image tower reads.
            seed: of the run.
            say: told every line worth reading.
        """


class ScoreLoss(Term):
    """A term `(scores, matches (i, c) bool) -> scalar`. Raises DataError when a batch has no match at all."""

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        raise NotImplementedError


class Regulariser(Term):
    """A term `(images: Encoded, texts: Encoded) -> scalar`."""

    def forward(self, images: Encoded, texts: Encoded) -> Tensor:
        raise NotImplementedError


class Taught(Term):
    """A term that knows which training rows a batch holds: `(scores, rows) -> scalar`."""

    def forward(self, scores: Scores, rows: Rows) -> Tensor:
        raise NotImplementedError


class Containment(Term):
    """A term `(whole: Encoded, part: Encoded) -> scalar` over items, and the same with much of them left out.

    Attributes:
        chosen: share of a batch's items that are encoded a second time for it.
        left_out: share of their words and fragments that are left out.
    """

    chosen: float = 0.125
    left_out: float = 0.75

    def forward(self, whole: Encoded, part: Encoded) -> Tensor:
        raise NotImplementedError


class PartScored(Term):
    """A term that scores parts of the embeddings too, by the model's own similarity, whose learned scalars it shares:
    `(similarity, scores, matches, images, texts) -> scalar`, with the scores of the whole embeddings."""

    def forward(
        self, similarity: Similarity, scores: Scores, matches: Tensor, images: Encoded, texts: Encoded
    ) -> Tensor:
        raise NotImplementedError


class Rescored(Term):
    """A score loss under another similarity than the one that searches, `(images, texts, matches) -> scalar`.

    Args:
        similarity: of what `view` gives.
        loss: of the scores it gives.
        view: what of a tower's output is compared; its embedding if not given.
    """

    def __init__(
        self, similarity: Similarity, loss: ScoreLoss, *, view: Callable[[Encoded], Embedding] | None = None
    ) -> None:
        super().__init__()
        self.similarity, self.loss, self.view = similarity, loss, view or (lambda encoded: encoded.embedding)

    def forward(self, images: Encoded, texts: Encoded, matches: Tensor) -> Tensor:
        out: Tensor = self.loss(score(self.similarity, self.view(images), self.view(texts)), matches)
        return out

    def advance(self, step: int, steps: int, epochs: int = 0) -> None:
        self.loss.advance(step, steps, epochs)


def score(similarity: Similarity, images: Embedding, texts: Embedding) -> Scores:
    """A batch's similarities in both directions; one matrix where the direction does not matter."""
    i2t = similarity(images, texts)
    return Scores.of(i2t, None if similarity.symmetric else similarity(texts, images))


def require_positives(matches: Tensor) -> None:
    """Raises DataError unless every direction has something to learn: at least one match in the batch."""
    if not bool(matches.any()):
        raise DataError(f"loss: no match among {tuple(matches.shape)} pairs of the batch, expected at least one")


class Objective(nn.Module):
    """The named, weighted sum of terms of every kind.

    Args:
        terms: name -> (weight, term).
    """

    def __init__(self, terms: Mapping[str, tuple[float, Term]]) -> None:
        super().__init__()
        self.weights = {name: float(weight) for name, (weight, _) in terms.items() if weight}
        self.terms = nn.ModuleDict({name: term for name, (weight, term) in terms.items() if weight})

    def forward(
        self,
        scores: Scores,
        matches: Tensor,
        images: Encoded,
        texts: Encoded,
        *,
        rows: Rows | None = None,
        parts: Sequence[tuple[Encoded, Encoded]] = (),
        similarity: Similarity | None = None,
    ) -> dict[str, Tensor]:
        """Each term by name, unweighted, and their weighted sum as `loss`.

        Args:
            scores, matches, images, texts: of the batch.
            rows: of the training pairs that the batch holds.
            parts: items, and the same with much of them left out, of each modality that has some.
            similarity: what gave the scores, for terms that score parts of the embeddings by it.

        Raises:
            DataError: a term asks for rows that the batch does not say.
        """
        out: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            if isinstance(term, ScoreLoss):
                out[name] = term(scores, matches)
            elif isinstance(term, Rescored):
                out[name] = term(images, texts, matches)
            elif isinstance(term, PartScored):
                out[name] = term(similarity, scores, matches, images, texts)
            elif isinstance(term, Taught):
                out[name] = term(scores, _said(rows, name))
            elif isinstance(term, Containment):
                out[name] = sum((term(*both) for both in parts), scores.i2t.new_zeros(())) / max(len(parts), 1)
            else:
                out[name] = term(images, texts)
        out["loss"] = sum((self.weights[name] * value for name, value in out.items()), scores.i2t.new_zeros(()))
        return out

    def of_scores(self, scores: Scores, matches: Tensor) -> dict[str, Tensor]:
        """The score losses alone, by name, unweighted: what a relation's further pairs are measured by."""
        return {n: term(scores, matches) for n, term in self.terms.items() if isinstance(term, ScoreLoss)}

    def advance(self, step: int, steps: int, epochs: int = 0) -> None:
        """Pass the position in the run on to every term that asks for it."""
        for term in self.terms.values():
            assert isinstance(term, Term)
            term.advance(step, steps, epochs)

    def prepare(self, pairs: Pairs, *, seed: int, say: Callable[[str], None]) -> None:
        """Pass the training pairs on to every term, once before training."""
        for term in self.terms.values():
            assert isinstance(term, Term)
            term.prepare(pairs, seed=seed, say=say)

    def containment(self) -> Containment | None:
        """The term that wants some items encoded a second time, if there is one."""
        return next((term for term in self.terms.values() if isinstance(term, Containment)), None)

    def describe(self) -> dict[str, Any]:
        """Term name -> weight."""
        return dict(self.weights)


def _said(rows: Rows | None, name: str) -> Rows:
    if rows is None:
        raise DataError(f"{name}: the batch does not say which training rows it holds; make it with model.batch(...)")
    return rows
