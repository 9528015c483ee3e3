"""Room 3: image and text towers, context inside one item, pooling, heads."""

from .base import Head, ImageTower, Locals, TextTower
from .heads import Mode, PointHead, SetHead, SlotAttention
from .images import FeatureTower, ImageInput, PixelTower, RegionProjector, SmallCNN, feature_blocks, look_at
from .linear import BagOfWords, LinearFeatures
from .pooling import max_mean_pool, max_pool, mean_pool
from .standardise import Standardise
from .texts import BiGRUTower, TextInput, read_at

__all__ = [
    "BagOfWords",
    "BiGRUTower",
    "FeatureTower",
    "Head",
    "ImageInput",
    "ImageTower",
    "LinearFeatures",
    "Locals",
    "Mode",
    "PixelTower",
    "PointHead",
    "RegionProjector",
    "SetHead",
    "SlotAttention",
    "SmallCNN",
    "Standardise",
    "TextInput",
    "TextTower",
    "feature_blocks",
    "look_at",
    "max_mean_pool",
    "max_pool",
    "mean_pool",
    "read_at",
]
