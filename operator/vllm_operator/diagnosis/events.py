"""What kubelet says of an engine in the Events of its pod, most often the result of a probe in the gate's words. Pure.

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

from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PROBE: Final = re.compile(
    r"(?P<probe>Startup|Readiness|Liveness) probe "
    r"(?P<how>failed|errored)[^:]*: (?P<text>.*)",
    re.DOTALL,
)
_COMBINED: Final = "(combined from similar events): "
_DURATION: Final = re.compile(r" for \d+ s\b")
_START: Final = "unable to start container process: "
"""Before runc's own words; what containerd puts before them says nothing more."""

_EXEC_ID: Final = re.compile(r"\"?\b[0-9a-f]{32,}\b\"?")
_MARGIN: Final = timedelta(seconds=5)
"""Kubelet's Event is some moments older than the status that it explains."""


class MessageKind(StrEnum):
    """What a message of kubelet's is about."""

    STARTUP = "Startup"
    """The probe that admits an engine has failed."""
    READINESS = "Readiness"
    """The probe that withdraws an engine has failed."""
    ERRORED = "errored"
    """A probe could not be run."""
    UNMOUNTED = "unmounted"
    """The pod's volumes are not there, so its containers do not start."""
    NO_SANDBOX = "no sandbox"
    """The pod's sandbox cannot be made, most often because of its network, so its containers do not start."""


_SET_UP: Final = {
    "FailedMount": MessageKind.UNMOUNTED,
    "FailedAttachVolume": MessageKind.UNMOUNTED,
    "FailedMapVolume": MessageKind.UNMOUNTED,
    "FailedCreatePodSandBox": MessageKind.NO_SANDBOX,
    "NetworkNotReady": MessageKind.NO_SANDBOX,
}
"""Reasons of the Events about what is made before a pod's containers (kubernetes pkg/kubelet/events)."""


@dataclass(frozen=True, slots=True)
class KubeletMessage:
    """One message of kubelet's about a pod."""

    kind: MessageKind
    text: str


def latest_message(events: Iterable[Mapping[str, Any]], since: datetime) -> KubeletMessage | None:
    """The newest message in a pod's Events that is not older than the state that it shall explain."""
    found = [(_time(event), message) for event in events if (message := _message(event)) is not None]
    fresh = [(when, message) for when, message in found if when is not None and when >= since - _MARGIN]
    return max(fresh, key=lambda one: one[0])[1] if fresh else None


def timestamp(text: str | None) -> datetime | None:
    """The moment that a time stamp of the API server means; None where there is none."""
    return datetime.fromisoformat(text) if text else None


def _message(event: Mapping[str, Any]) -> KubeletMessage | None:
    text = str(event.get("message", "")).removeprefix(_COMBINED)
    kind = _SET_UP.get(event.get("reason", ""))
    if kind is not None:
        return KubeletMessage(kind, _EXEC_ID.sub("...", text))
    match = _PROBE.match(text)
    if match is None or not _is_of_the_engine(event):
        return None
    if match["how"] == "errored":
        return KubeletMessage(MessageKind.ERRORED, _EXEC_ID.sub("...", match["text"].rpartition(_START)[2].strip()))
    if match["probe"] not in (MessageKind.STARTUP, MessageKind.READINESS):
        return None  # what the liveness probe finds, the readiness probe has found before
    # the age of a suspicion grows with every run, as each run has an id: told, the status would change by itself
    return KubeletMessage(MessageKind(match["probe"]), _DURATION.sub("", match["text"].strip()))


def _is_of_the_engine(event: Mapping[str, Any]) -> bool:
    """Whether an Event is about the engine's container; a sidecar may have probes of its own."""
    path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
    return path in ("", f"spec.containers{{{CONTAINER_NAME}}}")


def _time(event: Mapping[str, Any]) -> datetime | None:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((timestamp(str(text)) for text in times if text), None)
