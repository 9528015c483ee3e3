"""Room 10: the training config and one plain loop."""

from .config import TrainConfig, split_settings
from .loop import train

__all__ = ["TrainConfig", "split_settings", "train"]
