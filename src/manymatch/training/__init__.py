"""Room 10: the training config, one plain loop, and trained runs joined."""

from .config import TrainConfig, split_settings
from .joining import join
from .start import train

__all__ = ["TrainConfig", "join", "split_settings", "train"]
