"""Which change of a model's status deserves a Kubernetes Event. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import ConditionType, Reason, by_type
from vllm_operator.diagnosis.queues import TAKEN
from vllm_operator.diagnosis.sameness import causes_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_ON_THE_WAY: Final = frozenset(
    {
        Reason.ENGINES_STARTING,
        Reason.ROLLING_OUT,
        Reason.ROLLOUT_PAUSED,
        Reason.SCALING,
        Reason.SCALED_TO_ZERO,
        Reason.SUSPENDED,
        Reason.CHILD_NOT_WRITTEN,
        Reason.ASLEEP,
        Reason.PAUSED,
        Reason.PREFETCHING,
    }
)
"""Reasons that come and go by themselves, or are what the user asked for."""

QUIET: Final = timedelta(minutes=5)
"""How long a cause is not told again of a model."""

MOST_EVENTS: Final = 6
"""Most Events about one model in that time, whatever happens to it."""

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

    A model that is ready again is news, and so is every cause that needs attention, also a new one under the same
    reason: another exit code, another node's trouble. The same cause in another pod is none.
    """
    before, after = (
        by_type(raw.get("status", {})).get(ConditionType.READY, {}),
        by_type(status).get(ConditionType.READY, {}),
    )
    ready = after["status"] == "True"
    if not ready and after["reason"] in _ON_THE_WAY:
        new = causes_in(after["message"]) - causes_in(before.get("message", ""))
        if any(cause.startswith(TAKEN) for cause in new):
            return _told(after, "Warning")
        return _news_of_some_engines(raw, status)
    same_reason = (before.get("status"), before.get("reason")) == (after["status"], after["reason"])
    if same_reason and (ready or causes_in(after["message"]) <= causes_in(before.get("message", ""))):
        return None
    calm = ready or after["reason"] == Reason.SCHEDULING_GATED  # what is to be known, and is no fault of the model's
    return _told(after, "Normal" if calm else "Warning")


def _news_of_some_engines(raw: Mapping[str, Any], status: Mapping[str, Any]) -> News | None:
    """What is wrong with engines while the reason of Ready is none to act on, such as a pause that was asked for."""
    before = by_type(raw.get("status", {})).get(ConditionType.DEGRADED, {})
    after = by_type(status).get(ConditionType.DEGRADED, {})
    known = causes_in(before.get("message", "")) if before.get("status") == "True" else frozenset()
    if after.get("status") != "True" or causes_in(after["message"]) <= known:
        return None
    return _told(after, "Warning")


def room_news(raw: Mapping[str, Any], status: Mapping[str, Any]) -> News | None:
    """That a model has turned out to have no room on its GPUs; None where that is not so, or was told before."""
    before, after = (by_type(one).get(ConditionType.FITS, {}) for one in (raw.get("status") or {}, status))
    if after.get("status") != "False" or before.get("status") == "False":
        return None
    return _told(after, "Warning")


def adapter_news(raw: Mapping[str, Any], status: Mapping[str, Any]) -> News | None:
    """That an engine cannot load an adapter; None where none fails, and where it was told before."""
    before, after = (by_type(one).get(ConditionType.ADAPTERS_LOADED, {}) for one in (raw.get("status") or {}, status))
    if after.get("reason") != Reason.ADAPTER_FAILS:
        return None
    known = causes_in(before.get("message", "")) if before.get("reason") == Reason.ADAPTER_FAILS else frozenset()
    return None if causes_in(after["message"]) <= known else _told(after, "Warning")


def _told(condition: Mapping[str, Any], kind: str) -> News:
    """What a condition says, as an Event of that type has it."""
    return News(kind, str(condition["reason"]), str(condition["message"])[:MAX_MESSAGE_LENGTH])


@dataclass(frozen=True, slots=True)
class EventHistory:
    """The Events about one model in the last minutes."""

    causes: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    """When an Event last told each reason and cause."""
    posted_at: tuple[datetime, ...] = ()

    def since(self, start: datetime) -> EventHistory:
        """What of it is newer."""
        causes = {what: when for what, when in self.causes.items() if when > start}
        return EventHistory(causes, tuple(when for when in self.posted_at if when > start))


NO_EVENTS: Final = EventHistory()
"""Nothing has been told."""


def is_due(news: News, history: EventHistory, now: datetime) -> bool:
    """Whether there shall be an Event of the news.

    A cause that comes and goes is told once in QUIET, and of ever new causes so many that the namespace does not fill.
    """
    recent = history.since(now - QUIET)
    return not _causes(news) <= recent.causes.keys() and len(recent.posted_at) < MOST_EVENTS


def after_event(news: News, history: EventHistory, now: datetime) -> EventHistory:
    """The history once an Event has told the news."""
    recent = history.since(now - QUIET)
    return EventHistory({**recent.causes, **dict.fromkeys(_causes(news), now)}, (*recent.posted_at, now))


def _causes(news: News) -> set[tuple[str, str]]:
    return {(news.reason, cause) for cause in causes_in(news.message)}
