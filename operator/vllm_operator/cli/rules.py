"""What the API server checks beside types and bounds: the rules of the schema, and lists whose items are told apart.

The rules are those of the schema itself, in CEL, so nothing is written twice. Rules that compare with the object before
an edit are left out: a file has no past, and is judged as a new object.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.base import ON_CREATE
from vllm_operator.api.crd import crd
from vllm_operator.cli.schema import Fault, below, field_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.cli.schema import Schema

_BEFORE: Final = "oldSelf"


@cache
def schema() -> Schema:
    """The schema of the resource."""
    (version,) = crd()["spec"]["versions"]
    found: Schema = version["schema"]["openAPIV3Schema"]
    return found


def faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """The rules that a resource breaks.

    It is as the API server would store it, and its types and bounds are right: of any other one, rules say what is not
    true.
    """
    return _faults(schema(), document, "")


def _faults(node: Schema, value: Any, path: str) -> Iterator[Fault]:
    for rule in node.get("x-kubernetes-validations", []):
        expression = rule["rule"].removeprefix(ON_CREATE)
        if _BEFORE not in expression:
            yield from _broken({**rule, "rule": expression}, value, path)
    if isinstance(value, list):
        yield from _repeated(node, value, path)
        for position, item in enumerate(value):
            yield from _faults(node.get("items", {}), item, f"{path}[{position}]")
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _faults(field_schema(node, name) or {}, item, below(path, name))


def _broken(rule: Mapping[str, str], value: Any, path: str) -> Iterator[Fault]:
    if _evaluated(rule["rule"], value) is not True:
        yield Fault(path + rule.get("fieldPath", ""), _message(rule, value))


def _message(rule: Mapping[str, str], value: Any) -> str:
    told = _evaluated(rule["messageExpression"], value) if "messageExpression" in rule else None
    return told if isinstance(told, str) else rule["message"]


def _evaluated(expression: str, value: Any) -> Any:
    # a tenth of a second that commands which judge no file need not spend
    from vllm_operator.cli.expressions import evaluated  # noqa: PLC0415 # see above

    return evaluated(expression, value)


def _repeated(node: Schema, items: list[Any], path: str) -> Iterator[Fault]:
    """Items that the API server takes for the same one."""
    kind = node.get("x-kubernetes-list-type")
    if kind not in {"map", "set"}:
        return
    keys = node.get("x-kubernetes-list-map-keys", [])
    seen: set[str] = set()
    for position, item in enumerate(items):
        identity = json.dumps([item.get(key) for key in keys] if kind == "map" else item, sort_keys=True)
        if identity in seen:
            yield Fault(f"{path}[{position}]", f"repeats {' '.join(json.loads(identity)) if kind == 'map' else item}")
        seen.add(identity)
