"""The work queue: once, never twice at a time, later after each failure."""

from __future__ import annotations

import asyncio

import pytest

from vllm_operator.api.live import ObjectVersion
from vllm_operator.cluster.cache import Key
from vllm_operator.cluster.queue import (
    FIRST_DELAY_SECONDS,
    LATE_AFTER_SECONDS,
    LATE_TURNS,
    LONGEST_DELAY_SECONDS,
    OVERTAKEN_AT_MOST,
    Queue,
    QueueKey,
)

A, B, C = Key("team", "a"), Key("team", "b"), Key("team", "c")


async def test_a_key_waits_once_however_often_it_is_added() -> None:
    queue = Queue()
    for _ in range(5):
        queue.add(A)
    queue.add(B)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == [A, B]


async def test_a_key_that_runs_is_not_given_out_again_before_it_is_done() -> None:
    queue = Queue()
    queue.add(A)
    assert await queue.get() == A
    queue.add(A)
    queue.add(A)
    assert len(queue) == 0
    queue.done(A)
    assert len(queue) == 1
    assert await queue.get() == A
    queue.done(A)
    assert len(queue) == 0


async def test_a_key_does_not_run_once_more_for_a_change_that_it_made_itself_however_early_a_watch_brings_it() -> None:
    queue, own, other = Queue(), ObjectVersion("deployment", 7), ObjectVersion("deployment", 6)
    queue.add(A)
    for changes, again in (([own], 0), ([own, own], 0), ([other, own], 1), ([None, own], 1)):
        assert await queue.get() == A
        for change in changes:
            queue.add(A, change=change)
        queue.made(A, [own])
        queue.done(A)
        assert len(queue) == again
        queue.add(A)


async def test_a_change_that_nobody_who_runs_made_has_its_key_looked_at() -> None:
    queue = Queue()
    queue.made(A, [ObjectVersion("model", 3)])
    queue.add(A, change=ObjectVersion("model", 3))
    assert len(queue) == 1


async def test_workers_never_hold_the_same_key_and_no_addition_is_lost() -> None:
    queue, running, seen = Queue(), set[QueueKey](), dict[QueueKey, int]({A: 0, B: 0})

    async def work() -> None:
        while True:
            key = await queue.get()
            assert key not in running
            running.add(key)
            before = seen[key]
            await asyncio.sleep(0)
            seen[key] = before + 1
            running.discard(key)
            queue.done(key)

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work()) for _ in range(8)]
        for _ in range(200):
            queue.add(A)
            queue.add(B)
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not len(queue)
        assert not running
        for worker in workers:
            worker.cancel()
    assert min(seen.values()) > 1


async def test_failures_delay_more_and_more_up_to_a_bound_and_for_ever() -> None:
    queue = Queue()
    delays = [queue.failed(A) for _ in range(2000)]
    for count, delay in enumerate(delays[:8]):
        longest = FIRST_DELAY_SECONDS * 2**count
        assert longest / 2 <= delay <= longest
    assert all(LONGEST_DELAY_SECONDS / 2 <= delay <= LONGEST_DELAY_SECONDS for delay in delays[20:])
    assert len(set(delays[20:])) > 100, "tries shall be spread"
    queue.cancel_delayed(A)


async def test_a_success_forgets_the_failures() -> None:
    queue = Queue()
    for _ in range(10):
        queue.failed(A)
    queue.succeeded(A)
    assert queue.failed(A) <= FIRST_DELAY_SECONDS
    queue.cancel_delayed(A)


async def test_an_appointment_is_kept() -> None:
    queue = Queue()
    queue.add_after(A, 0.01)
    assert len(queue) == 0
    async with asyncio.timeout(30):
        assert await queue.get() == A


async def test_the_latest_appointment_replaces_the_one_before() -> None:
    queue = Queue()
    queue.add_after(A, 3600)
    queue.add_after(A, 0)
    queue.add_after(B, 0)
    queue.add_after(B, 3600)
    async with asyncio.timeout(30):
        assert await queue.get() == A
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await queue.get()
    queue.cancel_delayed(B)


async def test_a_dropped_appointment_does_not_come() -> None:
    queue = Queue()
    queue.add_after(A, 0)
    queue.cancel_delayed(A)
    queue.cancel_delayed(A)
    await asyncio.sleep(0.01)
    assert len(queue) == 0


async def test_a_key_that_the_api_server_asks_to_leave_alone_is_left_alone_whatever_is_added_meanwhile() -> None:
    queue = Queue()
    queue.add(A)
    await queue.get()
    queue.add(A)  # the echo of its own writes
    queue.failed(A, at_least_seconds=3600)
    queue.done(A)
    queue.add(A, ahead=True)
    queue.add(B)
    assert await taken(queue, 1) == [B]
    assert len(queue) == 0
    queue.cancel_delayed(A)
    queue.add(A)
    assert await taken(queue, 1) == [A]


async def test_a_key_that_was_left_alone_comes_when_that_time_is_over_and_keeps_the_lane_that_was_asked_for() -> None:
    queue = Queue()
    queue.add(B)
    queue.failed(A, at_least_seconds=0.01)
    queue.add(A, ahead=True)
    assert len(queue) == 1
    async with asyncio.timeout(30):
        while len(queue) < 2:  # noqa: ASYNC110 # the queue has no event for what has come into it
            await asyncio.sleep(0.01)
    assert await taken(queue, 2) == [A, B]


async def test_a_key_that_failed_by_itself_is_looked_at_at_once_when_something_happens() -> None:
    queue = Queue()
    queue.failed(A)
    queue.add(A)
    assert await taken(queue, 1) == [A]
    queue.cancel_delayed(A)


async def taken(queue: Queue, count: int) -> list[QueueKey]:
    """The next keys, each given back at once."""
    keys = []
    for _ in range(count):
        keys.append(await queue.get())
        queue.done(keys[-1])
    return keys


async def test_what_goes_ahead_overtakes_what_waits_behind_also_when_it_waits_there_already() -> None:
    queue = Queue()
    queue.add(A)
    queue.add(B)
    queue.add(C, ahead=True)
    queue.add(B, ahead=True)
    queue.add(C)
    assert len(queue) == 3
    assert await taken(queue, 3) == [C, B, A]
    assert len(queue) == 0


async def test_of_keys_that_are_late_behind_a_few_go_before_each_one_that_goes_ahead() -> None:
    now = 100.0
    queue = Queue(clock=lambda: now)
    behind = [Key("team", f"behind-{number}") for number in range(2 * LATE_TURNS)]
    for key in behind:
        queue.add(key)
    for number in range(100):
        queue.add(Key("team", f"ahead-{number}"), ahead=True)
    now += LATE_AFTER_SECONDS - 0.1
    assert not set(await taken(queue, OVERTAKEN_AT_MOST)) & set(behind), "it is not late yet"
    now += 0.1
    turns = await taken(queue, 2 * LATE_TURNS + 2)
    assert [key for key in turns if key in behind] == behind
    assert [key in behind for key in turns] == [*[True] * LATE_TURNS, False] * 2
    assert not set(await taken(queue, 20)) & set(behind), "and when none is late, all others go on"


async def test_how_long_a_key_has_waited_behind_counts_from_its_first_addition() -> None:
    now = 100.0
    queue = Queue(clock=lambda: now)
    queue.add(A)
    now += LATE_AFTER_SECONDS
    queue.add(A)
    queue.add(B, ahead=True)
    queue.add(C, ahead=True)
    assert await taken(queue, 3) == [A, B, C]


async def test_a_key_that_runs_keeps_its_better_lane_for_the_next_time() -> None:
    queue = Queue()
    queue.add(A)
    await queue.get()
    queue.add(B)
    queue.add(A, ahead=True)
    queue.add(A)
    queue.done(A)
    assert await taken(queue, 2) == [A, B]


async def test_nobody_waits_for_ever_behind_what_goes_ahead() -> None:
    queue = Queue()
    queue.add(A)
    for number in range(10 * OVERTAKEN_AT_MOST):
        queue.add(Key("team", f"new-{number}"), ahead=True)
    assert A in await taken(queue, OVERTAKEN_AT_MOST + 1)


async def test_it_tells_how_long_keys_wait_and_run() -> None:
    now, waited = 100.0, list[float]()
    queue = Queue(lambda: now, waited.append)
    assert (queue.oldest_seconds, queue.longest_running_seconds) == (0, 0)
    queue.add(A)
    now = 103.0
    queue.add(B, ahead=True)
    now = 105.0
    assert queue.oldest_seconds == 5
    taken = await queue.get()
    assert waited == [5], "what is late goes first"
    now = 106.0
    assert (queue.oldest_seconds, queue.longest_running_seconds) == (3, 1)
    queue.done(taken)
    assert queue.longest_running_seconds == 0
