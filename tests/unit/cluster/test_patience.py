"""Trying again for a bounded time."""

from __future__ import annotations

import asyncio

import pytest

from vllm_operator.cluster import patience
from vllm_operator.cluster.patience import patiently
from vllm_operator.errors import ApiError, ApiNotFound, ApiRefused, ApiSilent, ApiUnavailable

ERRORS = (
    ApiUnavailable("GET", "429", retry_after_seconds=0.01),
    ApiSilent("GET", "refused"),
    ApiNotFound("GET", "404"),
    ApiRefused("GET", "403"),
)


class Attempts:
    """Fails in a given way so often as it is told to, and counts."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.times: list[float] = []

    async def __call__(self) -> str:
        """One attempt."""
        self.times.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_DELAY_SECONDS", 0.001)


async def test_what_fails_for_a_while_is_waited_out_and_told() -> None:
    told: list[str] = []
    assert await patiently(Attempts(*ERRORS), seconds=60, waiting=told.append) == "answer"
    assert told == [str(error) for error in ERRORS]


async def test_what_fails_for_good_ends_with_the_last_error() -> None:
    attempts = Attempts(*[ApiNotFound("GET", str(number)) for number in range(1000)])
    with pytest.raises(ApiError, match=r"GET: \d+"):
        await patiently(attempts, seconds=0.05)
    assert 2 <= len(attempts.times) < 20, "it must not spin"


async def test_the_servers_own_delay_is_kept() -> None:
    attempts = Attempts(ApiUnavailable("GET", "429", retry_after_seconds=0.2))
    await patiently(attempts, seconds=60)
    assert attempts.times[1] - attempts.times[0] >= 0.2


async def test_a_delay_beyond_the_time_there_is_ends_it_at_once() -> None:
    attempts = Attempts(ApiUnavailable("GET", "429", retry_after_seconds=100))
    with pytest.raises(ApiUnavailable):
        await patiently(attempts, seconds=10)


async def test_a_mistake_of_ours_is_no_failure_of_the_server() -> None:
    with pytest.raises(KeyError):
        await patiently(Attempts(KeyError("ours")), seconds=60)
