"""What is a difference between a live object and the wanted one, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.api.quantity import MILLI, canonical, quantity
from vllm_operator.planner.compare import holds

PLACES = ["resources.limits.cpu", "resources.requests.storage", "spec.overhead.memory", "emptyDir.sizeLimit"]


def at(place: str, value: object) -> dict[str, Any]:
    """An object with one value somewhere."""
    for name in reversed(place.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("place", [*PLACES, "env.valueFrom.resourceFieldRef.divisor"])
@pytest.mark.parametrize(("one", "other"), [("0.5", "500m"), ("1024Mi", "1Gi"), ("1e3", "1k"), (4, "4")])
def test_quantities_are_compared_by_value(place: str, one: str | int, other: str) -> None:
    assert holds(at(place, other), at(place, one))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("one", "other"), [("1G", "1Gi"), ("1m", "1M"), ("500m", "501m"), ("1", "0"), ("10E", "11E")])
def test_different_quantities_differ(place: str, one: str, other: str) -> None:
    assert not holds(at(place, other), at(place, one))


def test_resources_are_kept_in_thousandths_and_other_quantities_in_billionths() -> None:
    assert holds(at("resources.limits.cpu", "2m"), at("resources.limits.cpu", "1500u"))
    assert not holds(at("emptyDir.sizeLimit", "2m"), at("emptyDir.sizeLimit", "1500u"))


digits = st.integers(0, 10**12)
suffixes = st.sampled_from(
    ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e2", "E-3"]
)
quantities = st.one_of(
    st.builds(lambda whole, suffix: f"{whole}{suffix}", digits, suffixes),
    st.builds(lambda whole, part, suffix: f"{whole}.{part}{suffix}", digits, digits, suffixes),
)


@given(quantities)
def test_the_canonical_form_of_a_quantity_is_no_difference(text: str) -> None:
    assert holds(at("resources.limits.cpu", canonical(text, MILLI)), at("resources.limits.cpu", text))
    assert holds(at("emptyDir.sizeLimit", canonical(text)), at("emptyDir.sizeLimit", text))


@given(quantities, st.integers(1, 10**6))
def test_more_is_a_difference(text: str, more: int) -> None:
    value = quantity(text)
    larger = f"{value + more:f}"
    assert holds(at("emptyDir.sizeLimit", larger), at("emptyDir.sizeLimit", text)) is (quantity(larger) == value)


@pytest.mark.parametrize("text", ["", "four", "1e1.5", "1ki", "Gi", "1e999999999"])
def test_what_is_no_quantity_differs_from_every_one_and_is_no_mistake(text: str) -> None:
    assert not holds(at("resources.limits.cpu", "1"), at("resources.limits.cpu", text))


@pytest.mark.parametrize(
    "place", ["data.a", "data.limits", "metadata.labels.requests", "metadata.annotations.limits.a"]
)
def test_numbers_elsewhere_are_compared_as_they_are(place: str) -> None:
    assert not holds(at(place, "1000m"), at(place, "1"))


def test_a_whole_number_is_the_same_with_and_without_a_point() -> None:
    assert holds({"a": 1.0}, {"a": 1})


def test_a_resource_called_like_a_field_is_a_quantity_all_the_same() -> None:
    assert holds(at("resources.limits.name", "1000m"), at("resources.limits.name", "1"))


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        ({"a": 1, "added": 2}, {"a": 1}),
        ({"a": {"b": 1, "added": 2}}, {"a": {"b": 1}}),
        ({}, {"a": ""}),
        ({}, {"a": 0}),
        ({}, {"a": False}),
        ({}, {"a": {}}),
        ({}, {"a": []}),
        ({"a": {}}, {"a": {}}),
    ],
    ids=["default beside", "default below", "empty text", "zero", "false", "empty map", "empty list", "kept empty map"],
)
def test_what_the_server_adds_or_leaves_out_is_no_difference(live: Any, desired: Any) -> None:
    assert holds(live, desired)


@pytest.mark.parametrize(
    ("place", "empty"),
    [
        ("template.spec.automountServiceAccountToken", False),
        ("template.spec.enableServiceLinks", False),
        ("template.spec.terminationGracePeriodSeconds", 0),
        ("spec.securityContext.runAsGroup", 0),
        ("spec.securityContext.fsGroup", 0),
        ("containers.securityContext.allowPrivilegeEscalation", False),
        ("configMap.optional", False),
        ("spec.replicas", 0),
        ("spec.nodeSelector.gpu", ""),
        ("metadata.labels.mine", ""),
        ("data.mine", ""),
    ],
)
def test_what_is_kept_although_it_is_empty_is_a_difference_when_it_is_missing(place: str, empty: object) -> None:
    around, _, field = place.rpartition(".")
    assert holds(at(place, empty), at(place, empty))
    assert not holds(at(around, {}), at(place, empty)), field


@pytest.mark.parametrize(
    ("place", "empty"),
    [
        ("template.spec.hostNetwork", False),
        ("template.spec.priorityClassName", ""),
        ("containers.tty", False),
        ("containers.env.value", ""),
        ("containers.volumeMounts.readOnly", False),
        ("persistentVolumeClaim.readOnly", False),
        ("spec.minReadySeconds", 0),
        ("spec.paused", False),
    ],
)
def test_what_is_left_out_when_it_is_empty_is_no_difference_when_it_is_missing(place: str, empty: object) -> None:
    around = place.rpartition(".")[0]
    assert holds(at(around, {}), at(place, empty))


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        ({}, {"a": 1}),
        ({"a": 2}, {"a": 1}),
        ({"a": 1}, {"a": 0}),
        ({"a": True}, {"a": False}),
        ({"a": "x"}, {"a": ""}),
        ({"a": None}, {"a": {"b": 1}}),
        ({"a": "x"}, {"a": ["x"]}),
        ({"a": "x"}, {"a": {"x": 1}}),
    ],
)
def test_a_field_that_is_missing_or_another_is_a_difference(live: Any, desired: Any) -> None:
    assert not holds(live, desired)


def test_items_that_another_manager_adds_to_a_keyed_list_are_no_difference() -> None:
    live = {"env": [{"name": "INJECTED", "value": "1"}, {"name": "A", "value": "1"}]}
    assert holds(live, {"env": [{"name": "A", "value": "1"}]})


SHARED = [
    ("containers", {"name": "a"}, {"image": "x"}),
    ("containers.ports", {"containerPort": 53, "protocol": "UDP"}, {"name": "dns"}),
    ("containers.ports", {"containerPort": 53}, {"name": "dns"}),
    ("initContainers.ports", {"containerPort": 80, "protocol": "TCP"}, {"name": "http"}),
    ("containers.env", {"name": "A"}, {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
    ("containers.volumeMounts", {"mountPath": "/a"}, {"name": "home"}),
    ("containers.volumeDevices", {"devicePath": "/dev/a"}, {"name": "disk"}),
    ("spec.volumes", {"name": "a"}, {"configMap": {"name": "x"}}),
    ("spec.ports", {"port": 53, "protocol": "UDP"}, {"name": "dns", "targetPort": "dns"}),
    ("spec.topologySpreadConstraints", {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}, {"maxSkew": 1}),
    ("metadata.ownerReferences", {"uid": "1"}, {"name": "qwen"}),
]
OTHER_ITEM = {
    "name": "other",
    "containerPort": 1,
    "port": 1,
    "protocol": "TCP",
    "mountPath": "/other",
    "devicePath": "/other",
    "topologyKey": "other",
    "whenUnsatisfiable": "ScheduleAnyway",
    "uid": "other",
}


@pytest.mark.parametrize(("place", "key", "rest"), SHARED)
def test_items_of_shared_lists_are_told_apart_by_their_keys(
    place: str, key: dict[str, Any], rest: dict[str, Any]
) -> None:
    item = {**key, **rest}
    live = {"protocol": "TCP", **item} if "containerPort" in item else item
    changed = {**live, next(iter(rest)): "changed"}
    assert holds(at(place, [OTHER_ITEM, live]), at(place, [item]))
    assert holds(at(place, [OTHER_ITEM]), at(place, []))
    assert not holds(at(place, [OTHER_ITEM]), at(place, [item]))
    assert not holds(at(place, [OTHER_ITEM, changed]), at(place, [item]))


def test_ports_with_one_number_and_two_protocols_are_two() -> None:
    tcp, udp = {"port": 53, "protocol": "TCP", "name": "a"}, {"port": 53, "protocol": "UDP", "name": "b"}
    assert holds(at("spec.ports", [udp, tcp]), at("spec.ports", [tcp, udp]))
    assert not holds(at("spec.ports", [tcp]), at("spec.ports", [tcp, udp]))


ATOMIC = [
    ("spec.tolerations", {"key": "gpu", "operator": "Exists"}),
    ("ingress.ports", {"port": 8000, "protocol": "TCP"}),
    ("ingress.from", {"podSelector": {"matchLabels": {"a": "b"}}}),
    ("spec.ingress", {"from": [{"podSelector": {}}]}),
    ("containers.envFrom", {"configMapRef": {"name": "a"}}),
    ("projected.sources", {"configMap": {"name": "a"}}),
    ("configMap.items", {"key": "a", "path": "a"}),
]


@pytest.mark.parametrize(("place", "item"), ATOMIC)
def test_lists_with_one_owner_hold_nothing_else(place: str, item: dict[str, Any]) -> None:
    other = {"name": "other"}
    assert holds(at(place, [item, other]), at(place, [item, other]))
    assert not holds(at(place, [item, other]), at(place, [item]))
    assert not holds(at(place, [other, item]), at(place, [item, other]))
    assert not holds(at(place, [{**item, "foreign": 1}]), at(place, [item]))
    assert not holds(at(place, [item]), at(place, [{}]))


def test_a_peer_that_became_another_is_a_difference_although_the_wanted_one_is_empty() -> None:
    every: dict[str, Any] = {"podSelector": {}}
    some: dict[str, Any] = {"namespaceSelector": {}}
    assert not holds(at("ingress.from", [some]), at("ingress.from", [every]))
    assert not holds(at("ingress.from", [{"podSelector": {"matchLabels": {"a": "b"}}}]), at("ingress.from", [every]))


@pytest.mark.parametrize(
    ("place", "live", "desired"),
    [
        ("ingress.ports", {"port": 1, "protocol": "TCP"}, {"port": 1}),
        ("projected.sources", {"serviceAccountToken": {"path": "a", "expirationSeconds": 3600}}, None),
        ("downwardAPI.items", {"path": "a", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}, None),
    ],
)
def test_defaults_are_no_difference_in_parts_with_one_owner(place: str, live: Any, desired: Any) -> None:
    wanted = desired or json_without(live, {"expirationSeconds", "apiVersion"})
    assert wanted != live
    assert holds(at(place, [live]), at(place, [wanted]))


def json_without(node: Any, names: set[str]) -> Any:
    """The same without some fields."""
    if isinstance(node, dict):
        return {key: json_without(value, names) for key, value in node.items() if key not in names}
    return node


@pytest.mark.parametrize("place", ["spec.selector", "spec.nodeSelector", "spec.podSelector.matchLabels"])
def test_selectors_have_one_owner(place: str) -> None:
    assert not holds(at(place, {"a": "b", "foreign": "c"}), at(place, {"a": "b"}))


def test_another_source_of_a_volume_is_a_difference_although_the_wanted_one_is_empty() -> None:
    live = {"name": "home", "hostPath": {"path": "/"}}
    assert not holds(at("spec.volumes", [live]), at("spec.volumes", [{"name": "home", "emptyDir": {}}]))


def test_finalizers_of_others_are_no_difference() -> None:
    assert holds(at("metadata.finalizers", ["b", "a"]), at("metadata.finalizers", ["a"]))
    assert not holds(at("metadata.finalizers", ["b"]), at("metadata.finalizers", ["a"]))


def test_words_of_a_command_count_one_by_one() -> None:
    assert holds(["a", "b"], ["a", "b"])
    assert not holds(["b", "a"], ["a", "b"])
    assert not holds(["a", "b", "c"], ["a", "b"])
    assert not holds(["a"], ["a", "b"])


json = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=3),
    max_leaves=8,
)


@given(json)
def test_everything_holds_itself(node: Any) -> None:
    assert holds({"a": node}, {"a": node})
