"""Each setting that switches a promise off is told, with its way out; and one that does not is not."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.support.golden import cases, given
from tests.support.resources import model
from vllm_operator.api.resource import parse_resource
from vllm_operator.planner import warnings as module
from vllm_operator.planner.api_keys import Standing
from vllm_operator.planner.warnings import CHECKS, Subject, warnings
from vllm_operator.render.deployment import deployment
from vllm_operator.render.rollout import exclusion

LABELS = {"matchLabels": {"app": "a"}}
CLAIM: dict[str, Any] = {"size": "1Ti"}
INSIDE = [{"podSelector": LABELS}]


class Case(NamedTuple):
    """A check, a spec that it tells of, one like it that it does not, and what has to stand in the sentence."""

    check: str
    told: dict[str, Any]
    silent: dict[str, Any]
    words: tuple[str, ...]


def patch(**container: Any) -> dict[str, Any]:
    """A spec that patches the engine's container."""
    return {"pod": {"patch": {"spec": {"containers": [{"name": "vllm", **container}]}}}}


def env(name: str, value: str) -> dict[str, Any]:
    """A spec with a variable."""
    return {"engine": {"env": [{"name": name, "value": value}]}}


def claim(**fields: Any) -> dict[str, Any]:
    """A cache that the operator makes."""
    return {"cache": {"persistentVolumeClaim": {**CLAIM, **fields}}}


def budget(replicas: int, **fields: Any) -> dict[str, Any]:
    """A spec with a PodDisruptionBudget."""
    return {"replicas": replicas, "disruption": fields}


CASES = [
    Case(
        "nobody_allowed",
        {"network": {"allowFrom": []}},
        {"network": {"allowFrom": INSIDE}},
        ("spec.network.allowFrom",),
    ),
    Case(
        "heard_by_nobody",
        {"engine": {"host": "127.0.0.1"}},
        {"engine": {"host": "127.0.0.1"}, "pod": {"sidecars": [{"name": "tls", "image": "envoy:1"}]}},
        ("spec.engine.host", "spec.pod.sidecars"),
    ),
    Case(
        "outside_shut_out",
        {"service": {"type": "LoadBalancer"}, "network": {"allowFrom": INSIDE}},
        {"service": {"type": "LoadBalancer"}, "network": {"allowFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}},
        ("LoadBalancer", "ipBlock"),
    ),
    Case(
        "policy_without_effect",
        {"network": {"allowFrom": INSIDE}, "pod": {"patch": {"spec": {"hostNetwork": True}}}},
        {"pod": {"patch": {"spec": {"hostNetwork": True}}}},
        ("spec.network guards nothing", "hostNetwork"),
    ),
    Case(
        "open_to_all",
        {"service": {"type": "NodePort"}},
        {"service": {"type": "NodePort"}, "auth": {"generate": True}},
        ("NodePort", "spec.auth"),
    ),
    Case(
        "prometheus_shut_out",
        {"monitoring": {}, "network": {"allowFrom": INSIDE}},
        {"monitoring": {}, "network": {"allowFrom": [{"namespaceSelector": LABELS}]}},
        ("spec.network", "spec.monitoring", "namespaceSelector"),
    ),
    Case("secrets_in_the_clear", env("HF_TOKEN", "hf_x"), env("HF_HOME", "/x"), ("HF_TOKEN", "spec.model.tokenSecret")),
    Case(
        "secrets_in_the_clear",
        env("AWS_SECRET_ACCESS_KEY", "x"),
        {
            "engine": {
                "env": [{"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]
            }
        },
        ("AWS_SECRET_ACCESS_KEY", "secretKeyRef"),
    ),
    Case(
        "secrets_in_the_clear",
        patch(env=[{"name": "MY_PASSWORD", "value": "x"}]),
        env("MY_PASSWORD", "$(A)"),
        ("MY_PASSWORD",),
    ),
    Case(
        "secrets_on_the_command_line",
        patch(args=["--api_key=x"]),
        patch(args=["--api-keys"]),
        ("spec.pod.patch", "--api-key", "spec.auth"),
    ),
    Case(
        "open_switches", env("VLLM_SERVER_DEV_MODE", "1"), env("VLLM_SERVER_DEV_MODE", "0"), ("VLLM_SERVER_DEV_MODE",)
    ),
    Case("prompt_replaced", {"gates": {"probe": ["true"]}}, {}, ("spec.gates.probe",)),
    Case("idle_hangs_unseen", {"gates": {"canary": "Never"}}, {"gates": {"canary": "IfIdle"}}, ("spec.gates.canary",)),
    Case("never_restarted", {"gates": {"restart": "Never"}}, {"gates": {"restart": "IfHung"}}, ("spec.gates.restart",)),
    Case(
        "one_place_for_all",
        {"replicas": 2, "storage": claim()},
        {"replicas": 2, "storage": claim(accessModes=["ReadWriteMany"])},
        ("one node", "ReadWriteMany"),
    ),
    Case(
        "one_place_for_all",
        {"replicas": 2, "storage": claim(accessModes=["ReadWriteOncePod"])},
        {"replicas": 1, "storage": claim(accessModes=["ReadWriteOncePod"])},
        ("no other engine can start",),
    ),
    Case(
        "taken_away_by_rollouts",
        {"replicas": 1, "storage": claim()},
        {"replicas": 1, "storage": claim(accessModes=["ReadWriteMany"])},
        ("takes the model away", "ReadWriteMany"),
    ),
    Case(
        "drains_blocked", budget(1, minAvailable=1), budget(2, minAvailable=1), ("spec.disruption.minAvailable 1 of 1",)
    ),
    Case("drains_blocked", budget(3, minAvailable="100%"), budget(3, minAvailable="50%"), ("minAvailable 100% of 3",)),
    Case("drains_blocked", budget(1, minAvailable="1%"), budget(0, minAvailable=1), ("minAvailable 1% of 1",)),
    Case("drains_blocked", budget(2, maxUnavailable=0), budget(1, maxUnavailable=1), ("maxUnavailable 0 of 2",)),
    Case("drains_blocked", budget(2, maxUnavailable="0%"), budget(2, maxUnavailable="1%"), ("maxUnavailable 0% of 2",)),
    Case(
        "cut_off_at_the_end",
        {"engine": {"shutdownTimeoutSeconds": 0}},
        {"engine": {"shutdownTimeoutSeconds": 1}},
        ("spec.engine.shutdownTimeoutSeconds",),
    ),
    Case(
        "cache_of_the_node",
        {"storage": {"cache": {"hostPath": {"path": "/models"}}}},
        {"storage": {"cache": {"hostPath": {"path": "/models"}}}, "pod": {"securityContext": {"runAsUser": 0}}},
        ("spec.storage.cache.hostPath", "user 2000"),
    ),
    Case("no_pod_monitor", {"monitoring": {}}, {}, ("spec.monitoring", "Prometheus operator")),
]


def subject(spec: dict[str, Any], **around: Any) -> Subject:
    """A model with that spec."""
    one = model(**spec)
    given_around = {"keys": Standing(), "pod_monitors": False, **around}
    made = deployment(one)
    excluded = exclusion(one.spec.storage, made["spec"]["template"], frozenset())
    return Subject(model=one, deployment=made, **{"excluded": excluded, **given_around})


@pytest.mark.parametrize("case", CASES, ids=[f"{case.check} {number}" for number, case in enumerate(CASES)])
def test_a_setting_that_switches_a_promise_off_is_told_with_its_way_out(case: Case) -> None:
    check = getattr(module, case.check)
    sentence = check(subject(case.told))
    assert sentence
    assert all(word in sentence for word in case.words), sentence
    assert sentence in warnings(subject(case.told))
    assert check(subject(case.silent)) is None


def test_an_autoscaler_of_the_deployment_is_told_what_to_aim_at() -> None:
    (sentence,) = warnings(subject({}, autoscalers=("HorizontalPodAutoscaler web", "ScaledObject queue")))
    assert sentence.startswith("HorizontalPodAutoscaler web, ScaledObject queue scales Deployment qwen")
    assert "VLLMModel qwen (vllm.echo-roots.io/v1alpha1)" in sentence


def test_keys_are_told_first() -> None:
    told = warnings(
        subject({"gates": {"canary": "Never"}}, keys=Standing(client_key="a", next_key="b", problems=("x", "y")))
    )
    assert told[0] == "x; y"
    assert told[1].startswith("spec.auth: the API keys changed")
    assert len(told) == 3


def test_every_check_is_tried_here_and_says_what_it_is_for() -> None:
    tried = {case.check for case in CASES} | {"second_scaler", "keys_unreadable", "keys_differ", "restart_unread"}
    assert {check.__name__ for check in CHECKS} == tried
    assert all((check.__doc__ or "").count("\n") == 0 and check.__doc__ for check in CHECKS)


def test_nothing_is_told_of_a_model_as_the_documentation_has_it() -> None:
    for spec in ({}, {"replicas": 3, "auth": {"generate": True}, "disruption": {"maxUnavailable": 1}}):
        assert warnings(subject(spec)) == []


@pytest.mark.parametrize("case", cases())
def test_the_text_is_the_same_at_each_look_and_fits_the_status(case: str) -> None:
    one = parse_resource(given(case))
    first, second = (
        warnings(Subject(model=one, deployment=deployment(one), keys=Standing(), pod_monitors=False)) for _ in range(2)
    )
    assert first == second
    assert len(first) <= 16
    assert all(len(sentence) <= 1024 for sentence in first)
