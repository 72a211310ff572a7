"""Whose the fields of a live Deployment are, as `managedFields` tells."""

from __future__ import annotations

import copy
from typing import Any

from vllm_operator.planner.adoption import applied_template

LIVE: dict[str, Any] = {
    "metadata": {"annotations": {"ours": "1", "theirs": "2"}, "labels": {"app": "x"}, "creationTimestamp": None},
    "spec": {
        "restartPolicy": "Always",
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "volumes": [{"name": "home", "emptyDir": {}}, {"name": "mesh", "emptyDir": {}}],
        "containers": [
            {
                "name": "vllm",
                "image": "vllm:1",
                "args": ["--model", "a"],
                "resources": {},
                "ports": [
                    {"containerPort": 8000, "protocol": "TCP", "name": "http"},
                    {"containerPort": 15020, "protocol": "TCP", "name": "mesh"},
                ],
                "env": [
                    {"name": "INJECTED", "value": "1"},
                    {"name": "POD", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                ],
            },
            {"name": "sidecar", "image": "mesh:1"},
        ],
    },
}
PORT = 'k:{"containerPort":8000,"protocol":"TCP"}'
OWNED: dict[str, Any] = {
    "f:metadata": {"f:annotations": {"f:ours": {}}, "f:labels": {"f:app": {}}},
    "f:spec": {
        "f:tolerations": {},
        "f:volumes": {'k:{"name":"home"}': {".": {}, "f:name": {}, "f:emptyDir": {}}},
        "f:containers": {
            'k:{"name":"vllm"}': {
                ".": {},
                "f:name": {},
                "f:image": {},
                "f:args": {},
                "f:resources": {},
                "f:gone": {},
                "f:ports": {PORT: {".": {}, "f:containerPort": {}, "f:name": {}, "f:protocol": {}}},
                "f:env": {'k:{"name":"POD"}': {".": {}, "f:name": {}, "f:valueFrom": {"f:fieldRef": {}}}},
            }
        },
    },
}
APPLIED = {
    "metadata": {"annotations": {"ours": "1"}, "labels": {"app": "x"}},
    "spec": {
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "volumes": [{"name": "home", "emptyDir": {}}],
        "containers": [
            {
                "name": "vllm",
                "image": "vllm:1",
                "args": ["--model", "a"],
                "resources": {},
                "ports": [{"containerPort": 8000, "protocol": "TCP", "name": "http"}],
                "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }
        ],
    },
}


def entry(manager: str = "vllm-operator", operation: str = "Apply", **more: Any) -> dict[str, Any]:
    """What one manager owns."""
    fields = {"f:spec": {"f:replicas": {}, "f:template": OWNED}}
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


def deployment(*entries: dict[str, Any]) -> dict[str, Any]:
    """A live Deployment whose fields these managers own."""
    return {"metadata": {"name": "qwen", "managedFields": list(entries)}, "spec": {"template": copy.deepcopy(LIVE)}}


def test_only_what_the_operator_applied_is_taken_and_no_default_of_the_api_server() -> None:
    others = entry("kubectl-edit", "Update"), entry("kube-controller-manager", "Update", subresource="status")
    assert applied_template(deployment(*others, entry())) == APPLIED


def test_a_deployment_that_does_not_tell_whose_it_is_is_taken_as_a_whole() -> None:
    nothing = {**entry(), "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    halves = {**entry(), "fieldsV1": {"f:spec": {"f:template": {"f:metadata": OWNED["f:metadata"]}}}}
    for entries in ((), (entry("helm"),), (entry(operation="Update"),), (nothing,), (halves,)):
        assert applied_template(deployment(*entries)) == LIVE
    assert applied_template({"metadata": {}, "spec": {"template": LIVE}}) == LIVE


def test_items_of_a_set_are_taken_by_their_value() -> None:
    live = deployment({**entry(), "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:set": {'v:"b"': {}}}}}}})
    live["spec"]["template"]["spec"]["set"] = ["a", "b"]
    assert applied_template(live) == {"spec": {"set": ["b"]}}
