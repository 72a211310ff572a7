"""The client against the stub engine: answers, arguments, and one error of the tree for each way to fail."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

import vllm_client
from tests.support.engine import BUSY
from tests.support.servers import eventually, free_port
from tests.unit.client.conftest import KEY, LENGTH
from vllm_client import LLMClient, VLLMClient, VLLMError, create_llm_client
from vllm_client.__main__ import main

if TYPE_CHECKING:
    from tests.support.servers import EngineServer


def impatient(engine: EngineServer, **settings: Any) -> VLLMClient:
    """A client that does not try again."""
    return VLLMClient(**{"base_url": engine.url, "model_name": "tiny", "api_key": KEY, "max_retries": 0, **settings})


@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("provider", [None, "vllm", "VLLM"])
async def test_a_client_from_the_environment_completes_a_prompt(provider: str | None) -> None:
    async with create_llm_client(provider) as client:
        assert isinstance(client, LLMClient)
        assert await client.complete("hello there") == "tiny heard: hello there"


@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("provider", ["openai", "mock"])
def test_another_provider_is_refused(provider: str) -> None:
    with pytest.raises(vllm_client.ConfigurationError, match=provider) as caught:
        create_llm_client(provider)
    assert caught.value.variable == "LLM_PROVIDER"


def test_the_provider_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROVIDER", "openai")
    with pytest.raises(vllm_client.ConfigurationError, match="LLM_PROVIDER=vllm"):
        create_llm_client(config={"model": "m"})


async def sent(**kwargs: Any) -> dict[str, Any]:
    """The body that `complete` sends with these arguments; the transport passes through to the OpenAI client."""
    bodies = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(json.loads(request.content))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
        return httpx2.Response(200, json={"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]})

    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    async with VLLMClient("http://engine", "m", http_client=http_client) as client:
        await client.complete("hello", **kwargs)
    [body] = bodies
    return dict(body)


async def test_the_request_is_one_user_message_with_the_documented_defaults() -> None:
    assert await sent() == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.1,
        "max_tokens": 2000,
        "top_p": 0.9,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
    }


async def test_arguments_replace_defaults_and_top_k_stands_beside_other_extras() -> None:
    body = await sent(temperature=0, seed=7, top_k=5, extra_body={"min_p": 0.1})
    assert (body["temperature"], body["seed"], body["top_k"], body["min_p"]) == (0, 7, 5, 0.1)


async def test_the_answer_is_stripped(engine: EngineServer) -> None:
    engine.faults(answer="  an answer \n")
    async with impatient(engine) as client:
        assert await client.complete("x") == "an answer"


@pytest.mark.parametrize(
    ("faults", "error", "text"),
    [
        ({"fail": {"status": 400, "message": "no chat template"}}, vllm_client.RefusedInput, "no chat template"),
        ({"fail": {"status": 429, "message": "slow down"}}, vllm_client.Overloaded, "slow down"),
        ({"fail": {"status": 503, "message": BUSY}}, vllm_client.Overloaded, "currently busy"),
        ({"fail": {"status": 503, "body": "no endpoints"}}, vllm_client.NotReady, "no endpoints"),
        ({"fail": {"status": 500, "message": "boom"}}, vllm_client.EngineFailed, "boom"),
        ({"fail": {"status": 502, "body": {"detail": "bad gateway"}}}, vllm_client.EngineFailed, "bad gateway"),
        ({"answer": " \n "}, vllm_client.EmptyAnswer, "answered nothing"),
    ],
)
async def test_each_failure_of_the_engine_is_an_error_of_its_own(
    engine: EngineServer, faults: dict[str, Any], error: type[VLLMError], text: str
) -> None:
    engine.faults(**faults)
    async with impatient(engine) as client:
        with pytest.raises(error, match=text) as caught:
            await client.complete("x")
    assert type(caught.value) is error
    assert caught.value.endpoint == f"{engine.url}/v1"
    assert caught.value.advice
    assert caught.value.endpoint in str(caught.value)
    assert caught.value.advice in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "arguments", "error", "text"),
    [
        ({"api_key": "wrong"}, {}, vllm_client.Unauthorized, "VLLM_API_KEY"),
        ({"model_name": "nobody"}, {}, vllm_client.ModelNotFound, "`nobody` does not exist"),
        ({}, {"max_tokens": LENGTH + 1}, vllm_client.RefusedInput, "max_model_len"),
    ],
)
async def test_each_wrong_setting_is_an_error_of_its_own(
    engine: EngineServer, settings: dict[str, Any], arguments: dict[str, Any], error: type[VLLMError], text: str
) -> None:
    async with impatient(engine, **settings) as client:
        with pytest.raises(error, match=text):
            await client.complete("x", **arguments)


async def test_a_hung_engine_times_out(engine: EngineServer) -> None:
    engine.faults(hang_engine=True)
    async with impatient(engine, timeout=0.3) as client:
        with pytest.raises(vllm_client.TimedOut, match=r"within 0\.3 s") as caught:
            await client.complete("x")
    assert isinstance(caught.value, TimeoutError)


async def test_a_callers_own_deadline_is_left_alone(engine: EngineServer) -> None:
    engine.faults(hang_engine=True)
    async with impatient(engine) as client:
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(client.complete("x"), timeout=0.3)
    assert not isinstance(caught.value, VLLMError)


async def test_nobody_there_is_not_reachable() -> None:
    port = free_port()
    async with VLLMClient(f"http://127.0.0.1:{port}", "m", max_retries=0) as client:
        with pytest.raises(vllm_client.NotReachable, match=f"127.0.0.1:{port}") as caught:
            await client.complete("x")
    assert isinstance(caught.value, ConnectionError)


async def test_a_failure_that_passes_is_tried_again(engine: EngineServer) -> None:
    refused = '"POST /v1/chat/completions HTTP/1.1" 503'
    before = engine.log().count(refused)
    engine.faults(fail={"status": 503, "message": "not yet"})

    def mend() -> bool:
        found = eventually(lambda: engine.log().count(refused) > before)
        engine.request("DELETE", "/stub/faults")
        return found

    async with impatient(engine, max_retries=8) as client:
        answer, was_refused = await asyncio.gather(client.complete("x"), asyncio.to_thread(mend))
    assert was_refused
    assert answer == "tiny heard: x"


async def test_a_stream_is_refused_because_the_answer_is_a_text(engine: EngineServer) -> None:
    async with impatient(engine) as client:
        with pytest.raises(ValueError, match=r"\.openai for streams"):
            await client.complete("x", stream=True)


async def test_a_mistake_of_the_caller_is_not_an_error_of_the_engine(engine: EngineServer) -> None:
    async with impatient(engine) as client:
        with pytest.raises(TypeError, match="temprature"):
            await client.complete("x", temprature=1)


@pytest.mark.usefixtures("bound")
def test_the_program_prints_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hello there", "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out == "tiny heard: hello\n"


def test_the_program_says_what_is_missing_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hello"]) == 1
    assert capsys.readouterr().err.startswith("ConfigurationError: the model's name is missing. Set VLLM_MODEL_NAME")
