"""Real engines that are only busy stay in the Service, and live."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.matrix.findings import both_seen
from tests.e2e.matrix.fleet import wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.e2e.matrix.findings import Seen
    from tests.e2e.matrix.fleet import Pair

pytestmark = [pytest.mark.node, pytest.mark.real_vllm]

SATURATED_SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
"""`make soak` makes it 20 minutes."""
QUEUE = ("--workers", "57", "--tokens", "60", "--deadline", "300", "--seconds", str(SATURATED_SECONDS))
LONG = ("--prompt-words", "6000", "--tokens", "1", "--deadline", "300", "--seconds", "1")


def test_10_a_saturated_engine_stays_in_though_a_short_request_does_not_come_through(slow: Pair, report: Any) -> None:
    found, short = loaded(slow, QUEUE, SATURATED_SECONDS)
    report(10, *found)
    assert short, "a client with a deadline of 5 s got an answer: the engine was not saturated"
    assert (found[0].withdrawals, found[0].restarts, found[0].lost) == (0, 0, 0)


def test_11_an_engine_that_reads_one_very_long_prompt_stays_in(slow: Pair, report: Any) -> None:
    began = time.monotonic()
    found, _ = loaded(slow, LONG, 1)
    report(11, *found)
    assert (found[0].withdrawals, found[0].restarts, found[0].lost) == (0, 0, 0)
    assert time.monotonic() - began > 12, "the prompt was read faster than a hung engine has to be out"


def loaded(slow: Pair, options: Sequence[str], seconds: float) -> tuple[tuple[Seen, Seen], bool]:
    """What became of both fleets under a load; and whether a short request of the gated one was in vain meanwhile."""
    since = time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(fleet.client(*options)) for fleet in slow.fleets()]
        wait(min(5.0, seconds))
        with slow.gated.client("--seconds", "1") as impatient:
            wait(1)
            in_vain = bool(impatient.requests()[0].trouble)
        wait(max(0.0, since + seconds - time.monotonic()))
        asked = [client.requests() for client in clients]
    for pod in slow.gated.pods():
        print(*slow.gated.site.timeline(pod["metadata"]["name"]), sep="\n")
    return both_seen(slow, since, asked), in_vain
