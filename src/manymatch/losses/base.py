"""What a loss sees, and the named sum that training minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..embeddings import Embedding, Encoded
from ..errors import DataError
from ..similarity import Similarity

__all__ = ["Objective", "Regulariser", "Rescored", "ScoreLoss", "Scores", "Term", "require_positives", "score"]


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


class ScoreLoss(Term):
    """A term `(scores, matches (i, c) bool) -> scalar`. Raises DataError when a batch has no match at all."""

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        raise NotImplementedError


class Regulariser(Term):
    """A term `(images: Encoded, texts: Encoded) -> scalar`."""

    def forward(self, images: Encoded, texts: Encoded) -> Tensor:
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
    """The named, weighted sum of score losses, rescored losses and regularisers.

    Args:
        terms: name -> (weight, term).
    """

    def __init__(self, terms: Mapping[str, tuple[float, Term]]) -> None:
        super().__init__()
        self.weights = {name: float(weight) for name, (weight, _) in terms.items() if weight}
        self.terms = nn.ModuleDict({name: term for name, (weight, term) in terms.items() if weight})

    def forward(self, scores: Scores, matches: Tensor, images: Encoded, texts: Encoded) -> dict[str, Tensor]:
        """Each term by name, unweighted, and their weighted sum as `loss`."""
        out: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            if isinstance(term, ScoreLoss):
                out[name] = term(scores, matches)
            elif isinstance(term, Rescored):
                out[name] = term(images, texts, matches)
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

    def describe(self) -> dict[str, Any]:
        """Term name -> weight."""
        return dict(self.weights)
