"""The template of the engines' pods: rights, places, companions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import model
from vllm_operator.render.pod import template


def pod(**sections: Any) -> dict[str, Any]:
    """Spec of the pods."""
    found: dict[str, Any] = template(model(**sections))["spec"]
    return found


def engine(**rights: Any) -> dict[str, Any]:
    """Rights of the engine's container."""
    found: dict[str, Any] = pod(pod={"containerSecurityContext": rights})["containers"][0]["securityContext"]
    return found


def test_what_is_said_of_the_rights_replaces_the_operators_choice_and_the_rest_stays() -> None:
    rights = pod(pod={"securityContext": {"runAsUser": 1000, "supplementalGroups": [44]}})["securityContext"]
    assert rights == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 0,
        "fsGroup": 0,
        "fsGroupChangePolicy": "OnRootMismatch",
        "supplementalGroups": [44],
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_who_asks_for_root_gets_it_of_the_pod_and_of_the_container() -> None:
    assert pod(pod={"securityContext": {"runAsUser": 0}})["securityContext"]["runAsNonRoot"] is False
    assert engine(runAsUser=0)["runAsNonRoot"] is False
    assert engine(runAsUser=0, runAsNonRoot=True)["runAsNonRoot"] is True
    assert "runAsNonRoot" not in engine(runAsUser=1000)


def test_a_capability_that_is_added_does_not_give_the_others_back() -> None:
    assert engine(capabilities={"add": ["SYS_PTRACE"]})["capabilities"] == {"drop": ["ALL"], "add": ["SYS_PTRACE"]}
    assert engine(capabilities={"drop": ["NET_RAW"]})["capabilities"] == {"drop": ["NET_RAW"]}


@pytest.mark.parametrize("rights", [{"privileged": True}, {"capabilities": {"add": ["CAP_SYS_ADMIN"]}}])
def test_who_has_all_rights_may_gain_them(rights: dict[str, Any]) -> None:
    assert "allowPrivilegeEscalation" not in engine(**rights)
    assert engine(privileged=False)["allowPrivilegeEscalation"] is False


def test_sidecars_start_before_the_engine_and_outlive_it_and_init_containers_run_before_them() -> None:
    found = pod(
        pod={
            "initContainers": [{"name": "fetch", "image": "fetch:1", "args": ["-x"]}],
            "sidecars": [{"name": "proxy", "image": "proxy", "imagePullPolicy": "Never"}],
        }
    )
    assert [container["name"] for container in found["containers"]] == ["vllm"]
    assert found["initContainers"] == [
        {"name": "fetch", "image": "fetch:1", "args": ["-x"], "imagePullPolicy": "IfNotPresent"},
        {"name": "proxy", "image": "proxy", "imagePullPolicy": "Never", "restartPolicy": "Always"},
    ]


@pytest.mark.parametrize("policy", ["Always", "IfNotPresent", "Never"])
def test_when_the_engines_image_is_fetched_is_the_users_choice_whatever_its_tag(policy: str) -> None:
    for image in ("vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:latest"):
        (container,) = pod(engine={"image": image, "imagePullPolicy": policy})["containers"]
        assert container["imagePullPolicy"] == policy


def test_a_token_that_may_be_missing_keeps_no_engine_from_starting() -> None:
    (container,) = pod(model={"source": "org/tiny", "tokenSecret": {"name": "hub", "key": "a", "optional": True}})[
        "containers"
    ]
    (token,) = [variable for variable in container["env"] if variable["name"] == "HF_TOKEN"]
    assert token["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "a", "optional": True}}


def test_engines_are_spread_among_each_other_unless_the_user_says_which_pods_count() -> None:
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    own = {"matchLabels": {"app": "x"}}
    found = pod(scheduling={"topologySpreadConstraints": [constraint, {**constraint, "labelSelector": own}]})
    selectors = [one["labelSelector"] for one in found["topologySpreadConstraints"]]
    assert selectors == [
        {"matchLabels": {"app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": "qwen"}},
        own,
    ]


def test_a_token_is_mounted_only_for_an_account_that_the_user_names() -> None:
    assert pod()["automountServiceAccountToken"] is False
    named = pod(pod={"serviceAccountName": "mine"})
    assert (named["serviceAccountName"], named["automountServiceAccountToken"]) == ("mine", True)


def test_labels_and_annotations_of_the_user_reach_the_pods_and_select_nothing() -> None:
    found = template(model(pod={"labels": {"tier": "a"}, "annotations": {"b": "c"}}))["metadata"]
    assert found["labels"]["tier"] == "a"
    assert found["labels"]["app.kubernetes.io/instance"] == "qwen"
    assert found["annotations"]["b"] == "c"


@pytest.mark.parametrize(
    ("profile", "resource"),
    [
        ("nvidia", "nvidia.com/gpu"),
        ("amd", "amd.com/gpu"),
        ("tpu", "google.com/tpu"),
        ("xpu", "gpu.intel.com/xe"),
        ("ascend", "huawei.com/Ascend910"),
    ],
)
def test_a_profile_brings_its_image_and_its_resource(profile: str, resource: str) -> None:
    (container,) = pod(accelerator={"profile": profile})["containers"]
    assert container["resources"] == {"limits": {resource: "1"}}
    assert container["image"] != pod(accelerator={"profile": "cpu"})["containers"][0]["image"]
    assert pod(accelerator={"profile": profile}, engine={"image": "mine:1"})["containers"][0]["image"] == "mine:1"


def test_devices_that_are_counted_otherwise_have_the_number_that_the_user_gives() -> None:
    (container,) = pod(accelerator={"profile": "tpu", "count": 4}, parallelism={"tensor": 8})["containers"]
    assert container["resources"] == {"limits": {"google.com/tpu": "4"}}


def test_devices_without_a_profile_are_named_by_the_user() -> None:
    wanted = {"profile": "other", "resource": "example.com/npu", "count": 2}
    (container,) = pod(accelerator=wanted, engine={"image": "npu:1"}, parallelism={"tensor": 8})["containers"]
    assert container["resources"] == {"limits": {"example.com/npu": "2"}}
