"""NetworkPolicies of others: which of them together keep every client from the engines."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.planner.test_warnings import subject
from vllm_operator.api.meta import KIND
from vllm_operator.planner import warnings as module
from vllm_operator.planner.policies import Policy, closing, policy_of

LABELS = {"app.kubernetes.io/instance": "qwen", "app.kubernetes.io/name": "vllm"}
PORT = [(8000, "http")]


def policy(*ingress: dict[str, Any], selector: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A NetworkPolicy as the API server has it."""
    whole = {"podSelector": selector or {}, "policyTypes": ["Ingress"], "ingress": list(ingress), **spec}
    return {"metadata": {"name": "theirs", "namespace": "team"}, "spec": whole}


def read(raw: dict[str, Any]) -> Policy:
    """The same as it is kept."""
    found = policy_of(raw)
    assert found
    return found


@pytest.mark.parametrize(
    ("ingress", "closed"),
    [
        ((), True),
        (({},), False),
        (({"from": [{"podSelector": {}}]},), False),
        (({"ports": [{"port": 9090, "protocol": "TCP"}]},), True),
        (({"ports": [{"port": 8000}]},), False),
        (({"ports": [{"port": "http"}]},), False),
        (({"ports": [{"port": 8000, "protocol": "UDP"}]},), True),
        (({"ports": [{"port": 7000, "endPort": 8000}]},), False),
        (({"ports": [{"port": 7000, "endPort": 7999}]},), True),
        (({"ports": [{"protocol": "TCP"}]},), False),
    ],
)
def test_a_policy_closes_what_none_of_its_rules_is_about(ingress: tuple[dict[str, Any], ...], *, closed: bool) -> None:
    assert bool(closing([read(policy(*ingress))], LABELS, PORT)) is closed


def test_what_one_policy_lets_in_no_other_one_keeps_out() -> None:
    deny, allow = read(policy()), read(policy({"ports": [{"port": 8000}]}))
    assert closing([deny, allow], LABELS, PORT) == []
    elsewhere = read(policy({}, selector={"matchLabels": {"app": "web"}}))
    assert closing([deny, elsewhere], LABELS, PORT) == ["theirs"]
    assert closing([], LABELS, PORT) == []


def test_a_policy_of_the_operator_or_about_what_pods_send_is_none_of_these() -> None:
    ours = policy()
    ours["metadata"]["ownerReferences"] = [{"kind": KIND}]
    assert policy_of(ours) is None
    assert policy_of(policy(policyTypes=["Egress"])) is None
    assert policy_of({"metadata": {"name": "budget"}, "spec": {"selector": {}, "minAvailable": 1}}) is None


def test_a_policy_of_one_model_is_found_by_it() -> None:
    assert read(policy(selector={"matchLabels": LABELS})).instance == "qwen"
    assert read(policy()).instance == ""


def test_engines_that_no_client_can_reach_are_told_with_the_policy_and_the_way_out() -> None:
    closed = (read(policy()),)
    sentence = module.closed_by_others(subject({}, policies=closed))
    assert sentence
    assert sentence.startswith("NetworkPolicy theirs of somebody else selects the engines")
    assert "spec.network.allowFrom" in sentence
    assert module.closed_by_others(subject({"network": {"allowFrom": [{"podSelector": {}}]}}, policies=closed)) is None
    assert module.closed_by_others(subject({}, policies=(read(policy({})),))) is None
    on_the_node = {"pod": {"hostNetwork": True}}
    assert module.closed_by_others(subject(on_the_node, policies=closed)) is None
