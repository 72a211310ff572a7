"""Do the values in the free parts of a spec have the types that the API's fields have?

The schema of the resource cannot say it of a patch of the pod or of the inside of a volume. Where a type is wrong, such
as a label that YAML reads as true, the API server answers an apply with 500, which says to try again. Fields that the
table does not know pass: a newer API server may have them, and any other refuses them itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.pod_schema import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WORDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "quantity": "a quantity",
    "int-or-string": "a whole number or text",
}


_INT64: Final = range(-(2**63), 2**63)
"""Whole numbers beyond it are no integers to the API server, whatever the width of the field."""


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _INT64


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "integer": _is_integer,
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "quantity": lambda value: isinstance(value, str) or _is_number(value),
    "int-or-string": lambda value: isinstance(value, str) or _is_integer(value),
}


def type_faults(value: Any, kind: str, path: str) -> Iterator[str]:
    """What has another type in `value` than the API's type `kind` wants, each with its path below `path`.

    Nulls and the directives of a strategic merge patch pass: `render.patch` judges them.
    """
    if value is None or kind == "any":
        return
    if kind in _CHECKS:
        if not _CHECKS[kind](value):
            yield f"{path}: must be {_WORDS[kind]}, not {_told(value)}{_advice(value, kind)}"
    elif kind.startswith("["):
        yield from _in_list(value, kind[1:-1], path)
    elif kind.startswith("{"):
        yield from _in_map(value, lambda _: kind[1:-1], path)
    else:
        yield from _in_map(value, lambda name: FIELDS[kind].get(name, "any"), path)


def _in_list(value: Any, kind: str, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: must be a list, not {_told(value)}"
        return
    for number, item in enumerate(value):
        yield from type_faults(item, kind, f"{path}[{number}]")


def _in_map(value: Any, kind_of: Callable[[str], str], path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path}: must be a map, not {_told(value)}"
        return
    for name, inner in value.items():
        if not str(name).startswith("$"):
            yield from type_faults(inner, kind_of(str(name)), f"{path}.{name}")


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a map"
    return "a list" if isinstance(value, list) else json.dumps(value, ensure_ascii=False)[:64]


def _advice(value: Any, kind: str) -> str:
    if kind in {"boolean", "integer", "number"} and isinstance(value, str):
        return ": leave the quotes out"
    if kind not in {"string", "int-or-string"} or isinstance(value, Mapping | list):
        return ""
    if isinstance(value, bool):
        return ': put it in quotes; YAML reads on, off, yes and no as true and false, so write "on"'
    return ": put it in quotes"
