"""Whether a model does its work: the one way in which everybody asks it."""

from __future__ import annotations

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


async def prove(model: Model) -> int:
    """Have a model complete a prompt, or embed it where it is one that embeds: the length of the vector, 0 for none.

    An answer without text is one: a single token may be white space, a model may think first, or call a tool.

    Raises:
        VLLMError: It did neither.
    """
    try:
        await model.complete(PROMPT, max_tokens=1)
    except EmptyAnswer:
        return 0
    except ModelNotFound:  # vLLM serves no completions of a model that embeds
        [vector] = await model.embed(PROMPT)
        return len(vector)
    return 0
