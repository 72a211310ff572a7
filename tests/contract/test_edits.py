"""Edits land on a real API server: what a field did is undone when it is removed, and what is foreign stays."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.api import Api, done
from tests.support.specs import edits, leaf_paths
from vllm_operator.api.resource import parse_resource
from vllm_operator.cluster.kinds import MODEL
from vllm_operator.planner.compare import holds
from vllm_operator.render.children import children
from vllm_operator.render.context import RenderContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server

SURROUNDINGS: Final = RenderContext(api_key="secret")
NAMES = (f"edited-{number}" for number in itertools.count())

IMMUTABLE: Final = "storage.cache.persistentVolumeClaim"
"""Its fields cannot be changed or only grow, but for `keep`: the API server refuses the edit of the model."""

OWNER: Final = "11111111-1111-1111-1111-111111111111"
"""There is no such model; where there are controllers, they would collect its children as garbage."""

_CHANGING: Final = ("uid", "resourceVersion", "generation", "managedFields", "creationTimestamp")
Children = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture
def api(quiet: Namespace) -> Iterator[Api]:
    """The API server over HTTP."""
    found = Api(quiet.cluster.kubeconfig)
    yield found
    found.close()


def rendered(quiet: Namespace, name: str, spec: dict[str, Any]) -> Children:
    """Children of a spec, by kind and name; without engines, unless they are what it is about."""
    document = quiet.document(name, **{"replicas": 0, **spec})
    document["metadata"]["uid"] = OWNER
    return {
        (child["kind"], child["metadata"]["name"]): child for child in children(parse_resource(document), SURROUNDINGS)
    }


def meant(part: Any) -> Any:
    """A part of an object without what is empty, which is as good as not there but for the folder of a pod."""
    if isinstance(part, list):
        return [meant(item) for item in part]
    if isinstance(part, dict):
        return {key: meant(value) for key, value in part.items() if value != {} or key == "emptyDir"}
    return part


def lasting(live: dict[str, Any]) -> dict[str, Any]:
    """An object without what differs between two that were asked for in the same way."""
    found: dict[str, Any] = meant({key: value for key, value in live.items() if key != "status"})
    for key in _CHANGING:
        found["metadata"].pop(key, None)
    if found["kind"] == "Service" and found["spec"].get("clusterIP") != "None":
        del found["spec"]["clusterIP"], found["spec"]["clusterIPs"]
        for port in found["spec"]["ports"]:  # the API server gives it out, and keeps what it has given or was told once
            port.pop("nodePort", None)
    return found


def remains(api: Api, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether anything of `after` stays once it was applied, and `before` again after it.

    Raises:
        AssertionError: the API server takes one of them only together with other fields.
    """
    alone = api.apply(before, dryRun="All")  # as it would be had there never been anything else
    assert holds(api.apply(after), after)
    remaining = api.apply(before)
    if before["kind"] == "Service":
        api.delete(before)  # its port of the nodes is free again: other tests of this API server ask for the same
    return lasting(remaining) != lasting(alone)


def leftovers(api: Api, quiet: Namespace, path: str) -> list[str] | None:
    """Kinds of children that keep something of a field once it is removed; None where no edit can be tried."""
    for before, after in edits(path):
        name = next(NAMES)
        old, new = rendered(quiet, name, before), rendered(quiet, name, after)
        changed = [key for key in old.keys() & new.keys() if old[key] != new[key]]
        try:
            found = [key[0] for key in changed if remains(api, old[key], new[key])]
        except AssertionError:
            continue
        if changed:
            return found
    return None


SUPPORTED: Final = [path for path in leaf_paths() if not path.startswith(IMMUTABLE) or path.endswith(".keep")]

NOT_TRIED: Final = {
    "parallelism.nodes": "makes an object of another kind: see test_several_nodes.py",
    "accelerator.memory": "has no effect",
    "estimate.configMapRef.name": "is in no child: the operator reads it",
    "suspend": "is the number of engines, which is 0 here: see test_operator.py",
    **{
        f"rollout.{field}": "is in no child at rest: the planner reads it while engines are replaced"
        for field in ("minAvailable", "surgeTimeoutSeconds", "paused", "templateUpdates", "revisionHistoryLimit")
    },
    "monitoring.intervalSeconds": "is the PodMonitor's, of which this API server knows nothing",
    "monitoring.labels": "is the PodMonitor's, of which this API server knows nothing",
    **{
        f"catalog.{field}": "is in the namespace's catalogue, and in no child of the model"
        for field in ("complexity", "labels", "languages", "tasks", "weight")
    },
    **{
        path: "is the autoscaler's, which is made where something serves it: see test_autoscaling.py"
        for path in SUPPORTED
        if path.startswith("autoscaling.")
    },
}


def test_a_field_that_is_removed_is_removed_from_the_children(api: Api, quiet: Namespace) -> None:
    found = {path: leftovers(api, quiet, path) for path in SUPPORTED}
    assert {path for path, left in found.items() if left is None} == NOT_TRIED.keys()
    assert {path: left for path, left in found.items() if left} == {}


def test_what_others_write_on_our_children_survives_our_edits(api: Api, quiet: Namespace) -> None:
    annotated = {"service": {"annotations": {"a": "b"}}, "pod": {"annotations": {"a": "b"}}}
    old, new = rendered(quiet, "shared", {}), rendered(quiet, "shared", annotated)
    both = [key for key in old if key[0] in {"Deployment", "Service"}]
    restarted = {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}
    for key in both:
        live = api.apply(old[key])
        where = {name: live["metadata"][name] for name in ("name", "namespace")}
        seen = {"annotations": {"example.com/seen": "yes"}, "labels": {"example.com/team": "search"}}
        theirs = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": {**where, **seen}}
        api.apply({**theirs, **({"spec": restarted} if key[0] == "Deployment" else {})}, manager="autoscaler")
    for wanted in (new, old):
        for key in both:
            live = api.apply(wanted[key])
            assert holds(live, wanted[key])
            assert live["metadata"]["annotations"]["example.com/seen"] == "yes"
            assert live["metadata"]["labels"]["example.com/team"] == "search"
            if key[0] == "Deployment":
                assert holds(live["spec"], restarted)


def test_replicas_that_an_autoscaler_sets_survive_an_edit_of_the_model(api: Api, quiet: Namespace) -> None:
    document = quiet.document("scaled")
    path = MODEL.path(quiet.name, "scaled")
    apply = "application/apply-patch+yaml"
    done(api.call("PATCH", path, document, apply, fieldManager="user"))
    scale = done(api.call("GET", f"{path}/scale"))
    done(api.call("PUT", f"{path}/scale", {**scale, "spec": {"replicas": 3}}, fieldManager="autoscaler"))
    edited = quiet.document("scaled", engine={"seed": 7})
    live = done(api.call("PATCH", path, edited, apply, fieldManager="user"))
    assert (live["spec"]["replicas"], live["spec"]["engine"]["seed"]) == (3, 7)
    (deployment,) = [child for child in children(parse_resource(live)) if child["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 3
