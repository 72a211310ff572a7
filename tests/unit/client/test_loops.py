"""One client in several event loops, threads and processes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.llms import EchoLLM
from tests.unit.client.conftest import KEY
from vllm_client import CachedClient, ClientClosed, SQLiteStore, SyncVLLMClient, VLLMClient, WrongEventLoop
from vllm_client.wrapper import ClientWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.servers import EngineServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # connections of a loop that has ended
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # what is tested here
]

FORKED_SECONDS = 30


@pytest.fixture(params=["one address", "several engines"])
def make(request: pytest.FixtureRequest, engine: EngineServer) -> Callable[[], VLLMClient]:
    """Makes clients of the stub engine."""
    engines = [engine.url, engine.url.replace("127.0.0.1", "localhost")] if request.param == "several engines" else []
    return lambda: VLLMClient(engine.url, "tiny", KEY, max_retries=0, engines=engines, timeout=20)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Connections of loops that have ended are collected with the test that knows of them."""
    yield
    gc.collect()


def forked(work: Callable[[], str]) -> str:
    """What it returns in a process that is forked here; killed where it takes too long."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(FORKED_SECONDS)
        try:
            text = work()
        except BaseException as error:  # noqa: BLE001 - the parent tells it
            text = repr(error)
        os.write(theirs, text.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        text = answer.read()
    assert os.waitpid(child, 0)[1] == 0, f"the child hung, having said {text!r}"
    return text


def test_a_client_works_in_one_loop_after_the_other(make: Callable[[], VLLMClient]) -> None:
    client = make()
    for number in range(4):
        assert asyncio.run(client.complete(f"hello {number}")) == f"tiny heard: hello {number}"
    asyncio.run(client.close())


def test_a_client_that_remembers_does_too(make: Callable[[], VLLMClient]) -> None:
    client = CachedClient(make())
    for _ in range(3):
        assert asyncio.run(client.complete("hello", temperature=0)) == "tiny heard: hello"
    assert (client.statistics.misses, client.statistics.hits) == (1, 2)


def test_a_client_of_a_loop_that_goes_on_says_what_to_do(make: Callable[[], VLLMClient]) -> None:
    client = make()

    async def twice() -> None:
        await client.complete("hello")
        with ThreadPoolExecutor() as pool:
            elsewhere = pool.submit(asyncio.run, client.complete("hello"))
            with pytest.raises(WrongEventLoop, match="Make a client in each loop, or use SyncVLLMClient"):
                await asyncio.wrap_future(elsewhere)
        assert await client.complete("hello") == "tiny heard: hello"
        await client.close()

    asyncio.run(twice())


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_a_script_that_forks_goes_on_in_both_processes(make: Callable[[], VLLMClient], *, used: bool) -> None:
    with SyncVLLMClient(make()) as client:
        if used:
            assert client.complete("before") == "tiny heard: before"

        def work() -> str:
            said = client.complete("in the child"), "".join(client.stream("again")).strip()
            client.close()
            return "; ".join(said)

        for _ in range(2):
            assert forked(work) == "tiny heard: in the child; tiny heard: again"
        assert client.complete("after") == "tiny heard: after"


def test_a_child_that_asks_nothing_may_close_what_it_inherited(make: Callable[[], VLLMClient]) -> None:
    with SyncVLLMClient(make()) as client:
        client.complete("before")

        def work() -> str:
            client.close()
            return "closed"

        assert forked(work) == "closed"
        assert client.complete("after") == "tiny heard: after"


def test_an_asynchronous_client_goes_on_in_a_forked_process(make: Callable[[], VLLMClient]) -> None:
    client = make()
    asyncio.run(client.complete("before"))
    assert forked(lambda: asyncio.run(client.complete("in the child"))) == "tiny heard: in the child"


def test_a_client_that_remembers_goes_on_in_a_forked_process_where_a_request_was_under_way(
    make: Callable[[], VLLMClient], tmp_path: Path
) -> None:
    said: list[str] = []

    class Forks(ClientWrapper):
        async def complete(self, prompt: str, **kwargs: Any) -> str:
            if not said:
                said.append("")  # of the child, that it does so no more
                said.append(forked(lambda: asyncio.run(client.complete(prompt, temperature=0))))
            return await super().complete(prompt, **kwargs)

    client = CachedClient(Forks(make()), store=SQLiteStore(tmp_path / "answers.db"))

    async def ask() -> str:
        async with client:
            return await client.complete("hello", temperature=0)

    assert [asyncio.run(ask()), *said] == ["tiny heard: hello", "", "tiny heard: hello"]


async def contend(client: CachedClient) -> None:
    """Have many requests use the store at a time."""
    await asyncio.gather(*(client.complete(f"{number}", temperature=0) for number in range(8)))


def test_a_store_in_a_file_serves_one_loop_after_the_other_and_says_where_two_use_it(
    make: Callable[[], VLLMClient], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SQLiteStore(tmp_path / "answers.db")
    client = CachedClient(make(), store=store)
    for _ in range(3):
        asyncio.run(contend(client))
    assert (client.statistics.misses, client.statistics.hits) == (8, 16)

    async def beside() -> None:
        await contend(client)
        other = CachedClient(EchoLLM(), store=store)
        with ThreadPoolExecutor() as pool:
            await asyncio.wrap_future(pool.submit(asyncio.run, other.complete("hello", temperature=0)))
        assert other.statistics.store_failures == 2
        await client.close()

    asyncio.run(beside())
    assert "belongs to another event loop" in caplog.text


def test_many_threads_close_a_client_that_others_ask(make: Callable[[], VLLMClient]) -> None:
    for _ in range(10):
        client = SyncVLLMClient(make())
        with ThreadPoolExecutor(16) as pool:
            asking = [pool.submit(client.complete, f"{number}") for number in range(8)]
            closing = [pool.submit(client.close) for _ in range(8)]
            assert [one.exception(timeout=20) for one in closing] == [None] * 8
            outcomes = [one.exception(timeout=20) or one.result() for one in asking]
        assert all(isinstance(one, ClientClosed | str) for one in outcomes), outcomes
    assert not [one for one in threading.enumerate() if one.name == "vllm_client"]


def test_many_threads_share_one_client(make: Callable[[], VLLMClient]) -> None:
    with SyncVLLMClient(make()) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(client.complete, [f"{number}" for number in range(64)]))
        assert answers == [f"tiny heard: {number}" for number in range(64)]
        threads = [one for one in threading.enumerate() if one.name == "vllm_client"]
        assert len(threads) == 1
    assert not [one for one in threading.enumerate() if one.name == "vllm_client"]
