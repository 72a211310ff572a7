"""What applications ask of a language model, whoever serves it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class LLMClient(Protocol):
    """Anything that answers a prompt; applications should depend on this and not on a class."""

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The model's answer to the prompt."""
