"""manymatch: image-text retrieval where one query has many right answers.

The public names below are resolved on first use, so importing the package loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Boxes": "embeddings",
    "Client": "web.client",
    "Error": "errors",
    "Features": "data.features",
    "Fragments": "embeddings",
    "GaussianSets": "embeddings",
    "Gaussians": "embeddings",
    "Index": "index",
    "Model": "methods",
    "Pairs": "data.pairs",
    "Pixels": "data.features",
    "Points": "embeddings",
    "Samples": "embeddings",
    "Sets": "embeddings",
    "TrainConfig": "training",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "import_checkpoint": "runs",
    "join": "training",
    "load": "runs",
    "method": "methods",
    "methods_table": "methods",
    "train": "training",
    "write_report": "report",
}

__all__ = [*_PUBLIC, "__version__"]

if TYPE_CHECKING:
    from .data.features import Features as Features
    from .data.features import Pixels as Pixels
    from .data.pairs import Pairs as Pairs
    from .embeddings import Boxes as Boxes
    from .embeddings import Fragments as Fragments
    from .embeddings import Gaussians as Gaussians
    from .embeddings import GaussianSets as GaussianSets
    from .embeddings import Points as Points
    from .embeddings import Samples as Samples
    from .embeddings import Sets as Sets
    from .errors import Error as Error
    from .evaluation import compare as compare
    from .evaluation import evaluate as evaluate
    from .index import Index as Index
    from .methods import Model as Model
    from .methods import method as method
    from .methods import methods_table as methods_table
    from .report import write_report as write_report
    from .runs import import_checkpoint as import_checkpoint
    from .runs import load as load
    from .training import TrainConfig as TrainConfig
    from .training import join as join
    from .training import train as train
    from .web.client import Client as Client


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'manymatch' has no attribute {name!r}")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
