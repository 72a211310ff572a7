"""Values of a wrong type in the free parts of a spec are found before the API server sees them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import model
from vllm_operator.api.pod_schema import FIELDS
from vllm_operator.errors import InvalidSpec
from vllm_operator.render.deployment import deployment
from vllm_operator.render.types import type_faults

ON = 'must be text, not true: put it in quotes; YAML reads on, off, yes and no as true and false, so write "on"'


def engine(**fields: Any) -> dict[str, Any]:
    """A patch of the engine's container."""
    return {"spec": {"containers": [{"name": "vllm", **fields}]}}


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        ({"metadata": {"labels": {"mesh": True}}}, f"metadata.labels.mesh: {ON}"),
        ({"metadata": {"annotations": {"a": 1}}}, "metadata.annotations.a: must be text, not 1: put it in quotes"),
        ({"metadata": {"labels": ["a"]}}, "metadata.labels: must be a map, not a list"),
        ({"spec": {"nodeSelector": {"gpu": True}}}, f"spec.nodeSelector.gpu: {ON}"),
        (engine(env=[{"name": "A", "value": 1}]), "spec.containers[0].env[0].value: must be text, not 1: put it in"),
        (engine(args=["--port", 80]), "spec.containers[0].args[1]: must be text, not 80: put it in quotes"),
        (
            engine(resources={"limits": {"memory": True}}),
            "spec.containers[0].resources.limits.memory: must be a quantity, not true",
        ),
        (
            engine(lifecycle={"postStart": {"httpGet": {"port": True}}}),
            "spec.containers[0].lifecycle.postStart.httpGet.port: must be a whole number or text, not true",
        ),
        ({"spec": {"hostPID": "yes"}}, 'spec.hostPID: must be true or false, not "yes": leave the quotes out'),
        ({"spec": {"priority": "1"}}, 'spec.priority: must be a whole number, not "1": leave the quotes out'),
        ({"spec": {"priority": 1.5}}, "spec.priority: must be a whole number, not 1.5"),
        ({"spec": {"priority": True}}, "spec.priority: must be a whole number, not true"),
        ({"spec": {"priority": 2**63}}, f"spec.priority: must be a whole number, not {2**63}"),
        ({"spec": {"tolerations": {"a": 1}}}, "spec.tolerations: must be a list, not a map"),
        ({"spec": {"schedulerName": {"a": 1}}}, "spec.schedulerName: must be text, not a map"),
    ],
)
def test_a_patch_is_refused_with_the_path_of_what_is_wrong_and_the_way_out(patch: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        deployment(model(pod={"patch": patch}))
    assert caught.value.faults[0].startswith(f"spec.pod.patch.{told}")
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("pod", "path"),
    [
        ({"volumes": [{"name": "x", "configMap": {"name": "y", "defaultMode": "0644"}}]}, "volumes[0].configMap"),
        ({"volumes": [{"name": "x", "csi": {"volumeAttributes": {"a": True}}}]}, "volumes[0].csi.volumeAttributes.a"),
        ({"sidecars": [{"name": "x", "image": "y", "env": [{"name": "A", "value": True}]}]}, "sidecars[0].env[0]"),
        (
            {"initContainers": [{"name": "x", "image": "y", "securityContext": {"runAsUser": "0"}}]},
            "initContainers[0].securityContext.runAsUser",
        ),
    ],
)
def test_volumes_and_containers_are_too(pod: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        deployment(model(pod=pod))
    assert caught.value.faults[0].startswith(f"spec.pod.{path}")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    patch = {"metadata": {"labels": {"a": True, "b": 1, "c": "x"}}, "spec": {"hostPID": "yes"}}
    with pytest.raises(InvalidSpec) as caught:
        deployment(model(pod={"patch": patch}))
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"aFieldOfNextYear": {"on": True}}},
        {"spec": {"priority": None, "nodeSelector": {"a": None}}},
        {"spec": {"nodeSelector": {"$patch": "replace", "a": "b"}, "$retainKeys": ["nodeSelector"]}},
        {"spec": {"$setElementOrder/containers": [{"name": "vllm"}], "containers": [{"name": "vllm", "tty": True}]}},
        engine(resources={"limits": {"memory": 1_000_000, "cpu": 0.5, "example.com/gpu": "1"}}),
        engine(lifecycle={"postStart": {"httpGet": {"port": 80}}}),
        engine(lifecycle={"postStart": {"httpGet": {"port": "http"}}}),
    ],
)
def test_what_is_right_or_unknown_passes(patch: dict[str, Any]) -> None:
    assert list(type_faults(patch, "PodTemplateSpec", "patch")) == []


def test_every_type_of_the_table_is_in_it() -> None:
    named = {kind.strip("[]{}") for fields in FIELDS.values() for kind in fields.values()}
    scalars = {"any", "string", "integer", "number", "boolean", "quantity", "int-or-string"}
    assert named - scalars == FIELDS.keys() - {"PodTemplateSpec"}
