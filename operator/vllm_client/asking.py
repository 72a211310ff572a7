"""How the OpenAI client is asked: in JSON, and for JSON.

Its methods, such as `chat.completions.create`, take each argument apart by its type, and make objects of what comes
back. That is more than a quarter of what a request costs on this side, and hides what an engine has really sent. Its
`post` is all the rest of them: address, headers, timeouts and errors.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vllm_client.sampling import VLLM_ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    import httpx2
    from openai import AsyncOpenAI, AsyncStream

CHAT: Final = "/chat/completions"
TEXT: Final = "/completions"
VECTORS: Final = "/embeddings"
MODELS: Final = "/models"
END: Final = object()
"""Comes after the last part of a stream."""
_OPTIONS: Final = {"extra_headers": "headers", "extra_query": "params"}
"""Arguments of the OpenAI client's methods that go beside the body, and what `post` calls them."""
_BESIDE: Final = frozenset({*_OPTIONS, "extra_body", "timeout"})
"""Those, and what else each method takes."""
_WITH_KEY: Final[Mapping[str, Any]] = {"security": {"bearer_auth": True}}
"""Of the keys only the model's, also where OPENAI_ADMIN_KEY is set."""
_WITH_BODY: Final[Mapping[str, Any]] = {**_WITH_KEY, "extra_json": {}}
"""And nothing of what is `openai.omit`, which `post` leaves out where there is something to add."""


class Request(NamedTuple):
    """What is asked for.

    Attributes:
        path: Below the base URL: CHAT, TEXT or VECTORS.
        body: What is sent.
        options: What goes beside it.
    """

    path: str
    body: dict[str, Any]
    options: dict[str, Any]

    def wait_seconds(self, usual: float | None) -> float | None:
        """How long it waits for an answer to begin; None: for ever. `usual` where it does not say so itself."""
        limit = self.options.get("timeout", usual)
        limit = getattr(limit, "read", limit)  # of an httpx2.Timeout
        return limit if isinstance(limit, int | float) else None


def request(path: str, arguments: Mapping[str, Any]) -> Request:
    """The request that arguments of the OpenAI client's method make; `extra_body` goes before them.

    Raises:
        TypeError: Neither OpenAI nor vLLM knows an argument of that name.
    """
    if unknown := arguments.keys() - known_arguments(path):
        raise TypeError(f"{path} takes no argument {', '.join(sorted(unknown))}: put what is new into extra_body")
    body = {**arguments}
    options: dict[str, Any] = {**_WITH_BODY}
    if "timeout" in body:
        options["timeout"] = body.pop("timeout")
    for argument, option in _OPTIONS.items():
        given = body.pop(argument, None)
        if given is not None:
            options[option] = given
    body.update(body.pop("extra_body", None) or {})
    return Request(path, body, options)


@lru_cache
def known_arguments(path: str) -> frozenset[str]:
    """The names of all arguments. vLLM's own are those of chats; text completions know nearly all of them, too."""
    from openai.types import chat, completion_create_params, embedding_create_params  # noqa: PLC0415 - half a second

    bodies: dict[str, Any] = {
        CHAT: chat.completion_create_params.CompletionCreateParamsStreaming,
        TEXT: completion_create_params.CompletionCreateParamsStreaming,
        VECTORS: embedding_create_params.EmbeddingCreateParams,
    }
    own = frozenset() if path == VECTORS else VLLM_ARGUMENTS
    return frozenset({*own, *_BESIDE, *bodies[path].__required_keys__, *bodies[path].__optional_keys__})


def ask(client: AsyncOpenAI, asked: Request) -> Awaitable[httpx2.Response]:
    """The answer, read to its end."""
    import httpx2  # noqa: PLC0415 - see known_arguments

    options: Any = asked.options
    return client.post(asked.path, cast_to=httpx2.Response, body=asked.body, options=options)


def ask_for_models(client: AsyncOpenAI) -> Awaitable[httpx2.Response]:
    """What is served."""
    import httpx2  # noqa: PLC0415 - see known_arguments

    options: Any = _WITH_KEY
    return client.get(MODELS, cast_to=httpx2.Response, options=options)


def ask_for_stream(client: AsyncOpenAI, asked: Request) -> Awaitable[AsyncStream[object]]:
    """The parts of an answer as they come, each as JSON; uncompressed, since their bytes show how they end."""
    from openai import AsyncStream  # noqa: PLC0415 - see known_arguments

    options: Any = {**asked.options, "headers": {"Accept-Encoding": "identity", **asked.options.get("headers", {})}}
    body = {**asked.body, "stream": True}
    return client.post(
        asked.path, cast_to=object, body=body, options=options, stream=True, stream_cls=AsyncStream[object]
    )


async def next_part(parts: AsyncIterator[object], seconds: float | None) -> object:
    """The next part of a stream; END after the last one.

    Raises:
        httpx2.ReadTimeout: None has come in so many seconds. What only keeps a connection open, such as the comments of
            a gateway whose engine hangs, ends the wait for bytes, and is no part.
    """
    try:
        async with asyncio.timeout(seconds):
            return await anext(parts, END)
    except TimeoutError as error:
        import httpx2  # noqa: PLC0415 - see known_arguments

        raise httpx2.ReadTimeout("no part of the answer has come in time") from error
