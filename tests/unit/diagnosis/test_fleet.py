"""Why a model is ready or not, as its Deployment and its engines show."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import deployment_status, pod
from vllm_operator.api.conditions import Reason
from vllm_operator.diagnosis.engine_status import EngineStatus
from vllm_operator.diagnosis.engines import reports
from vllm_operator.diagnosis.fleet import Fleet, judge, observed

QUOTA = (
    'pods "qwen-5d8c9b7f6-x2x5p" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, '
    "used: requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=4"
)
POD_SECURITY = 'pods "qwen-5d8c9b7f6-x2x5p" is forbidden: violates PodSecurity "restricted:latest": seLinuxOptions'
WEBHOOK = 'admission webhook "pods.policy.example.com" denied the request: images come from the mirror only'
LIMIT_RANGE = 'pods "qwen-1" is forbidden: maximum memory usage per Container is 1Gi, but limit is 8Gi'
NO_ACCOUNT = 'pods "qwen-1" is forbidden: error looking up service account team/ml: serviceaccount "ml" not found'
NO_PRIORITY = 'pods "qwen-1" is forbidden: no PriorityClass with name high was found'
NO_RUNTIME = 'pods "qwen-1" is forbidden: pod rejected: RuntimeClass "nvidia" not found'


def refusing(message: str, *, reason: str = "FailedCreate", status: str = "True") -> dict[str, Any]:
    """The Deployment's condition that says that its pods are not made."""
    return {"type": "ReplicaFailure", "status": status, "reason": reason, "message": message}


def fleet(wanted: int, *pods: dict[str, Any], ready: int = 0, conditions: tuple[dict[str, Any], ...] = ()) -> Fleet:
    """A model with these pods."""
    status = {**deployment_status(len(pods), ready=ready), "conditions": list(conditions)}
    return observed(wanted, {"metadata": {"generation": 1}, "status": status}, reports(pods), pending=False)


@pytest.mark.parametrize(
    ("message", "quote", "advice"),
    [
        (QUOTA, "refuses pods: exceeded quota: gpus, requested", "ResourceQuota"),
        (POD_SECURITY, 'refuses pods: violates PodSecurity "restricted:latest"', "pod-security.kubernetes.io/enforce"),
        (WEBHOOK, f"refuses pods: {WEBHOOK}", "ask whoever runs that policy"),
        (LIMIT_RANGE, "refuses pods: maximum memory usage per Container", "LimitRange"),
        (NO_ACCOUNT, "refuses pods: error looking up service account team/ml", "spec.pod.serviceAccountName"),
        (NO_PRIORITY, "refuses pods: no PriorityClass with name high", "spec.scheduling.priorityClassName"),
        (NO_RUNTIME, 'refuses pods: pod rejected: RuntimeClass "nvidia"', "spec.scheduling.runtimeClassName"),
        ("something else", "refuses pods: something else", "change the spec, or what refuses it"),
    ],
    ids=["quota", "Pod Security", "webhook", "LimitRange", "account", "priority", "runtime", "unknown"],
)
def test_pods_that_are_refused_are_told_with_the_refusal_and_what_to_do(message: str, quote: str, advice: str) -> None:
    outcome = judge(fleet(1, conditions=(refusing(message),)))
    assert (outcome.reason, outcome.stalled, outcome.settled) == (Reason.PODS_REFUSED, False, False)
    assert outcome.message.startswith("0 of 1 engines serve; the API server ")
    assert quote in outcome.message
    assert advice in outcome.message
    assert "tries again within 17 minutes" in outcome.message


def test_a_model_whose_engines_are_slow_is_ready_and_says_so_once() -> None:
    slow = EngineStatus("serving", ready=True, symptoms=("KvCacheFull",))
    pods = [pod(name, ready=True) for name in ("qwen-1", "qwen-2")]
    engines = reports(pods, dict.fromkeys(("uid-of-qwen-1", "uid-of-qwen-2"), slow))
    deployment = {"metadata": {"generation": 1}, "status": deployment_status(2, ready=2)}
    outcome = judge(observed(2, deployment, engines, pending=False))
    assert (outcome.ready, outcome.reason) == (True, Reason.ALL_ENGINES_SERVE)
    assert outcome.message.startswith(
        "2 of 2 engines serve; the KV cache is full, and requests wait for room in it: raise"
    )
    assert outcome.message.count("KV cache is full") == 1


def test_refused_pods_are_told_beside_engines_that_serve_and_that_fail() -> None:
    failing = pod("qwen-2", container={"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}})
    outcome = judge(fleet(3, pod("qwen-1", ready=True), failing, ready=1, conditions=(refusing(QUOTA),)))
    assert outcome.reason is Reason.PODS_REFUSED
    assert outcome.message.startswith("1 of 3 engines serve; the API server refuses pods: exceeded quota")
    assert "qwen-2" in outcome.message


def test_a_start_that_took_too_long_because_pods_are_refused_says_so() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    outcome = judge(fleet(1, conditions=(late, refusing(QUOTA))))
    assert (outcome.reason, outcome.stalled) == (Reason.PROGRESS_DEADLINE_EXCEEDED, True)
    assert "exceeded quota: gpus" in outcome.message


def test_pods_that_cannot_be_deleted_are_told_without_advice_about_making_some() -> None:
    outcome = judge(fleet(1, pod(), pod("qwen-2"), conditions=(refusing("no", reason="FailedDelete"),)))
    assert "; Kubernetes cannot delete pods: no" in outcome.message


def test_a_refusal_that_is_over_or_of_an_older_spec_is_not_told() -> None:
    over = fleet(1, pod(), conditions=(refusing(QUOTA, status="False"),))
    status = {"observedGeneration": 1, "conditions": [refusing(QUOTA)]}
    older = observed(1, {"metadata": {"generation": 2}, "status": status}, (), pending=False)
    assert {judge(seen).reason for seen in (over, older)} == {Reason.ENGINES_STARTING}


GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
LOST = pod(
    "qwen-1", container={"ready": True, "started": True, "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}}
)


def test_a_model_that_a_queue_holds_back_is_on_its_way_by_that_reason() -> None:
    held = pod("qwen-1", conditions=(GATED,), containerStatuses=[])
    assert judge(fleet(1, held)).reason is Reason.SCHEDULING_GATED
    assert judge(fleet(2, held, pod("qwen-2"))).reason is Reason.ENGINES_STARTING


def test_a_lost_node_is_the_reason_where_it_is_the_only_one() -> None:
    hung = pod("qwen-2", container={"started": True, "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}})
    assert judge(fleet(1, LOST)).reason is Reason.NODE_LOST
    assert judge(fleet(2, LOST, hung)).reason is Reason.ENGINES_WITHDRAWN


def test_a_start_that_took_too_long_says_what_the_engine_still_waits_for() -> None:
    fetching = {"name": "fetch", "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}}
    waiting = {"state": {"waiting": {"reason": "PodInitializing"}}}
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    outcome = judge(fleet(1, pod(container=waiting, initContainerStatuses=[fetching]), conditions=(late,)))
    assert outcome.reason is Reason.PROGRESS_DEADLINE_EXCEEDED
    assert "qwen-1 waits for init container fetch, which runs since 2026-11-22T10:00:00Z" in outcome.message
