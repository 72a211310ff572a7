"""What is asked of a model, one thing after another: its name, an answer, a stream, many answers at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_client.batch import BatchResult, run_batch
from vllm_client.errors import EmptyAnswer, ModelNotFound, VLLMError
from vllm_client.usage import usage_reports

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from vllm_client.client import VLLMClient

REQUESTS = 16
CONCURRENCY = 4
MAX_TOKENS = 32
PROMPT = "Name one colour."


@dataclass(frozen=True)
class CheckResult:
    """What came of one check.

    Attributes:
        name: model, completion, streaming or batch.
        passed: None where it was not made, because an earlier one failed.
        seconds: How long it took.
        detail: What was seen, or the error with its advice.
    """

    name: str
    passed: bool | None
    seconds: float
    detail: str


async def run_checks(
    client: VLLMClient, *, requests: int = REQUESTS, concurrency: int = CONCURRENCY
) -> list[CheckResult]:
    """All checks of a model, in the order in which they depend on each other.

    Args:
        client: Asks the model.
        requests: How many answers the batch asks for.
        concurrency: How many of them at a time.
    """
    first = [("model", lambda: known_model(client)), ("completion", lambda: one_answer(client))]
    rest = [
        ("streaming", lambda: streamed_answer(client)),
        ("batch", lambda: many_answers(client, requests, concurrency)),
    ]
    results = await in_turn([*first, *rest])
    if results[1].passed is False and await embeds(client):
        vectors = ("batch", lambda: many_vectors(client, requests))
        results = [results[0], *await in_turn([("embedding", lambda: one_vector(client)), vectors])]
    return results


async def in_turn(checks: Sequence[tuple[str, Callable[[], Awaitable[str]]]]) -> list[CheckResult]:
    """The results of checks of which each depends on those before it."""
    results: list[CheckResult] = []
    for name, check in checks:
        failed = any(result.passed is False for result in results)
        results.append(CheckResult(name, None, 0.0, "not checked") if failed else await made(name, check))
    return results


async def made(name: str, check: Callable[[], Awaitable[str]]) -> CheckResult:
    """The result of one check."""
    began = time.monotonic()
    try:
        detail, passed = await check(), True
    except VLLMError as error:
        detail, passed = f"{type(error).__name__}: {error}", False
    return CheckResult(name, passed, time.monotonic() - began, detail)


async def known_model(client: VLLMClient) -> str:
    """What the engine says of the model.

    Raises:
        VLLMError: It does not know it, or says nothing.
    """
    card = await client.get_model_info()
    if "error" in card:
        raise ModelNotFound(str(card["error"]))
    length = card.get("max_model_len")
    return f"{card['id']}, {length} tokens of context" if length else str(card["id"])


async def one_answer(client: VLLMClient) -> str:
    """How many tokens an answer has. A model may spend them on its reasoning, or on the call of a tool.

    Raises:
        VLLMError: There is none.
    """
    with usage_reports() as usage:
        try:
            said = f"{len(await client.complete(PROMPT, max_tokens=MAX_TOKENS))} characters"
        except EmptyAnswer as empty:
            if not empty.instead:
                raise
            return f"{empty.instead}, no text in {MAX_TOKENS} tokens"
    tokens = sum(one.completion_tokens for one in usage)
    return f"{tokens} tokens" if tokens else said


async def streamed_answer(client: VLLMClient) -> str:
    """When the first piece of an answer came, and how many there were.

    Raises:
        VLLMError: There is no answer.
    """
    began = time.monotonic()
    first, pieces = 0.0, 0
    try:
        async for _ in client.stream(PROMPT, max_tokens=MAX_TOKENS):
            first = first or time.monotonic() - began
            pieces += 1
    except EmptyAnswer as empty:
        if not empty.instead:
            raise
        return f"{empty.instead}, no text in {MAX_TOKENS} tokens"
    return f"first text after {first:.3f} s, {pieces} pieces"


async def many_answers(client: VLLMClient, requests: int, concurrency: int) -> str:
    """How many of many requests were answered, and how fast.

    Raises:
        VLLMError: One was not.
    """
    began = time.monotonic()
    prompts = [f"{PROMPT} ({number})" for number in range(requests)]
    with usage_reports() as usage:
        results = [one async for one in run_batch(client, prompts, concurrency=concurrency, max_tokens=MAX_TOKENS)]
    # one answer has shown that this model says something, if not with so few tokens
    failed = [result.error for result in results if result.error and result.error.kind != EmptyAnswer.__name__]
    if failed:
        raise VLLMError(f"{len(failed)} of {requests} requests failed, the first with {failed[0]}")
    rate = sum(one.completion_tokens for one in usage) / (time.monotonic() - began)
    return f"{requests} answers, {concurrency} at a time: {spread(results)}, {rate:.0f} tokens/s"


async def embeds(client: VLLMClient) -> bool:
    """Whether a model that completes nothing is one that embeds."""
    try:
        await client.embed(PROMPT)
    except VLLMError:
        return False
    return True


async def one_vector(client: VLLMClient) -> str:
    """How many numbers a vector has.

    Raises:
        VLLMError: There is none.
    """
    [vector] = await client.embed(PROMPT)
    return f"{len(vector)} numbers"


async def many_vectors(client: VLLMClient, requests: int) -> str:
    """How many texts of one request were embedded, and how fast.

    Raises:
        VLLMError: They were not.
    """
    began = time.monotonic()
    vectors = await client.embed([f"{PROMPT} ({number})" for number in range(requests)])
    return f"{len(vectors)} vectors of one request in {time.monotonic() - began:.3f} s"


def spread(results: Sequence[BatchResult]) -> str:
    """Median, 95th percentile and maximum of the seconds that answers took."""
    seconds = sorted(result.seconds for result in results)
    last = len(seconds) - 1
    places = {"median": last // 2, "p95": round(0.95 * last), "longest": last}
    return ", ".join(f"{name} {seconds[place]:.3f} s" for name, place in places.items())
