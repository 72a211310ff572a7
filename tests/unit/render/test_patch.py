"""Strategic merge patches of a pod template: what each rule does, and what is refused in words."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.render.patch import PatchError, strategic_merge

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "vllm"}, "finalizers": ["a", "b", "c"]},
    "spec": {
        "containers": [
            {
                "name": "vllm",
                "image": "vllm:1",
                "command": ["vllm", "serve"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}],
                "volumeMounts": [{"mountPath": "/a", "name": "home"}],
            },
            {"name": "mesh", "image": "mesh:1"},
        ],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "volumes": [{"name": "home", "emptyDir": {}}],
        "nodeSelector": {"gpu": "a100", "zone": "1"},
    },
}


def spec(**patch: Any) -> dict[str, Any]:
    """The pod's spec once it is patched."""
    merged: dict[str, Any] = strategic_merge(TEMPLATE, {"spec": patch})["spec"]
    return merged


def engine(**patch: Any) -> dict[str, Any]:
    """The engine's container once it is patched."""
    merged: dict[str, Any] = spec(containers=[{"name": "vllm", **patch}])["containers"][0]
    return merged


def names(items: list[dict[str, Any]]) -> list[str]:
    """The names of a list's items, in their order."""
    return [item["name"] for item in items]


def test_an_empty_patch_changes_nothing() -> None:
    assert strategic_merge(TEMPLATE, {}) == TEMPLATE
    assert strategic_merge({}, {}) == {}


def test_neither_argument_is_changed_nor_shared() -> None:
    patch = {"spec": {"containers": [{"name": "vllm", "args": ["a"]}], "volumes": [{"name": "b", "emptyDir": {}}]}}
    before = copy.deepcopy((TEMPLATE, patch))
    merged = strategic_merge(TEMPLATE, patch)
    merged["spec"]["volumes"].append("changed")
    merged["spec"]["volumes"][0]["changed"] = "changed"
    merged["spec"]["containers"][0]["args"].append("changed")
    merged["spec"]["containers"][1]["changed"] = "changed"
    assert (TEMPLATE, patch) == before


def test_maps_are_merged_and_null_deletes() -> None:
    assert spec(nodeSelector={"zone": None, "disk": "ssd"})["nodeSelector"] == {"gpu": "a100", "disk": "ssd"}
    assert "nodeSelector" not in spec(nodeSelector=None)
    assert spec(securityContext={"runAsUser": 1, "runAsGroup": None})["securityContext"] == {"runAsUser": 1}


def test_items_are_merged_by_their_key_and_new_ones_come_first() -> None:
    merged = spec(containers=[{"name": "new", "image": "n"}, {"name": "mesh", "image": "mesh:2"}])["containers"]
    assert names(merged) == ["new", "vllm", "mesh"]
    assert merged[2] == {"name": "mesh", "image": "mesh:2"}


def test_the_order_of_the_patch_wins() -> None:
    assert names(spec(containers=[{"name": "mesh"}, {"name": "vllm"}])["containers"]) == ["mesh", "vllm"]
    assert names(engine(env=[{"name": "B"}, {"name": "A"}])["env"]) == ["B", "A"]


def test_of_two_ports_with_one_number_the_first_is_merged() -> None:
    ports = engine(ports=[{"containerPort": 53, "name": "dns"}])["ports"]
    assert ports == [{"containerPort": 53, "protocol": "TCP", "name": "dns"}, {"containerPort": 53, "protocol": "UDP"}]


@pytest.mark.parametrize(
    ("field", "value"),
    [("command", ["sh"]), ("envFrom", [{"secretRef": {"name": "a"}}])],
)
def test_other_lists_are_replaced_as_a_whole(field: str, value: list[Any]) -> None:
    assert engine(**{field: value})[field] == value


def test_tolerations_are_replaced_as_a_whole() -> None:
    assert spec(tolerations=[{"operator": "Exists"}])["tolerations"] == [{"operator": "Exists"}]


def test_words_are_added_and_deleted() -> None:
    def finalizers(**patch: Any) -> Any:
        return strategic_merge(TEMPLATE, {"metadata": patch})["metadata"]["finalizers"]

    assert finalizers(finalizers=["d", "b"]) == ["d", "a", "b", "c"]
    assert finalizers(**{"$deleteFromPrimitiveList/finalizers": ["b", "z"]}) == ["a", "c"]
    assert finalizers(**{"$setElementOrder/finalizers": ["c", "a"]}) == ["b", "c", "a"]


def test_words_that_are_to_go_from_a_list_that_is_not_there_are_gone() -> None:
    assert strategic_merge({}, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}) == {"metadata": {}}


def test_items_are_deleted_and_lists_replaced_by_a_directive() -> None:
    assert names(spec(containers=[{"name": "mesh", "$patch": "delete"}])["containers"]) == ["vllm"]
    assert engine(env=[{"$patch": "replace"}, {"name": "C"}])["env"] == [{"name": "C"}]
    assert engine(ports=[{"containerPort": 53, "$patch": "delete"}])["ports"] == []
    assert "env" not in engine(env=None)


def test_maps_are_emptied_and_replaced_by_a_directive() -> None:
    assert spec(nodeSelector={"$patch": "delete"})["nodeSelector"] == {}
    assert spec(nodeSelector={"$patch": "replace", "disk": "ssd"})["nodeSelector"] == {"disk": "ssd"}
    assert "affinity" not in spec(affinity={"$patch": "delete"})


def test_a_map_that_is_not_there_is_set_by_its_replacement() -> None:
    assert spec(securityContext={"$patch": "replace", "runAsUser": 1})["securityContext"] == {"runAsUser": 1}


def test_another_source_of_a_volume_needs_the_old_one_gone() -> None:
    claim = {"name": "home", "persistentVolumeClaim": {"claimName": "a"}}
    assert spec(volumes=[claim])["volumes"] == [{**claim, "emptyDir": {}}]
    assert spec(volumes=[{**claim, "$retainKeys": ["name", "persistentVolumeClaim"]}])["volumes"] == [claim]
    assert spec(volumes=[{**claim, "emptyDir": None}])["volumes"] == [claim]


def test_the_order_is_set_by_a_directive() -> None:
    order = [{"name": "mesh"}, {"name": "vllm"}, {"name": "gone"}]
    assert names(spec(**{"$setElementOrder/containers": order})["containers"]) == ["mesh", "vllm"]
    merged = spec(containers=[{"name": "new"}], **{"$setElementOrder/containers": [{"name": "new"}, {"name": "mesh"}]})
    assert names(merged["containers"]) == ["new", "vllm", "mesh"]
    assert spec(**{"$setElementOrder/initContainers": order}) == TEMPLATE["spec"]


def test_directives_in_what_is_new_act_as_on_nothing() -> None:
    new = {"name": "new", "env": [{"name": "A", "$patch": "delete"}, {"name": "B", "value": None}]}
    merged = spec(initContainers=[{"$patch": "replace"}, {**new, "securityContext": {"$patch": "delete"}}])
    assert merged["initContainers"] == [{"name": "new", "env": [{"name": "B"}]}]
    assert spec(nodeSelector={"$patch": "replace", "gpu": None})["nodeSelector"] == {}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"containers": []}, "containers: a pod template has no such field: put it under `spec` or `metadata`"),
    ({"spec": None}, "spec: must be a map, not null"),
    ({"spec": {"containers": {}}}, "spec.containers: must be a list, not a map"),
    ({"spec": {"initContainers": "x"}}, "spec.initContainers: must be a list, not a single value"),
    ({"spec": {"containers": ["x"]}}, "spec.containers[0]: must be a map, not a single value"),
    ({"spec": {"containers": [{"image": "x"}]}}, "spec.containers[0].name: must be set: `name` tells the items"),
    ({"spec": {"initContainers": [{"image": "x"}]}}, "spec.initContainers[0].name: must be set"),
    ({"spec": {"containers": [{"$patch": "delete"}]}}, "spec.containers[0].name: must be set"),
    ({"spec": {"containers": [{"name": None}]}}, "spec.containers[0].name: must be set"),
    (
        {"spec": {"containers": [{"name": "vllm", "env": [{"name": "A"}, {"value": "x"}]}]}},
        "spec.containers[0].env[1].name: must be set",
    ),
    (
        {"spec": {"initContainers": [{"name": "new", "ports": [{"containerPort": True}]}]}},
        "spec.initContainers[0].ports[0].containerPort: must be set",
    ),
    ({"spec": {"nodeSelector": "x"}}, "spec.nodeSelector: must be a map, not a single value"),
    ({"spec": {"containers": [{"name": "vllm", "image": ["x"]}]}}, "spec.containers[0].image: must be a single value"),
    (
        {"spec": {"containers": [{"name": "vllm", "command": [None]}]}},
        "spec.containers[0].command[0]: must not be null",
    ),
    ({"spec": {"containers": [{"name": "vllm", "$patch": "merge"}]}}, "spec.containers[0].$patch: must be `delete` or"),
    ({"spec": {"containers": [{"name": "vllm", "$patch": ["x"]}]}}, "spec.containers[0].$patch: must be `delete` or"),
    ({"spec": {"nodeSelector": {"$patch": "merge"}}}, "spec.nodeSelector.$patch: must be `delete` or `replace`"),
    ({"spec": {"$path": "delete"}}, "spec.$path: is no directive: there are `$patch`, `$retainKeys`,"),
    ({"spec": {"tolerations": [{"$patch": "replace"}]}}, "spec.tolerations[0].$patch: has no effect: the list is"),
    ({"spec": {"$setElementOrder/tolerations": []}}, "spec.$setElementOrder/tolerations: has no effect"),
    ({"spec": {"$setElementOrder/containers": {}}}, "spec.$setElementOrder/containers: must be a list"),
    ({"spec": {"$setElementOrder/containers": [{}]}}, "spec.$setElementOrder/containers[0].name: must be set"),
    (
        {"spec": {"$setElementOrder/containers": [{"name": "mesh"}], "containers": [{"name": "new"}]}},
        "spec.$setElementOrder/containers: must name all items of `containers`, in their order",
    ),
    ({"metadata": {"finalizers": [{}]}}, "metadata.finalizers[0]: must be a single value, not a map"),
    ({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}, "metadata.$deleteFromPrimitiveList/finalizers: must"),
    (
        {"spec": {"volumes": [{"name": "home", "$retainKeys": ["name"], "secret": {}}]}},
        "spec.volumes[0].secret: is set, but not among `$retainKeys`",
    ),
    ({"spec": {"volumes": [{"name": "home", "$retainKeys": "name"}]}}, "spec.volumes[0].$retainKeys: must be a list"),
]


@pytest.mark.parametrize(("patch", "message"), WRONG)
def test_a_wrong_patch_is_refused_with_its_path(patch: dict[str, Any], message: str) -> None:
    with pytest.raises(PatchError) as refused:
        strategic_merge(TEMPLATE, patch)
    assert str(refused.value).startswith(message)
    assert isinstance(refused.value, ValueError)


NAMES = [
    "name",
    "env",
    "containers",
    "volumes",
    "spec",
    "finalizers",
    "ports",
    "containerPort",
    "command",
    "tolerations",
]
DIRECTIVES = ["$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers"]
fields = st.sampled_from(NAMES + DIRECTIVES)
leaves = st.none() | st.booleans() | st.integers(0, 60) | st.sampled_from(["vllm", "A", "delete", "replace", "home"])
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=4),
    max_leaves=20,
)


@given(st.fixed_dictionaries({}, optional={part: st.dictionaries(fields, anything) for part in ("metadata", "spec")}))
def test_whatever_is_written_is_merged_or_refused(patch: dict[str, Any]) -> None:
    before = copy.deepcopy((TEMPLATE, patch))
    with contextlib.suppress(PatchError):
        assert "$" not in str(strategic_merge(TEMPLATE, patch))
    assert (TEMPLATE, patch) == before
