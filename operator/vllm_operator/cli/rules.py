"""What the API server checks beside types and bounds: the rules of the schema, lists whose items are told apart, nulls.

The rules are those of the schema itself, in CEL, so nothing is written twice. Rules that compare with the object before
an edit are left out: a file has no past.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cel
from cel import stdlib

from vllm_operator.api.crd import crd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {"replace": stdlib.replace, "split": stdlib.split}
"""What Kubernetes has beside the language itself, as far as our rules use it."""

_BEFORE: Final = "oldSelf"


class Fault(NamedTuple):
    """What the API server would refuse."""

    path: str
    """Path of the field, as the API server writes it: `spec.engine.env[0].name`."""
    message: str


def faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """Everything that is wrong with a resource whose types and bounds are right; defaults need not be set."""
    schema = _schema()
    yield from _faults(schema, _defaulted(schema, document), "")


@cache
def _schema() -> dict[str, Any]:
    (version,) = crd()["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def _defaulted(schema: Mapping[str, Any], value: Any) -> Any:
    """The value as the API server hands it to rules: defaults set, numbers of the schema's own kind."""
    if isinstance(value, dict):
        return _defaulted_map(schema, value)
    if isinstance(value, list):
        return [_defaulted(schema.get("items", {}), item) for item in value]
    return float(value) if schema.get("type") == "number" and isinstance(value, int) else value


def _defaulted_map(schema: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    fields, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    defaults = {name: copy.deepcopy(field["default"]) for name, field in fields.items() if "default" in field}
    given = {name: item for name, item in value.items() if item is not None or name not in defaults}
    return {name: _defaulted(fields.get(name, others), item) for name, item in (defaults | given).items()}


def _faults(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[Fault]:
    if value is None and schema:
        yield Fault(path, "is empty: give it a value, or leave it out")
        return
    for rule in schema.get("x-kubernetes-validations", []):
        if _BEFORE not in rule["rule"]:
            yield from _broken(rule, value, path)
    if isinstance(value, list):
        yield from _repeated(schema, value, path)
        for position, item in enumerate(value):
            yield from _faults(schema.get("items", {}), item, f"{path}[{position}]")
    if isinstance(value, dict):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for name, item in value.items():
            yield from _faults(fields.get(name, others), item, f"{path}.{name}".lstrip("."))


def _broken(rule: Mapping[str, str], value: Any, path: str) -> Iterator[Fault]:
    if _evaluated(rule["rule"], value) is not True:
        yield Fault(path + rule.get("fieldPath", ""), _message(rule, value))


def _message(rule: Mapping[str, str], value: Any) -> str:
    told = _evaluated(rule["messageExpression"], value) if "messageExpression" in rule else None
    return told if isinstance(told, str) else rule["message"]


def _evaluated(expression: str, value: Any) -> Any:
    """What the expression makes of the value; None where it fails, which the API server counts as a refusal too."""
    try:
        return _program(expression).execute(cel.Context({"self": value}, _FUNCTIONS))
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return None


@cache
def _program(expression: str) -> cel.Program:
    return cel.compile(expression)


def _repeated(schema: Mapping[str, Any], items: list[Any], path: str) -> Iterator[Fault]:
    """Items that the API server takes for the same one."""
    kind = schema.get("x-kubernetes-list-type")
    if kind not in {"map", "set"}:
        return
    keys = schema.get("x-kubernetes-list-map-keys", [])
    seen: set[str] = set()
    for position, item in enumerate(items):
        identity = json.dumps([item.get(key) for key in keys] if kind == "map" else item, sort_keys=True)
        if identity in seen:
            yield Fault(f"{path}[{position}]", f"repeats {' '.join(json.loads(identity)) if kind == 'map' else item}")
        seen.add(identity)
