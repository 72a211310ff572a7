"""The client for scripts without `async`: the same methods, run on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from vllm_client.client import VLLMClient
from vllm_client.factory import create_llm_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")


class Waiting(Generic[P, R]):
    """A coroutine method of VLLMClient as a method that waits for the result, with the same arguments and types."""

    def __init__(self, method: Callable[Concatenate[VLLMClient, P], Coroutine[Any, Any, R]]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: SyncVLLMClient, owner: type[SyncVLLMClient]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return instance.wait(self.method(instance.client, *args, **kwargs))

        return call


class Iterating(Generic[P, R]):
    """An asynchronous iterator of VLLMClient as an iterator, with the same arguments and types."""

    def __init__(self, method: Callable[Concatenate[VLLMClient, P], AsyncIterator[R]]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: SyncVLLMClient, owner: type[SyncVLLMClient]) -> Callable[P, Iterator[R]]:
        def call(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
            return instance.iterate(self.method(instance.client, *args, **kwargs))

        return call


class SyncVLLMClient:
    """VLLMClient for scripts.

        with SyncVLLMClient.create("vllm") as llm:
            print(llm.complete("What is an ontology?"))

    It may be used from several threads. Interrupting a call (Ctrl-C) cancels its request.

    Attributes:
        client: The asynchronous client inside; it belongs to the thread of the loop.
    """

    def __init__(self, client: VLLMClient) -> None:
        self.client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm_client", daemon=True)
        self._thread.start()

    @classmethod
    def create(
        cls, provider: str | None = None, config: Mapping[str, object] | str | Path | None = None
    ) -> SyncVLLMClient:
        """As `create_llm_client`."""
        return cls(create_llm_client(provider, config))

    complete = Waiting(VLLMClient.complete)
    chat = Waiting(VLLMClient.chat)
    stream = Iterating(VLLMClient.stream)
    embed = Waiting(VLLMClient.embed)
    generate_batch = Waiting(VLLMClient.generate_batch)
    get_model_info = Waiting(VLLMClient.get_model_info)
    health_check = Waiting(VLLMClient.health_check)

    def update_config(self, **changes: Any) -> None:
        """As `VLLMClient.update_config`."""

        async def change() -> None:
            self.client.update_config(**changes)

        self.wait(change())

    def close(self) -> None:
        """Close the connections and end the thread; nothing more can be asked."""
        if self._loop.is_closed():
            return
        try:
            self.wait(self.client.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The coroutine's result, run on the loop of this client.

        Raises:
            RuntimeError: The client is closed.
        """
        if self._loop.is_closed():
            coroutine.close()
            raise RuntimeError("this client is closed")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[R]) -> Iterator[R]:
        """The items, one by one; the request ends with the loop over them."""

        async def following() -> tuple[R, ...]:
            try:
                return (await anext(items),)
            except StopAsyncIteration:
                return ()

        async def stop() -> None:
            closer = getattr(items, "aclose", None)
            if closer is not None:
                await closer()

        try:
            while found := self.wait(following()):
                yield found[0]
        finally:
            self.wait(stop())
