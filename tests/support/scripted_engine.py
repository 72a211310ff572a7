"""An engine that answers chats and completions just as a test says, also as no sound engine would."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence


@dataclass(frozen=True)
class Whole:
    """An answer of one piece."""

    body: Any
    content_type: str = "application/json"
    status: int = 200
    retry_after: str = ""


@dataclass(frozen=True)
class Stream:
    """An answer of several events."""

    events: Sequence[Any]
    done: bool = True
    """Whether `[DONE]` follows."""
    breaks: bool = False
    """Whether the connection breaks after the events."""


@dataclass
class ScriptedEngine:
    """What it answers, one after the other; the last answer stays. It counts the requests that it gets."""

    answers: list[Whole | Stream]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The next answer."""
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Whole):
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            headers = {"Retry-After": answer.retry_after} if answer.retry_after else {}
            return web.Response(text=text, content_type=answer.content_type, status=answer.status, headers=headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in [*map(json.dumps, answer.events), *(["[DONE]"] if answer.done else [])]:
            await response.write(f"data: {event}\n\n".encode())
        if answer.breaks and request.transport is not None:
            request.transport.abort()
        return response


def completion(content: Any, finish_reason: str | None = "stop", **message: Any) -> dict[str, Any]:
    """A whole answer; what is not of the message itself is given as `usage`."""
    usage = message.pop("usage", {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
    said = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish_reason}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def chunk(content: str | None = None, finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    """A part of a streamed answer."""
    usage = delta.pop("usage", None)
    choice = {"index": 0, "delta": {"content": content, **delta}, "finish_reason": finish_reason}
    found = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return {**found, **({"usage": usage} if usage else {})}


@asynccontextmanager
async def scripted_engine(
    *answers: Whole | Stream, host: str = "127.0.0.1", port: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedEngine]:
    """One that answers so, on this address; by https where `tls` is given."""
    engine = ScriptedEngine(list(answers))
    app = web.Application()
    app.router.add_post("/v1/chat/completions", engine.answer)
    app.router.add_post("/v1/completions", engine.answer)
    server = TestServer(app, scheme="https" if tls else "http", host=host, port=port)
    await server.start_server(ssl=tls)
    try:
        engine.url = str(server.make_url("/v1"))
        yield engine
    finally:
        await server.close()


@asynccontextmanager
async def server(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """The URL of something that answers all requests so."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as started:
        yield str(started.make_url("/v1"))
