"""What goes into a batch and what comes out of it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from vllm_client.canonical import digest
from vllm_client.errors import ConfigurationError


@dataclass(frozen=True)
class BatchItem:
    """A prompt.

    Attributes:
        id: A name that stays the same from run to run.
        prompt: The prompt.
        arguments: Arguments of `complete` for this item; they go before those of the batch.
    """

    id: str
    prompt: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


Items: TypeAlias = Iterable[str | BatchItem] | AsyncIterable[str | BatchItem]
"""Prompts, or items; a prompt's id is its index."""


@dataclass(frozen=True)
class BatchError:
    """Why an item has no answer.

    Attributes:
        kind: The name of the error's class.
        message: Its text.
    """

    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True)
class BatchResult:
    """What became of an item: either `text` or `error` is None.

    Attributes:
        index: The item's place in the input, from 0.
        id: The item's id.
        text: The answer.
        error: Why there is none.
        seconds: How long the answer took.
        resumed: The answer was in the file already.
    """

    index: int
    id: str
    text: str | None
    error: BatchError | None
    seconds: float
    resumed: bool = False


@dataclass(frozen=True)
class Request:
    """An item, ready to be asked.

    Attributes:
        index: The item's place in the input.
        id: The item's id.
        prompt: The prompt.
        arguments: All arguments of `complete`.
    """

    index: int
    id: str
    prompt: str
    arguments: Mapping[str, Any]

    def digest(self) -> str:
        """What tells this request from every other one, from run to run.

        Raises:
            ConfigurationError: An argument has no one text.
        """
        found = digest([self.id, self.prompt, dict(self.arguments)])
        if found is None:
            advice = "Give arguments that JSON can say, or pydantic classes; or run the batch without a file"
            problem = f"item {self.id} cannot be recognised in a file: its arguments are not plain data"
            raise ConfigurationError(problem, variable="arguments", advice=advice)
        return found


async def requests_of(items: Items, arguments: Mapping[str, Any]) -> AsyncIterator[Request]:
    """Each item as a request, as they come; only one is held."""
    index = 0
    async for given in each(items):
        item = BatchItem(str(index), given) if isinstance(given, str) else given
        yield Request(index, item.id, item.prompt, {**arguments, **item.arguments})
        index += 1


async def each(items: Items) -> AsyncIterator[str | BatchItem]:
    """The items, however they come."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
