"""What the driver raises."""

from __future__ import annotations


class ClusterError(Exception):
    """The test cluster cannot do what was asked; the message names the cause and the next step."""
