"""How soon a status may follow the one before it. Pure.

One edit moves a Deployment, its ReplicaSets and its pods several times within a second, and each of these moves is an
event. What lasts is told; what is over in a moment costs no write. What somebody waits for is never held back: the
first status of an edit, and a condition that changes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import by_type

if TYPE_CHECKING:
    from collections.abc import Mapping

PAUSE: Final = timedelta(seconds=1)
"""Between two statuses of one generation of which only words and numbers differ."""


def told_again_at(
    before: Mapping[str, Any], status: Mapping[str, Any], told_at: datetime | None, now: datetime
) -> datetime | None:
    """When to tell a new status; None for now. `told_at` is when the one before was, where this process told it."""
    if told_at is None or not told_at <= now < told_at + PAUSE or _milestones(before) != _milestones(status):
        return None
    return told_at + PAUSE


def _milestones(status: Mapping[str, Any]) -> tuple[Any, ...]:
    """What people and programs wait for: which generation was judged, and each condition."""
    told = {kind: condition["status"] for kind, condition in by_type(status).items()}
    return status.get("observedGeneration"), told
