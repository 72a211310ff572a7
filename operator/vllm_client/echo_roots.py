"""What the extraction pipeline of echo-roots takes for an answer, and a client that gives it nothing else.

    async with ExtractionClient(create_llm_client("vllm"), load_domain_pack("domains/ecommerce/domain.yaml")) as llm:
        pipeline = ExtractionPipeline("domains", llm_client=llm)

The pipeline asks again where `complete` raises, and only there: an answer that its classes or the rules of its domain
refuse loses the item at once. Nothing of echo-roots is imported here. The bounds and rules are those of its classes
`AttributeExtraction`, `SemanticTerm`, `ExtractionResult` and `AttributeValidator`, read at commit 06c7377.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from vllm_client.errors import ConfigurationError, InvalidAnswer
from vllm_client.schema import located
from vllm_client.wrapper import ClientWrapper, target_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_client.protocol import LLMClient

logger = logging.getLogger("vllm_client")

MOST_ATTRIBUTES: Final = 32
MOST_TERMS: Final = 16
"""How many of a kind vLLM lets the model write; the pipeline sets no bound, and a small model would find no end."""

LONGEST_COUNTED: Final = 64
"""The most characters that vLLM is made to count: xgrammar 0.2 compiles 100 seven times as long as 20, and some of its
versions need tens of milliseconds a token while they count."""

_ADVICE: Final = "Raise max_tokens of ExtractorConfig where the answer is cut off; else the model needs a better prompt"
_FENCE: Final = "```"
_NUMBER: Final = "^-?[0-9]{1,12}([.][0-9]{1,6})?$"
_TRUTHS: Final = ("true", "false", "1", "0")
_NOT_IN_GRAMMARS: Final = re.compile(r"\(\?(?!:)|\\[^\Wdsw]")
"""What is special to Python's patterns: lookarounds, flags and names; back references, \\b and the like."""
_ANY_TEXT: Final = {"type": "string", "minLength": 1}
_TYPES: Final = ("categorical", "text", "numeric", "boolean", "date")


def _at_most(characters: int) -> AfterValidator:
    """Refuses longer texts, without a `maxLength` in the schema: see LONGEST_COUNTED."""

    def check(text: str) -> str:
        if len(text) > characters:
            raise ValueError(f"has {len(text)} characters, and the pipeline takes {characters}")
        return text

    return AfterValidator(check)


_Text: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Confidence: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class ExtractedAttribute(BaseModel):
    """A property that the item's text says, of the fields and bounds of echo-roots' `AttributeExtraction`.

    The class there can do without a confidence, and its validator cannot: without one the item is lost.
    """

    model_config = ConfigDict(extra="forbid")

    name: Annotated[_Text, _at_most(100)]
    value: Annotated[_Text, _at_most(500)]
    evidence: Annotated[_Text, _at_most(1000)]
    confidence: _Confidence


class ExtractedTerm(BaseModel):
    """A term that the item's text uses, of the fields and bounds of echo-roots' `SemanticTerm`."""

    model_config = ConfigDict(extra="forbid")

    term: Annotated[_Text, _at_most(200)]
    context: Annotated[_Text, _at_most(1000)]
    confidence: _Confidence


class Extraction(BaseModel):
    """What the pipeline reads of an answer."""

    model_config = ConfigDict(extra="forbid")

    attributes: list[ExtractedAttribute] = Field(json_schema_extra={"maxItems": MOST_ATTRIBUTES})
    terms: list[ExtractedTerm] = Field(json_schema_extra={"maxItems": MOST_TERMS})


class DomainPack(Protocol):
    """What is read of echo-roots' `DomainPack`."""

    output_schema: dict[str, Any]
    attribute_hints: dict[str, dict[str, Any]]


class AttributeRule(BaseModel):
    """What a domain says of the values of one attribute; the keys that decide nothing are left out.

    Attributes:
        key: The attribute's name.
        type: How the values are checked.
        allow_values: The values there are; None: any.
        max_length: The most characters of a text.
        pattern: How a text begins.
    """

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    key: str
    type: str = Field(pattern=f"^({'|'.join(_TYPES)})$")
    allow_values: tuple[str, ...] | None = None
    max_length: int | None = None
    pattern: str | None = None

    def problem_of(self, value: str) -> str:
        """Why the pipeline's validator would refuse the value; empty where it takes it."""
        if self.type == "categorical" and self.allow_values and value not in self.allow_values:
            return f"{value!r} is none of {', '.join(self.allow_values)}"
        if self.type == "text" and self.max_length and len(value) > self.max_length:
            return f"has {len(value)} characters, and the domain allows {self.max_length}"
        if self.type == "text" and self.pattern and not re.match(self.pattern, value):
            return f"{value!r} does not match {self.pattern}"
        if self.type == "boolean" and value.lower() not in _TRUTHS:
            return f"{value!r} is neither true nor false"
        if self.type == "numeric":
            try:
                float(value)
            except ValueError:
                return f"{value!r} is no number"
        return ""

    def value_schema(self) -> dict[str, Any]:
        """The JSON schema of the values, as far as engines can keep to it; the rest is only checked."""
        if self.type == "categorical" and self.allow_values:
            return {"enum": list(self.allow_values)}
        if self.type == "boolean":
            return {"enum": list(_TRUTHS[:2])}
        if self.type == "numeric":
            return {"type": "string", "pattern": _NUMBER}
        return self._text_schema() if self.type == "text" else _ANY_TEXT

    def _text_schema(self) -> dict[str, Any]:
        """The same for a text: what is not enforced is told, so that other rules make another schema.

        Grammars match a pattern from end to end, and some do not count beside one, so that it stands alone.
        """
        rules = {"max_length": self.max_length, "pattern": self.pattern}
        told = {"description": ", ".join(f"{name} {rule}" for name, rule in rules.items() if rule)}
        if self.pattern and not _NOT_IN_GRAMMARS.search(self.pattern):
            return {"type": "string", "pattern": self.pattern, **told}
        if self.max_length and self.max_length <= LONGEST_COUNTED:
            return {**_ANY_TEXT, "maxLength": self.max_length, **told}
        return {**_ANY_TEXT, **told}


@dataclass(frozen=True)
class Rules:
    """What a domain says of its attributes, by their names."""

    by_key: Mapping[str, AttributeRule]

    def check(self, attributes: list[ExtractedAttribute]) -> list[ExtractedAttribute]:
        """The attributes. Names that the domain does not know are taken, as the pipeline takes them.

        Raises:
            ValueError: A value is none that the domain allows.
        """
        for attribute in attributes:
            rule = self.by_key.get(attribute.name)
            if rule is not None and (problem := rule.problem_of(attribute.value)):
                raise ValueError(f"attribute {attribute.name}: {problem}")
        return attributes

    def json_schema(self) -> dict[str, Any]:
        """The JSON schema of the list: only names of the domain, each with its own values."""
        common = ExtractedAttribute.model_json_schema()
        items = [
            {**common, "properties": {**common["properties"], "name": {"const": key}, "value": rule.value_schema()}}
            for key, rule in self.by_key.items()
        ]
        return {"type": "array", "items": {"anyOf": items}, "maxItems": len(items)}


def rules_of(domain: DomainPack | Mapping[str, Any]) -> Rules:
    """The rules in a domain pack, or in the mapping that its file holds: `attributes`, and `attribute_hints` over them.

    Raises:
        ConfigurationError: A rule cannot be checked: echo-roots would leave it out in silence, or lose items by it.
    """
    schema = domain["output_schema"] if isinstance(domain, Mapping) else domain.output_schema
    hints = domain.get("attribute_hints") or {} if isinstance(domain, Mapping) else domain.attribute_hints
    told = [one for one in schema.get("attributes") or () if isinstance(one, Mapping) and "key" in one]
    return Rules({str(one["key"]): _rule({**one, **(hints.get(one["key"]) or {})}) for one in told})


def _rule(told: Mapping[str, Any]) -> AttributeRule:
    try:
        rule = AttributeRule.model_validate(dict(told))
        re.compile(rule.pattern or "")
    except (ValidationError, re.error) as error:
        problem = problems_of(error) if isinstance(error, ValidationError) else f"pattern: {error}"
        raise ConfigurationError(
            f"the domain's attribute {told['key']} has a rule that nobody can check: {problem}",
            variable=f"attributes.{told['key']}",
            advice=f"Mend it in domain.yaml: type is one of {', '.join(_TYPES)}, allow_values are texts (quote yes)",
        ) from error
    return rule


def extraction_schema(
    domain: DomainPack | Mapping[str, Any] | None = None, *, max_terms: int = MOST_TERMS
) -> type[Extraction]:
    """The class that an answer has to fit, for `schema=`; vLLM then writes nothing else.

    Args:
        domain: The domain pack that the pipeline uses, or the mapping in its file. With it, attributes have the names
            and values that the domain allows; without it, any.
        max_terms: How many terms vLLM lets the model write; a small model writes as many as it may.

    Raises:
        ConfigurationError: A rule of the domain cannot be checked.
    """
    rules = rules_of(domain) if domain is not None else Rules({})
    fields: dict[str, Any] = {}
    if rules.by_key:
        kept = (AfterValidator(rules.check), WithJsonSchema(rules.json_schema()))
        fields["attributes"] = (Annotated[list[ExtractedAttribute], *kept], ...)
    if max_terms != MOST_TERMS:
        fields["terms"] = (list[ExtractedTerm], Field(json_schema_extra={"maxItems": max_terms}))
    return create_model(Extraction.__name__, __base__=Extraction, **fields) if fields else Extraction


class ExtractionClient(ClientWrapper):
    """The `LLMClient` for an `ExtractionPipeline`: each answer is one that the pipeline takes.

    What does not fit is raised, so that the pipeline asks again (`retry_attempts`). Of an attribute that is named
    twice, for which the pipeline would refuse the item, the more confident one stays. With a list of items the pipeline
    shows nothing of what was raised: so every failure is logged, as a warning of the logger `vllm_client`.

    Args:
        llm: The client to ask; closed with this one. A `CachedClient` may stand inside: it keeps only what fits.
        domain: As for `extraction_schema`. Clients for several domains may share one `llm`.
        max_terms: As for `extraction_schema`.

    Attributes:
        schema: What answers have to fit.

    Raises:
        ConfigurationError: A rule of the domain cannot be checked.
    """

    def __init__(
        self,
        llm: LLMClient,
        domain: DomainPack | Mapping[str, Any] | None = None,
        *,
        max_terms: int = MOST_TERMS,
    ) -> None:
        super().__init__(llm)
        self.schema = extraction_schema(domain, max_terms=max_terms)

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The answer to a prompt of the pipeline, as JSON.

        Raises:
            InvalidAnswer: It is none that the pipeline takes.
            VLLMError: As the client inside.
        """
        begun = time.monotonic()
        try:
            return self._fitting(await self.llm.complete(prompt, schema=self.schema, **kwargs))
        except Exception as error:
            logger.warning("no extraction: %s: %s", type(error).__name__, error)
            raise
        except asyncio.CancelledError:
            seconds = time.monotonic() - begun
            logger.warning("no extraction: given up after %.1f s: by timeout_seconds, or the program ends", seconds)
            raise

    def _fitting(self, answer: str) -> str:
        """The answer as the pipeline takes it.

        Raises:
            InvalidAnswer: There is no way to.
        """
        try:
            found = self.schema.model_validate_json(answer)
        except ValidationError as error:
            target = target_of(self.llm)
            problem = f"model {target.model_name}: echo-roots would refuse the answer: {problems_of(error)}"
            raise InvalidAnswer(problem, endpoint=target.endpoint, advice=_ADVICE) from error
        return pipeline_json(found.model_copy(update={"attributes": unique_attributes(found.attributes)}))


def problems_of(error: ValidationError) -> str:
    """What does not fit and where, in one line."""
    return "; ".join(located(one, "answer") for one in error.errors())


def unique_attributes(attributes: Sequence[ExtractedAttribute]) -> list[ExtractedAttribute]:
    """Each name once, with the value of the highest confidence, the first one of several; in their order."""
    best: dict[str, ExtractedAttribute] = {}
    for attribute in attributes:
        known = best.get(attribute.name)
        if known is None or attribute.confidence > known.confidence:
            best[attribute.name] = attribute
    return list(best.values())


def pipeline_json(extraction: Extraction) -> str:
    """The JSON, with backticks escaped: the pipeline cuts out what stands between two fences, also within a text."""
    return extraction.model_dump_json().replace(_FENCE, r"\u0060" * len(_FENCE))
