"""One address is asked as several engines are: the same attempts, the same deadline, and the environment's proxies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.support.scripted_engine import Stream, Whole, chunk, completion, scripted_engine, server
from vllm_client import EngineFailed, TimedOut, VLLMClient
from vllm_client.connect import proxy_of

if TYPE_CHECKING:
    from collections.abc import Callable

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the proxies of the environment, and takes away those that there are."""

    def set_proxies(**values: str) -> None:
        for name in PROXIES:
            for variable in (name, name.lower()):
                monkeypatch.delenv(variable, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_proxies


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_slow_answer_is_not_asked_for_again(*, streams: bool) -> None:
    asked = 0

    async def never(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    async with server(never) as url, VLLMClient(url, "m", timeout=0.2, max_retries=3) as client:
        with pytest.raises(TimedOut, match=r"within 0\.2 s"):
            await (anext(client.stream("x")) if streams else client.complete("x"))
    assert asked == 1


async def test_a_stream_that_pauses_too_long_is_told_as_that() -> None:
    async def pauses(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: " + web.json_response(chunk("one")).body + b"\n\n")  # type: ignore[operator]
        await asyncio.Event().wait()
        return response

    async with server(pauses) as url, VLLMClient(url, "m", timeout=1.2) as client:
        stream = client.stream("x")
        assert await anext(stream) == "one"
        with pytest.raises(TimedOut, match=r"broke off: nothing more came for 1\.2 s"):
            await anext(stream)


async def test_a_prompt_is_computed_twice_at_most() -> None:
    broken = Whole({"error": {"message": "broken"}}, status=500)
    async with scripted_engine(broken) as engine, VLLMClient(engine.url, "m", max_retries=5) as client:
        with pytest.raises(EngineFailed):
            await client.complete("x")
    assert len(engine.bodies) == 2


async def test_many_requests_at_once_all_have_their_further_attempts() -> None:
    """What is behind the address is not known: there is no share of the client's requests that bounds them."""
    full = Whole({"error": {"message": "full"}}, status=503)
    answers = [full] * 40 + [Whole(completion("hi"))]
    async with scripted_engine(*answers) as engine, VLLMClient(engine.url, "m", max_retries=3) as client:
        assert await client.generate_batch(["x"] * 30, concurrency=30) == ["hi"] * 30


async def test_a_redirection_to_another_place_is_followed() -> None:
    async with scripted_engine(Whole(completion("there")), Stream([])) as engine:

        async def redirect(request: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(engine.url.removesuffix("/v1") + request.path)

        async with server(redirect) as url, VLLMClient(url, "m") as client:
            assert await client.complete("x") == "there"


async def test_the_proxy_of_the_environment_is_asked(environment: Callable[..., None]) -> None:
    async with scripted_engine(Whole(completion("through the proxy"))) as proxy:
        environment(HTTP_PROXY=proxy.url.removesuffix("/v1"), NO_PROXY="elsewhere.example,.svc")
        async with VLLMClient("http://far.example:8000", "m") as client:
            assert await client.complete("x") == "through the proxy"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://far.example:8000/v1", "http://proxy:3128"),
        ("https://far.example/v1", "http://secure:3128"),
        ("http://model.ns.svc:8000/v1", None),
        ("http://10.1.2.3:8000/v1", None),
        ("http://localhost:8000/v1", None),
    ],
)
def test_which_proxy_stands_before_an_address(environment: Callable[..., None], url: str, expected: str | None) -> None:
    environment(HTTP_PROXY="proxy:3128", HTTPS_PROXY="http://secure:3128", NO_PROXY=".svc,10.1.2.3")
    assert proxy_of(url) == expected


def test_without_proxies_there_is_none(environment: Callable[..., Any]) -> None:
    environment()
    assert proxy_of("http://far.example/v1") is None
    environment(ALL_PROXY="http://all:1")
    assert proxy_of("http://far.example/v1") == "http://all:1"
