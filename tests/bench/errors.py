"""What the benchmark raises."""

from __future__ import annotations


class BenchError(Exception):
    """A phase did not come to its end; the message says which, and where to look."""
