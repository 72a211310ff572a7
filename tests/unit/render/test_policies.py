"""What surrounds the engines: account, callers, drains, metrics."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import model
from vllm_operator.render.context import RenderContext
from vllm_operator.render.policies import disruption_budget, network_policy, pod_monitor, service_account

SELECTOR = {"matchLabels": {"app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": "qwen"}}


def callers(*allowed: dict[str, Any]) -> Any:
    """The ingress rules of a model."""
    (policy,) = network_policy(model(network={"allowFrom": list(allowed)}))
    assert policy["spec"]["podSelector"] == SELECTOR
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    return policy["spec"]["ingress"]


def test_nobody_may_call_where_the_list_is_empty() -> None:
    """A rule without peers would let everybody in."""
    assert callers() == []


def test_those_who_are_listed_may_call() -> None:
    peers: list[dict[str, Any]] = [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]
    assert callers(*peers) == [{"from": peers}]


@pytest.mark.parametrize("budget", [{"minAvailable": "50%"}, {"maxUnavailable": 0}])
def test_a_drain_leaves_as_many_engines_as_asked_for_and_is_never_kept_by_a_broken_one(budget: dict[str, Any]) -> None:
    (found,) = disruption_budget(model(disruption=budget))
    assert found["spec"] == {**budget, "selector": SELECTOR, "unhealthyPodEvictionPolicy": "AlwaysAllow"}


def test_the_pods_have_an_account_without_rights_or_the_users() -> None:
    (account,) = service_account(model(pod={"serviceAccountAnnotations": {"role": "reader"}}))
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["annotations"]["role"] == "reader"
    assert service_account(model(pod={"serviceAccountName": "mine"})) == ()


def test_metrics_are_collected_where_the_cluster_knows_how() -> None:
    wanted = model(monitoring={"intervalSeconds": 5, "labels": {"release": "prometheus"}})
    (monitor,) = pod_monitor(wanted, RenderContext(pod_monitors=True))
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "http", "path": "/metrics", "interval": "5s"}]
    assert monitor["spec"]["selector"] == SELECTOR
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert pod_monitor(wanted, RenderContext()) == ()


def test_labels_of_the_user_do_not_replace_those_by_which_the_operator_finds_its_own() -> None:
    wanted = model(monitoring={"labels": {"app.kubernetes.io/managed-by": "me"}})
    (monitor,) = pod_monitor(wanted, RenderContext(pod_monitors=True))
    assert monitor["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "vllm-operator"


def test_what_is_not_asked_for_is_not_there() -> None:
    assert network_policy(model()) == disruption_budget(model()) == ()
    assert pod_monitor(model(), RenderContext(pod_monitors=True)) == ()
