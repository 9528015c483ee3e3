"""Room 10: the training config and one plain loop."""

from .config import TrainConfig, split_settings
from .start import train

__all__ = ["TrainConfig", "split_settings", "train"]
