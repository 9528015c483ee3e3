"""What the machine decides: the precision it is quick in, and what an interrupt does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .config import TrainConfig

__all__ = ["interruptible", "precision_of"]


def precision_of(config: TrainConfig, device: torch.device) -> str:
    """ "float32" or "bfloat16"; "auto" takes bfloat16 where the device multiplies it in hardware."""
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _cpu_multiplies_bfloat16() else "float32"


def _cpu_multiplies_bfloat16() -> bool:
    """True where the processor has bfloat16 dot products: without them the emulation is slower than float32."""
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(asked is not None and asked())


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """The first SIGINT sets the event and lets the step end; a second one breaks off at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
