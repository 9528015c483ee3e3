"""Layer-wise learning rates: what lies deeper in a pretrained network moves less.

Howard and Ruder. Universal Language Model Fine-tuning for Text Classification. ACL 2018, section 3.2 (discriminative
fine-tuning); with one factor from layer to layer as in ELECTRA (Clark et al., ICLR 2020).
"""

from __future__ import annotations

from torch import nn

__all__ = ["blocks_of", "layer_rates"]


def blocks_of(network: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """The stack of a network's layers and its name: of its lists of modules the one with most numbers."""
    lists = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=lambda pair: sum(p.numel() for p in pair[1].parameters()), default=None)


def layer_rates(network: nn.Module, *, rate: float, decay: float) -> dict[str, float]:
    """Start of a parameter's name -> factor on the learning rate, for every parameter.

    The last layer and what comes after it have `rate`; each layer before it `decay` times the one after; what comes
    before the first, as words and patches, once more `decay` times the first.
    """
    found = blocks_of(network)
    if found is None:
        return {name: rate for name, _ in network.named_parameters()}
    stack, blocks = found
    out = {f"{stack}.{n}.": rate * decay ** (len(blocks) - 1 - n) for n in range(len(blocks))}
    factor = rate * decay ** len(blocks)
    # Networks name their parts in the order they are passed through.
    for name, _ in network.named_parameters():
        if name.startswith(f"{stack}."):
            factor = rate
        else:
            out[name] = factor
    return out
