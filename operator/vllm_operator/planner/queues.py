"""When a model may change its queue, as Kueue has it, and what is told until then. Pure.

Kueue's webhooks refuse a write of a Deployment that names another queue while an engine of it is ready, and one that
names none after it had one, ever; of a LeaderWorkerSet any of them (kueue pkg/controller/jobs/deployment and
leaderworkerset, ValidateUpdate). Such a write would hold back every other change of the spec with it. So the queue of
before stays where it is until it may change, and a warning tells what to do.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import groups
from vllm_operator.api.names import QUEUE
from vllm_operator.diagnosis.events import timestamp
from vllm_operator.render.objects import hashed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

_DEFAULT: Final = "default"
"""The LocalQueue into which Kueue puts by itself what names none."""

_FINALIZER: Final = "kueue.x-k8s.io/managed"
_PATIENCE: Final = timedelta(seconds=60)
"""How long after its grace period a pod may stay: kubelet is late at times."""
_MOST_TOLD: Final = 3

_MARK: Final = "kueue.x-k8s.io/pod-suspending-parent"
"""Annotation that Kueue's webhooks give a pod template, by which the pods are gated."""


def with_queue(desired: Mapping[str, Any], live: Mapping[str, Any] | None, *, kueue: bool) -> Mapping[str, Any]:
    """What makes engines, in the queue in which it has to be for now.

    Args:
        desired: The Deployment or the LeaderWorkerSet as the spec has it.
        live: The object of this name as it is; None where there is none.
        kueue: Whether Kueue is known to be there; where it has come lately, its marks show it.
    """
    if live is None or not _has_to_stay(desired, live, kueue=kueue):
        return desired
    labels = {name: value for name, value in desired["metadata"]["labels"].items() if name != QUEUE}
    if before := _queue(live):
        labels[QUEUE] = before
    return hashed({**desired, "metadata": {**desired["metadata"], "labels": labels}})


def warning(wanted: str | None, live: Mapping[str, Any] | None, desired: Mapping[str, Any]) -> str:
    """What keeps a model from the queue that its spec names, and what to do; empty where nothing does.

    Args:
        wanted: `spec.scheduling.queueName`.
        live: What makes the engines, as it is.
        desired: The same as it shall be now.
    """
    stays = _queue(desired)
    if live is None or stays == (wanted or ""):
        return ""
    kind = str(live["kind"])
    where = f"the engines stay in LocalQueue {stays}" if stays else "the engines stay in no queue"
    if kind == groups.KIND or not wanted:
        remedy = f"`kubectl delete {kind.lower()} {live['metadata']['name']}` ends them, and the operator makes it anew"
        return f"spec.scheduling.queueName: {where}, since Kueue lets no {kind} change it so: {remedy}"
    return (
        f"spec.scheduling.queueName: {where}, since Kueue lets it change only while none of them is ready: set "
        "spec.suspend to true, and to false again once they have gone"
    )


def held_ends(pods: Iterable[Mapping[str, Any]], now: datetime) -> tuple[list[str], datetime | None]:
    """Warnings of pods that have ended and stay for Kueue alone, and when more of them may have to be told.

    Their finalizer is taken off by Kueue; where it does not run, or has lost them (kueue#13830), nobody does.
    """
    leaving = [pod["metadata"] for pod in pods if _FINALIZER in (pod["metadata"].get("finalizers") or ())]
    due = {one["name"]: end + _PATIENCE for one in leaving if (end := timestamp(one.get("deletionTimestamp")))}
    stuck = sorted(name for name, when in due.items() if when <= now)
    warnings = [
        f"{name} has ended and stays, held by Kueue's finalizer {_FINALIZER}: see whether Kueue runs, and if not, "
        f'`kubectl patch pod {name} --type merge -p \'{{"metadata": {{"finalizers": null}}}}\'`'
        for name in stuck[:_MOST_TOLD]
    ]
    return warnings, min((when for when in due.values() if when > now), default=None)


def _has_to_stay(desired: Mapping[str, Any], live: Mapping[str, Any], *, kueue: bool) -> bool:
    before, wanted = _queue(live), _queue(desired)
    if not (kueue or _is_marked(live)) or before == wanted or (before == _DEFAULT and not wanted):
        return False
    never = live["kind"] == groups.KIND or not wanted
    return never or bool((live.get("status") or {}).get("readyReplicas"))


def _is_marked(live: Mapping[str, Any]) -> bool:
    """Whether Kueue's webhook has had its hands on what makes the pods."""
    spec = live.get("spec") or {}
    template = spec.get("template") or (spec.get("leaderWorkerTemplate") or {}).get("workerTemplate") or {}
    return _MARK in ((template.get("metadata") or {}).get("annotations") or {})


def _queue(body: Mapping[str, Any]) -> str:
    return str((body["metadata"].get("labels") or {}).get(QUEUE) or "")
