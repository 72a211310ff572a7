"""The CustomResourceDefinition, generated from the types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import yaml

from vllm_operator.api import meta
from vllm_operator.api.spec import VLLMModelSpec
from vllm_operator.api.spec.flag import MARK
from vllm_operator.api.status import VLLMModelStatus

if TYPE_CHECKING:
    from vllm_operator.api.base import Model

FILE_NAME: Final = f"{meta.GROUP}_{meta.PLURAL}.yaml"

_DROPPED = frozenset({"title", "$defs", "propertyNames"})
"""Keys of pydantic's JSON schema that a structural schema must not have."""

_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The one in C writes the same in a tenth of the time; it is missing where PyYAML was built without libyaml."""

T = TypeVar("T")


def _condition_column(name: str, condition: str, field: str) -> dict[str, Any]:
    return {"name": name, "type": "string", "jsonPath": f'.status.conditions[?(@.type=="{condition}")].{field}'}


COLUMNS: Final[list[dict[str, Any]]] = [
    _condition_column("Ready", "Ready", "status"),
    _condition_column("Reason", "Ready", "reason"),
    {"name": "Serving", "type": "integer", "jsonPath": ".status.readyReplicas"},
    {"name": "Wanted", "type": "integer", "jsonPath": ".spec.replicas"},
    {"name": "Model", "type": "string", "jsonPath": ".spec.model.source"},
    {"name": "URL", "type": "string", "jsonPath": ".status.url", "priority": 1},
    {"name": "TP", "type": "integer", "jsonPath": ".spec.parallelism.tensor", "priority": 1},
    {"name": "PP", "type": "integer", "jsonPath": ".spec.parallelism.pipeline", "priority": 1},
    {**_condition_column("Fits", "Fits", "status"), "priority": 1},
    {**_condition_column("Message", "Ready", "message"), "priority": 1},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def structural(node: T, definitions: dict[str, Any]) -> T:
    """Turn pydantic's JSON schema into a structural one: references inlined, optional fields plain, titles gone."""
    if isinstance(node, list):
        return cast("T", [structural(item, definitions) for item in node])
    if not isinstance(node, dict):
        return node
    members = _written_for_kubernetes(_resolved(node, definitions))
    return cast("T", {key: _member(key, value, definitions) for key, value in members.items() if _kept(key, value)})


def _kept(key: str, value: Any) -> bool:
    if key == "additionalProperties":
        return isinstance(value, dict)  # the values of a map; `false` only says that unknown fields are refused
    return key not in _DROPPED and not (key == "default" and value is None)


def _member(key: str, value: Any, definitions: dict[str, Any]) -> Any:
    if key == "properties":  # a field may be called `title`: its name is data, not a keyword
        return {name: structural(field, definitions) for name, field in value.items()}
    if key == "const":
        return value
    return structural(value, definitions)


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Follow `$ref`, and drop the `null` of an optional field: what is left out of YAML is simply not there."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        return _resolved({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    choices = node.get("anyOf")
    if choices and {"type": "null"} in choices:
        (choice,) = [choice for choice in choices if choice != {"type": "null"}]
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _resolved({**choice, **rest}, definitions)
    return node


def _written_for_kubernetes(node: dict[str, Any]) -> dict[str, Any]:
    """Write as OpenAPI 3.0 and structural schemas do what JSON Schema writes otherwise.

    An exclusive bound is a flag beside the bound. The keys of a map have no schema: the operator checks them.
    """
    written = dict(node)
    if "exclusiveMinimum" in node:
        written |= {"minimum": node["exclusiveMinimum"], "exclusiveMinimum": True}
    if "patternProperties" in node:
        (written["additionalProperties"],) = written.pop("patternProperties").values()
    if MARK in node:
        written["description"] = f"{node['description']} Sets {written.pop(MARK)}."
    return written


def schema_of(model: type[Model]) -> dict[str, Any]:
    """Structural schema of one type."""
    generated = model.model_json_schema(by_alias=True, mode="validation")
    return structural(generated, generated.get("$defs", {}))


def _with_defaults(schema: dict[str, Any], model: type[Model]) -> dict[str, Any]:
    """Give every group that is always there an empty default: the defaults inside it show, and rules read them."""
    groups = {str(field.alias) for field in model.model_fields.values() if field.default_factory}
    properties = {
        name: {**field, "default": {}} if name in groups else field for name, field in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _version() -> dict[str, Any]:
    return {
        "name": meta.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": COLUMNS,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": "A model, and the vLLM engines that serve it once they have completed a prompt.",
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string", "description": f"{meta.API_VERSION}."},
                    "kind": {"type": "string", "description": f"{meta.KIND}."},
                    "metadata": {"type": "object"},
                    "spec": _with_defaults(schema_of(VLLMModelSpec), VLLMModelSpec),
                    "status": schema_of(VLLMModelStatus),
                },
            }
        },
    }


def crd() -> dict[str, Any]:
    """The whole CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{meta.PLURAL}.{meta.GROUP}",
            "labels": {"app.kubernetes.io/name": "vllm-operator", "app.kubernetes.io/part-of": "vllm-operator"},
        },
        "spec": {
            "group": meta.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": meta.KIND,
                "listKind": f"{meta.KIND}List",
                "plural": meta.PLURAL,
                "singular": meta.SINGULAR,
                "shortNames": list(meta.SHORT_NAMES),
                "categories": ["all"],
            },
            "versions": [_version()],
        },
    }


def crd_yaml() -> str:
    """The file in crds/, with a line that says where it comes from."""
    text: str = yaml.dump(crd(), Dumper=_DUMPER, sort_keys=False, width=120, allow_unicode=True)
    return f"# Generated from operator/vllm_operator/api by `make generate`; do not edit.\n{text}"
