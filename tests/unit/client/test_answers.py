"""No answer is believed that is none: cut off, given up, or somebody else's."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scripted_engine import Stream, Whole, chunk, completion, scripted_engine
from vllm_client import (
    CachedClient,
    EmptyAnswer,
    EngineFailed,
    FixedEngines,
    IncompleteAnswer,
    MonitoredClient,
    VLLMClient,
    VLLMError,
    run_batch,
)
from vllm_client.answers import Answer
from vllm_client.balance.transport import BalancedTransport
from vllm_client.cache.forms import read_completion, write_completion
from vllm_client.config import ClientConfig
from vllm_client.finish import GIVEN_UP, StreamEnd, gives_up
from vllm_client.usage import usage_reports

if TYPE_CHECKING:
    from pathlib import Path

SOUND = Whole(completion("whole"))
SOUND_STREAM = Stream([chunk("who"), chunk("le", "stop")])
HALVES: dict[str, Whole | Stream] = {
    "given up": Whole(completion("half an", "abort")),
    "failed": Whole(completion("half an", "error")),
    "without an end": Whole(completion("half an", None)),
}
HALF_STREAMS: dict[str, Stream] = {
    "given up": Stream([chunk("half an"), chunk(None, "abort")]),
    "without an end": Stream([chunk("half an")], done=False),
    "without a finish_reason": Stream([chunk("half an")]),
    "with an error": Stream([chunk("half an"), {"error": {"message": "engine died", "code": 500}}], done=False),
    "with an error of vLLM before 0.10": Stream(
        [chunk("half an"), {"object": "error", "message": "engine died", "type": "InternalServerError", "code": 500}]
    ),
    "whose connection breaks": Stream([chunk("half an")], done=False, breaks=True),
}


def client_of(url: str, **settings: Any) -> VLLMClient:
    """A client of an engine that is asked once."""
    return VLLMClient(url, "m", **{"max_retries": 0, **settings})


@pytest.mark.parametrize("half", HALVES)
async def test_a_part_of_an_answer_is_an_error_and_is_kept_by_nobody(half: str, tmp_path: Path) -> None:
    async with scripted_engine(HALVES[half]) as engine, client_of(engine.url) as client:
        with pytest.raises(IncompleteAnswer, match=r"model m: the (engine gave the answer up|answer has no end)"):
            await client.complete("x")
        assert not await client.health_check()
        cached = CachedClient(client)
        for _ in range(2):
            with pytest.raises(IncompleteAnswer):
                await cached.complete("x", temperature=0)
        assert cached.statistics.hits == 0
        engine.answers[:] = [HALVES[half], SOUND]
        for answers in (["IncompleteAnswer"], ["whole"]):
            results = [one async for one in run_batch(client, ["x"], path=tmp_path / "batch.jsonl")]
            assert [one.error.kind if one.error else one.text for one in results] == answers


@pytest.mark.parametrize("half", HALF_STREAMS)
async def test_a_stream_that_breaks_off_is_an_error_after_its_last_piece(half: str) -> None:
    async with scripted_engine(HALF_STREAMS[half]) as engine, client_of(engine.url, max_retries=3) as client:
        stream = client.stream("x")
        assert await anext(stream) == "half an"
        with pytest.raises(IncompleteAnswer):
            await anext(stream)
        assert len(engine.bodies) == 1, "nobody can tell what a second answer would begin with"


@pytest.mark.parametrize("several", [False, True], ids=["one address", "through several engines"])
async def test_what_an_engine_gives_up_is_asked_for_once_more(*, several: bool) -> None:
    given_up, silent = HALVES["given up"], Stream([chunk(None, "abort", role="assistant")])
    async with scripted_engine(given_up, SOUND, silent, SOUND_STREAM) as engine:
        options = {"engines": [engine.url], "max_retries": 3} if several else {"max_retries": 3}
        async with client_of(engine.url, **options) as client:
            assert await client.complete("x") == "whole"
            assert "".join([piece async for piece in client.stream("x")]) == "whole"
            assert len(engine.bodies) == 4


async def test_what_each_engine_gives_up_is_computed_twice_at_the_most() -> None:
    async with scripted_engine(HALVES["given up"]) as one, scripted_engine(HALVES["given up"]) as other:
        async with client_of(one.url, engines=[one.url, other.url], max_retries=5) as client:
            with pytest.raises(IncompleteAnswer):
                await client.complete("x")
        assert len(one.bodies) + len(other.bodies) == 2
        assert one.bodies
        assert other.bodies, "another engine is asked"


@pytest.mark.parametrize("half", sorted(HALF_STREAMS.keys() - {"without a finish_reason"}))
async def test_streams_that_break_off_count_against_their_engine_until_one_comes_to_its_end(half: str) -> None:
    broken = HALF_STREAMS[half]
    async with (
        scripted_engine(broken, broken, SOUND_STREAM, broken) as engine,
        client_of(engine.url, discovery=FixedEngines((engine.url,))) as client,
    ):
        transport = client.openai._client._transport  # noqa: SLF001 - the connections are nobody else's business
        assert isinstance(transport, BalancedTransport)
        seen = []
        for _ in range(4):
            with contextlib.suppress(IncompleteAnswer):
                assert "".join([piece async for piece in client.stream("x")]) == "whole"
            (known,) = transport.fleet.engines.values()
            seen.append((known.health.errors, known.outstanding))
        assert seen == [(1, 0), (2, 0), (0, 0), (1, 0)]


async def test_a_stream_that_its_reader_leaves_says_nothing_against_its_engine() -> None:
    async with (
        scripted_engine(SOUND_STREAM) as engine,
        client_of(engine.url, discovery=FixedEngines((engine.url,))) as client,
    ):
        stream = client.stream("x")
        assert await anext(stream) == "who"
        await stream.aclose()
        transport = client.openai._client._transport  # noqa: SLF001 - see above
        assert isinstance(transport, BalancedTransport)
        (known,) = transport.fleet.engines.values()
        assert (known.health.errors, known.outstanding) == (0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        Whole("<html>Log in</html>", "text/html"),
        Whole({"status": "ok"}),
        Whole({"error": "no such model here"}),
        Whole([]),
        Whole({**completion("x"), "choices": None}),
        Whole("null"),
        Whole("[" * 100_000),
        Whole({**completion("x"), "choices": ["x"]}),
        Whole({**completion("x"), "choices": completion("x")["choices"] * 2}),
        Whole(completion(5)),
        Whole(completion(["x"])),
        Whole(completion({"text": "x"})),
        Whole(completion("x", tool_calls=["x"])),
    ],
    ids=[
        "a page",
        "other JSON",
        "an error with the status 200",
        "a list",
        "no choices",
        "nothing",
        "JSON that nobody can read",
        "a text for a choice",
        "two answers in one place",
        "a number for a text",
        "a list for a text",
        "a mapping for a text",
        "a text for the call of a tool",
    ],
)
async def test_a_200_that_is_no_completion_is_told_as_somebody_elses_answer(answer: Whole) -> None:
    async with scripted_engine(answer) as engine, client_of(engine.url) as client:
        for ask in (client.complete, client.completion):
            with pytest.raises(EngineFailed, match=r"the answer is no completion.* check VLLM_BASE_URL") as error:
                await ask("x")
            assert not isinstance(error.value, IncompleteAnswer)
        batch = [one async for one in run_batch(client, ["x", "y"])]
        assert [one.error.kind for one in batch if one.error] == ["EngineFailed"] * 2, "they are results, no mistakes"


@pytest.mark.parametrize(
    "events",
    ["data: <html>Log in</html>", 'data: {"choices": ["x"]}', "data: null", "data: " + "[" * 100_000, "data: 5"],
    ids=["a page", "a text for a choice", "nothing", "JSON that nobody can read", "a number"],
)
async def test_a_stream_of_something_else_is_told_as_somebody_elses_answer(events: str) -> None:
    answer = Whole(f"{events}\n\ndata: [DONE]\n\n", "text/event-stream")
    async with scripted_engine(answer) as engine, client_of(engine.url) as client:
        with pytest.raises(EngineFailed, match="check VLLM_BASE_URL"):
            async for _ in client.stream("x"):
                pass


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, "", "stop", "abort", "x", "error"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["index", "text", "x"]), inner),
    max_leaves=4,
)
RICH = completion("whole", reasoning="so", tool_calls=[{"function": {"name": "look_up"}}])
RICH["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": []}]}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inside for place in places(one, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """The document with something else in a place."""
    if not path:
        return other
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = put(value[path[0]], path[1:], other)
    return changed


@settings(max_examples=500)
@given(st.lists(st.tuples(st.sampled_from(places(RICH)), ANYTHING), min_size=1, max_size=2))
def test_whatever_stands_in_an_answer_it_is_a_whole_one_or_an_error_of_ours(changes: list[tuple[Any, Any]]) -> None:
    document: Any = RICH
    for path, other in changes:
        with contextlib.suppress(TypeError, LookupError):
            document = put(document, path, other)
    answer = Answer(ClientConfig(base_url="http://h", model_name="m"))
    with contextlib.suppress(VLLMError):
        answer.take(document)
        answer.end()
        found = answer.completion("http://h")
        assert {type(one.text) for one in found.choices} == {str}
        assert all(one.finish_reason and one.finish_reason not in GIVEN_UP for one in found.choices)
        assert {type(one.index) for one in found.choices} <= {int, bool}
        assert read_completion(write_completion(found)) == replace(found, cached=True)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [{"index": 0, "embedding": [0.5]}],
        [{"index": 0, "embedding": [0.5]}, {"index": 0, "embedding": [0.5]}],
        [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": []}],
        [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": "AAAAPw=="}],
        ["x", "y"],
    ],
)
async def test_vectors_that_are_others_than_those_asked_for_are_an_error(data: object) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"object": "list", "model": "m", "data": data})

    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    async with client_of("http://engine", http_client=http_client) as client:
        with pytest.raises(EngineFailed, match=r"no list of 2 vectors.* check VLLM_BASE_URL"):
            await client.embed(["one", "two"])


@pytest.mark.parametrize("body", ["<html>Log in</html>", "[]", '{"data": null}', '{"data": ["m"]}', '{"data": [{}]}'])
async def test_a_list_of_models_that_is_none_is_told_as_that(body: str) -> None:
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, text=body)))
    async with client_of("http://engine", http_client=http_client) as client:
        assert "no list of models" in (await client.get_model_info())["error"]


CALL = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("whole", "stream", "instead", "advice"),
    [
        (completion(None), Stream([chunk(None, "stop")]), "", "Ask for more tokens"),
        (
            completion(None, "length", reasoning="red or"),
            Stream([chunk(reasoning="red"), chunk(None, "length")]),
            "nothing but its reasoning",
            "Raise max_tokens",
        ),
        (
            completion("", "length", reasoning_content="red or"),
            Stream([chunk(reasoning_content="red"), chunk(None, "length")]),
            "nothing but its reasoning",
            "Raise max_tokens",
        ),
        (
            completion(None, "tool_calls", tool_calls=[CALL]),
            Stream([chunk(tool_calls=[{**CALL, "index": 0}]), chunk(None, "tool_calls")]),
            "a call of the tool look_up",
            "Use .openai for tools",
        ),
    ],
    ids=["nothing", "reasoning", "reasoning of an older vLLM", "a tool"],
)
async def test_an_answer_without_text_says_what_it_has_instead(
    whole: dict[str, Any], stream: Stream, instead: str, advice: str
) -> None:
    async with scripted_engine(Whole(whole), stream, Whole(whole)) as engine, client_of(engine.url) as client:
        with pytest.raises(EmptyAnswer) as empty:
            await client.complete("x")
        with pytest.raises(EmptyAnswer) as streamed:
            async for _ in client.stream("x"):
                pass
        assert (empty.value.instead, streamed.value.instead) == (instead, instead)
        assert advice in str(empty.value)
        assert await client.health_check(), "the engine does its work"


async def test_an_answer_that_its_limit_ends_is_one() -> None:
    async with scripted_engine(Whole(completion("half an", "length"))) as engine, client_of(engine.url) as client:
        assert await client.complete("x") == "half an"


async def test_usage_is_told_once_and_what_is_missing_of_it_fails_nothing() -> None:
    def used(tokens: int) -> dict[str, int]:
        return {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}

    running = Stream([chunk("a", usage=used(1)), chunk("b", usage=used(2)), chunk(None, "stop", usage=used(2))])
    partly = Whole(completion("x", usage={"prompt_tokens": 3, "total_tokens": 3}))
    nothing = Whole(completion("x", usage=None))
    async with scripted_engine(running, partly, nothing) as engine, client_of(engine.url) as client:
        with usage_reports() as reported:
            assert [piece async for piece in client.stream("x")] == ["a", "b"]
        assert [one.completion_tokens for one in reported] == [2]
        monitored = MonitoredClient(client)
        assert await monitored.complete("x") == "x"
        assert await monitored.complete("x") == "x"


async def test_what_a_part_of_an_answer_took_is_told_too() -> None:
    async with scripted_engine(HALVES["given up"]) as engine, client_of(engine.url) as client:
        with usage_reports() as reported, pytest.raises(IncompleteAnswer):
            await client.complete("x")
        assert [one.completion_tokens for one in reported] == [2]


@pytest.mark.parametrize("size", range(1, 40))
def test_the_end_of_a_stream_is_seen_wherever_its_bytes_are_cut(size: int) -> None:
    text = b'data: {"choices": [{"delta": {}, "finish_reason": "abort"}]}\n\ndata: [DONE]\n\n'
    end = StreamEnd(is_completion=True)
    for place in range(0, len(text), size):
        end.take(text[place : place + size])
    assert (end.done, end.given_up) == (True, True)


def test_a_text_about_finish_reasons_is_no_end() -> None:
    assert gives_up(b'{"finish_reason":"abort"}')
    assert not gives_up(b'{"content":"\\"finish_reason\\":\\"abort\\"","finish_reason":"stop"}')
