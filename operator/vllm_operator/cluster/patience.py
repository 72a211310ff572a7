"""Trying again, for a bounded time, what fails while an API server, its rights or its kinds are still on their way."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeVar

from vllm_operator.cluster.backoff import delay_seconds
from vllm_operator.cluster.remedies import Outage, outage_of, with_remedy
from vllm_operator.errors import ApiError, ApiUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 5.0
TELL_AGAIN_SECONDS: Final = 60.0
"""How often a failure that lasts is logged."""

T = TypeVar("T")


async def patiently(
    attempt: Callable[[], Awaitable[T]],
    *,
    seconds: float,
    waiting: Callable[[str], None] = lambda _: None,
    of_definition: bool = False,
) -> T:
    """The result of the first attempt that succeeds. `waiting` is told the error that is being waited out.

    Every error of the API server is waited out: a missing kind (HTTP 404) or right (403) may be a part of the same
    installation that is applied a moment later, and 429, 5xx and silence are what an API server that starts answers.
    One that lasts is one line of the log, with what helps, and another one a minute later.

    Raises:
        ApiError: the last one, once more than `seconds` have gone since the first attempt.
    """
    clock = asyncio.get_running_loop().time
    started, failures, told, told_at = clock(), 0, "", 0.0
    while True:
        try:
            return await attempt()
        except ApiError as error:
            asked = error.retry_after_seconds if isinstance(error, ApiUnavailable) else 0.0
            first, longest = FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS
            delay = delay_seconds(failures, first=first, longest=longest, at_least=asked)
            if clock() + delay > started + seconds:
                raise
            if str(error) != told or clock() >= told_at + TELL_AGAIN_SECONDS:
                told, told_at = str(error), clock()
                outage = outage_of(error.message, of_definition=of_definition)
                # what helps against a missing right, the client that was refused has said
                helps = with_remedy(told, None if outage is Outage.NO_RIGHT else outage)
                logger.warning("%s; tries again until it can, for the first time in %.1f s", helps, delay)
            waiting(str(error))
        failures += 1
        await asyncio.sleep(delay)
