"""What is read of a PodDisruptionBudget that somebody else made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import live, model
from vllm_operator.planner.budgets import Budget, budget_of
from vllm_operator.render.policies import disruption_budget

SELECTOR = {"matchLabels": {"app.kubernetes.io/instance": "qwen"}}


def raw(spec: dict[str, Any], *conditions: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A PodDisruptionBudget as a list has it."""
    status = {"expectedPods": 3, "conditions": list(conditions)}
    return {"metadata": {"name": "theirs", "namespace": "team", **metadata}, "spec": spec, "status": status}


def test_what_counts_is_read_and_the_rest_is_left() -> None:
    failed = {"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "pod a-b has no owner"}
    found = budget_of(raw({"selector": SELECTOR, "minAvailable": "50%"}, failed))
    assert found == Budget("theirs", SELECTOR, min_available="50%", expected_pods=3, failed=True)
    assert found.instance == "qwen"
    calm = {**failed, "status": "True", "reason": "SufficientPods"}
    found = budget_of(raw({"selector": {}, "maxUnavailable": 0}, calm))
    assert found == Budget("theirs", {}, max_unavailable=0, expected_pods=3)
    assert found.instance == ""


def test_one_that_has_no_status_yet_is_read() -> None:
    found = budget_of({"metadata": {"name": "new", "namespace": "team"}, "spec": {"selector": {}, "minAvailable": 1}})
    assert found == Budget("new", {}, min_available=1)


@pytest.mark.parametrize("spec", [{"maxUnavailable": 0}, {"maxUnavailable": 0, "selector": None}], ids=["none", "null"])
def test_one_without_a_selector_selects_nothing_while_an_empty_selector_selects_all(spec: dict[str, Any]) -> None:
    assert budget_of(raw(spec)) is None
    everything = budget_of(raw({"maxUnavailable": 0, "selector": {}}))
    assert everything
    assert everything.selects({"any": "pod"})


def test_a_models_own_budget_is_nobody_elses_even_where_it_has_lost_its_labels() -> None:
    (own,) = disruption_budget(model(disruption={"maxUnavailable": 1}))
    found = live(own)
    found["metadata"].pop("labels")
    assert budget_of(found) is None
