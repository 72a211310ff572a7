"""What surrounds the engines: account, callers, drains, metrics."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.cluster.paths import REPOSITORY
from tests.support.resources import model
from vllm_operator.render.context import RenderContext
from vllm_operator.render.policies import disruption_budget, network_policy, pod_monitor, service_account

SELECTOR = {"matchLabels": {"app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": "qwen"}}


def rules(*allowed: dict[str, Any], operator_namespace: str = "vllm-system") -> list[dict[str, Any]]:
    """The ingress rules of a model."""
    context = RenderContext(operator_namespace=operator_namespace)
    (policy,) = network_policy(model(network={"allowFrom": list(allowed)}), context)
    assert policy["spec"]["podSelector"] == SELECTOR
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    found: list[dict[str, Any]] = policy["spec"]["ingress"]
    return found


def test_nobody_may_call_the_engine_where_the_list_is_empty() -> None:
    """A rule without peers would let everybody in, and one without ports to every port."""
    assert all(rule["from"] and rule["ports"] == [{"port": "gate", "protocol": "TCP"}] for rule in rules())


def test_those_who_are_listed_may_call() -> None:
    peers: list[dict[str, Any]] = [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]
    assert rules(*peers) == [{"from": peers}, *rules()]


def test_the_managers_port_is_open_for_the_models_other_engines_and_for_the_operator_alone() -> None:
    (rule,) = rules(operator_namespace="platform")
    engines, operator = rule["from"]
    assert engines == {"podSelector": SELECTOR}
    assert operator["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "platform"}}
    manifests = yaml.safe_load_all((REPOSITORY / "manifests/base/operator.yaml").read_text(encoding="utf-8"))
    (deployment,) = [one for one in manifests if one["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert operator["podSelector"]["matchLabels"].items() <= labels.items()


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
    endpoints = monitor["spec"]["podMetricsEndpoints"]
    assert endpoints == [{"port": port, "path": "/metrics", "interval": "5s"} for port in ("http", "gate")]
    assert monitor["spec"]["selector"] == SELECTOR
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert pod_monitor(wanted, RenderContext()) == ()


def test_labels_of_the_user_do_not_replace_those_by_which_the_operator_finds_its_own() -> None:
    wanted = model(monitoring={"labels": {"app.kubernetes.io/managed-by": "me"}})
    (monitor,) = pod_monitor(wanted, RenderContext(pod_monitors=True))
    assert monitor["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "vllm-operator"


def test_what_is_not_asked_for_is_not_there() -> None:
    assert network_policy(model(), RenderContext()) == disruption_budget(model()) == ()
    assert pod_monitor(model(), RenderContext(pod_monitors=True)) == ()
