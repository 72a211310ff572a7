"""What is told of engines in a queue: by their Workload, and by what Kueue writes into a pod that it takes away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import NOW, pod
from vllm_operator.api.conditions import Reason
from vllm_operator.diagnosis.cause import EngineState, Lookup
from vllm_operator.diagnosis.engines import needed_lookup, report
from vllm_operator.diagnosis.fleet import judge, observed
from vllm_operator.diagnosis.queues import HIDDEN, UNSEEN, Admission, Eviction, admission_of, last_eviction

REASON = "WorkloadEvictedDueToPreempted"
GATE = "kueue.x-k8s.io/admission"
GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "non-empty gates"}
FULL = (
    "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor default, 1 more "
    "needed"
)
STUCK = (
    "its Workload holds quota although it was evicted, and Kueue does not look at it again: delete the pod, another "
    "takes its place"
)
TOO_SMALL = (
    "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor default, previously "
    "considered podsets requests (0) + current podset request (2) > maximum capacity (1)"
)


def queued(gate: str = GATE, queue: str = "gpus") -> dict[str, Any]:
    """A pod that a queue holds back."""
    found = pod(conditions=(GATED,), containerStatuses=[])
    labels = {**found["metadata"].get("labels", {}), "kueue.x-k8s.io/queue-name": queue}
    metadata = {**found["metadata"], "creationTimestamp": "2026-11-22T11:55:30Z", "labels": labels}
    return {**found, "spec": {"schedulingGates": [{"name": gate}]}, "metadata": metadata}


def condition(kind: str, status: str, message: str = "", reason: str = "") -> dict[str, Any]:
    """A condition of a Workload."""
    return {"type": kind, "status": status, "message": message, "reason": reason}


def workload(*conditions: dict[str, Any], active: bool = True, **status: Any) -> dict[str, Any]:
    """A Workload."""
    return {"spec": {"active": active}, "status": {"conditions": list(conditions), **status}}


@pytest.mark.parametrize(
    ("found", "admission"),
    [
        (workload(condition("QuotaReserved", "False", FULL)), Admission(FULL)),
        (workload(), Admission(remark=UNSEEN)),
        ({}, Admission(remark=UNSEEN)),
        (workload(condition("QuotaReserved", "False", FULL), active=False), Admission("The workload is deactivated")),
        (
            workload(condition("QuotaReserved", "True"), condition("Admitted", "True")),
            Admission(remark="it has admitted the pod, whose gate goes in a moment"),
        ),
        (
            workload(
                condition("QuotaReserved", "True"),
                admissionChecks=[{"name": "nodes", "state": "Pending", "message": "no capacity"}, {"state": "Ready"}],
            ),
            Admission("admission check nodes is Pending: no capacity"),
        ),
        (
            workload(condition("QuotaReserved", "False", FULL), condition("Evicted", "True", "Preempted to make room")),
            Admission(FULL, evicted="Preempted to make room"),
        ),
        (
            workload(
                condition("QuotaReserved", "True"), condition("Evicted", "True", "Exceeded the PodsReady timeout")
            ),
            Admission(remark=STUCK, evicted="Exceeded the PodsReady timeout"),
        ),
        (
            workload(condition("QuotaReserved", "False", FULL), condition("Evicted", "False", "Previously: gone")),
            Admission(FULL),
        ),
    ],
)
def test_a_workload_says_what_its_pods_wait_for(found: dict[str, Any], admission: Admission) -> None:
    assert admission_of(found) == admission


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (FULL, "suspend or delete a model of the queue, or raise nominalQuota"),
        (TOO_SMALL, "asks for more nvidia.com/gpu than its queue ever has (1): ask for less"),
        ("LocalQueue gpus doesn't exist", "make it, or correct spec.scheduling.queueName"),
        ("LocalQueue  doesn't exist", "set spec.scheduling.queueName to a LocalQueue of this namespace"),
        ("ClusterQueue team-gpus is inactive", "ClusterQueue team-gpus admits nothing: it is stopped"),
        (
            "couldn't assign flavors to pod set main: resource cpu unavailable in ClusterQueue",
            "excludeResourcePrefixes",
        ),
        ("The workload is deactivated", "waitForPodsReady.timeout"),
    ],
)
def test_queue_its_words_and_the_remedy_are_told(words: str, remedy: str) -> None:
    told = report(queued(), Admission(words), now=NOW)
    assert (told.state, told.reason) == (EngineState.STARTING, Reason.SCHEDULING_GATED)
    assert f"by scheduling gate {GATE}: LocalQueue gpus says: {' '.join(words.split())}: " in told.sentence
    assert remedy in told.sentence


def test_words_that_nobody_knows_are_quoted_and_what_cannot_be_read_is_told() -> None:
    assert report(queued(), Admission("odd words"), now=NOW).sentence.endswith("LocalQueue gpus says: odd words")
    assert report(queued(), Admission(remark=HIDDEN), now=NOW).sentence.endswith(f"LocalQueue gpus: {HIDDEN}")
    assert report(queued(), now=NOW).sentence.endswith(", until LocalQueue gpus admits the pod")
    again = report(queued(), Admission(FULL, evicted="Preempted"), now=NOW)
    assert again.sentence.endswith("; it was taken away before: Preempted")


def test_the_gates_of_kueue_are_looked_up_and_those_of_others_are_not() -> None:
    for gate in (GATE, "kueue.x-k8s.io/topology"):
        needed = needed_lookup(queued(gate))
        assert needed is not None
        assert needed.kind is Lookup.QUEUE
        assert report(queued(gate)).unasked
    assert needed_lookup(queued("example.com/hold")) is None


def test_a_pod_that_kueue_takes_away_is_told_and_is_no_failure() -> None:
    target = {"type": "TerminationTarget", "status": "True", "reason": REASON, "message": "Preempted to X."}
    taken = pod(ready=True)
    taken["status"]["conditions"].append(target)
    taken["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    target["lastTransitionTime"] = "2026-11-22T11:59:00Z"
    found = last_eviction([taken, queued()])
    assert found == Eviction("qwen-1", "2026-11-22T11:59:00Z", "Preempted to X.")
    told = found.sentence
    assert told == "Kueue has taken qwen-1 away at 2026-11-22T11:59:00Z: Preempted to X"
    engines = (report(queued(), Admission(FULL), now=NOW),)
    outcome = judge(
        observed(1, {"status": {"replicas": 1, "updatedReplicas": 1}}, engines, pending=False, evicted=told)
    )
    assert (outcome.reason, outcome.stalled) == (Reason.SCHEDULING_GATED, False)
    assert told in outcome.message
    target["reason"] = "NotAdmitted"
    assert last_eviction([taken]) is None


def test_what_kueue_has_taken_is_told_until_a_pod_that_came_later_serves() -> None:
    late = Eviction("qwen-1", "2026-11-22T11:59:00Z", "Exceeded the PodsReady timeout team/pod-qwen-1")
    assert "raise waitForPodsReady.timeout in Kueue's configuration" in late.sentence
    another = pod("qwen-2", ready=True)
    another["metadata"]["creationTimestamp"] = "2026-11-22T11:58:00Z"
    assert last_eviction([another, queued()], late) == late
    another["metadata"]["creationTimestamp"] = "2026-11-22T11:59:01Z"
    assert last_eviction([another, queued()], late) is None
    assert last_eviction([], late) == late
