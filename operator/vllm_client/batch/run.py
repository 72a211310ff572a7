"""Run a batch.

    feed: takes an item from the input, waits for a free place, starts its request -> queue of requests in order
    ask: one request; its result goes into the file as soon as it is there
    run_batch: takes the requests from the queue in order, waits for each, gives its result out

The queue is bounded, so a slow answer at the head holds back at most `window` items, and so does a caller who is slow.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vllm_client.batch.items import BatchError, BatchResult, requests_of
from vllm_client.batch.progress import NoProgress, ProgressBar
from vllm_client.errors import BatchFileError, ClientClosed, ConfigurationError, ModelNotFound, Unauthorized
from vllm_client.tasks import end
from vllm_client.wrapper import target_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
    from os import PathLike

    from vllm_client.batch.items import Items, Request
    from vllm_client.batch.journal import Journal
    from vllm_client.protocol import LLMClient

T = TypeVar("T")

CONCURRENCY = 16
WINDOW = 4
"""Items in memory for each that is being asked: one answer may take as long as a few others."""
ENDS_BATCH = (Unauthorized, ModelNotFound, ConfigurationError, ClientClosed, BatchFileError, TypeError)
"""What would hit every further item alike, and stays until someone changes something: a key, a name, a setting, a full
disk, an argument that `complete` does not know. Ten thousand such failures say no more than one."""


def run_batch(
    llm: LLMClient,
    items: Items,
    *,
    concurrency: int = CONCURRENCY,
    path: str | PathLike[str] | None = None,
    progress: bool = False,
    **arguments: Any,
) -> AsyncGenerator[BatchResult, None]:
    """The results of all items, in their order, as they are done.

    An item that fails is a result with an error; the others go on. Errors that every item would meet end the batch:
    they are raised at once, and so is an error of the input. About four times as many items are in memory as are being
    asked, however many there are. Leaving the loop early, or cancelling it, cancels what is being asked;
    `contextlib.aclosing` around the iterator makes sure that this is done before the next line.

    With a `path`, each result is written there when its item is done, and what the file answers already is not asked:
    items of the same id, prompt and arguments. The module `journal` says what a crash can cost.

    Args:
        llm: The client to ask.
        items: Prompts or `BatchItem`s, from an iterable or an asynchronous one. A prompt's id is its index: give ids
            where the list may change between runs.
        concurrency: How many items are asked at a time.
        path: The file to write to and to resume from.
        progress: Show a bar on stderr.
        arguments: Arguments of `complete` for every item.

    Raises:
        ClientClosed: The client was closed.
        BatchFileError: The file is another run's, damaged, in use, or cannot be written.
        ConfigurationError: `concurrency` is not positive.
        MissingExtra: `progress` without the extra `progress`.
        ModelNotFound: The model is not served under that name.
        TypeError: `items` is one string, or `complete` does not know an argument.
        Unauthorized: The API key is missing or wrong.
    """
    if isinstance(items, str):
        raise TypeError("items is one string: give a list of prompts")
    if concurrency < 1:
        advice = "Give at least 1"
        raise ConfigurationError(f"concurrency is {concurrency}", variable="concurrency", advice=advice)
    place = None if path is None else Path(path)
    return results(llm, items, arguments, concurrency=concurrency, path=place, progress=progress)


async def results(
    llm: LLMClient,
    items: Items,
    arguments: dict[str, Any],
    *,
    concurrency: int,
    path: Path | None,
    progress: bool,
) -> AsyncGenerator[BatchResult, None]:
    """The results in order; everything that was started is ended with it."""
    batch = Batch(llm, concurrency)
    try:
        if progress:
            batch.bar = ProgressBar(items)
        if path is not None:
            batch.journal = await asyncio.to_thread(open_journal, path, target_of(llm).model_name)
        batch.start(batch.feed(requests_of(items, arguments)))
        while (head := await batch.queue.get()) is not None:
            yield await batch.outcome(head)
        batch.check()
    finally:
        await batch.close()


def open_journal(path: Path, model: str) -> Journal:
    """The file of a batch; its module is imported here because it locks files as only POSIX systems do."""
    from vllm_client.batch.journal import Journal  # noqa: PLC0415 - see above

    return Journal(path, model)


class Batch:
    """A batch under way.

    Attributes:
        llm: The client to ask.
        queue: The results in order, as they will be; None ends it.
        journal: The file, if there is one.
        bar: What shows the progress.
    """

    def __init__(self, llm: LLMClient, concurrency: int) -> None:
        self.llm = llm
        self.queue: asyncio.Queue[asyncio.Future[BatchResult] | None] = asyncio.Queue(concurrency * WINDOW)
        self.journal: Journal | None = None
        self.bar: ProgressBar | NoProgress = NoProgress()
        self._places = asyncio.Semaphore(concurrency)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start something that ends with the batch."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def feed(self, requests: AsyncIterator[Request]) -> None:
        """Start each request as soon as there is a place for it."""
        try:
            async for request in requests:
                await self.queue.put(self._recalled(request) or await self._started(request))
                if self._failure.done():
                    break
        except Exception as error:  # noqa: BLE001 - an error of the input is raised where the results are taken
            self._fail(error)
        await self.queue.put(None)

    async def outcome(self, head: asyncio.Future[BatchResult]) -> BatchResult:
        """The result at the head, once it is there.

        Raises:
            Exception: The batch ends with this error.
        """
        both: set[asyncio.Future[Any]] = {head, self._failure}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        self.check()
        return head.result()

    def check(self) -> None:
        """Go on only if nothing ended the batch.

        Raises:
            Exception: The batch ends with this error.
        """
        if self._failure.done():
            raise self._failure.result()

    async def close(self) -> None:
        """End what is under way, and leave the file as it is on the disk."""
        try:
            await end(*self._tasks)
        finally:
            self.bar.close()
            if self.journal is not None:
                await asyncio.to_thread(self.journal.close)

    def _recalled(self, request: Request) -> asyncio.Future[BatchResult] | None:
        """The result that the file holds."""
        result = None if self.journal is None else self.journal.recall(request)
        if result is None:
            return None
        self.bar.done(result)
        future = asyncio.get_running_loop().create_future()
        future.set_result(result)
        return future

    async def _started(self, request: Request) -> asyncio.Task[BatchResult]:
        """The request, under way."""
        await self._places.acquire()
        task = self.start(self._ask(request))
        task.add_done_callback(lambda _: self._places.release())
        return task

    async def _ask(self, request: Request) -> BatchResult:
        """What becomes of a request."""
        started_seconds = time.monotonic()
        text, error = None, None
        try:
            text = await self.llm.complete(request.prompt, **request.arguments)
        except Exception as problem:  # noqa: BLE001 - any client may be inside; its errors are results
            error = BatchError(type(problem).__name__, str(problem))
            if isinstance(problem, ENDS_BATCH):
                self._fail(problem)
        result = BatchResult(request.index, request.id, text, error, time.monotonic() - started_seconds)
        await self._record(request, result)
        self.bar.done(result)
        return result

    async def _record(self, request: Request, result: BatchResult) -> None:
        """Write the result into the file, if there is one."""
        if self.journal is None:
            return
        try:
            await self.journal.record(request, result)
        except BatchFileError as problem:
            self._fail(problem)

    def _fail(self, error: Exception) -> None:
        """End the batch; the first reason counts."""
        if not self._failure.done():
            self._failure.set_result(error)
