"""Ask a model what is in an item, and believe what fits."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, Field

from ..domain.loader import load_domain_pack  # noqa: TID252 - see domain/loader.py
from ..domain.merger import AttributeValidator  # noqa: TID252 - see domain/loader.py
from ..models.core import (  # noqa: TID252 - see domain/loader.py
    AttributeExtraction,
    ExtractionMetadata,
    ExtractionResult,
    IngestionItem,
    SemanticTerm,
)
from ..models.domain import DomainPack  # noqa: TC001, TID252 - see domain/loader.py


class LLMClient(Protocol):
    """What answers."""

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The answer."""


class ExtractorConfig(BaseModel):
    """How it is asked; a setting that nobody knows is left out in silence, as the real one does."""

    model_name: str = "gpt-4"
    temperature: float = Field(default=0.1, ge=0.0, le=1.0)
    max_tokens: int = Field(default=2000, gt=0)
    timeout_seconds: int = Field(default=30, gt=0)
    retry_attempts: int = Field(default=3, ge=0)
    batch_size: int = Field(default=10, gt=0)
    enable_validation: bool = True


class ExtractionError(Exception):
    """An item is lost."""

    def __init__(self, message: str, item_id: str | None = None, cause: Exception | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.item_id = item_id
        self.cause = cause


class ExtractionPipeline:
    """Asks for items of a domain."""

    def __init__(self, domains_path: str | Path, llm_client: LLMClient, config: ExtractorConfig | None = None) -> None:
        self.domains_path = Path(domains_path)
        self.llm_client = llm_client
        self.config = config or ExtractorConfig()

    async def extract(
        self, items: IngestionItem | list[IngestionItem], domain: str
    ) -> ExtractionResult | list[ExtractionResult]:
        """What is found: of one item, or an ExtractionError; of several, something empty for each that is lost."""
        pack = load_domain_pack(self.domains_path / domain / "domain.yaml")
        if isinstance(items, IngestionItem):
            return await self.one(items, pack)
        found: list[ExtractionResult] = []
        for at in range(0, len(items), self.config.batch_size):
            batch = items[at : at + self.config.batch_size]
            ended = await asyncio.gather(*(self.one(item, pack) for item in batch), return_exceptions=True)
            for item, result in zip(batch, ended, strict=True):
                lost = isinstance(result, BaseException)
                found.append(ExtractionResult(item_id=item.item_id, metadata=self.told("failed")) if lost else result)  # type: ignore[arg-type] # `lost` says so
        return found

    async def one(self, item: IngestionItem, pack: DomainPack) -> ExtractionResult:
        """What is found in one item.

        Raises:
            ExtractionError: There is no answer, or none that fits.
        """
        try:
            answer = read(await self.answer(prompt_for(item, pack)))
            result = ExtractionResult(
                item_id=item.item_id,
                attributes=[AttributeExtraction(**one) for one in answer.get("attributes", [])],
                terms=[SemanticTerm(**one) for one in answer.get("terms", [])],
                metadata=self.told("extract"),
            )
            if self.config.enable_validation:
                validator = AttributeValidator(pack)
                problems = [problem for one in result.attributes for problem in validator.validate_extraction(one)]
                if problems:
                    raise ExtractionError("; ".join(problems))  # noqa: TRY301 - an item has one way to be lost
        except Exception as error:
            raise ExtractionError(f"item {item.item_id}: {error}", item.item_id, error) from error
        return result

    async def answer(self, prompt: str) -> str:
        """The model's answer, which is asked for once more after 1, 2, 4 seconds.

        Raises:
            ExtractionError: There is none.
        """
        last: Exception | None = None
        for attempt in range(self.config.retry_attempts + 1):
            try:
                asked = self.llm_client.complete(
                    prompt, temperature=self.config.temperature, max_tokens=self.config.max_tokens
                )
                return await asyncio.wait_for(asked, timeout=self.config.timeout_seconds)
            except Exception as error:  # noqa: BLE001 - so does the real one
                last = error
                if attempt < self.config.retry_attempts:
                    await asyncio.sleep(2**attempt)
        raise ExtractionError(f"no answer after {self.config.retry_attempts + 1} attempts", cause=last)

    def told(self, kind: str) -> ExtractionMetadata:
        """How something was found, or failed."""
        name = f"{kind}_{uuid.uuid4().hex[:8]}"
        return ExtractionMetadata(model=self.config.model_name, run_id=name, extracted_at=datetime.now())  # noqa: DTZ005 - so does the real one


def prompt_for(item: IngestionItem, pack: DomainPack) -> str:
    """What the model is asked: as the real one does, with no confidence in the example of an attribute."""
    keys = [told["key"] for told in pack.output_schema["attributes"] if isinstance(told, dict) and "key" in told]
    example = {
        "attributes": [{"name": "attribute_name", "value": "extracted_value", "evidence": "supporting text"}],
        "terms": [{"term": "semantic_term", "context": "surrounding context", "confidence": 0.85}],
    }
    return (
        f"Find attributes and terms of the domain {pack.domain} in this item.\nAttributes: {json.dumps(keys)}\n"
        f"Title: {item.title}\nDescription: {item.description or ''}\nLanguage: {item.language}\n"
        f"Answer with JSON only, of this form:\n{json.dumps(example)}"
    )


def read(answer: str) -> dict[str, Any]:
    """The JSON object in an answer; where there are fences, what stands between the first two.

    Raises:
        ValueError: There is none.
    """
    text = answer.strip()
    for fence in ("```json", "```"):
        if fence in text:
            begin = text.find(fence) + len(fence)
            end = text.find("```", begin)
            text = text[begin:end].strip() if end > begin else text
            break
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("the answer is no object")  # noqa: TRY004 - so does the real one
    return found
