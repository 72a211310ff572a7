"""What a queue of Kueue says of a pod that it holds back, or takes away. Pure.

Kueue makes a Workload for each pod of a Deployment, and one for each group of a LeaderWorkerSet. The conditions of it
say what the pod waits for (kueue apis/kueue/v1beta2, workload_types.go); the pod itself has nothing but the gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import by_type
from vllm_operator.diagnosis.cause import quoted
from vllm_operator.diagnosis.outside import QUEUE, diagnose
from vllm_operator.render.untyped import items

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GATES: Final = frozenset({"kueue.x-k8s.io/admission", "kueue.x-k8s.io/topology"})
"""The scheduling gates of Kueue."""

POD_GROUP: Final = "kueue.x-k8s.io/pod-group-name"
"""Label of a pod of a group: the name of the group's Workload."""

JOB_UID: Final = "kueue.x-k8s.io/job-uid"
"""Label of a Workload: the uid of what it was made for, such as a single pod."""

GONE: Final = (
    "the API server knows no Workloads of Kueue, whose gate this is: nothing takes it off; delete the pod where Kueue "
    "is not to come back"
)
HIDDEN: Final = (
    "the operator may not read Workloads: look at `kubectl get workloads`, or give it the rights of its role of this "
    "version"
)
UNANSWERED: Final = "its Workload cannot be read now"
UNMADE: Final = "Kueue has made no Workload of it: see whether its controller runs (`kubectl get pods -n kueue-system`)"
_LEFT: Final = (
    "its Workload holds quota although it was evicted, and Kueue does not look at it again: delete the pod, another "
    "takes its place"
)
UNSEEN: Final = "it has not been looked at yet"

_TAKEN_AWAY: Final = "TerminationTarget"
"""Condition that Kueue gives a pod before it deletes it (pkg/controller/jobs/pod)."""
_EVICTED: Final = "WorkloadEvicted"
"""Reason of that condition where the pod has lost its place."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What is known of a pod that a queue holds back."""

    words: str = ""
    """Why it is not admitted, in Kueue's words; empty where Kueue has not said so."""
    remark: str = ""
    """What is to be said where there are no such words, as a clause; empty where nothing is."""
    evicted: str = ""
    """Why it lost its place before, in Kueue's words; empty where it had none."""


def admission_of(workload: Mapping[str, Any]) -> Admission:
    """What a Workload says of its pods."""
    status = workload.get("status") or {}
    conditions = by_type(status)
    evicted, reserved = conditions.get("Evicted", {}), conditions.get("QuotaReserved", {})
    why = str(evicted.get("message") or "") if evicted.get("status") == "True" else ""
    if (workload.get("spec") or {}).get("active") is False:
        return Admission("The workload is deactivated", evicted=why)
    if reserved.get("status") == "True" and why:  # kueue#14811: nothing gives the quota back, and nothing requeues it
        return Admission(remark=_LEFT, evicted=why)
    if reserved.get("status") == "True":
        pending = [_check(one) for one in items(status, "admissionChecks") if one.get("state") != "Ready"]
        return Admission(", ".join(pending), "" if pending else "it has admitted the pod, whose gate goes in a moment")
    words = str(reserved.get("message") or "")
    return Admission(words, "" if words else UNSEEN, why)


def _check(check: Mapping[str, Any]) -> str:
    message = f": {check['message']}" if check.get("message") else ""
    return f"admission check {check.get('name')} is {check.get('state')}{message}"


TAKES: Final = "Kueue takes "
"""How the sentence of a pod begins that Kueue is taking away."""


def evictions(pods: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Of each pod that Kueue is taking away, a sentence that says so."""
    return tuple(sentence for pod in pods if (sentence := _eviction(pod)))


def _eviction(pod: Mapping[str, Any]) -> str:
    target = by_type(pod.get("status") or {}).get(_TAKEN_AWAY, {})
    if target.get("status") != "True" or target.get("reason") != _EVICTED:
        return ""
    words = str(target.get("message") or _EVICTED)
    known = diagnose(QUEUE, words)
    advice = f": {known.sentence}" if known else ""
    return f"{TAKES}{pod['metadata']['name']} away: {quoted(words).rstrip('. ')}{advice}"
