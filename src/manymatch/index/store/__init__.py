"""The truth of an index: one SQLite file, what may be asked of it and what may be changed in it."""
