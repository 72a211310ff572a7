"""Requests against several stub engines while these fail: none is lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.dns_server import DnsServer, dns_server
from tests.support.servers import EngineServer, eventually, free_port, stub_server
from vllm_client import BalancePolicy, DnsDiscovery, IncompleteAnswer, NotReachable, TimedOut, VLLMClient, VLLMError
from vllm_client.balance.transport import BalancedTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

NAME = "tiny-engines.ns.svc"
SERVICE = f"_http._tcp.{NAME}.cluster.local."
FAST = BalancePolicy(stall_seconds=0.3, ttl_floor_seconds=0.1, backoff_seconds=0.05)


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[list[EngineServer]]:
    """Three engines."""
    flags = ("--served-model-name", "tiny", "--shutdown-timeout", "20")
    with contextlib.ExitStack() as stack:
        starting = [stack.enter_context(stub_server(*flags, folder=tmp_path, wait=False)) for _ in range(3)]
        for engine in starting:
            engine.wait_ready(30)
        yield starting


@pytest.fixture
async def names() -> AsyncIterator[DnsServer]:
    async with dns_server() as server:
        yield server


def publish(names: DnsServer, engines: list[EngineServer]) -> None:
    """Let DNS know these engines and no others."""
    names.records = {
        (SERVICE, "SRV"): [f"0 50 {engine.port} e{engine.port}.{NAME}.cluster.local." for engine in engines],
        **{(f"e{engine.port}.{NAME}.cluster.local.", "A"): ["127.0.0.1"] for engine in engines},
    }


def over_urls(engines: list[EngineServer], **options: Any) -> VLLMClient:
    urls = [engine.url for engine in engines]
    return VLLMClient(urls[0], "tiny", **{"engines": urls, "balance": FAST, "timeout": 20, **options})


def over_dns(names: DnsServer, **options: Any) -> VLLMClient:
    nowhere = f"http://127.0.0.1:{free_port()}"
    discovery = DnsDiscovery(NAME, resolver=names.resolver())
    settings = {"discovery": discovery, "balance": FAST, "timeout": 30, "max_retries": 5, **options}
    return VLLMClient(nowhere, "tiny", **settings)


def served(engine: EngineServer) -> int:
    return engine.log().count('"POST /v1/chat/completions HTTP/1.1" 200')


def fleet_of(client: VLLMClient) -> Any:
    transport = client.openai._client._transport  # noqa: SLF001 - the connections are nobody else's business
    assert isinstance(transport, BalancedTransport)
    return transport.fleet


async def until(condition: Any) -> None:
    assert await asyncio.to_thread(eventually, condition)


async def test_the_same_beginning_goes_to_the_same_engine_and_others_spread(engines: list[EngineServer]) -> None:
    """But for the first request of all, which is sent before anything is known."""
    async with over_urls(engines) as client:
        for number in range(7):
            await client.complete("x" * 300 + str(number), max_tokens=1)
        assert max(map(served, engines)) >= 6
        await client.generate_batch([f"{number} {'y' * 10}" for number in range(40)], max_tokens=1)
    assert min(map(served, engines)) > 3


async def test_a_dead_engine_costs_no_request_and_is_ejected(engines: list[EngineServer]) -> None:
    async with over_urls(engines) as client:
        engines[0].process.kill()
        engines[0].wait_exit()
        answers = await client.generate_batch([f"{number} hello" for number in range(60)])
        assert answers == [f"tiny heard: {number} hello" for number in range(60)]
        assert fleet_of(client).engines[f"{engines[0].url}/v1"].health.ejections


async def test_all_requests_survive_one_killed_one_hung_and_one_rolled(
    engines: list[EngineServer], names: DnsServer, tmp_path: Path
) -> None:
    """A killed engine and a hung one leave DNS a moment later; a rolled one drains and is replaced."""
    killed, hung, rolled = engines
    for engine in engines:
        engine.faults(step_seconds=0.02)
    publish(names, engines)
    answers: list[str] = []
    stop = asyncio.Event()

    async def ask(client: VLLMClient, worker: int) -> None:
        number = 0
        while not stop.is_set():
            prompt = f"{worker}.{number} one two three four"
            assert await client.complete(prompt) == f"tiny heard: {prompt}"
            answers.append(prompt)
            number += 1

    async def grown(count: int) -> None:
        goal = len(answers) + count
        await until(lambda: len(answers) >= goal or any(task.done() for task in asking))

    with stub_server("--served-model-name", "tiny", folder=tmp_path) as new:
        async with over_dns(names) as client:
            asking = [asyncio.create_task(ask(client, worker)) for worker in range(12)]
            await grown(20)
            hung.faults(hang_server=True)
            await asyncio.sleep(0.3)  # requests gather in the hung engine
            publish(names, [killed, rolled])
            await until(lambda: f"{hung.url}/v1" not in fleet_of(client).engines)  # two failures are not survived
            await grown(20)
            killed.process.kill()
            publish(names, [rolled, new])
            await until(lambda: f"{new.url}/v1" in fleet_of(client).present())  # a rollout waits for the new engine
            publish(names, [new])
            rolled.terminate()
            await grown(20)
            stop.set()
            await asyncio.gather(*asking)
    assert served(new)


async def test_a_withdrawn_engine_that_still_answers_is_waited_for(
    engines: list[EngineServer], names: DnsServer
) -> None:
    draining, other = engines[:2]
    draining.faults(step_seconds=0.1)
    publish(names, [draining])
    async with over_dns(names, balance=BalancePolicy(stall_seconds=20, ttl_floor_seconds=0.1)) as client:
        request = asyncio.create_task(client.complete("a b c d e f g h i j k"))
        await until(lambda: draining.metric("num_requests_running") == 1)
        publish(names, [other])
        await until(lambda: f"{other.url}/v1" in fleet_of(client).present())
        assert await request == "tiny heard: a b c d e f g h i j k"
        assert served(other) == 0
        await until(lambda: f"{draining.url}/v1" not in fleet_of(client).engines)


@pytest.mark.parametrize("fault", [{"hang_engine": True}, {"hang_server": True}])
async def test_a_stream_that_has_not_begun_moves_to_another_engine(
    engines: list[EngineServer], names: DnsServer, fault: dict[str, bool]
) -> None:
    hung, other = engines[:2]
    hung.faults(**fault)
    publish(names, [hung])
    async with over_dns(names) as client:
        pieces = asyncio.create_task(collect(client))
        await until(lambda: names.asked > 2 and bool(fleet_of(client).engines))
        publish(names, [other])
        assert "".join(await pieces).strip() == "tiny heard: hello"
        await until(lambda: list(fleet_of(client).engines) == [f"{other.url}/v1"])


async def collect(client: VLLMClient) -> list[str]:
    return [piece async for piece in client.stream("hello")]


async def test_a_stream_that_has_begun_is_not_asked_for_again(engines: list[EngineServer]) -> None:
    for engine in engines:
        engine.faults(step_seconds=0.1)
    async with over_urls(engines) as client:
        stream = client.stream("a b c d e f g h i j k l m n o p")
        assert await anext(stream)
        for engine in engines:
            if engine.metric("num_requests_running"):
                engine.process.kill()
        with pytest.raises(IncompleteAnswer, match="the stream broke off"):
            async for _ in stream:
                pass


async def test_a_full_engine_passes_a_request_on(engines: list[EngineServer]) -> None:
    for engine in engines[:2]:
        engine.faults(fail={"status": 503, "message": "full"})
    async with over_urls(engines) as client:
        assert await client.generate_batch(["a", "b", "c"]) == [f"tiny heard: {letter}" for letter in "abc"]


async def test_a_hedged_request_is_answered_by_the_second_engine(engines: list[EngineServer]) -> None:
    async with over_urls(engines, balance=BalancePolicy(hedge_seconds=0.2)) as client:
        await client.complete("the same")
        [first] = [engine for engine in engines if served(engine)]
        first.faults(hang_server=True)
        assert await client.complete("the same") == "tiny heard: the same"


async def test_the_deadline_holds_for_all_attempts_together(engines: list[EngineServer]) -> None:
    for engine in engines:
        engine.faults(hang_engine=True)
    async with over_urls(engines, timeout=0.5, balance=BalancePolicy(hedge_seconds=0.1)) as client:
        with pytest.raises(TimedOut, match=r"0\.5 s"):
            await asyncio.wait_for(client.complete("x"), timeout=10)
        assert all(engine.outstanding == 0 for engine in fleet_of(client).engines.values())


async def test_with_nobody_there_the_attempts_are_bounded(engines: list[EngineServer]) -> None:
    for engine in engines:
        engine.process.kill()
        engine.wait_exit()
    async with over_urls(engines, max_retries=4) as client:
        with pytest.raises(NotReachable):
            await client.complete("x")
        assert sum(engine.health.errors for engine in fleet_of(client).engines.values()) == 5


async def test_what_was_known_stays_while_dns_fails(engines: list[EngineServer], names: DnsServer) -> None:
    publish(names, engines[:1])
    async with over_dns(names) as client:
        await client.complete("x")
        names.broken = True
        asked = names.asked
        while names.asked < asked + 4:
            assert await client.complete("x") == "tiny heard: x"


async def test_an_engine_that_is_gone_has_dns_asked_at_once_whatever_its_ttl(
    engines: list[EngineServer], names: DnsServer
) -> None:
    """As when the only engine is replaced: requests get to the new one long before the records expire."""
    names.ttl = 3600
    publish(names, engines[:1])
    policy = BalancePolicy(ttl_floor_seconds=0.2, ttl_ceiling_seconds=3600)
    async with over_dns(names, balance=policy, max_retries=2) as client:
        await client.complete("x")
        engines[0].process.kill()
        engines[0].wait_exit()
        publish(names, engines[1:2])
        asked = names.asked
        assert await client.complete("x") == "tiny heard: x"
        assert served(engines[1]) == 1
        assert names.asked - asked == 3, "one look: SRV, A and AAAA"


async def test_failures_have_dns_asked_no_more_often_than_the_floor_allows(
    engines: list[EngineServer], names: DnsServer
) -> None:
    names.ttl = 3600
    publish(names, engines[:1])
    policy = BalancePolicy(ttl_floor_seconds=30, ttl_ceiling_seconds=3600, errors_to_eject=100)
    async with over_dns(names, balance=policy, max_retries=0) as client:
        await client.complete("x")
        asked = names.asked
        engines[0].faults(fail={"status": 500, "message": "broken"})
        for _ in range(10):
            with pytest.raises(VLLMError):
                await client.complete("x")
        assert names.asked == asked


async def test_the_base_url_serves_while_dns_knows_nobody(engines: list[EngineServer], names: DnsServer) -> None:
    discovery = DnsDiscovery(f"{NAME}:8000", resolver=names.resolver())
    async with VLLMClient(engines[0].url, "tiny", discovery=discovery, balance=FAST) as client:
        assert await client.complete("x") == "tiny heard: x"
        assert list(fleet_of(client).engines) == [f"{engines[0].url}/v1"]


async def test_closing_leaves_no_task_behind(engines: list[EngineServer], names: DnsServer) -> None:
    publish(names, engines)
    async with over_dns(names) as client:
        await client.complete("x")
    assert not [task for task in asyncio.all_tasks() if "discovery" in task.get_name()]


async def test_nobody_is_asked_who_is_not_used(engines: list[EngineServer], names: DnsServer) -> None:
    publish(names, engines)
    names.ttl = 0
    async with over_dns(names) as client:
        await client.complete("x")
        await until(fleet_of(client)._keeper.done)  # noqa: SLF001 - what is proved has no other face
        assert await client.complete("x") == "tiny heard: x"
