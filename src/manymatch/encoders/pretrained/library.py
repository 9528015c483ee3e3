"""The transformers library: imported when a pretrained network is, and silent."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import DataError

__all__ = ["building", "expect_finite", "library", "loaded", "quiet"]


def library(what: str) -> Any:
    """The transformers module. Raises DataError, beginning with `what`, where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise DataError(f'{what}: transformers is not installed; run pip install "manymatch[hf]"') from None
    return transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's advice, warnings and progress bars; how loud it was before is restored.

    Warnings of other modules stay: these may be of the user's own machine or code.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(transformers|huggingface_hub|tokenizers)\b")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Quiet, and without a trace in torch's random numbers: weights are read over those drawn here."""
    with quiet(), torch.random.fork_rng(devices=[]):
        yield


def expect_finite(network: nn.Module, where: str) -> None:
    """Raises DataError naming the first weight that holds NaN or infinity; a sum a weight, as quick as memory is."""
    with torch.inference_mode():
        for name, weight in network.named_parameters():
            # A sum may overflow where no number is infinite.
            if not torch.isfinite(weight.sum()) and not torch.isfinite(weight).all():
                raise DataError(f"{where}: weight {name.removeprefix('body.')!r} holds NaN or infinity; get it again")


def loaded(kind: Any, made: Any, given: Mapping[str, Tensor], settings: Mapping[str, Any], where: str) -> nn.Module:
    """A network of the library's with these weights, as float32; those that are float32 stay mapped from the disk.

    Args:
        kind: the library's class of network.
        made: its configuration.
        given: weights by name; those of a network's other half are left aside.
        settings: what the class is called with.
        where: the folder, for messages.

    Raises:
        DataError: a weight is missing or of another shape, or the configuration makes no network.
    """
    try:
        with building():
            # The library knows under which names its older versions saved what.
            body, told = kind.from_pretrained(
                None,
                config=made,
                state_dict=dict(given),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                **settings,
            )
    # Weights that do not fit a configuration are found by whatever fails first.
    except Exception as error:
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{where}: its weights do not fit config.json ({line})") from None
    if odd := sorted(told["mismatched_keys"]):
        name, shape, wanted = odd[0]
        raise DataError(
            f"{where}: weight {name!r} has shape {tuple(shape)}, expected {tuple(wanted)} as config.json says"
        )
    if missing := sorted(told["missing_keys"]):
        more = f" ({len(missing)} are)" if missing[1:] else ""
        raise DataError(f"{where}: weight {missing[0]!r} is missing{more}, expected those of config.json's network")
    out: nn.Module = body
    return out
