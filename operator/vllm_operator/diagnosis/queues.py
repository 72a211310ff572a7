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
"""How the reason of that condition begins where the pod has lost its place, such as `WorkloadEvictedDueToPreempted`."""


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


TAKEN: Final = "Kueue has taken "
"""How the sentence begins that tells of a pod that Kueue has taken away."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """A pod that Kueue has taken away."""

    pod: str
    at: str
    """When, as Kueue says it."""
    words: str
    """Why, in Kueue's words."""

    @property
    def sentence(self) -> str:
        """What to say of it, and what would help, where that is known."""
        known = diagnose(QUEUE, self.words)
        advice = f": {known.sentence}" if known else ""
        return f"{TAKEN}{self.pod} away at {self.at}: {quoted(self.words).rstrip('. ')}{advice}"


def last_eviction(pods: Iterable[Mapping[str, Any]], before: Eviction | None = None) -> Eviction | None:
    """The newest of the pods that Kueue has taken away; None where there is none, or one that came later serves.

    Such a pod is gone within moments, and nothing is left of it: so what was seen `before` stands until then.
    """
    present = list(pods)
    found = [one for one in map(_eviction, present) if one is not None]
    newest = max([*found, *([before] if before else [])], key=lambda one: one.at, default=None)
    if newest is None or any(_serves_since(pod, newest.at) for pod in present):
        return None
    return newest


def _eviction(pod: Mapping[str, Any]) -> Eviction | None:
    target = by_type(pod.get("status") or {}).get(_TAKEN_AWAY, {})
    if target.get("status") != "True" or not str(target.get("reason")).startswith(_EVICTED):
        return None
    at = str(target.get("lastTransitionTime") or "")
    return Eviction(str(pod["metadata"]["name"]), at, str(target.get("message") or _EVICTED))


def _serves_since(pod: Mapping[str, Any], stamp: str) -> bool:
    """Whether a pod takes traffic that was made after that time."""
    ready = by_type(pod.get("status") or {}).get("Ready", {}).get("status") == "True"
    return ready and str(pod["metadata"].get("creationTimestamp") or "") >= stamp and _eviction(pod) is None
