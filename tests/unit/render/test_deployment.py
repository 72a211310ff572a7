"""What the pods of the engines have to have."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.resources import model
from vllm_operator.api.names import DESIRED_HASH, instance_name
from vllm_operator.api.spec.engine import DEFAULT_SHUTDOWN_DELAY_SECONDS
from vllm_operator.errors import InvalidSpec
from vllm_operator.manager import settings
from vllm_operator.render.deployment import deployment


def pod_spec(**sections: Any) -> dict[str, Any]:
    """Pod spec of a model's engines."""
    found: dict[str, Any] = deployment(model(**sections))["spec"]["template"]["spec"]
    return found


def container(**sections: Any) -> dict[str, Any]:
    """The engine's container."""
    (only,) = pod_spec(**sections)["containers"]
    return dict(only)


@pytest.mark.parametrize(
    ("sections", "limits"),
    [
        ({}, {"nvidia.com/gpu": "1"}),
        ({"parallelism": {"tensor": 2, "pipeline": 3}}, {"nvidia.com/gpu": "6"}),
        ({"accelerator": {"resource": "amd.com/gpu"}}, {"amd.com/gpu": "1"}),
        ({"resources": {"limits": {"memory": "8Gi", "cpu": 2}}}, {"nvidia.com/gpu": "1", "memory": "8Gi", "cpu": "2"}),
    ],
)
def test_the_gpu_count_follows_the_parallelism(sections: dict[str, Any], limits: dict[str, str]) -> None:
    assert container(**sections)["resources"]["limits"] == limits


def test_an_engine_on_the_cpu_asks_for_no_device() -> None:
    assert container(accelerator={"count": 0})["resources"] == {}


def test_no_service_of_the_namespace_sets_a_variable_of_the_engine() -> None:
    assert pod_spec()["enableServiceLinks"] is False


def test_the_pod_has_no_token_and_no_privilege() -> None:
    assert pod_spec()["automountServiceAccountToken"] is False
    assert pod_spec()["securityContext"]["runAsNonRoot"] is True
    assert pod_spec()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_the_grace_period_holds_the_pause_and_the_drain() -> None:
    drain = int(container()["args"][container()["args"].index("--shutdown-timeout") + 1])
    assert drain == 30
    assert pod_spec()["terminationGracePeriodSeconds"] > settings.LEAVE_SECONDS + drain


def test_the_pause_before_the_end_is_told_to_the_manager_and_counts_into_the_grace_period() -> None:
    assert settings.LEAVE_SECONDS == DEFAULT_SHUTDOWN_DELAY_SECONDS
    for seconds in (0, 15):
        words = container(engine={"shutdownDelaySeconds": seconds})["command"]
        assert words[words.index("--leave") + 1] == str(seconds)
        assert pod_spec(engine={"shutdownDelaySeconds": seconds})["terminationGracePeriodSeconds"] == seconds + 40


@pytest.mark.parametrize("fields", [{}, {"shutdownDelaySeconds": DEFAULT_SHUTDOWN_DELAY_SECONDS}])
def test_the_pause_that_every_manager_makes_by_itself_stands_in_no_command(fields: dict[str, Any]) -> None:
    assert "--leave" not in container(engine=fields)["command"]


def test_a_grace_period_of_the_users_counts() -> None:
    assert pod_spec(pod={"terminationGracePeriodSeconds": 300})["terminationGracePeriodSeconds"] == 300


def test_pods_in_the_network_of_their_nodes_find_services_and_replace_each_other_in_place() -> None:
    found = deployment(model(pod={"hostNetwork": True}))["spec"]
    assert (found["template"]["spec"]["hostNetwork"], found["template"]["spec"]["dnsPolicy"]) == (
        True,
        "ClusterFirstWithHostNet",
    )
    assert found["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


@pytest.mark.parametrize("pod", [{}, {"hostNetwork": False}])
def test_pods_in_a_network_of_their_own_say_nothing_of_it(pod: dict[str, Any]) -> None:
    assert pod_spec(pod=pod).keys().isdisjoint({"hostNetwork", "dnsPolicy"})


def test_a_rollout_is_not_given_up_before_an_engine_may_have_started() -> None:
    assert deployment(model())["spec"]["progressDeadlineSeconds"] > settings.STARTUP_BUDGET_SECONDS


def test_a_rollout_takes_no_engine_away_before_its_replacement_serves() -> None:
    assert deployment(model())["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("replicas", [0, 1, 7])
def test_replicas_are_what_is_asked_for_and_zero_is_not_dropped(replicas: int) -> None:
    assert deployment(model(replicas=replicas))["spec"]["replicas"] == replicas


def test_a_queue_is_named_on_the_deployment_alone_since_kueue_carries_it_over_to_the_pods() -> None:
    queued, plain = deployment(model(scheduling={"queueName": "gpus"})), deployment(model())
    assert queued["metadata"]["labels"] == {**plain["metadata"]["labels"], "kueue.x-k8s.io/queue-name": "gpus"}
    assert queued["spec"] == plain["spec"]


@pytest.mark.parametrize("name", ["qwen", "qwen2.5", "7b", "a" * 200])
def test_the_selector_holds_nothing_that_can_change(name: str) -> None:
    plain = deployment(model(name))
    edited = deployment(
        model(
            name,
            model={"source": "other/model", "revision": "v2", "servedNames": ["x"]},
            engine={"image": "other:1", "port": 9000, "env": [{"name": "A"}]},
            parallelism={"tensor": 8},
            replicas=5,
        )
    )
    selector = plain["spec"]["selector"]
    assert selector == edited["spec"]["selector"]
    assert selector == {
        "matchLabels": {"app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": instance_name(name)}
    }
    for one in (plain, edited):
        assert selector["matchLabels"].items() <= one["spec"]["template"]["metadata"]["labels"].items()


def test_every_volume_is_mounted_and_every_mount_has_its_volume() -> None:
    assert {volume["name"] for volume in pod_spec()["volumes"]} == {
        mount["name"] for mount in container()["volumeMounts"]
    }


def test_the_hash_differs_whenever_anything_differs_also_by_leaving_out() -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"replicas": 2},
        {"engine": {"env": [{"name": "A", "value": "1"}]}},
        {"engine": {"env": [{"name": "A", "value": ""}]}},
        {"resources": {"requests": {"cpu": "1"}}},
        {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
        {"engine": {"port": 9000}},
    ]
    hashes = {deployment(model(**variant))["metadata"]["annotations"][DESIRED_HASH] for variant in variants}
    assert len(hashes) == len(variants)


def test_rendering_does_not_change_what_it_is_given() -> None:
    given = model(resources={"limits": {"memory": "1Gi"}})
    before = given.spec.model_dump()
    deployment(given)
    assert given.spec.model_dump() == before


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.pod.patch.spec.containers[0]"),
        ({"specs": {}}, "spec.pod.patch.specs: a pod template has no such field"),
        (
            {"spec": {"containers": [{"name": "vllm", "$patch": "delete"}]}},
            "spec.pod.patch.spec.containers: the engine's own container vllm must stay",
        ),
        (
            {"metadata": {"labels": {"app.kubernetes.io/instance": "other"}}},
            "spec.pod.patch.metadata.labels: Services find the engines by",
        ),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_with_the_path_inside_it(patch: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec, match=re.escape(told)):
        deployment(model(pod={"patch": patch}))


def test_a_patch_changes_the_finished_template() -> None:
    patched = pod_spec(pod={"patch": {"spec": {"hostNetwork": True, "securityContext": {"runAsUser": 1000}}}})
    assert patched["hostNetwork"] is True
    assert patched["securityContext"]["runAsUser"] == 1000
    assert patched["securityContext"]["runAsNonRoot"] is True
