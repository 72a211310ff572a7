"""Items, and what is found in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

LANGUAGE = r"^[a-z]{2}(-[A-Z]{2})?|auto$"


class Strict(BaseModel):
    """Texts lose the white space around them, and fields that nobody knows are refused."""

    model_config = ConfigDict(str_strip_whitespace=True, extra="forbid", protected_namespaces=())


class IngestionItem(Strict):
    """A text in which something is to be found."""

    item_id: str = Field(min_length=1, max_length=255)
    title: str = Field(min_length=1, max_length=1000)
    description: str | None = Field(default=None, max_length=5000)
    raw_category: str | None = Field(default=None, max_length=500)
    raw_attributes: dict[str, Any] = Field(default_factory=dict)
    source: str = Field(min_length=1, max_length=100)
    language: str = Field(default="auto", pattern=LANGUAGE)
    metadata: dict[str, Any] = Field(default_factory=dict)
    ingested_at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class AttributeExtraction(Strict):
    """An attribute that was found."""

    name: str = Field(min_length=1, max_length=100)
    value: str = Field(min_length=1, max_length=500)
    evidence: str = Field(min_length=1, max_length=1000)
    confidence: float | None = Field(default=None, ge=0.0, le=1.0)


class SemanticTerm(Strict):
    """A term that was found."""

    term: str = Field(min_length=1, max_length=200)
    context: str = Field(min_length=1, max_length=1000)
    confidence: float = Field(ge=0.0, le=1.0)
    frequency: int | None = Field(default=None, ge=1)


class ExtractionMetadata(Strict):
    """How it was found."""

    model: str = Field(min_length=1, max_length=100)
    run_id: str = Field(min_length=1, max_length=100)
    extracted_at: datetime
    processing_time_ms: int | None = Field(default=None, ge=0)


class ExtractionResult(Strict):
    """What was found in an item."""

    item_id: str = Field(min_length=1, max_length=255)
    attributes: list[AttributeExtraction] = Field(default_factory=list)
    terms: list[SemanticTerm] = Field(default_factory=list)
    metadata: ExtractionMetadata

    @field_validator("attributes")
    @classmethod
    def names_differ(cls, attributes: list[AttributeExtraction]) -> list[AttributeExtraction]:
        """Refuse a name that stands there twice."""
        if len({one.name for one in attributes}) < len(attributes):
            raise ValueError("an attribute is named twice")
        return attributes
