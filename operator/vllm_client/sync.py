"""The client for scripts without `async`: the same methods, run on an event loop in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from anyio.from_thread import start_blocking_portal

from vllm_client.client import VLLMClient
from vllm_client.errors import ClientClosed
from vllm_client.factory import create_llm_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

    from anyio.from_thread import BlockingPortal

    from vllm_client.completion import Completion, TextStream

P = ParamSpec("P")
R = TypeVar("R")


_LEFT_BEHIND: list[contextlib.ExitStack] = []
"""What ends the loops of the process that this one was forked from: as garbage, it would wait for their threads."""


class Waiting(Generic[P, R]):
    """A coroutine method of VLLMClient as a method that waits for the result, with the same arguments and types."""

    def __init__(self, method: Callable[Concatenate[VLLMClient, P], Coroutine[Any, Any, R]]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: SyncVLLMClient, owner: type[SyncVLLMClient]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return instance.wait(self.method(instance.client, *args, **kwargs))

        return call


class SyncTextStream(Iterator[str]):
    """The text of an answer, piece by piece, as `TextStream`."""

    def __init__(self, pieces: Generator[str, None, None], inside: TextStream) -> None:
        self._pieces = pieces
        self._inside = inside

    @property
    def completion(self) -> Completion | None:
        """The whole answer once the stream has come to its end; None before, and where it broke off."""
        return self._inside.completion

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """Ask for no more; the engine stops."""
        self._pieces.close()


class SyncVLLMClient:
    """VLLMClient for scripts.

        with SyncVLLMClient.create("vllm") as llm:
            print(llm.complete("What is an ontology?"))

    It may be used from several threads, and in processes that are forked after it was made. Interrupting a call
    (Ctrl-C) cancels its request.

    Attributes:
        client: The asynchronous client inside; it belongs to the thread of the loop.
    """

    def __init__(self, client: VLLMClient) -> None:
        self.client = client
        self._closed = False
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._ending = contextlib.ExitStack()

    @classmethod
    def create(
        cls, provider: str | None = None, config: Mapping[str, object] | str | Path | None = None
    ) -> SyncVLLMClient:
        """As `create_llm_client`."""
        return cls(create_llm_client(provider, config))

    complete = Waiting(VLLMClient.complete)
    chat = Waiting(VLLMClient.chat)
    completion = Waiting(VLLMClient.completion)
    text_completion = Waiting(VLLMClient.text_completion)
    embed = Waiting(VLLMClient.embed)
    generate_batch = Waiting(VLLMClient.generate_batch)
    get_model_info = Waiting(VLLMClient.get_model_info)
    health_check = Waiting(VLLMClient.health_check)

    def parse(self, /, prompt: str | Iterable[Mapping[str, Any]], schema: type[R], **kwargs: Any) -> R:
        """As `VLLMClient.parse`."""
        return self.wait(self.client.parse(prompt, schema, **kwargs))

    def stream(self, /, prompt: str | Iterable[Mapping[str, Any]], **kwargs: Any) -> SyncTextStream:
        """As `VLLMClient.stream`."""
        pieces = self.client.stream(prompt, **kwargs)
        return SyncTextStream(self.iterate(pieces), pieces)

    def update_config(self, **changes: Any) -> None:
        """As `VLLMClient.update_config`."""

        async def change() -> None:
            self.client.update_config(**changes)

        self.wait(change())

    def close(self) -> None:
        """Close the connections and end the thread; nothing more can be asked."""
        if self._process != os.getpid():
            self._closed = True
            return  # the thread, if there was one, is in the process that this one was forked from
        with self._lock:
            portal, self._closed = None if self._closed else self._portal, True
        if portal is None:
            return
        try:
            self._wait(portal, self.client.close)
        finally:
            self._ending.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The coroutine's result, run on the loop of this client.

        Raises:
            ClientClosed: The client is closed, or was closed meanwhile.
        """
        if self._closed:
            coroutine.close()
            raise self._client_closed()

        async def run() -> R:
            return await coroutine

        try:
            return self._wait(self._running(), run)
        except RuntimeError as error:
            if not self._closed:
                raise
            coroutine.close()  # its loop has ended before it could begin
            raise self._client_closed() from error

    def _client_closed(self) -> ClientClosed:
        return ClientClosed("the client is closed", endpoint=self.client.base_url, advice="Make a new one")

    @staticmethod
    def _wait(portal: BlockingPortal, function: Callable[[], Coroutine[Any, Any, R]]) -> R:
        future: Future[R] = portal.start_task_soon(function)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _running(self) -> BlockingPortal:
        """The loop in its thread; a process that was forked since needs one of its own, since threads do not follow.

        Raises:
            ClientClosed: It was closed meanwhile.
        """
        if self._process != os.getpid():
            _LEFT_BEHIND.append(self._ending)
            self._process, self._lock, self._portal = os.getpid(), threading.Lock(), None
            self._ending = contextlib.ExitStack()
        with self._lock:
            if self._closed:
                raise self._client_closed()
            if self._portal is None:
                self._portal = self._ending.enter_context(start_blocking_portal(name="vllm_client"))
            return self._portal

    def iterate(self, items: AsyncIterator[R]) -> Generator[R, None, None]:
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
            if not self._closed:
                self.wait(stop())
