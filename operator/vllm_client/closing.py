"""What is closed at the end of a block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Closing(ABC):
    """Is closed at the end of an `async with` block."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of what is held."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def close(thing: object) -> None:
    """Close what has an asynchronous `close`; the protocols ask for none."""
    closer = getattr(thing, "close", None)
    if closer is not None:
        await closer()
