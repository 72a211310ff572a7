"""The tables of the API's schema: what is read out of OpenAPI and Go types, and how it is folded."""

from __future__ import annotations

from typing import Any

import pytest

from tools.kubernetes_schema import KINDS, GoTypes, module, tables
from vllm_operator.api import kubernetes_schema

SOURCE = """
type Inner struct {
	// Name says who.
	Name string `json:"name" protobuf:"bytes,1,opt,name=name"`
}

type Outer struct {
	Inner `json:",inline" protobuf:"bytes,1,opt,name=inner"`
	// On is a switch.
	// +optional
	On *bool `json:"on,omitempty" protobuf:"varint,2,opt,name=on"`
	Off bool `json:"off,omitempty" protobuf:"varint,3,opt,name=off"`
	Words []string `json:"words,omitempty" protobuf:"bytes,4,rep,name=words"`
}
"""


@pytest.mark.parametrize(("field", "kept"), [("on", True), ("off", False), ("name", True), ("words", False)])
def test_pointers_and_what_is_never_left_out_are_kept_when_they_are_empty(field: str, kept: bool) -> None:  # noqa: FBT001 # what is expected
    assert GoTypes(lambda _: SOURCE).keeps_empty("io.k8s.api.core.v1.Outer", field) is kept


def reference(name: str, **more: Any) -> dict[str, Any]:
    """A part that is described elsewhere, as OpenAPI v3 has it."""
    return {"allOf": [{"$ref": f"#/components/schemas/io.k8s.api.core.v1.{name}"}], **more}


def documents(**definitions: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI documents in which every kind has the same `spec`, beside these definitions."""
    kinds = {kind: {"type": "object", "properties": {"spec": reference("Spec")}} for kind in sum(KINDS.values(), ())}
    schemas = {
        f"io.k8s.api.core.v1.{name}": definition
        for name, definition in {**kinds, "PodTemplateSpec": {"type": "object"}, **definitions}.items()
    }
    return {version: {"components": {"schemas": schemas}} for version in KINDS}


def keyed(key: str) -> dict[str, Any]:
    """A list whose items are told apart by a key."""
    keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    return {"type": "array", "items": reference("Item"), **keys}


def test_a_name_says_it_all_where_it_is_true_everywhere_and_two_names_where_it_is_not() -> None:
    item = {"type": "object", "properties": {"port": {"type": "integer", "default": 80}}}
    box = {"type": "object", "properties": {"ports": {"type": "array", "items": {"type": "string"}}}}
    fields = {"ports": keyed("port"), "only": keyed("port"), "box": reference("Box")}
    found = tables(
        documents(Spec={"type": "object", "properties": fields}, Item=item, Box=box),
        GoTypes(lambda _: 'type Item struct {\n\tPort int `json:"port,omitempty"`\n}'),
    )
    assert found["LIST_KEYS"] == {"only": ("port",), "spec.ports": ("port",)}
    assert found["KEY_DEFAULTS"] == {"port": 80}
    assert found["KEPT_EMPTY"] == []


def test_one_place_that_is_two_things_is_an_error() -> None:
    plain = {"type": "array", "items": {"type": "string"}}
    found = documents(
        Spec={"type": "object", "properties": {"one": reference("One"), "two": reference("Two")}},
        One={"type": "object", "properties": {"box": reference("Box")}},
        Two={"type": "object", "properties": {"box": reference("Other")}},
        Box={"type": "object", "properties": {"items": plain}},
        Other={"type": "object", "properties": {"items": keyed("name")}},
        Item={"type": "object"},
    )
    with pytest.raises(ValueError, match=r"box\.items is"):
        tables(found, GoTypes(lambda _: ""))


def test_the_module_is_what_its_tables_make() -> None:
    names = [name for name in vars(kubernetes_schema) if name.isupper()]
    found = {name: getattr(kubernetes_schema, name) for name in names}
    text = module(
        "v1.2.3", {name: table if isinstance(table, dict) else sorted(table) for name, table in found.items()}
    )
    made: dict[str, Any] = {}
    exec(text, made)  # noqa: S102 # our own text
    assert {name: made[name] for name in names} == found
