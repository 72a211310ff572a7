"""Answers that fit a schema: what vLLM is asked for, and what is checked of its answer.

vLLM lets the model choose only tokens that the schema allows, so that an answer which ends by itself fits. One that is
cut off at `max_tokens` does not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from vllm_client.errors import InvalidAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from vllm_client.config import ClientConfig

    Schema: TypeAlias = "type[BaseModel] | Mapping[str, Any]"

ADVICE = "Ask for more tokens, or for a simpler schema"


def response_format(schema: Schema) -> dict[str, Any]:
    """The `response_format` of a chat completion whose answer fits the schema."""
    document = dict(schema) if not isinstance(schema, type) else schema.model_json_schema()
    name = str(document.get("title") or "answer")
    safe = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[:64]
    return {"type": "json_schema", "json_schema": {"name": safe, "schema": document, "strict": True}}


def checked(text: str, schema: Schema, config: ClientConfig) -> str:
    """The answer. A pydantic model checks it whole; of one that is asked for by a JSON schema, that it is JSON.

    Raises:
        InvalidAnswer: It does not fit.
    """
    try:
        if isinstance(schema, type):
            schema.model_validate_json(text)
        else:
            json.loads(text)
    except (ValueError, RecursionError) as error:  # a model that repeats `[` nests more deeply than Python reads
        problem = f"model {config.model_name} did not answer as its schema says: {error}".rstrip(".")
        raise InvalidAnswer(problem, endpoint=config.base_url, advice=ADVICE) from error
    return text
