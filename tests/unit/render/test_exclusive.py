"""Where a node holds one engine at most, a rollout replaces it in place: adding one first would wait for ever."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import model
from vllm_operator.render.deployment import deployment
from vllm_operator.render.exclusive import one_per_node

OWN = {"app.kubernetes.io/instance": "qwen"}


def apart(**term: Any) -> dict[str, Any]:
    """A patch that keeps the pods away from others on the same node."""
    whole = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": OWN}, **term}
    return {"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [whole]}}}}


def container(**fields: Any) -> dict[str, Any]:
    """A patch of the engine's container."""
    return {"spec": {"containers": [{"name": "vllm", **fields}]}}


def selecting(**requirement: Any) -> dict[str, Any]:
    """A patch that keeps the pods away from those that meet a requirement."""
    return apart(labelSelector={"matchExpressions": [{"key": "app.kubernetes.io/instance", **requirement}]})


IN_PLACE: dict[str, dict[str, Any]] = {
    "network of the node": {"spec": {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}},
    "port of the node": container(ports=[{"containerPort": 8000, "hostPort": 8000}]),
    "port of a sidecar": {
        "spec": {
            "initContainers": [
                {
                    "name": "proxy",
                    "image": "x",
                    "restartPolicy": "Always",
                    "ports": [{"containerPort": 1, "hostPort": 1}],
                }
            ]
        }
    },
    "apart from its like": apart(),
    "apart from every pod": apart(labelSelector={}),
    "apart from a list of names": selecting(operator="In", values=["other", "qwen"]),
    "apart from all but others": selecting(operator="NotIn", values=["other"]),
    "apart from what has a label": selecting(operator="Exists"),
}
SIDE_BY_SIDE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "another port": container(ports=[{"containerPort": 9000, "name": "other"}]),
    "no network of the node": {"spec": {"hostNetwork": False}},
    "apart within a revision": apart(matchLabelKeys=["pod-template-hash"]),
    "apart in a zone": apart(topologyKey="topology.kubernetes.io/zone"),
    "apart from others": apart(labelSelector={"matchLabels": {"app": "other"}}),
    "apart from a list of others": selecting(operator="In", values=["other"]),
    "apart from what lacks a label": selecting(operator="DoesNotExist"),
    "apart from nothing": {
        "spec": {
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname"}]
                }
            }
        }
    },
}


def rolling(patch: dict[str, Any]) -> tuple[int, int]:
    """How many engines a rollout adds, and how many it takes away first."""
    found = deployment(model(pod={"patch": patch}))["spec"]["strategy"]["rollingUpdate"]
    return found["maxSurge"], found["maxUnavailable"]


@pytest.mark.parametrize("patch", IN_PLACE.values(), ids=IN_PLACE)
def test_engines_are_replaced_in_place_where_a_node_holds_one(patch: dict[str, Any]) -> None:
    assert rolling(patch) == (0, 1)


@pytest.mark.parametrize("patch", SIDE_BY_SIDE.values(), ids=SIDE_BY_SIDE)
def test_an_engine_serves_before_the_old_one_goes_where_a_node_holds_both(patch: dict[str, Any]) -> None:
    assert rolling(patch) == (1, 0)


def test_affinity_of_the_spec_counts_like_that_of_the_patch() -> None:
    affinity = apart()["spec"]["affinity"]
    found = deployment(model(scheduling={"affinity": affinity}))["spec"]["strategy"]["rollingUpdate"]
    assert found == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_template_without_anything_in_it_is_no_mistake() -> None:
    assert not one_per_node({})
    assert not one_per_node({"spec": None})
