"""Whether a model does its work: the one way in which everybody asks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vllm_client.errors import EmptyAnswer, ModelNotFound

PROMPT = "Hello"


class Model(Protocol):
    """Whoever is asked."""

    async def complete(self, prompt: str, /, *, max_tokens: int) -> str:
        """The answer to a prompt."""
        ...

    async def embed(self, texts: str, /) -> list[list[float]]:
        """The vector of a text."""
        ...


@dataclass(frozen=True, slots=True)
class Proof:
    """What a model has done.

    Attributes:
        completes: Whether it has completed a prompt; else it has embedded a text.
        detail: What came of it, in words.
    """

    completes: bool
    detail: str


async def prove(client: Model, prompt: str = PROMPT, max_tokens: int = 1) -> Proof:
    """Have a model complete a prompt, or embed it where it is one that embeds.

    An answer without text is one: a single token may be white space, a model may think first, or call a tool.

    Raises:
        VLLMError: It did neither.
    """
    try:
        text = await client.complete(prompt, max_tokens=max_tokens)
    except EmptyAnswer as empty:
        return Proof(completes=True, detail=empty.problem)
    except ModelNotFound:  # vLLM serves no completions of a model that embeds
        [vector] = await client.embed(prompt)
        return Proof(completes=False, detail=f"{len(vector)} numbers")
    return Proof(completes=True, detail=f"{len(text)} characters")
