"""What checks came to, for people and for programs. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_client.check.steps import CheckResult

WORDS = {True: "ok", False: "FAILED", None: "-"}
HEADS = ("CHECK", "RESULT", "SECONDS", "DETAIL")


def as_table(results: Sequence[CheckResult]) -> str:
    """A line for each check; the last column holds sentences and is as long as they are."""
    rows = [HEADS, *((one.name, WORDS[one.passed], f"{one.seconds:.3f}", one.detail) for one in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS) - 1)]
    lines = (
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )
    return "\n".join(lines)


def as_json(results: Sequence[CheckResult]) -> str:
    """A list of objects with the fields of CheckResult."""
    return json.dumps([asdict(result) for result in results])
