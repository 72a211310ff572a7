"""When a model may change its queue, and what is told until then."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.resources import NOW, as_desired, deployment_status, live, observation, pod, resource
from vllm_operator.api.live import ObjectKey
from vllm_operator.planner.decide import decide

QUEUE = "kueue.x-k8s.io/queue-name"


def edited(before: str | None, wanted: str | None, *, ready: int = 1, kueue: bool = True, nodes: int = 1) -> Any:
    """What is decided of a model that was in one queue, and whose spec names another."""

    def raw(queue: str | None) -> dict[str, Any]:
        parallelism = {"nodes": nodes, "tensor": nodes}
        return resource(parallelism=parallelism, scheduling={"queueName": queue} if queue else {})

    children = as_desired(raw(before), **deployment_status(1, ready=ready))
    return decide(observation(raw(wanted), children, kueue=kueue, leader_worker_sets=True))


def queue_of(plan: Any, before: str | None) -> str | None:
    """The queue in which the engines are afterwards."""
    kinds = ("Deployment", "LeaderWorkerSet")
    written = [write.desired for write in plan.writes if write.desired["kind"] in kinds]
    return written[0]["metadata"]["labels"].get(QUEUE) if written else before


@pytest.mark.parametrize(
    ("before", "wanted", "ready", "nodes", "stays", "remedy"),
    [
        ("gpus", "others", 1, 1, True, "set spec.suspend to true"),
        ("gpus", "others", 0, 1, False, ""),
        (None, "gpus", 1, 1, True, "stay in no queue"),
        (None, "gpus", 0, 1, False, ""),
        ("gpus", None, 1, 1, True, "`kubectl delete deployment qwen`"),
        ("gpus", None, 0, 1, True, "`kubectl delete deployment qwen`"),
        ("gpus", "others", 0, 2, True, "`kubectl delete leaderworkerset qwen`"),
        ("default", None, 1, 1, False, ""),
    ],
)
def test_the_queue_changes_when_kueue_lets_it(
    before: str | None, wanted: str | None, ready: int, nodes: int, *, stays: bool, remedy: str
) -> None:
    plan = edited(before, wanted, ready=ready, nodes=nodes)
    assert queue_of(plan, before) == (before if stays else wanted)
    told = " ".join(plan.status.get("warnings", [])) if plan.status else ""
    assert remedy in told
    assert ("spec.scheduling.queueName" in told) == bool(remedy)


def test_without_kueue_the_label_follows_the_spec() -> None:
    assert queue_of(edited("gpus", "others", kueue=False), "gpus") == "others"
    assert queue_of(edited("gpus", None, kueue=False), "gpus") is None


def test_a_pod_that_stays_for_kueue_alone_is_told_with_the_way_out() -> None:
    left = pod("qwen-1")
    left["metadata"] |= {"deletionTimestamp": "2026-11-22T11:59:30Z", "finalizers": ["kueue.x-k8s.io/managed"]}
    at_rest = as_desired(resource(), **deployment_status(1))
    early = decide(observation(resource(), at_rest, left, now=NOW))
    assert early.look_again_at == NOW + timedelta(seconds=30)
    late = decide(observation(resource(), at_rest, left, now=NOW + timedelta(seconds=30)))
    told = " ".join((late.status or {}).get("warnings", []))
    assert "qwen-1 has ended and stays, held by Kueue's finalizer" in told
    assert 'kubectl patch pod qwen-1 --type merge -p \'{"metadata": {"finalizers": null}}\'' in told


def test_a_kueue_that_has_come_lately_is_known_by_its_mark() -> None:
    wanted = resource(scheduling={"queueName": "others"})
    children = as_desired(resource(scheduling={"queueName": "gpus"}), **deployment_status(1))
    template = children[ObjectKey("Deployment", "qwen")]["spec"]["template"]
    template["metadata"].setdefault("annotations", {})["kueue.x-k8s.io/pod-suspending-parent"] = "deployment"
    assert queue_of(decide(observation(wanted, children)), "gpus") == "gpus"


def test_a_model_whose_queue_stays_is_written_no_more_once_it_is_as_it_can_be() -> None:
    wanted = resource(scheduling={"queueName": "others"})
    children = as_desired(resource(scheduling={"queueName": "gpus"}), **deployment_status(1))
    plan = decide(observation(wanted, children, kueue=True))
    for write in plan.writes:
        key = ObjectKey(write.desired["kind"], write.desired["metadata"]["name"])
        before = children.get(key) or live(write.desired)
        children[key] = {**before, **write.desired, "metadata": {**before["metadata"], **write.desired["metadata"]}}
    assert not decide(observation(wanted, children, kueue=True)).writes
