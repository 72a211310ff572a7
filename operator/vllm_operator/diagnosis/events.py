"""What kubelet says of a pod in its Events: why the containers cannot be started. Pure.

Of many different Events of one pod kubelet combines the later ones, and puts that before its words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_COMBINED: Final = "(combined from similar events): "
_RANDOM_ID: Final = re.compile(r"\"?\b[0-9a-f]{32,}\b\"?")
"""Ids of sandboxes, which differ from try to try."""

_MARGIN: Final = timedelta(seconds=5)
"""Kubelet's Event is some moments older than the status that it explains."""


_SET_UP: Final = frozenset(
    {
        "FailedMount",
        "FailedAttachVolume",
        "FailedMapVolume",
        "FailedCreatePodSandBox",
        "FailedPrepareDynamicResources",
        "NetworkNotReady",
    }
)
"""Reasons of the Events about what is made before a pod's containers (kubernetes pkg/kubelet/events)."""

_OF_AUTOSCALERS: Final = frozenset({"TriggeredScaleUp", "NotTriggerScaleUp", "FailedScaleUp", "Nominated"})
"""Reasons of the Events of the cluster autoscaler, and of Karpenter for a pod that it makes a node for."""
_KARPENTER: Final = "karpenter"
"""Who says with reason FailedScheduling, as the scheduler does, why it makes no node."""

_UNREAD_SECRETS: Final = frozenset({"FailedToRetrieveImagePullSecret"})
_SECRETS: Final = re.compile(r"image pull secrets \(([^)]{1,160})\)")
"""`Unable to retrieve some image pull secrets (a, b); attempting to pull the image may not succeed.`"""

_OF_PULL: Final = re.compile(r'Failed to pull image "[^"]*": ')
"""How the Event of reason Failed begins that tells why an image cannot be pulled. Older kubelets say it nowhere else
while they wait for the next pull."""


@dataclass(frozen=True, slots=True)
class KubeletMessage:
    """What stands in the way of a pod's containers, in kubelet's words: volumes, sandbox, network, image."""

    text: str
    missing_pull_secrets: str = ""
    """Names of the Secrets with a registry's credentials that it could not read; empty where it could."""

    @property
    def of_image(self) -> str:
        """Why an image cannot be pulled, as kubelet has it of the container; empty where it is about another thing."""
        found = _OF_PULL.match(self.text)
        return self.text[found.end() :] if found else ""


def latest_message(events: Sequence[Mapping[str, Any]], since: datetime) -> KubeletMessage | None:
    """The newest message in a pod's Events that is not older than the state that it shall explain."""
    found = [(_time(event), message) for event in events if (message := _message(event)) is not None]
    fresh = [(when, message) for when, message in found if when is not None and when >= since - _MARGIN]
    if not fresh:
        return None
    secrets = latest_event(events, _UNREAD_SECRETS)
    names = _SECRETS.search(str(secrets.get("message"))) if secrets else None
    newest = max(fresh, key=lambda one: one[0])[1]
    return replace(newest, missing_pull_secrets=names[1]) if names and newest.of_image else newest


def autoscaler_says(events: Iterable[Mapping[str, Any]], since: datetime) -> str:
    """What an autoscaler of nodes last said of a pod that has none, whether it makes one or why not; empty: nothing."""
    found = (event for event in events if (when := _time(event)) and when >= since - _MARGIN)
    ours = [event for event in found if event.get("reason") in _OF_AUTOSCALERS or _component(event) == _KARPENTER]
    newest = max(ours, key=lambda event: str(_time(event)), default={})
    return str(newest.get("message") or "")


def latest_event(events: Iterable[Mapping[str, Any]], reasons: frozenset[str]) -> Mapping[str, Any] | None:
    """The newest Event with one of these reasons; None where there is none."""
    found = [(when, event) for event in events if event.get("reason") in reasons and (when := _time(event))]
    return max(found, key=lambda one: one[0])[1] if found else None


def timestamp(text: str | None) -> datetime | None:
    """The moment that a time stamp of the API server means; None where there is none."""
    return datetime.fromisoformat(text) if text else None


def _message(event: Mapping[str, Any]) -> KubeletMessage | None:
    text = str(event.get("message") or "").removeprefix(_COMBINED)
    of_pull = event.get("reason") == "Failed" and _OF_PULL.match(text)
    if event.get("reason") not in _SET_UP and not of_pull:
        return None
    return KubeletMessage(_RANDOM_ID.sub("...", text))


def _component(event: Mapping[str, Any]) -> str:
    return str((event.get("source") or {}).get("component") or event.get("reportingComponent") or "")


def _time(event: Mapping[str, Any]) -> datetime | None:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((timestamp(str(text)) for text in times if text), None)
