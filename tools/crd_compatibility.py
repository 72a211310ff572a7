"""What a CustomResourceDefinition takes away from those who use the one before: docs/versions.md says what may not be.

Within an API version whatever was accepted is accepted, and means the same: no field goes, no type, bound or list of
values becomes narrower, nothing becomes required, no default changes. Rules (CEL) and combinations of schemas cannot be
compared by a program: their changes are told for a person to read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

Schema = dict[str, Any]

_LOWER: Final = ("minimum", "minLength", "minItems", "minProperties")
"""Bounds that may fall or go, and not rise or come."""

_UPPER: Final = ("maximum", "maxLength", "maxItems", "maxProperties")
"""Bounds that may rise or go."""

_KEPT: Final = ("pattern", "format", "multipleOf", "default", "x-kubernetes-list-type", "x-kubernetes-list-map-keys")
"""What may not change; a pattern, a format or a multiple may go."""

_MAY_GO: Final = ("pattern", "format", "multipleOf")

_OPENINGS: Final = ("nullable", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string")
"""What accepts more where it is true."""

_BY_A_PERSON: Final = ("x-kubernetes-validations", "allOf", "anyOf", "oneOf", "not")


@dataclass
class Comparison:
    """What has changed between two definitions."""

    breaks: list[str] = field(default_factory=list)
    """Sentences that begin with the path of what some users have to change."""
    to_read: list[str] = field(default_factory=list)
    """The same of changes that only a person can judge."""


def compare(before: Schema, after: Schema) -> Comparison:
    """Compare two definitions."""
    found = Comparison()
    for place in ("group", "scope"):
        if before["spec"][place] != after["spec"][place]:
            found.breaks.append(f"spec.{place}: was {before['spec'][place]}, is {after['spec'][place]}")
    for place in ("kind", "plural"):
        old, new = before["spec"]["names"][place], after["spec"]["names"][place]
        if old != new:
            found.breaks.append(f"spec.names.{place}: was {old}, is {new}")
    gone = set(before["spec"]["names"].get("shortNames", ())) - set(after["spec"]["names"].get("shortNames", ()))
    found.breaks += [f"spec.names.shortNames: {name} is gone" for name in sorted(gone)]
    versions = {one["name"]: one for one in after["spec"]["versions"]}
    for old in before["spec"]["versions"]:
        _compare_versions(old, versions.get(old["name"]), found)
    return found


def _compare_versions(before: Schema, after: Schema | None, found: Comparison) -> None:
    name = before["name"]
    if after is None or (before["served"] and not after["served"]):
        found.breaks.append(f"{name}: is no longer served")
        return
    for subresource in sorted(set(before.get("subresources", {})) - set(after.get("subresources", {}))):
        found.breaks.append(f"{name}: subresource {subresource} is gone")
    _compare_schemas(before["schema"]["openAPIV3Schema"], after["schema"]["openAPIV3Schema"], name, found)


def _compare_schemas(before: Schema, after: Schema, path: str, found: Comparison) -> None:
    if before.get("type") != after.get("type"):
        found.breaks.append(f"{path}: type was {before.get('type', 'any')}, is {after.get('type', 'any')}")
        return
    _compare_bounds(before, after, path, found)
    _compare_values(before, after, path, found)
    properties, now = before.get("properties", {}), after.get("properties", {})
    for name in sorted(set(after.get("required", ())) - set(before.get("required", ()))):
        found.breaks.append(f"{path}.{name}: is required now")
    for name, schema in properties.items():
        if name in now:
            _compare_schemas(schema, now[name], f"{path}.{name}", found)
        elif not after.get("x-kubernetes-preserve-unknown-fields"):
            found.breaks.append(f"{path}.{name}: is gone")
    if "items" in before and "items" in after:
        _compare_schemas(before["items"], after["items"], f"{path}[]", found)
    old, new = before.get("additionalProperties"), after.get("additionalProperties")
    if isinstance(old, dict) and isinstance(new, dict):
        _compare_schemas(old, new, f"{path}.*", found)
    elif old and not new:
        found.breaks.append(f"{path}: takes no keys of any name any more")


def _compare_bounds(before: Schema, after: Schema, path: str, found: Comparison) -> None:
    for name in _LOWER:
        old, new = before.get(name), after.get(name)
        if new is not None and (old is None or new > old):
            found.breaks.append(f"{path}: {name} was {_shown(old)}, is {new}")
    for name in _UPPER:
        old, new = before.get(name), after.get(name)
        if new is not None and (old is None or new < old):
            found.breaks.append(f"{path}: {name} was {_shown(old)}, is {new}")
    for name in _OPENINGS:
        if before.get(name) and not after.get(name):
            found.breaks.append(f"{path}: {name} is gone")


def _compare_values(before: Schema, after: Schema, path: str, found: Comparison) -> None:
    if "enum" in after:
        gone = [value for value in before.get("enum", ["anything else"]) if value not in after["enum"]]
        found.breaks += [f"{path}: {value} is no longer accepted" for value in gone]
    for name in _KEPT:
        old, new = before.get(name), after.get(name)
        if old != new and not (new is None and name in _MAY_GO):
            found.breaks.append(f"{path}: {name} was {_shown(old)}, is {_shown(new)}")
    for name in _BY_A_PERSON:
        if before.get(name) != after.get(name):
            found.to_read.append(f"{path}: {name} is not what it was")


def _shown(value: object) -> str:
    return "not set" if value is None else json.dumps(value)
