"""What a client pod of the demo has found out of products, read from its log."""

from __future__ import annotations

import json

from examples.extraction import Attributes


def read(log: str) -> dict[str, Attributes]:
    """What examples/extraction.py has printed, by product.

    The log also has what the client warns of, which is on the other stream: an engine that took long to answer, say.
    """
    found = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {one["product"]: Attributes(**one["attributes"]) for one in found}
