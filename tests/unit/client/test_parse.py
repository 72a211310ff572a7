"""Typed results: an instance of a class, or an error that says why there is none; asked for twice at the most."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from tests.support.llms import EchoLLM
from tests.support.scripted_engine import Whole, completion, scripted_engine
from tests.support.scripted_server import response, scripted_server
from tests.unit.client.test_router import content, listing
from vllm_client import (
    CachedClient,
    InvalidAnswer,
    MonitoredClient,
    NotReady,
    RequestStatistics,
    SyncVLLMClient,
    VLLMClient,
    run_batch,
)
from vllm_client.router import ModelRouter
from vllm_client.sampling import time_left
from vllm_client.schema import excerpt
from vllm_client.wrapper import ClientWrapper

KEY = "sk-secret"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Product(BaseModel):
    """What is asked for."""

    name: str
    sizes: list[str]

    @field_validator("sizes")
    @classmethod
    def known(cls, sizes: list[str]) -> list[str]:
        """A rule that no JSON schema has."""
        if unknown := set(sizes) - {"S", "M", "L"}:
            raise ValueError(f"there is no size {min(unknown)}")
        return sizes


@dataclass
class Point:
    """The same as a dataclass."""

    x: int
    y: int


SHIRT = Product(name="shirt", sizes=["M"])
GOOD = Whole(completion(SHIRT.model_dump_json()))
BAD = Whole(completion('{"name": "shirt", "sizes": ["huge"]}'))
WORSE = Whole(completion("I am sorry, I cannot answer."))
CUT = Whole(completion('{"name": "shirt", "si', "length"))
TOO_LONG = Whole(
    {"error": {"message": "This model's maximum context length is 64 tokens. However, ...", "code": 400}}, status=400
)


def client_of(url: str, **settings: Any) -> VLLMClient:
    return VLLMClient(url, "m", KEY, **{"max_retries": 0, **settings})


async def test_an_answer_that_fits_is_an_instance_and_is_asked_for_once() -> None:
    async with scripted_engine(GOOD) as engine, client_of(engine.url) as client:
        product = await client.parse("Red cotton shirt, size M", Product)
        assert product == SHIRT
        [body] = engine.bodies
        assert body["response_format"]["json_schema"]["schema"] == Product.model_json_schema()


@pytest.mark.parametrize("first", [BAD, WORSE], ids=["a validator refuses it", "it is no JSON"])
async def test_an_answer_that_does_not_fit_is_shown_to_the_model_with_what_is_wrong(first: Whole) -> None:
    conversation = [{"role": "system", "content": "Extract."}, {"role": "user", "content": "shirt"}]
    async with scripted_engine(first, GOOD) as engine, client_of(engine.url) as client:
        assert await client.parse(conversation, Product, max_tokens=100) == SHIRT
        _, second = engine.bodies
    *given, answer, correction = second["messages"]
    assert given == conversation
    assert answer == {"role": "assistant", "content": first.body["choices"][0]["message"]["content"]}
    assert correction["role"] == "user"
    assert "there is no size huge" in correction["content"] or "Invalid JSON" in correction["content"]
    assert second["max_tokens"] == 100
    assert "response_format" in second


async def test_where_neither_answer_fits_the_error_has_both_and_no_key() -> None:
    async with scripted_engine(BAD, WORSE) as engine, client_of(engine.url) as client:
        with pytest.raises(InvalidAnswer) as caught:
            await client.parse("x", Product)
        assert len(engine.bodies) == 2, "once more, and not again"
    told = str(caught.value)
    for part in ("sizes: Value error, there is no size huge", "asked once more", "I am sorry", engine.url):
        assert part in told
    assert caught.value.answers == ('{"name": "shirt", "sizes": ["huge"]}', "I am sorry, I cannot answer.")
    assert KEY not in told
    assert KEY not in repr(caught.value)


async def test_an_answer_that_is_cut_off_is_not_asked_for_again_and_names_max_tokens() -> None:
    body = completion('{"name": "shirt", "si', "length", usage={**USAGE, "completion_tokens": 20})
    async with scripted_engine(Whole(body)) as engine, client_of(engine.url) as client:
        with pytest.raises(InvalidAnswer, match=r"cut off at max_tokens=20.*Raise max_tokens") as caught:
            await client.parse("x", Product, max_tokens=20)
        assert caught.value.finish_reason == "length"
        with pytest.raises(InvalidAnswer, match="cut off at the end of the model's context"):
            await client.parse("x", Product, max_tokens=1000)
        assert len(engine.bodies) == 2


async def test_an_answer_that_fits_although_it_ends_at_the_limit_is_one() -> None:
    async with (
        scripted_engine(Whole(completion(SHIRT.model_dump_json(), "length"))) as engine,
        client_of(engine.url) as client,
    ):
        assert await client.parse("x", Product) == SHIRT


async def test_a_second_question_that_is_too_long_for_the_model_is_the_first_ones_failure() -> None:
    async with scripted_engine(BAD, TOO_LONG) as engine, client_of(engine.url) as client:
        with pytest.raises(InvalidAnswer, match=r"no size huge.*asked once more: .*maximum context length") as caught:
            await client.parse("x", Product)
    assert len(caught.value.answers) == 1


async def test_a_second_question_that_fails_otherwise_raises_that_with_a_note_of_the_first_answer() -> None:
    async with scripted_engine(BAD, Whole("", status=503)) as engine, client_of(engine.url) as client:
        with pytest.raises(NotReady) as caught:
            await client.parse("x", Product)
    assert any("no size huge" in note for note in caught.value.__notes__)


async def test_the_second_question_has_what_the_first_one_left_of_the_time() -> None:
    async with scripted_engine(BAD, GOOD) as engine, client_of(engine.url) as client:
        await client.parse("x", Product, timeout=30)
        first, second = (float(headers["x-stainless-read-timeout"]) for headers in engine.headers)
    assert second < first == 30
    assert time_left(5, 7.0) == 0
    assert time_left(None, 7.0) is None


async def test_a_cache_keeps_what_fits_under_the_first_question_and_nothing_else() -> None:
    async with scripted_engine(BAD, WORSE, BAD, GOOD) as engine, client_of(engine.url) as client:
        cached = CachedClient(client)
        with pytest.raises(InvalidAnswer):
            await cached.parse("x", Product, temperature=0)
        for _ in range(3):
            assert await cached.parse("x", Product, temperature=0) == SHIRT
        assert len(engine.bodies) == 4
        assert cached.statistics.hits == 2


def loose_product() -> type[BaseModel]:
    """A class of the same name and schema that takes every size."""

    class Product(BaseModel):
        name: str
        sizes: list[str]

        model_config = {"json_schema_extra": {"description": "What is asked for."}}

    return Product


async def test_what_an_earlier_looser_class_has_left_in_a_store_is_asked_for_anew() -> None:
    loose = loose_product()
    assert loose.model_json_schema() == Product.model_json_schema()
    async with scripted_engine(BAD, GOOD) as engine, client_of(engine.url) as client:
        cached = CachedClient(client)
        assert (await cached.parse("x", loose, temperature=0)).model_dump()["sizes"] == ["huge"]
        assert await cached.parse("x", Product, temperature=0) == SHIRT
        assert len(engine.bodies) == 2


async def test_a_dataclass_is_as_good_and_is_remembered() -> None:
    async with scripted_engine(Whole(completion('{"x": 1, "y": 2}'))) as engine, client_of(engine.url) as client:
        cached = CachedClient(client)
        assert [await cached.parse("x", Point, seed=1) for _ in range(2)] == [Point(1, 2)] * 2
        assert len(engine.bodies) == 1
        assert await client.parse("x", dict[str, int]) == {"x": 1, "y": 2}


async def test_both_questions_are_one_request_to_those_who_watch() -> None:
    statistics = RequestStatistics()
    async with scripted_engine(BAD, GOOD) as engine, client_of(engine.url) as client:
        assert await MonitoredClient(client, statistics).parse("x", Product) == SHIRT
    [seen] = statistics.snapshot()
    assert (seen.answered, seen.prompt_tokens, seen.completion_tokens) == (1, 6, 4)


async def test_a_batch_asks_once_more_where_it_is_told_to() -> None:
    async with scripted_engine(BAD, GOOD) as engine, client_of(engine.url) as client:
        [item] = [one async for one in run_batch(client, ["x"], schema=Product, reask=True)]
        assert json.loads(item.text or "") == SHIRT.model_dump()


async def test_the_router_parses_too() -> None:
    async with scripted_engine(BAD, GOOD) as engine:
        router = ModelRouter.from_catalog(content(listing("m", engine.url.removesuffix("/v1"))))
        async with router.client() as routed:
            assert await routed.parse("x", Product) == SHIRT


def test_the_synchronous_face_parses_too() -> None:
    left = [GOOD, BAD]

    def answer(_path: str, _body: bytes) -> bytes:
        return response(left.pop().body, 200, "Content-Type: application/json")

    with (
        scripted_server(answers=answer) as server,
        SyncVLLMClient(client_of(f"http://127.0.0.1:{server.port}")) as client,
    ):
        assert client.parse("x", Product) == SHIRT


async def test_a_client_that_knows_no_schemas_is_found_out() -> None:
    with pytest.raises(InvalidAnswer, match="m did not answer as its schema says"):
        await ClientWrapper(EchoLLM()).parse("x", Product)


def test_of_a_long_answer_beginning_and_end_are_shown() -> None:
    assert excerpt("short\n") == "'short\\n'"
    shown = excerpt("a" * 500 + "b" * 500)
    assert len(shown) < 300
    assert shown.startswith("'aaa")
    assert shown.endswith("bbb'")
