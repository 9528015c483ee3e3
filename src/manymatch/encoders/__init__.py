"""Room 3: image and text towers, context inside one item, pooling, heads."""

from .attention import Attention, attention_of_images, attention_of_texts
from .base import Head, ImageTower, Locals, Pool, TextTower
from .bert import BertTower
from .boxes import BoxHead
from .context import ContextPool, FragmentContext
from .element_gaussians import ElementGaussians
from .gaussians import GaussianHead, SampleHead, TokenGaussianHead
from .gpo import GPO
from .heads import PointHead, SetHead, SlotAttention
from .images import ImageInput, feature_blocks, look_at, split_tower
from .linear import BagOfWords, LinearFeatures
from .necks import MeanNeck, Neck, ProjectorNeck, RegionProjector
from .noise import key_of_floats, key_of_ids, keyed_normal
from .pie import LocalAttention, PIEHead, PIENet
from .pixels import BackboneTower, PixelTower, SmallCNN
from .pooling import (
    AttentionPool,
    LastPool,
    LeftToHead,
    MaxMeanPool,
    MaxPool,
    MeanPool,
    TopMeanPool,
    max_mean_pool,
    max_pool,
    mean_pool,
)
from .regions import FeatureTower
from .resnet import RESNETS, ResNet
from .standardise import Standardise
from .texts import BiGRUTower, TextInput, read_at
from .views import ViewsHead
from .word_drop import WordDrop

__all__ = [
    "GPO",
    "RESNETS",
    "Attention",
    "AttentionPool",
    "BackboneTower",
    "BagOfWords",
    "BertTower",
    "BiGRUTower",
    "BoxHead",
    "ContextPool",
    "ElementGaussians",
    "FeatureTower",
    "FragmentContext",
    "GaussianHead",
    "Head",
    "ImageInput",
    "ImageTower",
    "LastPool",
    "LeftToHead",
    "LinearFeatures",
    "LocalAttention",
    "Locals",
    "MaxMeanPool",
    "MaxPool",
    "MeanNeck",
    "MeanPool",
    "Neck",
    "PIEHead",
    "PIENet",
    "PixelTower",
    "PointHead",
    "Pool",
    "ProjectorNeck",
    "RegionProjector",
    "ResNet",
    "SampleHead",
    "SetHead",
    "SlotAttention",
    "SmallCNN",
    "Standardise",
    "TextInput",
    "TextTower",
    "TokenGaussianHead",
    "TopMeanPool",
    "ViewsHead",
    "WordDrop",
    "attention_of_images",
    "attention_of_texts",
    "feature_blocks",
    "key_of_floats",
    "key_of_ids",
    "keyed_normal",
    "look_at",
    "max_mean_pool",
    "max_pool",
    "mean_pool",
    "read_at",
    "split_tower",
]
