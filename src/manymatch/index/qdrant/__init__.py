"""A collection on a Qdrant server or cluster: proxies, payloads and embeddings lie there, the folder keeps the run.

Import it only where it is chosen: it needs the package qdrant-client, and says so.
"""

from .collection import QdrantCollection
from .server import connect

__all__ = ["QdrantCollection", "connect"]
