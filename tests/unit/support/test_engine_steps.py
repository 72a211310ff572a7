"""The stub's engine loop, step by step: what the gates judge by has to move as in vLLM."""

from __future__ import annotations

from tests.support.engine import Faults, Rank, Request


def make_rank(*, seats: int = 2, budget: int = 8) -> Rank:
    """An engine core whose steps the test makes itself."""
    return Rank(0, Faults(step_seconds=0), max_num_seqs=seats, max_batched_tokens=budget)


def make_request(*, prompt: int = 1, tokens: int = 3) -> Request:
    return Request(prompt_tokens=prompt, tokens=[f" {number}" for number in range(tokens)], reason="length")


def put(rank: Rank, *requests: Request) -> None:
    for request in requests:
        rank.inbox.put(request)


def received(request: Request) -> list[tuple[str, str]]:
    return [request.events.get() for _ in range(request.events.qsize())]


def steps(rank: Rank) -> int:
    return sum(rank.statistics.iteration_tokens.counts)


def test_a_request_gets_one_token_a_step_and_then_its_reason() -> None:
    rank, request = make_rank(), make_request(tokens=2)
    put(rank, request)
    rank.step()
    assert received(request) == [("token", " 0")]
    rank.step()
    assert received(request) == [("token", " 1"), ("end", "length")]
    assert steps(rank) == 2
    assert rank.statistics.generation_tokens == 2
    assert rank.statistics.finished["length"] == 1


def test_no_more_requests_run_than_there_are_seats_and_the_queue_keeps_its_order() -> None:
    rank, requests = make_rank(seats=2), [make_request(tokens=2) for _ in range(5)]
    put(rank, *requests)
    rank.step()
    assert (rank.statistics.running, rank.statistics.waiting) == (2, 3)
    assert [request.made for request in requests] == [1, 1, 0, 0, 0]
    rank.step()
    rank.step()
    assert [request.made for request in requests] == [2, 2, 1, 1, 0]
    assert (rank.statistics.running, rank.statistics.waiting) == (2, 1)


def test_what_arrives_is_in_no_gauge_before_a_step_has_taken_it() -> None:
    rank = make_rank()
    put(rank, make_request())
    assert (rank.statistics.running, rank.statistics.waiting) == (0, 0)


def test_a_long_prompt_is_read_within_the_budget_and_only_its_last_step_is_counted() -> None:
    rank, request = make_rank(budget=8), make_request(prompt=20, tokens=1)
    put(rank, request)
    for read in (8, 16):
        rank.step()
        assert request.computed == read
        assert steps(rank) == 0
        assert rank.statistics.running == 1
        assert rank.statistics.kv_usage > 0
    rank.step()
    assert received(request) == [("token", " 0"), ("end", "length")]
    assert (steps(rank), rank.statistics.prompt_tokens) == (1, 20)


def test_a_long_prompt_does_not_stop_those_who_are_already_answered() -> None:
    rank, short, long = make_rank(budget=8), make_request(tokens=9), make_request(prompt=30)
    put(rank, short)
    rank.step()
    put(rank, long)
    rank.step()
    assert short.made == 2
    assert long.computed == 7


def test_an_aborted_request_leaves_with_the_next_step_and_is_not_counted_as_finished() -> None:
    rank, gone, waiting = make_rank(seats=1), make_request(tokens=9), make_request(tokens=9)
    put(rank, gone, waiting)
    rank.step()
    gone.aborted = True
    rank.step()
    assert (gone.made, waiting.made) == (1, 1)
    assert (rank.statistics.running, rank.statistics.waiting) == (1, 0)
    assert sum(rank.statistics.finished.values()) == 0


def test_an_empty_answer_still_takes_a_step() -> None:
    rank, request = make_rank(), make_request(tokens=0)
    put(rank, request)
    rank.step()
    assert received(request) == [("end", "length")]
    assert steps(rank) == 1


def test_a_stuck_core_can_be_one_of_several() -> None:
    faults = Faults(hang_engine=[1])
    assert [faults.stuck(number) for number in range(3)] == [False, True, False]
    faults.reset()
    assert not faults.stuck(1)
