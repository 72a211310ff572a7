"""Real engines that are only busy stay in the Service, and live; one that sleeps is out as long as it does."""

from __future__ import annotations

import contextlib
import json
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.matrix.acts import everywhere
from tests.e2e.matrix.conftest import WHOLE
from tests.e2e.matrix.findings import both_seen
from tests.e2e.matrix.fleet import wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.e2e.matrix.findings import Seen
    from tests.e2e.matrix.fleet import Client, Fleet, Pair, Request

pytestmark = [pytest.mark.node, pytest.mark.real_vllm]

BRIEF = not WHOLE and "SOAK_SECONDS" not in os.environ
STEP_SECONDS = 0.04
"""In a brief run steps are slow instead of many: what is to wait for seconds would take minutes of CPU."""
SATURATED_SECONDS = 40.0 if BRIEF else float(os.environ.get("SOAK_SECONDS", "60"))
"""`make soak` makes it 20 minutes."""
PATIENCE = ("--deadline", "300", "--seconds", str(SATURATED_SECONDS))
QUEUE = (*(("--workers", "8", "--tokens", "20") if BRIEF else ("--workers", "50", "--tokens", "60")), *PATIENCE)
READERS = ("--workers", "2", "--prompt-words", "200" if BRIEF else "1000", "--tokens", "1", *PATIENCE)
"""Prompts of some seconds, in chunks of eight tokens."""

GRAMMAR_SECONDS = 2
"""What a grammar takes at least; the tiny model's vocabulary makes grammars cheap."""

SCHEMA = {
    "type": "object",
    "properties": {
        f"part_{part}_FRESH": {
            "type": "object",
            "properties": {f"text_{text}": {"type": "string"} for text in range(16)},
        }
        for part in range(30)
    },
}
FORM = {"response_format": {"type": "json_schema", "json_schema": {"name": "form", "schema": SCHEMA}}}
FILLERS = ("--workers", "5", "--tokens", "20", "--extra", json.dumps(FORM), "--fresh", *PATIENCE)
"""Requests with large schemas, each with one of its own, since an engine keeps the grammars that it has made."""

MIXED = (QUEUE, READERS, FILLERS)
NAP_SECONDS = 15.0
AWAKE_SECONDS = min(60.0, SATURATED_SECONDS / 20)
BACK_SECONDS = 30.0
LIGHT = ("--workers", "2", "--pause", "0.5", "--deadline", "120", "--seconds", str(SATURATED_SECONDS + 120))
"""Requests to an engine that has fallen asleep and is not out yet wait until it wakes up."""

LONG_WORDS = "1000" if BRIEF else "6000"
"""Five times as many tokens."""
SALTED = ("--extra", json.dumps({"cache_salt": "long"}))
"""Without it the engine has the beginning of that prompt in its cache: readers have sent the same words."""
LONG = ("--prompt-words", LONG_WORDS, "--tokens", "1", *SALTED, "--deadline", "300", "--seconds", "1")


@pytest.fixture
def busy(slow: Pair) -> Pair:
    """Engines that will have more to do than they get done."""
    everywhere(slow, "grammar", seconds=GRAMMAR_SECONDS)
    if BRIEF:
        everywhere(slow, "step", seconds=STEP_SECONDS)
    return slow


@pytest.fixture
def nappers(engines: Pair) -> Fleet:
    """Two real engines that can be put to sleep."""
    engines.gated.wait_serving(2)
    return engines.gated


def test_10_a_saturated_engine_stays_in_though_a_short_request_does_not_come_through(
    busy: Pair, nappers: Fleet, report: Any
) -> None:
    found, short = loaded(busy, MIXED, SATURATED_SECONDS, beside=nappers)
    report(10, *found)
    assert short, "a client with a deadline of 5 s got an answer: the engine was not saturated"
    assert (found[0].withdrawals, found[0].restarts, found[0].lost) == (0, 0, 0)


def test_11_an_engine_that_reads_one_very_long_prompt_stays_in(busy: Pair, report: Any) -> None:
    began = time.monotonic()
    found, _ = loaded(busy, (LONG,), 1)
    report(11, *found)
    assert (found[0].withdrawals, found[0].restarts, found[0].lost) == (0, 0, 0)
    assert time.monotonic() - began > 12, "the prompt was read faster than a hung engine has to be out"


def loaded(
    fleets: Pair, loads: Sequence[Sequence[str]], seconds: float, *, beside: Fleet | None = None
) -> tuple[tuple[Seen, Seen], bool]:
    """What became of both fleets under a load; and whether a short request of the gated one was in vain meanwhile.

    Beside them an engine of another fleet is put to sleep and woken up, again and again.
    """
    since = time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = [[stack.enter_context(fleet.client(*load)) for load in loads] for fleet in fleets.fleets()]
        wait(min(5.0, seconds))
        with fleets.gated.client("--seconds", "1") as impatient:
            in_vain = bool(impatient.all_requests()[0].trouble)
        if beside is not None:
            take_naps(beside, until=since + seconds)
        wait(max(0.0, since + seconds - time.monotonic()))
        asked = [requests_of(some) for some in clients]
    for pod in fleets.gated.pods():
        print(*fleets.gated.site.timeline(pod["metadata"]["name"]), sep="\n")
    return both_seen(fleets, since, asked), in_vain


def requests_of(clients: Sequence[Client]) -> list[Request]:
    """What several clients have asked. All are told to stop before the first one is waited for."""
    for client in clients:
        client.process.terminate()
    return [request for client in clients for request in client.requests()]


def take_naps(fleet: Fleet, until: float) -> None:
    """Have one engine of two sleep now and then; it is out as long as it sleeps, and nothing else happens."""
    site, (sleeper, _) = fleet.site, [pod["metadata"]["name"] for pod in fleet.pods()]
    since, naps = time.monotonic(), 0
    with fleet.client(*LIGHT) as client:
        while naps == 0 or time.monotonic() + NAP_SECONDS + AWAKE_SECONDS < until:
            naps += 1
            asleep_at = time.monotonic()
            site.post(sleeper, "/sleep?level=0&mode=wait", {})
            site.until(f"{sleeper} is out", partial(fleet.diary.withdrawn_at, sleeper, asleep_at), BACK_SECONDS)
            wait(NAP_SECONDS)
            assert fleet.diary.admitted_at(sleeper, asleep_at) is None, "it was let in while it slept"
            site.post(sleeper, "/wake_up", {})
            site.until(f"{sleeper} is in", partial(fleet.diary.admitted_at, sleeper, asleep_at), BACK_SECONDS)
            wait(AWAKE_SECONDS)
        requests = client.requests()
    assert fleet.diary.withdrawals(since) == naps, fleet.diary.since(since)
    assert fleet.diary.restarts(since) == 0
    assert [request.trouble for request in requests if request.trouble] == []
