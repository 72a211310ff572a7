"""Whole answers: each of several is checked, and usage, finish_reason, logprobs and the engine are within reach."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.llms import EchoLLM
from tests.support.scripted_engine import Stream, Whole, chunk, completion, scripted_engine
from tests.unit.client.conftest import KEY
from vllm_client import (
    CachedClient,
    CacheStatistics,
    Choice,
    ConfigurationError,
    EmptyAnswer,
    ErrorEvent,
    IncompleteAnswer,
    MemoryStore,
    MonitoredClient,
    MonitoringHook,
    ResponseEvent,
    SQLiteStore,
    SyncVLLMClient,
    TokenLogprob,
    TokenUsage,
    VLLMClient,
)
from vllm_client.cache.key import request_key
from vllm_client.usage import usage_reports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.servers import EngineServer
    from vllm_client import AnswerStore

LOGPROBS = {
    "content": [
        {
            "token": "re",
            "logprob": -0.1,
            "bytes": None,
            "top_logprobs": [
                {"token": "bl", "logprob": -2.5, "bytes": None},
                {"token": "re", "logprob": -0.1, "bytes": None},
            ],
        }
    ]
}
TOLD = (TokenLogprob("re", -0.1, (("re", -0.1), ("bl", -2.5))),)
COUNTED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def client_of(url: str, **settings: Any) -> VLLMClient:
    return VLLMClient(url, "m", **{"max_retries": 0, **settings})


def several(*ends: tuple[str | None, str | None], **choice: Any) -> Whole:
    """An answer of several choices: the text of each, and how it ends."""
    body = completion("")
    body["choices"] = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": reason, **choice}
        for index, (text, reason) in enumerate(ends)
    ]
    return Whole(body)


async def test_several_answers_come_with_their_ends_tokens_usage_and_engine() -> None:
    async with scripted_engine(several((" red", "stop"), ("blu", "length"), logprobs=LOGPROBS)) as engine:
        other = "http://127.0.0.1:9/v1"
        for settings in ({}, {"engines": [engine.url, other], "max_retries": 3}):
            async with client_of(other if settings else engine.url, **settings) as client:
                with usage_reports() as reports:
                    found = await client.completion("A colour", n=2, logprobs=True, top_logprobs=2)
            assert found.choices == (Choice(" red", "stop", 0, TOLD), Choice("blu", "length", 1, TOLD))
            assert (found.text, found.finish_reason, found.model) == (" red", "stop", "m")
            assert found.usage == TokenUsage(3, 2)
            assert reports == [found.usage]
            assert found.engine == engine.url
            with pytest.raises(dataclasses.FrozenInstanceError):
                found.model = "another"  # type: ignore[misc]
        assert (engine.bodies[0]["n"], engine.bodies[0]["top_logprobs"]) == (2, 2)


@pytest.mark.parametrize(
    "half",
    [
        several(("red", "stop"), ("bl", "abort")),
        several(("red", "stop"), ("bl", "error")),
        several(("red", "stop"), ("bl", None)),
        several(("red", "stop")),
    ],
    ids=["given up", "failed", "without an end", "missing"],
)
async def test_of_several_answers_each_has_to_be_whole(half: Whole) -> None:
    async with scripted_engine(half) as engine, client_of(engine.url) as client:
        with pytest.raises(IncompleteAnswer):
            await client.completion("A colour", n=2)
        with pytest.raises(IncompleteAnswer):
            await client.completion("A colour", extra_body={"n": 2})
    sound = several(("red", "stop"), ("blue", "stop"))
    async with scripted_engine(half, sound) as engine, client_of(engine.url, max_retries=1) as client:
        assert [choice.text for choice in (await client.completion("A colour", n=2)).choices] == ["red", "blue"]


async def test_an_answer_without_a_text_stands_beside_others_and_is_an_error_alone() -> None:
    beside, alone = several(("", "length"), ("blue", "stop")), several(("", "length"))
    async with scripted_engine(beside, alone) as engine, client_of(engine.url) as client:
        assert [choice.text for choice in (await client.completion("A colour", n=2)).choices] == ["", "blue"]
        with pytest.raises(EmptyAnswer):
            await client.completion("A colour")


async def test_thoughts_are_told_apart_and_usage_may_be_missing() -> None:
    body = completion("red", reasoning="Roses are...", usage=None)
    async with scripted_engine(Whole(body)) as engine, client_of(engine.url) as client:
        found = await client.completion([{"role": "user", "content": "A colour"}])
        assert (found.choices[0].reasoning, found.usage) == ("Roses are...", None)


@pytest.mark.parametrize("arguments", [{"n": 2}, {"extra_body": {"n": 2}}])
async def test_what_returns_one_text_asks_for_one(arguments: dict[str, Any]) -> None:
    async with scripted_engine(several(("red", "stop"))) as engine, client_of(engine.url) as client:
        with pytest.raises(ValueError, match=r"n=2.*completion\(\)"):
            await client.complete("A colour", **arguments)
        with pytest.raises(ValueError, match=r"n=2.*completion\(\)"):
            await anext(client.stream("A colour", **arguments))
        with pytest.raises(ValueError, match="whole answer"):
            await client.completion("A colour", stream=True)
        assert not engine.bodies


async def test_texts_are_completed_without_a_chat_template(engine: EngineServer) -> None:
    async with VLLMClient(engine.url, "tiny", KEY) as client:
        found = await client.text_completion("Once upon", max_tokens=3, top_k=5)
    assert found.text == " tiny heard: Once"
    assert found.finish_reason == "length"
    assert found.usage is not None
    assert found.usage.completion_tokens == 3


async def test_the_tokens_of_a_text_completion_have_the_same_form() -> None:
    tokens = {
        "tokens": ["Once", " upon"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {" upon": -0.5, " in": -1.5}],
        "text_offset": [0, 4],
    }
    choice = {"index": 0, "text": "Once upon", "finish_reason": "stop", "logprobs": tokens}
    body = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": COUNTED}
    async with scripted_engine(Whole(body)) as engine, client_of(engine.url) as client:
        found = await client.text_completion("Once", logprobs=2, echo=True)
    assert found.choices[0].logprobs == (
        TokenLogprob("Once", None),
        TokenLogprob(" upon", -0.5, ((" upon", -0.5), (" in", -1.5))),
    )


async def test_a_stream_has_the_whole_answer_after_its_end() -> None:
    parts = [chunk("re"), chunk("d", "stop"), {**chunk(), "choices": [], "usage": COUNTED}]
    parts[0]["choices"][0]["logprobs"] = LOGPROBS
    async with scripted_engine(Stream(parts), Stream(parts[:1])) as engine, client_of(engine.url) as client:
        stream = client.stream("A colour")
        assert await anext(stream) == "re"
        assert stream.completion is None
        assert [piece async for piece in stream] == ["d"]
        assert stream.completion is not None
        assert stream.completion.choices == (Choice("red", "stop", 0, TOLD),)
        assert (stream.completion.usage, stream.completion.engine) == (TokenUsage(3, 2), engine.url)
        broken = client.stream("A colour")
        with pytest.raises(IncompleteAnswer):
            _ = [piece async for piece in broken]
        assert broken.completion is None


@pytest.mark.parametrize("kept", ["in memory", "in a file"])
async def test_a_completion_is_remembered_with_all_it_has_and_says_so(kept: str, tmp_path: Path) -> None:
    def store() -> AnswerStore:
        return MemoryStore() if kept == "in memory" else SQLiteStore(tmp_path / "answers.db")

    answers = several((" red", "stop"), ("blu\ud83d", "length"), logprobs=LOGPROBS), Whole(completion("other"))
    async with scripted_engine(*answers) as engine, CachedClient(client_of(engine.url), store=store()) as client:
        arguments: dict[str, Any] = {"n": 2, "logprobs": True, "temperature": 0}
        asked = await client.completion("A colour", **arguments)
        with usage_reports() as reports:
            remembered = await client.completion("A colour", **arguments)
        assert (asked.cached, remembered) == (False, dataclasses.replace(asked, cached=True))
        assert (remembered.choices[0].logprobs, remembered.usage, reports) == (TOLD, TokenUsage(3, 2), [])
        conversation = [{"role": "user", "content": "A colour"}]
        for _ in range(2):
            assert (await client.completion((one for one in conversation), temperature=0)).text == "other"
        assert await client.complete("A colour", temperature=0) == "other", "a text and a completion are kept apart"
        assert client.statistics == CacheStatistics(hits=2, misses=3)
        assert len(engine.bodies) == 3


async def test_a_completion_that_is_none_is_not_remembered_and_one_that_may_be_another_neither() -> None:
    half, whole = Whole(completion("half an", "abort")), Whole(completion("whole"))
    async with scripted_engine(half, whole) as engine, CachedClient(client_of(engine.url)) as client:
        with pytest.raises(IncompleteAnswer):
            await client.completion("x", seed=7)
        for cached in (False, True):
            assert (await client.completion("x", seed=7)).cached is cached
        assert not any([(await client.completion("x")).cached for _ in range(2)])
        assert client.statistics == CacheStatistics(hits=1, misses=2, bypassed=2)


async def test_a_completion_of_another_form_in_the_store_is_asked_for_again() -> None:
    store = MemoryStore()
    async with scripted_engine(Whole(completion("whole"))) as engine, client_of(engine.url) as client:
        cached = CachedClient(client, store=store)
        key = request_key((cached._model()), ["completion", "x"], {"temperature": 0})  # noqa: SLF001 - to spoil it
        assert key is not None
        for spoilt in ("no JSON", "[]", '{"choices": []}', '{"choices": [], "usage": null, "colour": "red"}'):
            await store.put(key, spoilt)
            assert not (await cached.completion("x", temperature=0)).cached
        assert (await cached.completion("x", temperature=0)).cached


async def test_equal_completions_at_a_time_are_asked_for_once() -> None:
    async with scripted_engine(Whole(completion("whole"))) as engine, CachedClient(client_of(engine.url)) as client:
        found = await asyncio.gather(*(client.completion("x", temperature=0) for _ in range(5)))
        assert {one.text for one in found} == {"whole"}
        assert (len(engine.bodies), client.statistics) == (1, CacheStatistics(misses=1, joined=4))


class Events(MonitoringHook):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.answered: list[ResponseEvent] = []
        self.failed: list[ErrorEvent] = []

    def on_response(self, event: ResponseEvent) -> None:
        """Keep it."""
        self.answered.append(event)

    def on_error(self, event: ErrorEvent) -> None:
        """Keep it."""
        self.failed.append(event)


async def test_hooks_are_told_of_completions_and_of_no_texts() -> None:
    sound = several(("red", "stop"), ("blue", "stop"))
    async with scripted_engine(sound, sound, Whole(completion("half", "abort"))) as engine:
        quiet, full = Events(), Events()
        async with MonitoredClient(client_of(engine.url), quiet) as client:
            assert (await client.completion("A colour", n=2)).usage == TokenUsage(3, 2)
            open_client = MonitoredClient(client.llm, full, include_text=True)
            conversation = [{"role": "user", "content": "A colour"}]
            await open_client.completion(iter(conversation), n=2)
            with pytest.raises(IncompleteAnswer):
                await client.completion("A colour")
        (told,), (failed,), (shown,) = quiet.answered, quiet.failed, full.answered
        assert (told.usage, told.text, told.request.prompt) == (TokenUsage(3, 2), None, None)
        assert told.request.numbers == {"n": 2}
        assert failed.kind == "IncompleteAnswer"
        assert (shown.text, json.loads(shown.request.prompt or "")) == ("red", conversation)


async def test_a_remembered_completion_costs_whoever_watches_no_tokens() -> None:
    async with scripted_engine(Whole(completion("whole"))) as engine:
        hook = Events()
        async with MonitoredClient(CachedClient(client_of(engine.url)), hook) as client:
            found = [(await client.completion("x", temperature=0)).cached for _ in range(2)]
        assert found == [False, True]
        assert [told.usage for told in hook.answered] == [TokenUsage(3, 2), None]


@pytest.mark.parametrize("wrapper", [CachedClient, MonitoredClient])
async def test_what_has_no_completion_inside_says_so(wrapper: Callable[[EchoLLM], CachedClient]) -> None:
    with pytest.raises(ConfigurationError, match=r"EchoLLM has no completion\(\).*Use complete\(\)"):
        await wrapper(EchoLLM()).completion("x", temperature=0)


def test_the_synchronous_face_has_them_too(engine: EngineServer) -> None:
    with SyncVLLMClient(VLLMClient(engine.url, "tiny", KEY)) as client:
        stream = client.stream("x", max_tokens=2)
        assert "".join(stream) == " tiny heard:"
        assert stream.completion is not None
        assert stream.completion.finish_reason == "length"
        assert client.completion("x").text.strip() == "tiny heard: x"
        assert client.text_completion("x").text.strip() == "tiny heard: x"
