"""The client that remembers: what it asks once, what it always asks, and who is told when it goes wrong."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from tests.support.llms import EchoLLM, HeldLLM, settle
from tests.unit.client.conftest import KEY
from vllm_client import (
    CachedClient,
    CacheStatistics,
    ConfigurationError,
    LLMClient,
    MemoryStore,
    NotReady,
    SQLiteStore,
    StoreFailed,
    VLLMClient,
)
from vllm_client.cache.key import is_deterministic, request_key
from vllm_client.canonical import digest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import EngineServer

MODEL = ("m", "endpoint", "http://m")
TEXTS = st.sampled_from(["", "a", "b", "list", "mapping"])
SCALARS = st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from([0.0, 1.0, -0.5]) | TEXTS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2))


class City(BaseModel):
    """A schema."""

    name: str


class Town(BaseModel):
    """Another one."""

    name: str


async def test_an_engine_is_asked_once(engine: EngineServer) -> None:
    async with CachedClient(VLLMClient(engine.url, "tiny", KEY)) as llm:
        assert isinstance(llm, LLMClient)
        before = engine.metric("request_success_total")
        answers = [await llm.complete("hello", temperature=0) for _ in range(3)]
        assert engine.metric("request_success_total") == before + 1
    assert answers == ["tiny heard: hello"] * 3
    assert llm.statistics == CacheStatistics(hits=2, misses=1)


async def test_what_may_be_answered_otherwise_is_asked_each_time() -> None:
    inside = EchoLLM()
    llm = CachedClient(inside)
    for _ in range(2):
        await llm.complete("a")
        await llm.complete("a", temperature=0.1)
    assert len(inside.prompts) == 4
    assert llm.statistics == CacheStatistics(bypassed=4)


async def test_everything_is_remembered_where_that_is_asked_for() -> None:
    inside = EchoLLM()
    llm = CachedClient(inside, only_deterministic=False)
    assert [await llm.complete("a"), await llm.complete("a")] == ["a", "a"]
    assert inside.prompts == ["a"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, False),
        ({"temperature": 0}, True),
        ({"temperature": 0.0, "top_p": 0.5}, True),
        ({"temperature": 1}, False),
        ({"temperature": None}, False),
        ({"seed": 0}, True),
        ({"temperature": 1, "seed": 7}, True),
        ({"seed": None}, False),
        ({"seed": -1}, False),
        ({"temperature": 0, "extra_body": {"temperature": 1}}, False),
        ({"seed": 7, "extra_body": {"seed": None}}, False),
        ({"extra_body": {"seed": 7}}, True),
    ],
)
def test_one_answer_is_asked_for_by_temperature_0_or_a_seed(arguments: dict[str, Any], *, expected: bool) -> None:
    assert is_deterministic(arguments) is expected


class Village(BaseModel):
    """Its schema is that of a city."""

    model_config = ConfigDict(title="City", json_schema_extra={"description": "A schema."})

    name: str


DISTINCT: list[tuple[tuple[str, ...], str, dict[str, Any]]] = [
    (MODEL, "a", {}),
    (("other", *MODEL[1:]), "a", {}),
    (("m", "revision", "http://m"), "a", {}),
    (MODEL, "b", {}),
    (MODEL, "a", {"max_tokens": 1}),
    (MODEL, "a", {"max_tokens": 2}),
    (MODEL, "a", {"max_tokens": None}),
    (MODEL, "a", {"max_tokens": "1"}),
    (MODEL, "a", {"max_tokens": True}),
    (MODEL, "a", {"stop": ["x", "y"]}),
    (MODEL, "a", {"stop": ["y", "x"]}),
    (MODEL, "a", {"stop": ["list", "x", "y"]}),
    (MODEL, "a", {"stop": {"x": "y"}}),
    (MODEL, "a", {"stop": [["x", "y"]]}),
    (MODEL, "a", {"stop": ["mapping", ["x", "y"]]}),
    (MODEL, "a", {"schema": City}),
    (MODEL, "a", {"schema": Town}),
    (MODEL, "a", {"schema": Village}),
    (MODEL, "a", {"schema": City.model_json_schema()}),
]


def test_requests_that_differ_have_different_keys() -> None:
    assert City.model_json_schema() == Village.model_json_schema()
    keys = [request_key(model, prompt, arguments) for model, prompt, arguments in DISTINCT]
    assert None not in keys
    assert len(set(keys)) == len(DISTINCT)


def test_the_order_of_arguments_makes_no_difference_and_the_key_is_the_same_in_every_process() -> None:
    one = request_key(MODEL, "a", {"top_p": 1, "extra_body": {"x": 1, "y": [2]}})
    other = request_key(MODEL, "a", {"extra_body": {"y": (2,), "x": 1}, "top_p": 1})
    assert one == other == "b2c2b5fa9a6eca52c34d22e3ba2bf4ca827419cd25e5b74bfbf8d7f911e13044"


@given(JSON, JSON)
def test_arguments_have_one_key_exactly_if_they_are_sent_alike(one: object, other: object) -> None:
    alike = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(one) == digest(other)) is alike
    assert digest(one) == digest(json.loads(json.dumps(one)))


@pytest.mark.parametrize("value", [object(), {1: 2}, {3}, float("nan"), b"x", [object()], City(name="x")])
async def test_what_cannot_be_told_apart_for_sure_is_asked_each_time(value: object) -> None:
    inside = EchoLLM()
    llm = CachedClient(inside)
    for _ in range(2):
        await llm.complete("a", temperature=0, extra=value)
    assert len(inside.prompts) == 2
    assert llm.statistics.bypassed == 2


async def test_a_model_at_another_place_is_another_one_unless_its_revision_says_so() -> None:
    store = MemoryStore()
    here = EchoLLM(SimpleNamespace(model_name="m", base_url="http://here/v1"))
    there = EchoLLM(SimpleNamespace(model_name="m", base_url="http://there/v1"))
    for inside in (here, there):
        await CachedClient(inside, store=store).complete("a", temperature=0)
    assert (len(here.prompts), len(there.prompts)) == (1, 1)
    for inside in (here, there):
        await CachedClient(inside, store=store, revision="2024-09").complete("a", temperature=0)
    assert (len(here.prompts), len(there.prompts)) == (2, 1)


async def test_a_changed_model_name_is_seen() -> None:
    inside = EchoLLM(SimpleNamespace(model_name="m", base_url="http://m"))
    llm = CachedClient(inside)
    await llm.complete("a", temperature=0)
    inside.config = SimpleNamespace(model_name="other", base_url="http://m")
    await llm.complete("a", temperature=0)
    assert len(inside.prompts) == 2


async def test_a_client_that_names_no_model_has_to_be_given_one() -> None:
    with pytest.raises(ConfigurationError, match="EchoLLM names no model"):
        CachedClient(EchoLLM(config=None))
    assert await CachedClient(EchoLLM(config=None), model_name="m").complete("a", temperature=0)


@pytest.mark.parametrize("bound", [{"max_entries": 5}, {"ttl_seconds": 5}])
def test_bounds_beside_a_store_are_refused(bound: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="bounds of its own"):
        CachedClient(EchoLLM(), store=MemoryStore(), **bound)


async def test_the_bounds_hold() -> None:
    inside = EchoLLM()
    llm = CachedClient(inside, max_entries=2)
    for prompt in ("a", "b", "c", "a"):
        await llm.complete(prompt, temperature=0)
    assert inside.prompts == ["a", "b", "c", "a"]


async def test_an_error_is_not_remembered() -> None:
    errors: dict[str, Exception] = {"a": NotReady("not yet")}
    inside = EchoLLM(errors=errors)
    llm = CachedClient(inside)
    with pytest.raises(NotReady):
        await llm.complete("a", temperature=0)
    errors.clear()
    assert await llm.complete("a", temperature=0)


async def test_closing_closes_the_client_inside_and_the_store(tmp_path: Path) -> None:
    inside = EchoLLM()
    store = SQLiteStore(tmp_path / "answers.db")
    async with CachedClient(inside, store=store) as llm:
        await llm.complete("a", temperature=0)
        assert (tmp_path / "answers.db-wal").exists()
    assert inside.closed
    assert not (tmp_path / "answers.db-wal").exists()


class BrokenStore:
    """Fails."""

    async def get(self, key: str) -> str | None:
        """Fails."""
        raise StoreFailed(f"no disk for {key}")

    async def put(self, key: str, answer: str) -> None:
        """Fails."""
        raise StoreFailed(f"no disk for {key} {answer}")


async def test_a_store_out_of_order_costs_no_answer_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    llm = CachedClient(EchoLLM(), store=BrokenStore())
    with caplog.at_level(logging.WARNING, "vllm_client"):
        assert await llm.complete("a", temperature=0)
    assert llm.statistics == CacheStatistics(misses=1, store_failures=2)
    assert [message.partition(" for ")[0] for message in caplog.messages] == ["answered without the cache: no disk"] * 2


# ------------------------------------------------------------------------------------------- equal requests at a time


def asking(llm: CachedClient, prompt: str = "a") -> asyncio.Task[str]:
    """A request under way."""
    return asyncio.create_task(llm.complete(prompt, temperature=0))


async def test_equal_requests_at_a_time_are_asked_once() -> None:
    inside = HeldLLM()
    llm = CachedClient(inside)
    waiters = [asking(llm) for _ in range(5)]
    other = asking(llm, "b")
    await inside.asked(2)
    await settle()
    for call in inside.calls:
        call.answer.set_result(f"answer to {call.prompt}")
    assert await asyncio.gather(*waiters) == ["answer to a"] * 5
    assert await other == "answer to b"
    assert [call.prompt for call in inside.calls] == ["a", "b"]
    assert llm.statistics == CacheStatistics(misses=2, joined=4)


async def test_an_error_reaches_all_who_wait() -> None:
    inside = HeldLLM()
    llm = CachedClient(inside)
    waiters = [asking(llm) for _ in range(3)]
    await inside.asked(1)
    await settle()
    error = NotReady("not yet")
    inside.calls[0].answer.set_exception(error)
    assert await asyncio.gather(*waiters, return_exceptions=True) == [error] * 3


@pytest.mark.parametrize("who", [0, 1, 2])
async def test_who_gives_up_leaves_the_others_waiting(who: int) -> None:
    inside = HeldLLM()
    llm = CachedClient(inside)
    waiters = [asking(llm) for _ in range(3)]
    await inside.asked(1)
    await settle()
    waiters.pop(who).cancel()
    await settle()
    assert not inside.calls[0].cancelled
    inside.calls[0].answer.set_result("answer")
    assert await asyncio.gather(*waiters) == ["answer"] * 2


@pytest.mark.parametrize("together", [True, False])
async def test_when_all_give_up_the_request_is_cancelled_and_the_next_one_is_new(*, together: bool) -> None:
    inside = HeldLLM()
    llm = CachedClient(inside)
    waiters = [asking(llm) for _ in range(3)]
    await inside.asked(1)
    await settle()
    for waiter in waiters:
        waiter.cancel()
        if not together:
            await settle()
    ended = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(one) for one in ended] == [asyncio.CancelledError] * 3
    assert inside.calls[0].cancelled
    again = asking(llm)
    await inside.asked(2)
    inside.calls[1].answer.set_result("answer")
    assert await again == "answer"


@given(steps=st.lists(st.sampled_from(["join", "leave first", "leave last", "wait"]), max_size=12))
def test_whoever_comes_and_goes_all_who_stay_get_the_answer_of_one_request(steps: list[str]) -> None:
    async def play() -> None:
        inside = HeldLLM()
        llm = CachedClient(inside)
        staying: list[asyncio.Task[str]] = []
        for step in steps:
            if step == "join":
                staying.append(asking(llm))
            elif step == "wait" or not staying:
                await settle()
            else:
                staying.pop(0 if step == "leave first" else -1).cancel()
        await settle()
        under_way = [call for call in inside.calls if not call.cancelled]
        assert len(under_way) == bool(staying)
        for call in under_way:
            call.answer.set_result("answer")
        assert await asyncio.gather(*staying) == ["answer"] * len(staying)

    asyncio.run(play())


async def test_who_gives_up_alone_waits_until_the_request_has_ended() -> None:
    ended = []

    class Slow(EchoLLM):
        async def complete(self, prompt: str, **kwargs: Any) -> str:
            self.prompts.append(prompt)
            try:
                await asyncio.Event().wait()
            finally:
                await settle()
                ended.append(prompt)
            return f"{kwargs}"

    waiter = asking(CachedClient(Slow()))
    await settle()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert ended == ["a"]


async def test_a_request_that_comes_while_an_abandoned_one_ends_is_a_new_one_that_others_join() -> None:
    may_end = asyncio.Event()

    class Lingering(HeldLLM):
        async def complete(self, prompt: str, **kwargs: Any) -> str:
            try:
                return await super().complete(prompt, **kwargs)
            except asyncio.CancelledError:
                await may_end.wait()
                raise

    inside = Lingering()
    llm = CachedClient(inside)
    abandoned = asking(llm)
    await inside.asked(1)
    abandoned.cancel()
    await settle()
    second = asking(llm)
    await inside.asked(2)
    may_end.set()
    await asyncio.gather(abandoned, return_exceptions=True)
    third = asking(llm)
    await settle()
    inside.calls[1].answer.set_result("answer")
    assert list(await asyncio.gather(second, third)) == ["answer"] * 2
    assert len(inside.calls) == 2
