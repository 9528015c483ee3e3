"""The client library, or one line that says how to get it."""

from ...errors import DataError

try:
    from qdrant_client import QdrantClient, models
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "qdrant_client":
        raise
    raise DataError(
        'engine qdrant: the package qdrant-client is not installed; pip install "manymatch[qdrant]"'
    ) from None

__all__ = ["QdrantClient", "ResourceExhaustedResponse", "ResponseHandlingException", "UnexpectedResponse", "models"]
