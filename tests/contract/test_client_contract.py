"""What an application gets from the client library, on the stub and on the real engine by the same tests."""

from __future__ import annotations

import ast
import asyncio
import inspect
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest
from openai.resources.chat.completions import AsyncCompletions
from pydantic import BaseModel

from tests.support.servers import eventually
from tests.support.vllm_cpu import real_engine
from vllm_client import (
    ContextLengthExceeded,
    FixedEngines,
    InvalidAnswer,
    ModelNotFound,
    RefusedInput,
    SyncVLLMClient,
    TimedOut,
    Unauthorized,
    VLLMClient,
    VLLMError,
    check_vllm_availability,
)
from vllm_client.balance import load_report
from vllm_client.balance.load_report import LoadReport
from vllm_client.sampling import VLLM_ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.engine_kinds import Kind
    from tests.support.servers import EngineServer

KEY = "key-1"
LENGTH = 2048
COMPACT = ("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}')
"""Between the parts of JSON any white space is allowed, and a model without sense writes nothing else."""
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}


@pytest.mark.real_vllm
def test_every_argument_of_vllms_chats_passes_through_the_client() -> None:
    """What the installed vLLM reads of a chat, without starting it: by the text of its class."""
    packages = real_engine().venv / "lib" / "python3.11" / "site-packages"
    text = (packages / "vllm" / "entrypoints" / "openai" / "chat_completion" / "protocol.py").read_text("utf-8")
    (request,) = (
        one for one in ast.parse(text).body if isinstance(one, ast.ClassDef) and one.name == "ChatCompletionRequest"
    )
    names = {
        one.target.id for one in request.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
    fields = {name for name in names if not name.startswith("_")}
    by_name = inspect.signature(AsyncCompletions.create).parameters.keys()
    assert fields - by_name == VLLM_ARGUMENTS


def idle(server: EngineServer) -> bool:
    """Whether the engine soon has no request in flight."""
    return eventually(lambda: server.metric("num_requests_running") == 0, seconds=20)


class Colour(Enum):
    """A property with few values, so that even a model without sense names one within a few tokens."""

    RED = "red"
    BLUE = "blue"


class Product(BaseModel):
    """What is extracted."""

    colour: Colour
    available: bool


@pytest.fixture(scope="module")
def server(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """One engine for all tests of this file."""
    flags = ("--served-model-name", "tiny", "--max-model-len", str(LENGTH), "--max-num-seqs", "4")
    with kind.start(*flags, *COMPACT, folder=tmp_path_factory.mktemp("engine"), api_key=KEY) as running:
        yield running


@pytest.fixture(params=["one URL", "balanced"])
async def llm(server: EngineServer, request: pytest.FixtureRequest) -> AsyncIterator[VLLMClient]:
    """A client as most have it, and one that balances, if only over one engine: a list of one would not be balanced."""
    source = FixedEngines((f"{server.url}/v1",)) if request.param == "balanced" else ""
    async with VLLMClient(server.url, "tiny", KEY, timeout=60, discovery=source) as client:
        yield client


async def test_a_greedy_answer_is_the_same_whole_in_pieces_and_as_one_of_a_batch(llm: VLLMClient) -> None:
    whole = await llm.complete("ab", **GREEDY)
    pieces = [piece async for piece in llm.stream("ab", **GREEDY)]
    assert len(pieces) > 1
    assert "".join(pieces).strip() == whole
    assert await llm.generate_batch(["ab", "ab", "cd"], **GREEDY) == [whole, whole, await llm.complete("cd", **GREEDY)]
    assert await llm.chat([{"role": "user", "content": "ab"}], **GREEDY) == whole


async def test_an_answer_fits_the_schema_that_was_asked_for(llm: VLLMClient) -> None:
    answer = await llm.complete("What is it?", schema=Product, temperature=0, max_tokens=200)
    assert Product.model_validate_json(answer).colour in Colour


async def test_an_answer_is_an_instance_of_the_class_that_was_asked_for(llm: VLLMClient) -> None:
    product = await llm.parse("What is it?", Product, temperature=0, max_tokens=200)
    assert product.colour in Colour
    with pytest.raises(InvalidAnswer, match="cut off at max_tokens=2"):
        await llm.parse("What is it?", Product, temperature=0, max_tokens=2)


async def test_several_answers_come_with_their_tokens_and_their_engine(server: EngineServer, llm: VLLMClient) -> None:
    arguments = {"n": 2, "max_tokens": 3, "temperature": 1, "extra_body": {"ignore_eos": True}}
    chat = await llm.completion("ab cd", logprobs=True, top_logprobs=1, **arguments)
    text = await llm.text_completion("ab cd", logprobs=1, **arguments)
    stream = llm.stream("ab cd", max_tokens=3, logprobs=True, top_logprobs=1, extra_body={"ignore_eos": True})
    pieces = [piece async for piece in stream]
    assert stream.completion is not None
    assert stream.completion.text == "".join(pieces)
    for found, wanted in ((chat, 2), (text, 2), (stream.completion, 1)):
        assert [(choice.index, choice.finish_reason) for choice in found.choices] == [
            (index, "length") for index in range(wanted)
        ]
        assert (found.model, found.engine) == ("tiny", f"{server.url}/v1")
        assert found.usage is not None
        assert found.usage.completion_tokens == 3 * wanted
        for choice in found.choices:
            assert choice.logprobs is not None
            assert all(token.logprob is not None and token.logprob <= 0 and token.top for token in choice.logprobs)


@pytest.mark.parametrize(
    "arguments", [{"prompt": "ab " * LENGTH}, {"prompt": "ab", "max_tokens": LENGTH + 1}], ids=["prompt", "max_tokens"]
)
async def test_what_is_longer_than_the_context_is_told_as_that(llm: VLLMClient, arguments: dict[str, Any]) -> None:
    with pytest.raises(ContextLengthExceeded, match="ask a model with a longer context"):
        await llm.complete(**arguments)


async def test_arguments_that_only_vllm_knows_are_taken(llm: VLLMClient) -> None:
    assert await llm.complete("ab", top_k=1, extra_body={"min_tokens": 3}, max_tokens=12)
    with pytest.raises(RefusedInput, match="top_k must be 0"):
        await llm.complete("ab", top_k=-2)
    with pytest.raises(RefusedInput, match="min_tokens must be less than or equal to max_tokens=12, got 13"):
        await llm.complete("ab", extra_body={"min_tokens": 13}, max_tokens=12)


async def test_the_engine_says_what_it_serves_and_completes_a_prompt(llm: VLLMClient) -> None:
    card = await llm.get_model_info()
    assert (card["id"], card["max_model_len"]) == ("tiny", LENGTH)
    assert await llm.health_check()


@pytest.mark.parametrize(
    ("changes", "arguments", "expected", "told"),
    [
        ({"model_name": "other"}, {}, ModelNotFound, "other"),
        ({"api_key": "wrong"}, {}, Unauthorized, "VLLM_API_KEY"),
        ({}, {"max_tokens": LENGTH * 2}, RefusedInput, "max_tokens"),
        ({}, {"temperature": -1}, RefusedInput, "temperature"),
    ],
    ids=["unknown model", "wrong key", "more tokens than the context", "bad parameter"],
)
async def test_a_refusal_is_told_with_its_endpoint_and_its_cause(
    llm: VLLMClient, changes: dict[str, str], arguments: dict[str, Any], expected: type[VLLMError], told: str
) -> None:
    llm.update_config(**changes)
    with pytest.raises(expected, match=told) as failure:
        await llm.complete("ab", **arguments)
    assert failure.value.endpoint == llm.config.base_url


async def test_an_answer_that_takes_too_long_is_given_up_in_time_and_leaves_the_engine(
    server: EngineServer, llm: VLLMClient
) -> None:
    llm.update_config(timeout=0.3, max_retries=0)
    with pytest.raises(TimedOut):
        await llm.complete("ab", max_tokens=LENGTH - 100, extra_body={"ignore_eos": True})
    assert await asyncio.to_thread(idle, server)


async def test_a_stream_that_is_left_frees_its_place(server: EngineServer, llm: VLLMClient) -> None:
    pieces = llm.stream("ab", max_tokens=LENGTH - 100, extra_body={"ignore_eos": True})
    assert await anext(pieces)
    await pieces.aclose()
    assert await asyncio.to_thread(idle, server)


ASKING = {load_report.REQUEST_HEADER: load_report.FORMAT}


def load_told(server: EngineServer, path: str, **fields: Any) -> str | None:
    """What the engine says of its load with an answer to this, if anything."""
    prompt = {"messages": [{"role": "user", "content": "ab"}]} if "chat" in path else {"prompt": "ab"}
    body = {"model": "tiny", "max_tokens": 1, **prompt, **fields}
    answer = server.request("POST", path, body, headers=ASKING, timeout=60)
    assert answer.status == 200
    return answer.headers.get(load_report.RESPONSE_HEADER)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_who_asks_is_told_the_engines_load_with_a_whole_answer_and_never_with_a_stream(
    server: EngineServer, path: str
) -> None:
    assert idle(server)
    assert load_report.read_report(load_told(server, path) or "") == LoadReport(0.0, 0.0)
    assert load_told(server, path, stream=True) is None
    assert load_report.RESPONSE_HEADER not in server.complete().headers


async def test_an_engine_that_is_full_says_how_many_wait_and_how_much_of_its_cache_is_in_use(
    server: EngineServer,
) -> None:
    def told() -> LoadReport | None:
        return load_report.read_report(load_told(server, "/v1/completions", max_tokens=300, ignore_eos=True) or "")

    found = await asyncio.gather(*(asyncio.to_thread(told) for _ in range(12)))
    reports = [report for report in found if report is not None]
    assert len(reports) == 12
    assert max(report.waiting for report in reports) >= 1
    assert max(report.kv_cache_usage for report in reports) > 0


def test_scripts_have_the_same_without_await(server: EngineServer) -> None:
    with SyncVLLMClient(VLLMClient(server.url, "tiny", KEY)) as llm:
        assert llm.complete("ab", **GREEDY) == "".join(llm.stream("ab", **GREEDY)).strip()


def test_availability_is_told_in_a_sentence(server: EngineServer) -> None:
    settings = {"base_url": server.url, "model_name": "tiny", "api_key": KEY}
    available, told = check_vllm_availability(settings)
    assert available, told
    assert told.startswith(f"model tiny at {server.url}/v1 completes prompts")
