"""What apply cannot repair: exactly that is replaced, and what others added stays."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.support.resources import child_of, live, resource
from vllm_operator.planner.mend import disowned, in_the_way

DESIRED = child_of(resource(engine={"env": [{"name": "A", "value": "1"}]}), "Deployment")
SERVICE = child_of(resource(), "Service")
BUDGET = {"kind": "PodDisruptionBudget", "metadata": {"name": "qwen"}, "spec": {"minAvailable": 1}}


def pod_of(child: dict[str, Any]) -> dict[str, Any]:
    """The pod of a Deployment's template."""
    found: dict[str, Any] = child["spec"]["template"]["spec"]
    return found


def edited(desired: dict[str, Any] = DESIRED) -> dict[str, Any]:
    """A live Deployment with a sidecar and a variable of somebody else's, ready to be edited."""
    found = live(desired)
    pod_of(found)["containers"].append({"name": "mesh", "image": "mesh:1"})
    pod_of(found)["containers"][0]["env"].append({"name": "FOREIGN", "value": "1"})
    return found


def by_reference(variables: list[dict[str, Any]]) -> None:
    """Make the value of A a reference."""
    (variable,) = [variable for variable in variables if variable["name"] == "A"]
    del variable["value"]
    variable["valueFrom"] = {"fieldRef": {"fieldPath": "metadata.name"}}


def merged(document: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    found = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("status", None),
        lambda found: found["spec"].update(replicas=7, paused=True),
        lambda found: found["metadata"]["labels"].clear(),
        lambda found: pod_of(found)["containers"][0].update(image="other:1", resources={"limits": {"cpu": "1"}}),
        lambda found: pod_of(found)["containers"][0]["volumeMounts"].append({"name": "x", "mountPath": "/x"}),
        lambda found: pod_of(found)["containers"][0].pop("env"),
        lambda found: pod_of(found)["volumes"].pop(),
    ],
    ids=["nothing", "spec", "labels", "container", "mount", "env", "volume"],
)
def test_what_apply_repairs_by_itself_is_left_to_it(change: Any) -> None:
    found = edited()
    change(found)
    assert in_the_way(found, DESIRED) == {}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda pod: pod["containers"][0]["ports"][0].update(containerPort=9000), "containers"),
        (lambda pod: by_reference(pod["containers"][0]["env"]), "containers"),
        (lambda pod: pod["containers"][0].update(readinessProbe={"exec": {"command": ["true"]}}), "containers"),
        (lambda pod: pod["volumes"].__setitem__(1, {"name": "shm", "hostPath": {"path": "/x"}}), "volumes"),
    ],
    ids=["port", "variable", "probe", "volume"],
)
def test_what_stands_in_the_way_is_replaced_alone(change: Any, part: str) -> None:
    found = edited()
    change(pod_of(found))
    before = copy.deepcopy(found)
    patch = in_the_way(found, DESIRED)
    assert list(patch) == ["spec"]
    assert list(patch["spec"]["template"]["spec"]) == [part]
    assert merged(found, patch) == edited()
    assert found == before, "what was given stays as it was"


def test_a_changed_service_port_gives_way_and_keeps_what_was_set_beside_it() -> None:
    found = live(SERVICE)
    port = found["spec"]["ports"][0]
    found["spec"]["ports"] = [{**port, "port": 9000, "nodePort": 30000}, {"name": "mine", "port": 7000}]
    patch = in_the_way(found, SERVICE)
    assert patch == {"spec": {"ports": [{**port, "nodePort": 30000}, {"name": "mine", "port": 7000}]}}


def test_a_foreign_port_with_the_number_of_ours_gives_way() -> None:
    found = live(SERVICE)
    port = found["spec"]["ports"][0]
    found["spec"]["ports"] = [{**port, "port": 9000}, {"name": "mine", "port": 8000, "protocol": "TCP"}]
    assert in_the_way(found, SERVICE) == {"spec": {"ports": [port]}}


def test_a_strategy_that_leaves_a_remainder_is_replaced() -> None:
    desired = copy.deepcopy(DESIRED)
    desired["spec"]["strategy"] = {"type": "Recreate"}
    patch = in_the_way(edited(), desired)
    assert patch == {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}


def test_the_rival_of_a_budget_is_taken_out() -> None:
    found = live(BUDGET)
    found["spec"]["maxUnavailable"] = 1
    assert in_the_way(found, {**BUDGET, "spec": {"minAvailable": 2}}) == {"spec": {"maxUnavailable": None}}


def test_lists_that_apply_replaces_as_a_whole_are_left_to_it() -> None:
    desired = {"kind": "NetworkPolicy", "spec": {"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 1}]}]}}
    found = {**desired, "spec": {"ingress": [{"from": [], "ports": [{"port": 2}]}, "damaged"]}}
    assert in_the_way(found, desired) == {}


def test_what_a_patch_made_ours_is_given_up_and_what_apply_made_ours_is_kept() -> None:
    def entry(manager: str, operation: str) -> dict[str, str]:
        return {"manager": manager, "operation": operation}

    kept = [entry("vllm-operator", "Apply"), entry("kubectl-edit", "Update")]
    found = {"metadata": {"managedFields": [kept[0], entry("vllm-operator", "Update"), kept[1]]}}
    assert disowned(found) == {"metadata": {"managedFields": kept}}
