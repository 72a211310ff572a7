"""The base of every type of the resource: camelCase outside, frozen, and nothing unknown passes unnoticed."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A part of the resource. Field names are snake_case in Python and camelCase in YAML."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Rule(NamedTuple):
    """A rule that the API server checks: a CEL expression, and what the user reads when it does not hold."""

    expression: str
    message: str


def cel(*rules: Rule) -> dict[str, Any]:
    """Rules as schema extras of the type that they stand on."""
    return {"x-kubernetes-validations": [{"rule": rule.expression, "message": rule.message} for rule in rules]}
