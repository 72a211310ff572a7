"""What a definition may change within an API version, and what not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tools.crd_compatibility import compare
from vllm_operator.api.crd import crd_yaml

FIELD: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "maxLength": 63, "minLength": 1, "pattern": "^[a-z]+$"},
        "mode": {"type": "string", "enum": ["A", "B"], "default": "A"},
        "count": {"type": "integer", "minimum": 1, "maximum": 9, "nullable": True},
        "size": {"x-kubernetes-int-or-string": True},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 9}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"key": {"type": "string"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


def definition(spec: dict[str, Any]) -> dict[str, Any]:
    """A definition whose resources have this spec."""
    version = {
        "name": "v1alpha1",
        "served": True,
        "subresources": {"status": {}, "scale": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }
    names = {"kind": "Thing", "plural": "things", "shortNames": ["th"]}
    return {"spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The spec above with something else at a path, or without it for None."""
    spec = copy.deepcopy(FIELD)
    *way, last = path.split(".")
    place = spec
    for word in way:
        place = place[word]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return spec


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("properties.name", None, "name: is gone"),
        ("properties.list.items.properties.key", None, "list[].key: is gone"),
        ("properties.name.type", "integer", "name: type was string, is integer"),
        ("properties.size", {"type": "integer"}, "size: type was any, is integer"),
        ("properties.size", {}, "size: x-kubernetes-int-or-string is gone"),
        ("required", ["name", "mode"], "mode: is required now"),
        ("properties.list.items.required", ["key"], "list[].key: is required now"),
        ("properties.mode.enum", ["A"], "mode: B is no longer accepted"),
        ("properties.name.enum", ["a"], "name: anything else is no longer accepted"),
        ("properties.mode.default", "B", 'mode: default was "A", is "B"'),
        ("properties.mode.default", None, 'mode: default was "A", is not set'),
        ("properties.count.minimum", 2, "count: minimum was 1, is 2"),
        ("properties.count.maximum", 8, "count: maximum was 9, is 8"),
        ("properties.count.nullable", None, "count: nullable is gone"),
        ("properties.name.maxLength", 62, "name: maxLength was 63, is 62"),
        ("properties.list.maxItems", 5, "list: maxItems was not set, is 5"),
        ("properties.name.pattern", "^[a-y]+$", 'name: pattern was "^[a-z]+$", is "^[a-y]+$"'),
        ("properties.labels.additionalProperties.maxLength", 8, "labels.*: maxLength was 9, is 8"),
        ("properties.labels.additionalProperties", None, "labels: takes no keys of any name any more"),
        (
            "properties.free.x-kubernetes-preserve-unknown-fields",
            None,
            "free: x-kubernetes-preserve-unknown-fields is gone",
        ),
    ],
)
def test_what_takes_something_away_is_told(path: str, value: Any, told: str) -> None:
    found = compare(definition(FIELD), definition(changed(path, value)))
    assert found.breaks == [f"v1alpha1.spec.{told}"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties.new", {"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}}),
        ("required", []),
        ("properties.mode.enum", ["A", "B", "C"]),
        ("properties.mode.enum", None),
        ("properties.count.minimum", 0),
        ("properties.count.maximum", None),
        ("properties.name.maxLength", 253),
        ("properties.name.pattern", None),
        ("properties.name.nullable", True),
        ("properties.name.description", "Other words."),
    ],
)
def test_what_gives_something_more_is_fine(path: str, value: Any) -> None:
    found = compare(definition(FIELD), definition(changed(path, value)))
    assert (found.breaks, found.to_read) == ([], [])


def test_other_rules_are_for_a_person_to_read() -> None:
    rule = [{"rule": "self.count > 1", "message": "more"}]
    found = compare(definition(FIELD), definition(FIELD | {"x-kubernetes-validations": rule}))
    assert found.breaks == []
    assert found.to_read == ["v1alpha1.spec: x-kubernetes-validations is not what it was"]


@pytest.mark.parametrize(
    ("way", "value", "told"),
    [
        (("group",), "other.com", "spec.group: was example.com, is other.com"),
        (("scope",), "Cluster", "spec.scope: was Namespaced, is Cluster"),
        (("names", "plural"), "thing", "spec.names.plural: was things, is thing"),
        (("names", "shortNames"), [], "spec.names.shortNames: th is gone"),
        (("versions",), [], "v1alpha1: is no longer served"),
        (("versions", 0, "served"), False, "v1alpha1: is no longer served"),
        (("versions", 0, "subresources"), {"status": {}}, "v1alpha1: subresource scale is gone"),
    ],
)
def test_names_versions_and_subresources_stay(way: tuple[Any, ...], value: Any, told: str) -> None:
    after = definition(FIELD)
    place: Any = after["spec"]
    for word in way[:-1]:
        place = place[word]
    place[way[-1]] = value
    assert compare(definition(FIELD), after).breaks == [told]


def test_a_new_version_beside_the_old_one_is_fine() -> None:
    after = definition(FIELD)
    after["spec"]["versions"].append({**after["spec"]["versions"][0], "name": "v1beta1"})
    assert compare(definition(FIELD), after).breaks == []


def test_the_definition_of_this_checkout_takes_what_it_takes() -> None:
    own = yaml.load(crd_yaml(), Loader=yaml.CSafeLoader)
    assert compare(own, copy.deepcopy(own)).breaks == []
    (version,) = own["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    before = copy.deepcopy(own)
    del spec["properties"]["replicas"]
    assert compare(before, own).breaks == [f"{version['name']}.spec.replicas: is gone"]
