"""Where nobody answers, the error says what it may be and the command that shows it."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

from tests.support.servers import free_port
from vllm_client import ClientConfig, Found, NotReachable, NotReady, TimedOut, VLLMClient
from vllm_client.translate import look, translate

BOUND = ClientConfig(base_url="http://qwen.team.svc:8000", model_name="qwen")
REQUEST = httpx2.Request("POST", "http://qwen.team.svc:8000/v1/chat/completions")


def failed(cause: Exception) -> openai.APIConnectionError:
    """What the OpenAI client raises because of that."""
    slow = isinstance(cause, httpx2.TimeoutException)
    error = openai.APITimeoutError(request=REQUEST) if slow else openai.APIConnectionError(request=REQUEST)
    error.__cause__ = cause
    return error


def refused(status: int, text: str) -> openai.APIStatusError:
    """What the OpenAI client raises for that answer."""
    return openai.APIStatusError(text, response=httpx2.Response(status, request=REQUEST, text=text), body=None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (failed(httpx2.ConnectError("[Errno 111] Connection refused")), NotReachable),
        (failed(httpx2.ConnectError("[Errno -2] Name or service not known")), NotReachable),
        (failed(httpx2.ConnectTimeout("")), NotReachable),
        (refused(503, "no healthy upstream"), NotReady),
    ],
    ids=["the Service refuses", "no such name", "the Service drops", "a gateway answers"],
)
def test_where_all_engines_may_be_scaled_to_zero_the_error_says_so_and_names_the_command(
    error: Exception, kind: type[Exception]
) -> None:
    found = translate(error, BOUND)
    assert type(found) is kind
    assert "all are scaled to zero: kubectl get vllm qwen -n team" in str(found)
    assert str(found).count("cannot reach the engine") <= 1


def test_an_engine_that_took_the_request_and_is_slow_is_not_taken_for_none() -> None:
    found = translate(failed(httpx2.ReadTimeout("")), BOUND)
    assert isinstance(found, TimedOut)
    assert "scaled to zero" not in str(found)
    assert "kubectl get vllm qwen -n team" in str(found)


@pytest.mark.parametrize("own", [0.2, httpx2.Timeout(0.2)], ids=["seconds", "of httpx2"])
async def test_a_request_that_waits_less_than_usual_is_told_with_its_own_time(own: Any) -> None:
    async def never(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("")

    for usual in (60.0, None):
        http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(never))
        settings: dict[str, Any] = {"timeout": usual, "max_retries": 0, "http_client": http_client}
        async with VLLMClient("http://engine", "m", **settings) as client:
            with pytest.raises(TimedOut, match=r"no answer within 0\.2 s"):
                await client.complete("hello", timeout=own)
            with pytest.raises(TimedOut, match=r"within 60 s" if usual else "in time"):
                await client.complete("hello")


class NoEngines:
    """What DNS says of a model without an engine that serves."""

    async def find(self) -> Found:
        """None."""
        return Found((), 5.0)


async def test_where_dns_knows_no_engine_and_the_service_refuses_the_error_says_so_too() -> None:
    url = f"http://localhost:{free_port()}"
    async with VLLMClient(url, "qwen", max_retries=0, discovery=NoEngines()) as client:
        with pytest.raises(NotReachable, match="all are scaled to zero: kubectl get vllm"):
            await client.complete("hello")


async def test_behind_a_forwarded_port_that_has_ended_the_error_names_the_forwarding_too() -> None:
    async with VLLMClient(f"http://localhost:{free_port()}", "qwen", max_retries=0) as client:
        with pytest.raises(NotReachable, match=r"scaled to zero: kubectl get vllm; .*kubectl port-forward"):
            await client.complete("hello")


@pytest.mark.parametrize(
    ("endpoint", "command"),
    [
        ("http://qwen.team.svc:8000/v1", "kubectl get vllm qwen -n team"),
        ("https://qwen.team.svc.cluster.local/v1", "kubectl get vllm qwen -n team"),
        ("https://models.example.com/v1", "kubectl get vllm"),
        ("http://10.0.0.1:8000/v1", "kubectl get vllm"),
        ("http://a.b.c.svc:8000/v1", "kubectl get vllm"),
    ],
)
def test_the_command_names_the_model_where_the_endpoint_is_its_service(endpoint: str, command: str) -> None:
    assert look(endpoint) == command
