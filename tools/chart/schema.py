"""values.schema.json: what it does not allow, Helm refuses with its path before anything is rendered."""

from __future__ import annotations

import json
from typing import Any, Final

from tools.chart.values import MAY_BE_MISSING, NEEDED, Values
from vllm_operator.api.spec import core

_DRAFT: Final = "http://json-schema.org/draft-07/schema#"

_OF_A_PARENT: Final[dict[str, Any]] = {
    "global": {"type": ["object", "null"], "description": "Values that a parent chart gives to all of its charts"},
    "enabled": {"type": ["boolean", "null"], "description": "Whether a parent chart takes this one in (`condition`)"},
}
"""What Helm, and by custom every parent chart, puts among a chart's values."""

_OF_KUBERNETES: Final = frozenset(vars(core))
"""Names of the types that are as in a pod. Their descriptions speak of engines; Kubernetes describes them."""

_QUANTITY: Final = "x-kubernetes-int-or-string"

_KEPT: Final = frozenset(
    {
        "$schema",
        "additionalProperties",
        "anyOf",
        "const",
        "default",
        "description",
        "enum",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "not",
        "pattern",
        "patternProperties",
        "properties",
        "required",
        "type",
        "uniqueItems",
    }
)
"""Keywords of draft 7 that the types use. What Kubernetes adds to them says nothing to Helm; and what `propertyNames`
refuses, Helm tells with the path of some other value."""


def schema() -> dict[str, Any]:
    """The schema of all values."""
    generated = Values.model_json_schema(by_alias=True)
    root = _draft_7(generated, generated["$defs"], described=True)
    return {"$schema": _DRAFT, **root, "properties": {**root["properties"], **_OF_A_PARENT}}


def schema_text() -> str:
    """The file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _draft_7(node: Any, definitions: dict[str, Any], *, described: bool) -> Any:
    """A part of pydantic's schema without references, and only with what draft 7 knows."""
    if isinstance(node, list):
        return [_draft_7(item, definitions, described=described) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        whole = {**definitions[name], **{key: value for key, value in node.items() if key != "$ref"}}
        of_ours = described and name not in _OF_KUBERNETES
        inner = _draft_7({**whole, "description": ""}, definitions, described=of_ours)
        return inner | ({"description": node["description"]} if described and "description" in node else {})
    if _QUANTITY in node:
        node = {**node, "type": ["number", "string"]}
    if "patternProperties" in node:
        node = {**node, "additionalProperties": False}
    choices = [choice for choice in node.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:  # null is allowed wherever nothing is required
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _draft_7({**choices[0], **rest}, definitions, described=described)
    if needed := _needed(node):
        node = {**node, "required": needed}
    kept = {key: value for key, value in node.items() if key in _KEPT and (key, value) != ("default", None)}
    if not described or not kept.get("description"):
        kept.pop("description", None)
    return {key: _member(key, value, node, definitions, described=described) for key, value in kept.items()}


def _member(key: str, value: Any, node: dict[str, Any], definitions: dict[str, Any], *, described: bool) -> Any:
    if key in {"const", "default", "enum"}:
        return value
    if key == "patternProperties":
        return {pattern: _nullable(_draft_7(one, definitions, described=described)) for pattern, one in value.items()}
    if key != "properties":
        return _draft_7(value, definitions, described=described)
    fields = {name: _draft_7(field, definitions, described=described) for name, field in value.items()}
    return {name: field if name in node.get("required", ()) else _nullable(field) for name, field in fields.items()}


def _needed(node: dict[str, Any]) -> list[str]:
    """The fields that have to be there: one that is set to null is not, since Helm takes it away.

    A switch that is not there would be off, which for `crds.keep` is the worst that it can be.
    """
    fields = node.get("properties", {})
    given = node.get("required", ())
    return [name for name, field in fields.items() if name in given or (field and _is_needed(field))]


def _is_needed(field: dict[str, Any]) -> bool:
    is_switch = field.get("type") == "boolean" and "default" in field
    is_group = "$ref" in field and "default" not in field and MAY_BE_MISSING not in field
    return NEEDED in field or is_switch or is_group


def _nullable(node: Any) -> Any:
    """The same, or null: so Helm unsets a value, and a parent chart passes it on. What must not be there stays so."""
    if node is False:
        return node
    kinds = node.get("type", [])
    allowed = {**node, "type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}
    return allowed | ({"enum": [*node["enum"], None]} if "enum" in node else {})
