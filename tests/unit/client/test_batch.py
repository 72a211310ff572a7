"""Batches: order, bounds, errors as data, and what ends a batch early."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.llms import EchoLLM, HeldLLM, settle
from tests.unit.client.conftest import KEY
from vllm_client import (
    BatchError,
    BatchItem,
    BatchResult,
    ConfigurationError,
    LLMClient,
    MissingExtra,
    ModelNotFound,
    NotReachable,
    Unauthorized,
    VLLMClient,
    run_batch,
)
from vllm_client.batch.run import WINDOW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.servers import EngineServer


async def collected(llm: LLMClient, items: Any, **options: Any) -> list[BatchResult]:
    """All results."""
    return [result async for result in run_batch(llm, items, **options)]


async def test_an_engine_answers_a_batch_in_order(engine: EngineServer) -> None:
    async with VLLMClient(engine.url, "tiny", KEY) as llm:
        results = await collected(llm, [f"number {at}" for at in range(40)], concurrency=8, temperature=0)
    assert [result.text for result in results] == [f"tiny heard: number {at}" for at in range(40)]
    assert [(result.index, result.id) for result in results] == [(at, str(at)) for at in range(40)]
    assert all(result.error is None and result.seconds > 0 for result in results)


async def test_results_come_in_the_order_of_the_input_whoever_is_done_first() -> None:
    llm = HeldLLM()
    batch = asyncio.create_task(collected(llm, ["a", "b", "c"], concurrency=3))
    await llm.asked(3)
    for call in reversed(llm.calls):
        call.answer.set_result(call.prompt.upper())
        await settle()
    assert [result.text for result in await batch] == ["A", "B", "C"]


async def test_no_more_are_asked_at_a_time_than_allowed() -> None:
    llm = HeldLLM()
    batch = asyncio.create_task(collected(llm, (str(at) for at in range(9)), concurrency=2))
    for done in range(9):
        await llm.asked(min(done + 2, 9))
        await settle()
        assert len(llm.calls) == min(done + 2, 9)
        llm.calls[done].answer.set_result("x")
    assert len(await batch) == 9


async def prompts_later(*prompts: str) -> AsyncIterator[str]:
    """Prompts that come asynchronously."""
    for prompt in prompts:
        await asyncio.sleep(0)
        yield prompt


async def test_an_asynchronous_input_is_taken_as_it_comes() -> None:
    assert [result.text for result in await collected(EchoLLM(), prompts_later("a", "b"))] == ["a", "b"]


async def test_a_result_does_not_wait_for_the_next_input() -> None:
    more = asyncio.Event()

    async def slow() -> AsyncIterator[str]:
        yield "a"
        await more.wait()
        yield "b"

    async with contextlib.aclosing(run_batch(EchoLLM(), slow())) as results:
        async with asyncio.timeout(30):
            assert (await anext(results)).text == "a"
        more.set()
        assert (await anext(results)).text == "b"


async def test_items_carry_ids_and_arguments_of_their_own() -> None:
    items = [BatchItem("x", "a"), BatchItem("y", "b", {"top_p": 1, "temperature": 0})]
    results = await collected(EchoLLM(), items, temperature=1)
    assert [(result.id, result.text) for result in results] == [
        ("x", "a {'temperature': 1}"),
        ("y", "b {'temperature': 0, 'top_p': 1}"),
    ]


async def test_an_empty_batch_ends_at_once() -> None:
    assert await collected(EchoLLM(), []) == []


async def test_an_item_that_fails_is_a_result_and_the_others_go_on() -> None:
    llm = EchoLLM(errors={"b": NotReachable("nobody there"), "c": RuntimeError("of another library")})
    results = await collected(llm, ["a", "b", "c", "d"])
    assert [result.text for result in results] == ["a", None, None, "d"]
    assert [result.error for result in results] == [
        None,
        BatchError("NotReachable", "nobody there"),
        BatchError("RuntimeError", "of another library"),
        None,
    ]


@pytest.mark.parametrize(
    "error",
    [
        Unauthorized("no key"),
        ModelNotFound("no such model"),
        ConfigurationError("no", variable="x", advice="y"),
        TypeError("unexpected argument"),
    ],
)
async def test_what_every_item_would_meet_ends_the_batch(error: Exception) -> None:
    llm = EchoLLM(errors={str(at): error for at in range(10_000)})
    with pytest.raises(type(error)) as caught:
        await collected(llm, (str(at) for at in range(10_000)), concurrency=4)
    assert caught.value is error
    assert len(llm.prompts) <= 8


async def test_such_an_error_is_raised_though_earlier_items_are_not_done() -> None:
    llm = HeldLLM()
    batch = asyncio.create_task(collected(llm, ["a", "b", "c"], concurrency=2))
    await llm.asked(2)
    llm.calls[1].answer.set_exception(Unauthorized("no key"))
    with pytest.raises(Unauthorized):
        await batch
    assert llm.calls[0].cancelled


async def test_hardly_more_is_asked_after_such_an_error_while_the_reader_is_slow() -> None:
    llm = HeldLLM()
    async with contextlib.aclosing(run_batch(llm, map(str, range(1000)), concurrency=2)) as results:
        first = asyncio.ensure_future(anext(results))
        await llm.asked(2)
        llm.calls[0].answer.set_result("x")
        await first
        llm.calls[1].answer.set_exception(Unauthorized("no key"))
        for _ in range(WINDOW * 2):
            await settle()
            for call in llm.calls[2:]:
                if not call.answer.done():
                    call.answer.set_result("x")
        assert len(llm.calls) <= 4
        with pytest.raises(Unauthorized):
            await anext(results)


async def test_a_wrong_key_ends_the_batch_at_an_engine(engine: EngineServer) -> None:
    async with VLLMClient(engine.url, "tiny", "wrong") as llm:
        with pytest.raises(Unauthorized, match="VLLM_API_KEY"):
            await collected(llm, ["a"] * 100)


async def test_an_error_of_the_input_is_raised() -> None:
    def broken() -> Iterator[str]:
        yield "a"
        raise LookupError("no more lines")

    with pytest.raises(LookupError, match="no more lines"):
        await collected(EchoLLM(), broken())


def test_one_string_is_not_a_batch() -> None:
    with pytest.raises(TypeError, match="give a list"):
        run_batch(EchoLLM(), "a prompt")


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_batch_asks_at_least_one_at_a_time(concurrency: int) -> None:
    with pytest.raises(ConfigurationError, match="concurrency"):
        run_batch(EchoLLM(), [], concurrency=concurrency)


async def test_cancelling_the_batch_cancels_what_is_asked() -> None:
    llm = HeldLLM()
    batch = asyncio.create_task(collected(llm, map(str, range(100)), concurrency=3))
    await llm.asked(3)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert [call.cancelled for call in llm.calls] == [True] * 3


async def test_leaving_the_loop_early_cancels_what_is_asked() -> None:
    llm = HeldLLM()
    async with contextlib.aclosing(run_batch(llm, map(str, range(100)), concurrency=3)) as results:
        first = asyncio.ensure_future(anext(results))
        await llm.asked(3)
        llm.calls[0].answer.set_result("x")
        assert (await first).text == "x"
        await llm.asked(4)
    assert [call.cancelled for call in llm.calls[1:]] == [True] * 3


# ------------------------------------------------------------------------------------------------------- memory, bar


class Prompt(str):
    """A prompt whose life can be watched."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("with_file", [False, True])
async def test_ten_thousand_items_are_never_all_in_memory(tmp_path: Path, *, with_file: bool) -> None:
    alive: weakref.WeakValueDictionary[int, Prompt] = weakref.WeakValueDictionary()
    most = 0

    def prompts() -> Iterator[str]:
        nonlocal most
        for at in range(10_000):
            prompt = Prompt(f"{at} {'x' * 1000}")
            alive[at] = prompt
            most = max(most, len(alive))
            yield prompt

    class Forgetful:
        async def complete(self, prompt: str, **kwargs: Any) -> str:
            await asyncio.sleep(0)
            return f"{len(prompt)}{kwargs or ''}"

    concurrency = 8
    count = 0
    async for result in run_batch(
        Forgetful(), prompts(), concurrency=concurrency, path=tmp_path / "b.jsonl" if with_file else None
    ):
        assert result.index == count
        count += 1
    gc.collect()
    assert count == 10_000
    assert concurrency <= most <= concurrency * (WINDOW + 2)


async def test_a_slow_reader_holds_the_batch_back() -> None:
    llm = EchoLLM()
    async with contextlib.aclosing(run_batch(llm, map(str, range(1000)), concurrency=2)) as results:
        await anext(results)
        await settle()
        assert len(llm.prompts) <= 2 * (WINDOW + 1)


async def test_the_bar_counts_items_and_failures(capsys: pytest.CaptureFixture[str]) -> None:
    llm = EchoLLM(errors={"b": NotReachable("nobody there")})
    await collected(llm, ["a", "b", "c"], progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "failed=1" in shown


async def test_a_bar_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vllm-operator\[progress\]'"):
        await collected(EchoLLM(), ["a"], progress=True)
