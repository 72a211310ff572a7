"""Which nodes a pod may use, by their labels: as the scheduler's node affinity has it."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.diagnosis.nodes import Node, amounts, demand_of, is_device, node_of, state_of

HERE = Node("gpu-1", labels={"zone": "a", "cards": "8"})


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "In", "values": ["b"]}, False),
        ({"key": "zone", "operator": "NotIn", "values": ["b"]}, True),
        ({"key": "none", "operator": "NotIn", "values": ["b"]}, True),
        ({"key": "zone", "operator": "Exists"}, True),
        ({"key": "none", "operator": "Exists"}, False),
        ({"key": "none", "operator": "DoesNotExist"}, True),
        ({"key": "cards", "operator": "Gt", "values": ["4"]}, True),
        ({"key": "cards", "operator": "Lt", "values": ["4"]}, False),
        ({"key": "zone", "operator": "Gt", "values": ["4"]}, False),
        ({"key": "zone", "operator": "OfALaterVersion"}, False),
    ],
)
def test_a_requirement_is_met_as_the_scheduler_has_it(requirement: dict[str, Any], *, met: bool) -> None:
    assert demand([{"matchExpressions": [requirement]}]).selects(HERE) is met


def demand(terms: list[dict[str, Any]]) -> Any:
    """What a pod with such terms of node affinity asks for."""
    rule = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return demand_of({"affinity": {"nodeAffinity": rule}})


def test_one_term_is_enough_and_an_empty_one_is_met_by_no_node() -> None:
    wrong = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}
    named = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-1"]}]}
    assert demand([wrong, named]).selects(HERE)
    assert not demand([wrong]).selects(HERE)
    assert not demand([{}]).selects(HERE)
    assert demand_of({}).selects(HERE)


def test_a_cordoned_node_is_tainted_before_the_node_controller_says_so() -> None:
    found = node_of({"metadata": {"name": "n"}, "spec": {"unschedulable": True}})
    assert [str(taint) for taint in found.taints] == ["node.kubernetes.io/unschedulable:NoSchedule"]


def test_devices_are_told_from_what_every_node_has() -> None:
    assert [
        name for name in ("cpu", "hugepages-2Mi", "nvidia.com/gpu", "requests.kubernetes.io/x") if is_device(name)
    ] == ["nvidia.com/gpu"]
    assert (
        demand_of({"containers": [{"resources": {"limits": {"a.example.com/nic": 1, "nvidia.com/gpu": 2}}}]}).device
        == "nvidia.com/gpu"
    )


def test_of_a_node_that_is_not_ready_its_own_words_are_told_without_ages() -> None:
    told = {"type": "Ready", "status": "False", "reason": "KubeletNotReady"}
    words = "PLEG is not healthy: pleg was last seen active 3m15.5s ago; threshold is 3m0s."
    found = state_of({"status": {"conditions": [{"type": "PIDPressure"}, {**told, "message": words}]}})
    assert found == "KubeletNotReady: PLEG is not healthy: pleg was last seen active ... ago, threshold is"
    assert state_of({}) == "NotReady: it says no more"


def test_what_is_no_quantity_is_left_out() -> None:
    assert amounts({"cpu": "many", "memory": "1Ki"}) == {"memory": 1024}
