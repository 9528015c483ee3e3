"""Room 12: a page on what runs do: tables, curves, queries and what was found, in one file to send to a colleague."""

from .page import write_report

__all__ = ["write_report"]
