"""PodDisruptionBudgets and NetworkPolicies of others, on a real API server: what it makes of them, and what is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api import Api, done
from tests.support.operator_process import OperatorProcess
from tests.support.waiting import until
from vllm_operator.api.names import selector_labels
from vllm_operator.cluster.kinds import NETWORK_POLICY, POD, POD_DISRUPTION_BUDGET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server


@pytest.fixture
def api(quiet: Namespace) -> Iterator[Api]:
    """Calls without kubectl."""
    found = Api(quiet.cluster.kubeconfig)
    yield found
    found.close()


def budget(namespace: Namespace, name: str, **numbers: Any) -> dict[str, Any]:
    """A PodDisruptionBudget for the engines of a model."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace.name},
        "spec": {"selector": {"matchLabels": selector_labels("qwen")}, **numbers},
    }


def nobody_in(namespace: Namespace) -> dict[str, Any]:
    """A NetworkPolicy that lets nobody call any pod of the namespace; its type is left to the API server."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody", "namespace": namespace.name},
        "spec": {"podSelector": {}},
    }


def serving_pod(api: Api, namespace: Namespace) -> str:
    """A pod with the labels of an engine, which serves as far as anybody can see."""
    container = {"name": "vllm", "image": "vllm"}
    metadata = {"name": "engine", "namespace": namespace.name, "labels": selector_labels("qwen")}
    path = POD.path(namespace.name)
    spec = {"containers": [container], "automountServiceAccountToken": False, "serviceAccountName": "default"}
    done(api.call("POST", path, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    done(api.call("PATCH", POD.path(namespace.name, "engine", "status"), ready, "application/merge-patch+json"))
    return POD.path(namespace.name, "engine", "eviction")


def test_the_api_server_evicts_no_pod_that_has_two_budgets_whatever_they_allow(quiet: Namespace, api: Api) -> None:
    quiet.kubectl("create", "serviceaccount", "default")
    eviction = serving_pod(api, quiet)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "engine", "namespace": quiet.name}}
    for name in ("first", "second"):
        done(api.call("POST", POD_DISRUPTION_BUDGET.path(quiet.name), budget(quiet, name, maxUnavailable="100%")))
    refused = api.call("POST", eviction, body)
    assert refused.code == 500
    assert "more than one PodDisruptionBudget" in refused.refusal


def test_budgets_and_policies_of_somebody_else_are_told_as_long_as_they_are_there(
    quiet: Namespace, api: Api, tmp_path: Path
) -> None:
    def told() -> str:
        return " ".join(quiet.get("vllmmodel", "qwen").get("status", {}).get("warnings", []))

    theirs = budget(quiet, "theirs", minAvailable=1)
    with OperatorProcess(quiet.cluster.kubeconfig, tmp_path, NAMESPACES=quiet.name, RESYNC_SECONDS="1"):
        quiet.model(disruption={"maxUnavailable": 1})
        quiet.wait_for("poddisruptionbudget", "qwen")
        until(lambda: quiet.condition("Ready"), what="a status")
        assert "PodDisruptionBudget" not in told(), "its own is none of somebody else"
        done(api.call("POST", POD_DISRUPTION_BUDGET.path(quiet.name), theirs))
        until(lambda: "theirs (minAvailable 1 of 1 engines)" in told(), what="a warning")
        assert "PodDisruptionBudget qwen (spec.disruption), theirs select the same engines" in told()
        assert quiet.get("poddisruptionbudget", "theirs")["spec"]["minAvailable"] == 1, "it is left as it is"
        done(api.call("POST", NETWORK_POLICY.path(quiet.name), nobody_in(quiet)))
        api.delete(theirs)
        until(lambda: "PodDisruptionBudget" not in told(), what="the end of the warning")
        until(lambda: "NetworkPolicy nobody of somebody else selects the engines" in told(), what="another warning")
