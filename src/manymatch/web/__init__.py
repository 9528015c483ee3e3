"""Door: the search page and the API behind it."""
