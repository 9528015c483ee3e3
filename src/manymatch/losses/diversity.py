"""Keep the elements of a set apart (DivE: "uniformity" of the slot outputs before the global vector is added; PVSE)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..choices import check_choice
from ..embeddings import Encoded
from .base import Regulariser

__all__ = ["Diversity"]

Form = Literal["pairs", "gram"]


class Diversity(Regulariser):
    """Falls as the unit-length residuals e of a set part; mean over the items, image plus text.

        pairs:  mean over the k (k - 1) / 2 pairs of exp(-t |e_p - e_q|^2)     (DivE)
        gram:   |E E^T without its diagonal|_F / k^2                           (PVSE, section 3.3)

    Reads `residual (n, k, d)` of the set head. Zero for sets of one.

    Args:
        t: of "pairs", in units of one over squared distance; 2 in the authors' code.
        form: which of the two.

    Raises:
        UnknownName: another form.
    """

    def __init__(self, t: float = 2.0, *, form: Form = "pairs") -> None:
        super().__init__()
        check_choice("diversity form", form, Form)
        self.t, self.form = t, form

    def forward(self, images: Encoded, texts: Encoded) -> Tensor:
        return self._closeness(images.tensor("residual")) + self._closeness(texts.tensor("residual"))

    def _closeness(self, residual: Tensor) -> Tensor:
        k = residual.shape[1]
        if k == 1:
            return residual.new_zeros(())
        unit = functional.normalize(residual, dim=-1)
        if self.form == "gram":
            own = torch.eye(k, dtype=torch.bool, device=unit.device)
            gram = (unit @ unit.transpose(1, 2)).masked_fill(own, 0.0)
            return torch.linalg.vector_norm(gram, dim=(1, 2)).mean() / k**2
        p, q = torch.triu_indices(k, k, offset=1, device=residual.device)
        squared = (unit[:, p] - unit[:, q]).square().sum(-1)
        return torch.exp(-self.t * squared).mean()
