"""What a domain expects of its items."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .core import Strict


class AttributeConfig(Strict):
    """What is known of one attribute."""

    key: str = Field(min_length=1, max_length=50, pattern=r"^[a-z][a-z0-9_]*$")
    type: str = Field(pattern=r"^(categorical|text|numeric|boolean|date)$")
    examples: list[str] = Field(default_factory=list)
    notes: str | None = Field(default=None, max_length=500)
    normalize_to_lower: bool = False
    allow_values: list[str] | None = None
    required: bool = False
    max_length: int | None = Field(default=None, ge=1, le=5000)
    pattern: str | None = None


class DomainPack(Strict):
    """The file of a domain; what an extraction does not read may be anything."""

    domain: str = Field(min_length=1, max_length=50, pattern=r"^[a-z][a-z0-9_-]*$")
    taxonomy_version: str = Field(min_length=1, max_length=20, pattern=r"^[0-9]{4}\.[0-9]{2}(-[a-z0-9]+)?$")
    input_mapping: dict[str, list[str]]
    output_schema: dict[str, Any]
    attribute_hints: dict[str, dict[str, Any]] = Field(default_factory=dict)
    rules: dict[str, Any] = Field(default_factory=dict)
    prompts: dict[str, str] = Field(default_factory=dict)
    evaluation: dict[str, Any] | None = None
    runtime: dict[str, Any] = Field(default_factory=dict)
