"""The same said with fewer words: a caption with some of its words left out is true of at least as many pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .text import Tokenizer

__all__ = ["shortened"]

_WORDS = Tokenizer(longest=0)


def shortened(text: str, shares: Sequence[float], draw: np.random.Generator) -> list[str]:
    """The text with only these shares of its words left, at least one of them, in their order.

    Of two shares the words of the smaller are among those of the larger, so equal numbers of words give equal texts.

    Args:
        text: of any script.
        shares: in (0, 1].
        draw: which words stay.
    """
    words = _WORDS.words(text)
    order = draw.permutation(len(words))
    kept = (np.sort(order[: max(1, round(share * len(words)))]) for share in shares)
    return [" ".join(words[n] for n in some) for some in kept]
