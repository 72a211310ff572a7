"""Whole answers of a model, with all that an engine says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

    from vllm_client.usage import TokenUsage

ENGINE: Final = "vllm_client_engine"
"""Extension of an HTTP response: the base URL of the engine that gave it."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer, and how likely it was.

    Attributes:
        token: Its text.
        logprob: The natural logarithm of its probability; None where the engine gives none, as for the first token of a
            prompt.
        top: The likeliest tokens at its place with theirs, as many as were asked for, the likeliest first.
    """

    token: str
    logprob: float | None
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers to a prompt.

    Attributes:
        text: Its text as the engine gave it, with white space around it; empty where it has none.
        finish_reason: Why it ends: `stop`, `length` where it was cut off at `max_tokens` or at the end of the context,
            `tool_calls`, and what else vLLM has for that.
        index: Its place among the answers.
        logprobs: Its tokens, where `logprobs` were asked for.
        reasoning: What the model thought aloud before it, where the engine tells that apart.
    """

    text: str
    finish_reason: str
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] | None = None
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """All answers to a prompt. Each has come to its end, and at least one has a text.

    Attributes:
        choices: The answers, as many as `n` asked for.
        usage: What the engine counted; None where it says nothing.
        model: The served name that answered.
        engine: The base URL of the engine that answered; the client's own where it knows one URL only.
        cached: Whether a cache has remembered it, so that no engine was asked: `usage` and `engine` are then those of
            the request that it was the answer to.
    """

    choices: tuple[Choice, ...]
    usage: TokenUsage | None
    model: str
    engine: str
    cached: bool = False

    @property
    def text(self) -> str:
        """The text of the first answer."""
        return self.choices[0].text

    @property
    def finish_reason(self) -> str:
        """Why the first answer ends."""
        return self.choices[0].finish_reason


class TextStream(AsyncIterator[str]):
    """The text of an answer, piece by piece.

    Args:
        pieces: The pieces.
        ended: Where the whole answer stands once all of them have come.
    """

    def __init__(self, pieces: AsyncGenerator[str, None], ended: Sequence[Completion]) -> None:
        self._pieces = pieces
        self._ended = ended

    @property
    def completion(self) -> Completion | None:
        """The whole answer once the stream has come to its end; None before, and where it broke off."""
        return self._ended[-1] if self._ended else None

    async def __anext__(self) -> str:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """Ask for no more; the engine stops."""
        await self._pieces.aclose()


def token_logprobs(given: Mapping[str, Any] | None) -> tuple[TokenLogprob, ...] | None:
    """The tokens of a choice's `logprobs`, of a chat or a text completion.

    Raises:
        TypeError, ValueError, LookupError, AttributeError: It is neither.
    """
    if given is None:
        return None
    content = given.get("content")
    if content is not None:
        return tuple(TokenLogprob(one["token"], one["logprob"], _likeliest(one.get("top_logprobs"))) for one in content)
    tokens, numbers = given.get("tokens") or (), given.get("token_logprobs") or ()
    tops = given.get("top_logprobs") or [None] * len(tokens)
    return tuple(
        TokenLogprob(token, number, _sorted((top or {}).items()))
        for token, number, top in zip(tokens, numbers, tops, strict=True)
    )


def _likeliest(top: Iterable[Mapping[str, Any]] | None) -> tuple[tuple[str, float], ...]:
    return _sorted((one["token"], one["logprob"]) for one in top or ())


def _sorted(pairs: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))
