"""Looking after an index: checking, mending and compacting it."""
