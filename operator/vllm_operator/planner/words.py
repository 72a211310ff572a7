"""What kubelet says of an engine's probes in the pod's Events: the gate's own words. Pure.

Kubelet's wording is that of its prober (pkg/kubelet/prober/prober.go): "Readiness probe failed: " and what the program
printed, or "... probe errored" where the program could not be run at all, which is no verdict. Of many different Events
of one pod kubelet combines the later ones, and puts that before its words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PROBE: Final = re.compile(
    r"(?:\(combined from similar events\): )?(?P<probe>Startup|Readiness|Liveness) probe "
    r"(?P<how>failed|errored)[^:]*: (?P<text>.*)",
    re.DOTALL,
)
_DURATION: Final = re.compile(r" for \d+ s\b")
_START: Final = "unable to start container process: "
"""Before runc's own words; what containerd puts before them says nothing more."""

_EXEC_ID: Final = re.compile(r"\"?\b[0-9a-f]{32,}\b\"?")
_UNMOUNTED: Final = "FailedMount"
_MARGIN: Final = timedelta(seconds=5)
"""Kubelet's Event is some moments older than the status that it explains."""


class Topic(StrEnum):
    """What the words are about."""

    STARTUP = "Startup"
    """The probe that admits an engine has failed."""
    READINESS = "Readiness"
    """The probe that withdraws an engine has failed."""
    ERRORED = "errored"
    """A probe could not be run."""
    UNMOUNTED = "unmounted"
    """The pod's volumes are not there, so its containers do not start."""


@dataclass(frozen=True, slots=True)
class Words:
    """The last that was said about one of these."""

    topic: Topic
    text: str


def last_words(events: Iterable[Mapping[str, Any]], since: datetime) -> Words | None:
    """The newest words in a pod's Events that are not older than what they shall explain."""
    found = [(_time(event), words) for event in events if (words := _words(event)) is not None]
    fresh = [(when, words) for when, words in found if when is not None and when >= since - _MARGIN]
    return max(fresh, key=lambda one: one[0])[1] if fresh else None


def moment(text: str | None) -> datetime | None:
    """A time stamp of the API server; None where there is none."""
    return datetime.fromisoformat(text) if text else None


def _words(event: Mapping[str, Any]) -> Words | None:
    message = str(event.get("message", ""))
    if event.get("reason") == _UNMOUNTED:
        return Words(Topic.UNMOUNTED, message)
    match = _PROBE.match(message)
    if match is None:
        return None
    if match["how"] == "errored":
        return Words(Topic.ERRORED, _EXEC_ID.sub("...", match["text"].rpartition(_START)[2].strip()))
    if match["probe"] not in (Topic.STARTUP, Topic.READINESS):
        return None  # what the liveness probe finds, the readiness probe has found before
    # the age of a suspicion grows with every run, as each run has an id: told, the status would change by itself
    return Words(Topic(match["probe"]), _DURATION.sub("", match["text"].strip()))


def _time(event: Mapping[str, Any]) -> datetime | None:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((moment(str(text)) for text in times if text), None)
