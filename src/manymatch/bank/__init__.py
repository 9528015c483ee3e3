"""The query bank: training queries that say of every item how readily it scores high, whoever asks.

An item's bias is the mean of its k highest scores against the bank's queries of one modality, times alpha; ranking by
`score - bias` takes from items that score high with everything (hubs) what they get for nothing. That is nearest
neighbour normalisation (Chowdhury, Wu, Kosoy and Isola, EMNLP 2024), here with a similarity of any kind in the place of
the cosine. Raw scores stay what calibration, cut-off and ambiguity read.
"""

from .bank import ASKING, Asking, Bank, Setting
from .keys import item_keys, owner_keys
from .nearest import nearest, prefix_means
from .queries import Queries

__all__ = [
    "ASKING",
    "Asking",
    "Bank",
    "Queries",
    "Setting",
    "item_keys",
    "nearest",
    "owner_keys",
    "prefix_means",
]
