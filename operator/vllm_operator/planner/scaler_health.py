"""How a model's own autoscaler does, out of what it, KEDA and Kubernetes say in their objects. Pure.

A ScaledObject is `Ready` once KEDA understands it, whether or not it has metrics (KEDA 2.21; before, both were one). So
the HorizontalPodAutoscaler is read that KEDA makes of it: it stands still where its metrics cannot be had, as when
another server has taken the API of external metrics (kedacore/keda#6475). It carries the labels of its ScaledObject, so
that it is among the model's objects though it has another owner.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import by_type
from vllm_operator.render.autoscaling import AUTOSCALER, SCALED_OBJECT
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.planner.plan import Observation

PATIENCE: Final = timedelta(seconds=60)
"""So long may KEDA take to say something of a new ScaledObject, and to let one go that is deleted."""

_PAUSES: Final = "autoscaling.keda.sh/paused"
"""How the annotations begin by which people pause a ScaledObject (KEDA, "Pausing autoscaling")."""

_LONGEST_QUOTE: Final = 512
_NO_ENGINE: Final = "ScalingDisabled"
"""Reason of a HorizontalPodAutoscaler that leaves 0 replicas alone: KEDA brings the first one back itself."""


def fault(live: LiveObject, observation: Observation) -> str:
    """Why an autoscaler does not work, in its own words; empty where it works, or has not said anything yet."""
    if live.kind == AUTOSCALER:
        return _without_metrics(live)
    told = by_type(live.status)
    ready, fallback = told.get("Ready", {}), told.get("Fallback", {})
    if ready.get("status") == "False":
        return _quoted(ready)
    if fallback.get("status") == "True":
        return (
            "it has no metrics, and keeps the engines that there are, and at least "
            f"{part(live.body, 'spec', 'fallback').get('replicas', 1)} ({_quoted(fallback)}): {_question(live)}"
        )
    made = next(_made_of(live, observation), None)
    words = _without_metrics(made) if made is not None else ""
    return f"{words}: {_question(live)}" if words else ""


def paused(live: LiveObject) -> str:
    """Who has told the autoscaler to leave the number alone, and how to take that back; empty where nobody has.

    The annotations count: KEDA 2.21 was seen to leave its condition `Paused` at True after they were gone.
    """
    written = part(live.body, "metadata", "annotations")
    annotations = sorted(name for name in written if name.startswith(_PAUSES) and written[name].lower() != "false")
    if not annotations:
        return ""
    words = " ".join(f"{name}-" for name in annotations)
    return (
        f"{live.kind} {live.name} is paused by {', '.join(annotations)}: "
        f"`kubectl annotate {live.kind.lower()} {live.name} {words}` has it scale again"
    )


def silence(live: LiveObject, now: datetime) -> str:
    """What there is to tell of a ScaledObject that KEDA has not taken up; empty where it has, or may still."""
    if live.kind != SCALED_OBJECT or live.leaving or live.status.get("conditions"):
        return ""
    if not _is_over(live, "creationTimestamp", now):
        return ""
    return (
        "KEDA says nothing of it: does its operator run (`kubectl get deployments -A -l app=keda-operator`), and does "
        "it follow this namespace?"
    )


def held(live: LiveObject, now: datetime) -> str:
    """What there is to tell of an autoscaler that was deleted and stays; empty where there is nothing.

    KEDA lets its objects go itself, so that those are left over, and hold their namespace and KEDA's own definitions,
    which were there when KEDA was removed (kedacore/keda#1470, #4898).
    """
    finalizers = ", ".join(part(live.body, "metadata").get("finalizers") or ())
    if not live.leaving or not finalizers or not _is_over(live, "deletionTimestamp", now):
        return ""
    patch = """'{"metadata": {"finalizers": null}}'"""
    return (
        f"{live.kind} {live.name} is deleted and stays, held by {finalizers}: KEDA lets it go as soon as it runs. If "
        f"it is gone for good, `kubectl patch {live.kind.lower()} {live.name} --type=merge --patch {patch}` does"
    )


def look_again_at(observation: Observation) -> datetime | None:
    """When something is to be told of an autoscaler that no watch reports: nothing will have come of it by then."""
    live = [one for one in observation.children.values() if one.kind == SCALED_OBJECT]
    times = [_over(one, "deletionTimestamp" if one.leaving else "creationTimestamp") for one in live]
    return min((time for time in times if time is not None and time > observation.now), default=None)


def _made_of(live: LiveObject, observation: Observation) -> Iterator[LiveObject]:
    """The HorizontalPodAutoscaler that KEDA has made of a ScaledObject."""
    for one in observation.children.values():
        if one.kind == AUTOSCALER and one.controller is not None and one.controller.uid == live.uid:
            yield one


def _without_metrics(live: LiveObject) -> str:
    """What a HorizontalPodAutoscaler says that does not scale."""
    told = by_type(live.status).get("ScalingActive", {})
    stands = told.get("status") == "False" and told.get("reason") != _NO_ENGINE
    return _quoted(told) if stands else ""


def _question(live: LiveObject) -> str:
    """What to look at where KEDA has no metrics: what it says itself names neither the address nor the error."""
    return f"does {_prometheus(live)} answer KEDA, and has it metrics of these engines?"


def _prometheus(live: LiveObject) -> str:
    addresses = (part(one, "metadata").get("serverAddress") for one in items(live.body, "spec", "triggers"))
    return str(next(addresses, None) or "its Prometheus")


def _quoted(told: Mapping[str, Any]) -> str:
    return f"{told.get('reason', '')}: {told.get('message', '')}"[:_LONGEST_QUOTE]


def _over(live: LiveObject, name: str) -> datetime | None:
    """When KEDA has had its time since a moment in an object's metadata; None where that is not there."""
    text = part(live.body, "metadata").get(name)
    return datetime.fromisoformat(text) + PATIENCE if text else None


def _is_over(live: LiveObject, name: str, now: datetime) -> bool:
    end = _over(live, name)
    return end is not None and now >= end
