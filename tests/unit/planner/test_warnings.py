"""Each setting that switches a promise off is told, with its way out; and one that does not is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from tests.support.golden import cases, given
from tests.support.resources import model
from vllm_operator.api.resource import parse_resource
from vllm_operator.planner import warnings as module
from vllm_operator.planner.api_keys import Standing
from vllm_operator.planner.budgets import Budget
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
        "spread_over_slices",
        {"parallelism": {"tensor": 2}, "accelerator": {"resource": "nvidia.com/mig-3g.40gb", "count": 2}},
        {"accelerator": {"resource": "nvidia.com/mig-3g.40gb"}},
        ("spec.parallelism", "MIG 3g.40gb", "NVIDIA/nccl#1716"),
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
        "open_by_ingress",
        {"ingress": {"host": "llm.example.com"}, "network": {"allowFrom": INSIDE}},
        {"ingress": {"host": "llm.example.com"}, "auth": {"generate": True}},
        ("spec.ingress", "llm.example.com", "spec.auth"),
    ),
    *(
        Case("reranker_unnamed", {"model": told}, {"model": silent}, ("spec.model.runner", "pooling"))
        for told, silent in (
            ({"source": "BAAI/bge-reranker-v2-m3"}, {"source": "BAAI/bge-reranker-v2-m3", "runner": "pooling"}),
            ({"source": "pvc://models/Qwen3-Reranker-4B", "runner": "auto"}, {"source": "BAAI/bge-m3"}),
            (
                {"source": "cross-encoder/ms-marco-MiniLM-L-6-v2"},
                {"source": "cross-encoder/ms-marco-MiniLM-L-6-v2", "convert": "classify"},
            ),
        )
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
    Case(
        "adapters_open_to_all",
        {"lora": {"runtimeUpdates": True}},
        {"lora": {"runtimeUpdates": True}, "auth": {"generate": True}},
        ("spec.lora.runtimeUpdates", "spec.auth", "spec.network"),
    ),
    Case(
        "arguments_of_another_version",
        {"engine": {"image": "vllm/vllm-openai:v0.10.2", "extraArgs": ["--max-logprob-s", "1", "--ssl-ciphers", "x"]}},
        {"engine": {"image": "example.com/own:1", "extraArgs": ["--max-logprob-s", "1"]}},
        ("--max-logprob-s", "is --max-logprobs meant?", "vLLM 0.10.2, by the tag of the image in spec.engine.image"),
    ),
    Case(
        "cut_off_at_the_end",
        {"engine": {"version": "0.10.2"}},
        {"engine": {"version": "0.18.0"}},
        ("vLLM 0.10.2 has no --shutdown-timeout", "0.18.0 has it"),
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


THEIRS = {"matchLabels": {"app.kubernetes.io/instance": "qwen"}}
ALL_PODS: dict[str, Any] = {}
NOT_QWEN = {"matchExpressions": [{"key": "app.kubernetes.io/instance", "operator": "NotIn", "values": ["qwen"]}]}


def theirs(selector: dict[str, Any], **fields: Any) -> Budget:
    """A PodDisruptionBudget of somebody else."""
    return Budget("theirs", selector, **fields)


NEVER = [
    pytest.param(1, theirs(THEIRS, min_available=1), "minAvailable 1 of 1 engines", id="the only engine"),
    pytest.param(3, theirs(THEIRS, min_available="100%"), "minAvailable 100%", id="all of them"),
    pytest.param(1, theirs(THEIRS, min_available="1%"), "minAvailable 1%", id="a share is rounded up"),
    pytest.param(9, theirs(THEIRS, max_unavailable=0), "maxUnavailable 0", id="none"),
    pytest.param(9, theirs(ALL_PODS, max_unavailable="0%", expected_pods=40), "maxUnavailable 0%", id="none of many"),
    pytest.param(1, theirs(ALL_PODS, min_available=5, expected_pods=5), "minAvailable 5", id="all of a namespace"),
    pytest.param(2, theirs(THEIRS, min_available=2, expected_pods=3), "minAvailable 2", id="a surge is no room"),
    pytest.param(
        4, theirs(THEIRS, max_unavailable=2, failed=True), "SyncFailed: its controller", id="nobody can count"
    ),
    pytest.param(4, theirs(THEIRS), "it has neither minAvailable nor maxUnavailable", id="no number"),
]

SOMETIMES = [
    pytest.param(2, theirs(THEIRS, min_available=1), id="all but one"),
    pytest.param(2, theirs(THEIRS, min_available="50%"), id="half"),
    pytest.param(1, theirs(THEIRS, max_unavailable="1%"), id="a share is rounded up"),
    pytest.param(1, theirs(ALL_PODS, min_available=1, expected_pods=5), id="others are left"),
    pytest.param(0, theirs(THEIRS, max_unavailable=0), id="there is no engine"),
    pytest.param(1, theirs(NOT_QWEN, max_unavailable=0), id="it selects others"),
    pytest.param(1, theirs({"matchLabels": {"app": "other"}}, max_unavailable=0), id="it selects another label"),
]


@pytest.mark.parametrize(("replicas", "one", "words"), NEVER)
def test_somebody_elses_budget_that_lets_no_engine_go_is_told_with_its_name_and_number(
    replicas: int, one: Budget, words: str
) -> None:
    sentence = module.drains_blocked_by_others(subject({"replicas": replicas}, budgets=(one,)))
    assert sentence
    assert f"PodDisruptionBudget theirs ({words}" in sentence
    assert module.budgets_together(subject({"replicas": replicas}, budgets=(one,))) is None


@pytest.mark.parametrize(("replicas", "one"), SOMETIMES)
def test_somebody_elses_budget_that_lets_an_engine_go_or_selects_none_is_not_told(replicas: int, one: Budget) -> None:
    assert module.drains_blocked_by_others(subject({"replicas": replicas}, budgets=(one,))) is None


def test_two_budgets_for_one_engine_are_told_since_the_api_server_evicts_no_such_pod() -> None:
    one = theirs(THEIRS, max_unavailable=1)
    both = module.budgets_together(subject({"disruption": {"maxUnavailable": 1}}, budgets=(one,)))
    assert both
    assert "qwen (spec.disruption), theirs select the same engines" in both
    assert module.budgets_together(subject({}, budgets=(one,))) is None
    others = tuple(replace(one, name=f"number-{number}") for number in range(5))
    many = module.budgets_together(subject({}, budgets=others))
    assert many
    assert "number-0, number-1, number-2 and 2 more select" in many
    assert module.budgets_together(subject({"replicas": 0}, budgets=others)) is None


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
    around = {"second_scaler", "keys_unreadable", "keys_differ", "restart_unread"}
    others = {"drains_blocked_by_others", "budgets_together", "closed_by_others"}
    tried = {case.check for case in CASES} | around | others
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
