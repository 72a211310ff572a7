"""The base of every type of the resource: camelCase outside, frozen, and nothing unknown passes unnoticed."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A part of the resource. Field names are snake_case in Python and camelCase in YAML."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def manifest(self) -> dict[str, Any]:
        """The value as it stands in YAML, without what is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OpenModel(Model):
    """A part whose further fields are those of the core API: taken as they are, and judged by the API server."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})


class Rule(NamedTuple):
    """A rule that the API server checks: a CEL expression, and what the user reads when it does not hold."""

    expression: str
    message: str
    message_expression: str = ""
    """CEL that makes a more telling message out of the value; `message` stands in where it fails."""
    field_path: str = ""
    """The field below the rule's own place that the API server shall name."""
    on_create: bool = False
    """Whether it is about new objects alone: what was stored before, or written by others since, may break it."""


ON_CREATE: Final = "oldSelf.hasValue() || "
"""How a rule about new objects begins (`optionalOldSelf`: Kubernetes 1.30 and newer)."""


def exactly_one(path: str, *fields: str) -> Rule:
    """The rule that of these fields of the part at `path` one is set, and no second one."""
    given = ", ".join(f"has(self.{field})" for field in fields)
    message = f"{path} takes exactly one of {', '.join(fields[:-1])} and {fields[-1]}"
    return Rule(f"[{given}].filter(given, given).size() == 1", message)


def cel(*rules: Rule) -> dict[str, Any]:
    """Rules as schema extras of the type that they stand on."""
    return {"x-kubernetes-validations": [_validation(rule) for rule in rules]}


def _validation(rule: Rule) -> dict[str, Any]:
    optional = {"messageExpression": rule.message_expression, "fieldPath": rule.field_path}
    told: dict[str, Any] = {"rule": rule.expression, "message": rule.message}
    told |= {key: text for key, text in optional.items() if text}
    if rule.on_create:
        told |= {"rule": f"{ON_CREATE}{rule.expression}", "optionalOldSelf": True}
    return told
