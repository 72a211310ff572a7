"""Which change of a model's status deserves a Kubernetes Event. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import ConditionType, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

_ON_THE_WAY: Final = frozenset(
    {
        Reason.ENGINES_STARTING,
        Reason.ROLLING_OUT,
        Reason.SCALING,
        Reason.SCALED_TO_ZERO,
        Reason.CHILD_NOT_WRITTEN,
        Reason.SCHEDULING_GATED,
    }
)
"""Reasons that come and go by themselves, or are what the user asked for."""

MAX_MESSAGE_LENGTH: Final = 1024
"""The API server takes no longer message of an Event."""


@dataclass(frozen=True, slots=True)
class News:
    """What an Event says."""

    type: str
    """Normal or Warning."""
    reason: str
    message: str


def news_of(raw: Mapping[str, Any], status: Mapping[str, Any]) -> News | None:
    """What a new status of a model says that the one before did not; None where nobody has to be told.

    A model that is ready again is news, and so is every cause that needs attention.
    """
    before, after = _ready(raw.get("status", {})), _ready(status)
    if (before.get("status"), before.get("reason")) == (after["status"], after["reason"]):
        return None
    if after["status"] != "True" and after["reason"] in _ON_THE_WAY:
        return None
    kind = "Normal" if after["status"] == "True" else "Warning"
    return News(kind, str(after["reason"]), str(after["message"])[:MAX_MESSAGE_LENGTH])


def _ready(status: Mapping[str, Any]) -> Mapping[str, Any]:
    found = (one for one in status.get("conditions", []) if one["type"] == ConditionType.READY)
    return next(found, {})
