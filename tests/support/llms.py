"""Language models for tests of what stands around a client: they answer at once, or when the test says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = SimpleNamespace(model_name="m", base_url="http://m.ns:8000/v1")


class EchoLLM:
    """Answers at once; a prompt that names an error of `errors` raises it.

    Attributes:
        prompts: What it was asked, in order.
        closed: Whether it was closed.
    """

    def __init__(self, config: object = CONFIG, errors: Mapping[str, Exception] | None = None) -> None:
        self.config = config
        self.prompts: list[str] = []
        self.closed = False
        self._errors = errors or {}

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The prompt, and the arguments if there are any."""
        self.prompts.append(prompt)
        if prompt in self._errors:
            raise self._errors[prompt]
        return f"{prompt} {dict(sorted(kwargs.items()))}" if kwargs else prompt

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


@dataclass
class Call:
    """A request that waits for its answer."""

    prompt: str
    answer: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    cancelled: bool = False


class HeldLLM:
    """Answers when the test sets a call's `answer`."""

    def __init__(self) -> None:
        self.config = CONFIG
        self.calls: list[Call] = []
        self._changed = asyncio.Condition()

    async def complete(self, prompt: str, **_: Any) -> str:
        """What the test answers."""
        call = Call(prompt)
        self.calls.append(call)
        async with self._changed:
            self._changed.notify_all()
        try:
            return await call.answer
        except asyncio.CancelledError:
            call.cancelled = True
            raise

    async def asked(self, count: int) -> None:
        """Until that many calls have come."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self.calls) >= count)


async def settle() -> None:
    """Let every task run until it waits for something from outside."""
    for _ in range(20):
        await asyncio.sleep(0)
