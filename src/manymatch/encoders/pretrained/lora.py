"""LoRA: small matrices beside a network's own learn, its own stay.

Hu et al. LoRA: Low-Rank Adaptation of Large Language Models. ICLR 2022. As the `peft` library puts it in.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from ...errors import DataError
from .rates import blocks_of

__all__ = ["adapt", "is_own"]

_MARK = "lora_"


def adapt(network: nn.Module, *, rank: int) -> None:
    """Put matrices of this rank beside every linear map of a network's layers, of attention and of MLP.

    They begin so that nothing changes, their product counts twice, and all that was there before is frozen.

    Raises:
        DataError: peft is not installed, or the network has no layers of linear maps.
    """
    stack, blocks = blocks_of(network) or ("", nn.ModuleList())
    names = [f"{stack}.{name}" for name, module in blocks.named_modules() if type(module) is nn.Linear]
    if not names:
        raise DataError("lora: the network has no linear maps in layers; tune it whole (tuned), or leave it frozen")
    library = _library()
    with warnings.catch_warnings():
        # What it advises on are ways of saving that are not used here.
        warnings.filterwarnings("ignore", module=r"peft\.")
        settings = library.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, bias="none", target_modules=names)
        library.inject_adapter_in_model(settings, network)


def is_own(name: str) -> bool:
    """Whether a weight of an adapted network is of the matrices, and not borrowed from the network."""
    return any(part.startswith(_MARK) for part in name.split("."))


def _library() -> Any:
    try:
        import peft
    except ImportError:
        raise DataError('lora: peft is not installed; run pip install "manymatch[lora]"') from None
    return peft
