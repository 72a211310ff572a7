"""The names of the integration guide, as programs that follow it use them."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from openai import not_given, omit
from openai.resources.chat.completions import AsyncCompletions
from openai.types.chat import ChatCompletionMessage

from tests.unit.client.conftest import KEY
from vllm_client import ConfigurationError, LLMClientFactory, VLLMClient, create_llm_client, get_available_providers
from vllm_client.asking import CHAT, known_arguments
from vllm_client.sampling import VLLM_ARGUMENTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import EngineServer

SETTINGS: dict[str, Any] = {"base_url": "http://h:8000", "model_name": "m", "api_key": KEY}


def test_every_way_to_a_client_leads_to_the_same(tmp_path: Path) -> None:
    file = tmp_path / "llm.yaml"
    file.write_text(json.dumps({"llm": {"provider": "vllm"}, "vllm": SETTINGS}), encoding="utf-8")
    made = [
        create_llm_client("vllm", SETTINGS),
        create_llm_client("vllm", {"vllm": SETTINGS}),
        create_llm_client(config={"provider": "vllm", **SETTINGS}),
        create_llm_client(config_file=file),
        create_llm_client("vllm", config_file=str(file)),
        LLMClientFactory.create_client("vllm", SETTINGS),
        LLMClientFactory.create_client(config=file),
        LLMClientFactory.create_from_config_file(file),
        LLMClientFactory.create_from_config_file(config_path=str(file), provider="vllm"),
    ]
    assert {(client.base_url, client.model_name, client.config.api_key) for client in made} == {
        ("http://h:8000/v1", "m", KEY)
    }
    with pytest.raises(TypeError, match="config or config_file"):
        create_llm_client("vllm", SETTINGS, config_file=file)


def test_providers_are_told_with_what_the_model_says(bound: EngineServer) -> None:
    (provider, (available, status)) = next(iter(get_available_providers().items()))
    assert (provider, available) == ("vllm", True)
    assert status == f"model tiny at {bound.url}/v1 completes prompts"
    bound.faults(fail={"status": 500, "message": "boom"})
    for found in (get_available_providers(), LLMClientFactory.get_available_providers()):
        assert not found["vllm"][0]
        assert "boom" in found["vllm"][1]


def test_an_argument_goes_before_the_file_and_the_file_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PROVIDER", "openai")
    file = tmp_path / "llm.yaml"
    file.write_text(json.dumps({"llm": {"provider": "anthropic"}, "vllm": SETTINGS}), encoding="utf-8")
    assert create_llm_client("vllm", file).model_name == "m"
    with pytest.raises(ConfigurationError, match="not to 'anthropic'"):
        create_llm_client(config_file=file)
    assert create_llm_client(config={"llm": {"provider": "VLLM"}, "vllm": SETTINGS}).model_name == "m"
    with pytest.raises(ConfigurationError, match="not to 'openai'"):
        create_llm_client(config=SETTINGS)


def test_a_client_shows_who_is_asked_and_no_key() -> None:
    client = VLLMClient(**SETTINGS)
    assert repr(client) == "VLLMClient(base_url='http://h:8000/v1', model_name='m')"
    assert KEY not in f"{client!r} {client.config!r}"


async def test_what_only_vllm_knows_reaches_it_and_what_nobody_knows_is_a_mistake() -> None:
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(json.loads(request.content))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
        return httpx2.Response(200, json={"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]})

    given: dict[str, Any] = {
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "chat_template_kwargs": {"enable_thinking": False},
        "top_k": 5,
    }
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    async with VLLMClient("http://engine", "m", http_client=http_client) as client:
        await client.complete("hello", **given, extra_body={"top_k": 7})
        with pytest.raises(TypeError, match="min_probability"):
            await client.complete("hello", min_probability=0.1)
    (body,) = bodies
    assert {name: body[name] for name in given} == {**given, "top_k": 7}


async def test_only_the_key_of_the_model_is_sent_and_nothing_of_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "admin")
    requests: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
        return httpx2.Response(200, json={"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]})

    given: dict[str, Any] = {
        "top_p": omit,
        "seed": not_given,
        "extra_headers": {"X-Team": "red"},
        "extra_query": {"trace": "1"},
        "extra_body": {"top_k": omit, "min_p": 0.1},
        "timeout": not_given,
    }
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    async with VLLMClient("http://engine", "m", KEY, http_client=http_client) as client:
        said = ChatCompletionMessage(role="assistant", content="hi")
        await client.chat([said, {"role": "user", "content": "hello"}], top_k=5, **given)  # type: ignore[list-item]
    (request,) = requests
    body = json.loads(request.content)
    assert body == {
        "model": "m",
        "messages": [{"role": "assistant", "content": "hi"}, {"role": "user", "content": "hello"}],
        "temperature": 0.1,
        "max_tokens": 2000,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "min_p": 0.1,
    }
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert (request.headers["x-team"], request.url.query) == ("red", b"trace=1")


def test_no_argument_of_openai_is_taken_for_one_of_vllm() -> None:
    by_name = inspect.signature(AsyncCompletions.create).parameters.keys() - {"self"}
    assert not VLLM_ARGUMENTS & by_name
    assert known_arguments(CHAT) - VLLM_ARGUMENTS == by_name


def test_times_are_printed_where_nothing_is_configured(bound: EngineServer) -> None:
    program = (
        "import asyncio\nfrom vllm_client import create_llm_client, monitor_performance\n"
        "@monitor_performance\nasync def ask():\n    async with create_llm_client('vllm') as llm:\n"
        "        return await llm.complete('hello')\nasyncio.run(ask())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"ask took \d+\.\d{3} s\n", done.stdout), bound.url
