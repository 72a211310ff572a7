"""What the API server makes of a resource before it looks at rules: unknown fields, nulls, defaults, types and bounds.

All of it follows from the schema of the CustomResourceDefinition, as in the API server itself
(k8s.io/apiextensions-apiserver, and the validation of k8s.io/kube-openapi); nothing is written twice. A contract test
holds it against a real one.
"""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vllm_operator.api import quantity
from vllm_operator.api.spec.scalars import TEXT_FORMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Schema = dict[str, Any]

_OPEN: Final = "x-kubernetes-preserve-unknown-fields"
_EITHER: Final = "x-kubernetes-int-or-string"
_NAMES: Final = {
    "object": "a map",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
"""Types as people call them."""


class Fault(NamedTuple):
    """What the API server would refuse."""

    path: str
    """Path of the field, as the API server writes it: `spec.engine.env[0].name`."""
    message: str


def below(path: str, name: str) -> str:
    """Path of a field of what stands at a path."""
    return f"{path}.{name}" if path else name


def unknown_fields(schema: Schema, value: Any, path: str = "") -> Iterator[Fault]:
    """Fields that the schema does not know. kubectl asks the API server to refuse them instead of dropping them."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from unknown_fields(schema.get("items", {}), item, f"{path}[{position}]")
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        inner = field_schema(schema, name)
        if inner is not None:
            yield from unknown_fields(inner, item, below(path, name))
        elif schema and not schema.get(_OPEN):
            yield Fault(below(path, name), "there is no such field")


def field_schema(schema: Schema, name: str) -> Schema | None:
    """Schema of a field, or of the values of a map; None where there is none."""
    found: Schema | None = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    return found


def stored(schema: Schema, value: Any) -> Any:
    """The value as the API server stores it: fields that are null are as if they were not there, and defaults are set.

    A null in a list stays, and one where no schema is.
    """
    if isinstance(value, list):
        return [stored(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return float(value) if schema.get("type") == "number" and type(value) is int else value
    given = {name: item for name, item in value.items() if item is not None or field_schema(schema, name) is None}
    fields = schema.get("properties", {})
    defaults = {name: copy.deepcopy(field["default"]) for name, field in fields.items() if "default" in field}
    return {name: stored(field_schema(schema, name) or {}, item) for name, item in (defaults | given).items()}


def nulls(schema: Schema, value: Any, path: str = "") -> Iterator[str]:
    """Paths of the nulls that are dropped, and that no default stands in for."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from nulls(schema.get("items", {}), item, f"{path}[{position}]")
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        inner = field_schema(schema, name)
        if inner is None:
            continue
        if item is None and "default" not in inner:
            yield below(path, name)
        yield from nulls(inner, item, below(path, name))


def faults(schema: Schema, value: Any, path: str = "") -> Iterator[Fault]:
    """What is wrong with the types and bounds of a value, nulls dropped and defaults set."""
    wrong = _type_fault(schema, value)
    if wrong:
        yield Fault(path, wrong)
        return
    if "enum" in schema and value not in schema["enum"]:
        yield Fault(path, f"must be one of {', '.join(map(str, schema['enum']))}, not {_shown(value)}")
    if isinstance(value, str):
        yield from _text_faults(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_faults(schema, value, path)
    elif isinstance(value, list):
        yield from _list_faults(schema, value, path)
    elif isinstance(value, dict):
        yield from _map_faults(schema, value, path)


def _type_fault(schema: Schema, value: Any) -> str:
    """What is wrong with a value's type, and the way out; empty if nothing, or if any type will do."""
    wanted = ["integer", "string"] if schema.get(_EITHER) else [schema["type"]] if "type" in schema else []
    kind = _type_of(value)
    if not wanted or kind in wanted or (kind == "integer" and "number" in wanted):
        return ""
    names = _form_of(schema) if schema.get(_EITHER) else _NAMES[wanted[0]]
    told = f"must be {names}, not {_shown(value)}"
    if "string" not in wanted or isinstance(value, dict | list) or value is None:
        return told
    written = _shown(value)
    if not _fits(schema, written):
        return told
    return f'{told}: write "{written}"{_or_canonical(schema, written)}'


def _or_canonical(schema: Schema, written: str) -> str:
    """The other way out for a quantity: the text that the API server makes of it."""
    if schema.get("pattern") != quantity.PATTERN:
        return ""
    try:
        return f" or {quantity.canonical(written)}"
    except ArithmeticError:
        return ""


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "integer" if value.is_integer() and abs(value) <= _LARGEST_WHOLE else "number"
    kinds = {dict: "object", list: "array", str: "string", int: "integer", type(None): "null"}
    return kinds[type(value)]


_LARGEST_WHOLE: Final = 2.0**53 - 1
"""Beyond it the API server takes a number with an exponent for no integer."""


def _shown(value: Any) -> str:
    """A value as people write it in YAML."""
    if isinstance(value, dict | list):
        return _NAMES[_type_of(value)]
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


_LONGEST_SHOWN: Final = 80


def _form_of(schema: Schema) -> str:
    return TEXT_FORMS.get(schema.get("pattern", ""), "a whole number or a text")


def _fits(schema: Schema, text: str) -> bool:
    pattern = schema.get("pattern")
    return pattern is None or _compiled(pattern).search(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern as the API server means it: `$` is the very end, and classes are those of ASCII."""
    return re.compile(pattern.removesuffix("$") + (r"\Z" if pattern.endswith("$") else ""), re.ASCII)


def _text_faults(schema: Schema, text: str, path: str) -> Iterator[Fault]:
    if len(text) > schema.get("maxLength", len(text)):
        yield Fault(path, f"is longer than {schema['maxLength']} characters")
    if len(text) < schema.get("minLength", 0):
        yield Fault(path, "is empty")
    if not _fits(schema, text):
        form = TEXT_FORMS.get(schema["pattern"], f"a text that matches {schema['pattern']}")
        yield Fault(path, f"must be {form}, not {_shown(text)}")


def _number_faults(schema: Schema, value: float, path: str) -> Iterator[Fault]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value <= low if schema.get("exclusiveMinimum") else value < low):
        yield Fault(path, f"must be {'more than' if schema.get('exclusiveMinimum') else 'at least'} {low}, not {value}")
    if high is not None and value > high:
        yield Fault(path, f"must be at most {high}, not {value}")


def _list_faults(schema: Schema, items: list[Any], path: str) -> Iterator[Fault]:
    yield from _size_faults(len(items), schema.get("minItems"), schema.get("maxItems"), "items", path)
    for position, item in enumerate(items):
        yield from faults(schema.get("items", {}), item, f"{path}[{position}]")


def _map_faults(schema: Schema, fields: Mapping[str, Any], path: str) -> Iterator[Fault]:
    yield from _size_faults(len(fields), schema.get("minProperties"), schema.get("maxProperties"), "fields", path)
    for name in schema.get("required", ()):
        if name not in fields:
            yield Fault(below(path, name), "must be set")
    for name, item in fields.items():
        yield from faults(field_schema(schema, name) or {}, item, below(path, name))


def _size_faults(size: int, low: int | None, high: int | None, what: str, path: str) -> Iterator[Fault]:
    if low is not None and size < low:
        yield Fault(path, f"must have at least {low} {what}, not {size}")
    if high is not None and size > high:
        yield Fault(path, f"must have at most {high} {what}, not {size}")
