"""Engines over several pods: decided as Deployments are, written as LeaderWorkerSets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.grouped import SET, grouped, member, seen, settled, template_of, written
from tests.support.resources import NOW, as_desired, condition, deployment_status, resource
from vllm_operator.api import groups
from vllm_operator.api.live import ObjectKey
from vllm_operator.planner.decide import decide

DEPLOYMENT = ObjectKey("Deployment", "qwen")


def ready(raw: dict[str, Any], *pods: dict[str, Any]) -> tuple[str, str]:
    """Status and reason of Ready where all children are as desired."""
    plan = decide(seen(raw, settled(raw), *pods))
    assert plan.status is not None
    told = condition(plan.status, "Ready")
    return told["status"], told["reason"]


def serving(raw: dict[str, Any], *, group: int = 0) -> list[dict[str, Any]]:
    """Both pods of a group that serves."""
    template = template_of(settled(raw))
    return [member(number, group=group, ready=True, template=template) for number in (0, 1)]


def test_groups_take_the_place_of_the_deployment_and_nothing_is_left_to_write_then() -> None:
    raw = grouped()
    made = written(decide(seen(raw)))
    assert SET in made
    assert DEPLOYMENT not in made
    assert made[SET]["spec"]["leaderWorkerTemplate"]["size"] == 2
    assert not decide(seen(raw, settled(raw), *serving(raw))).changes


def test_an_engine_is_a_group_and_ready_when_its_leader_is() -> None:
    raw = grouped(replicas=2)
    both = [*serving(raw), *serving(raw, group=1)]
    assert ready(raw, *both) == ("True", "AllEnginesServe")
    plan = decide(seen(raw, settled(raw), *both))
    assert plan.status is not None
    assert (plan.status["replicas"], plan.status["readyReplicas"]) == (2, 2)
    leader, worker = serving(raw)
    leader["status"]["conditions"][-1]["status"] = "False"
    assert ready(raw, leader, worker, *serving(raw, group=1))[0] == "False"


def test_a_worker_that_cannot_start_is_told_in_place_of_the_leader_that_waits_for_it() -> None:
    raw = grouped()
    pull = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    plan = decide(seen(raw, settled(raw), member(0), member(1, container=pull)))
    assert plan.status is not None
    assert "qwen-0-1" in condition(plan.status, "Ready")["message"]


def test_groups_of_an_older_template_are_a_rollout_on_its_way() -> None:
    raw = grouped(replicas=2)
    old = [member(number, group=1, ready=True) for number in (0, 1)]
    plan = decide(seen(raw, settled(raw), *serving(raw), *old))
    assert plan.status is not None
    assert condition(plan.status, "Ready")["reason"] == "RollingOut"
    assert plan.status["rollout"]["updated"] == 1
    assert plan.status["rollout"]["strategy"] == "InPlace"


@pytest.mark.parametrize(
    ("rollout", "replicas", "numbers"),
    [
        ({}, 3, (0, 1, 0)),
        ({}, 1, (0, 1, 0)),
        ({"strategy": "Surge"}, 3, (1, 0, 0)),
        ({"minAvailable": 1}, 3, (0, 2, 0)),
        ({"minAvailable": 3}, 3, (1, 0, 0)),
        ({"strategy": "Recreate"}, 3, (0, 3, 0)),
        ({"paused": True}, 3, (0, 1, 3)),
    ],
)
def test_the_controllers_own_numbers_follow_the_strategy(
    rollout: dict[str, Any], replicas: int, numbers: tuple[int, int, int]
) -> None:
    made = written(decide(seen(grouped(replicas=replicas, rollout=rollout))))
    given = made[SET]["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
    assert (given["maxSurge"], given["maxUnavailable"], given["partition"]) == numbers


def test_without_the_kind_the_status_says_how_to_install_it_and_what_serves_goes_on() -> None:
    before = as_desired(resource(), **deployment_status(1))
    plan = decide(seen(grouped(), before, served=False))
    assert not plan.changes
    assert plan.look_again_at is not None
    assert plan.status is not None
    told = condition(plan.status, "Ready")
    assert told["reason"] == "LeaderWorkerSetMissing"
    assert groups.INSTALL in told["message"]
    assert plan.status["readyReplicas"] == 1
    assert condition(plan.status, "Stalled")["status"] == "True"


def test_a_set_of_which_nothing_is_made_for_a_minute_is_told() -> None:
    raw = grouped()
    children = settled(raw)
    children[SET]["metadata"]["creationTimestamp"] = "2026-11-22T11:59:30Z"
    young = decide(seen(raw, children))
    assert young.status is not None
    assert condition(young.status, "Ready")["reason"] == "EnginesStarting"
    assert young.look_again_at == NOW + timedelta(seconds=30)
    children[SET]["metadata"]["creationTimestamp"] = "2026-11-22T11:58:59Z"
    old = decide(seen(raw, children))
    assert old.status is not None
    assert "kubectl get pods -n lws-system" in condition(old.status, "Ready")["message"]
    answered = {**children, SET: {**children[SET], "status": {"replicas": 0}}}
    after = decide(seen(raw, answered))
    assert after.status is not None
    assert condition(after.status, "Ready")["reason"] == "EnginesStarting"


def test_one_object_goes_once_the_other_is_written() -> None:
    one, several = resource(), grouped()
    there = decide(seen(several, as_desired(one, **deployment_status(1))))
    assert SET in written(there)
    assert [deletion.live.key for deletion in there.deletions] == [DEPLOYMENT]
    back = decide(seen(one, settled(several)))
    assert DEPLOYMENT in written(back)
    assert [deletion.live.key for deletion in back.deletions] == [SET]


def test_services_take_in_no_pod_without_a_server_while_groups_go() -> None:
    several, one = grouped(), resource()
    service = ObjectKey("Service", "qwen")
    there = decide(seen(one, settled(several), *serving(several)))
    assert service not in written(there), "it still selects leaders alone"
    leaving = serving(several)
    for pod in leaving:
        pod["metadata"]["deletionTimestamp"] = "2026-11-22T11:59:00Z"
    after = written(decide(seen(one, settled(several), *leaving)))
    assert groups.WORKER_INDEX not in after[service]["spec"]["selector"]


def test_pods_keep_the_template_of_their_revision() -> None:
    raw = grouped()
    children = settled(raw)
    revision = next(child for key, child in children.items() if key.kind == "ControllerRevision")
    kept = revision["data"]["template"]
    assert groups.TEMPLATE_HASH not in (kept["metadata"].get("annotations") or {})
    kept["spec"]["containers"][0]["image"] = "registry.example.com/of-an-older-operator:1"
    made = written(decide(seen(raw, children)))
    containers = made[SET]["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"]
    assert containers[0]["image"] == "registry.example.com/of-an-older-operator:1"


def test_a_claim_for_one_node_is_told_where_pods_on_two_have_to_mount_it() -> None:
    cache = {"cache": {"persistentVolumeClaim": {"size": "10Gi"}}}
    told = decide(seen(grouped(storage=cache))).status
    assert told is not None
    assert any("accessModes [ReadWriteMany]" in warning for warning in told["warnings"])


def test_suspended_groups_go_and_the_set_stays() -> None:
    made = written(decide(seen(grouped(suspend=True))))
    assert made[SET]["spec"]["replicas"] == 0
