"""The judgement of the gate, with time as data: no test here waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.gates import judge
from vllm_operator.gates.judge import Evidence, Rank, State, Verdict

PERIOD = 5.0


@dataclass
class Gate:
    """The program's runs, one after the other: looks, asks for a canary where one is needed, judges."""

    state: State = field(default_factory=lambda: State(admitted=True, proven_at=0.0))
    now: float = 0.0
    canaries: int = 0

    def look(
        self, ranks: dict[str, tuple[float, float, float]] | None, *, canary: str | None = None, after: float = PERIOD
    ) -> tuple[Verdict, Verdict]:
        """One run: `ranks` holds steps, requests in flight and KV cache in use; `canary` is how it fails, if it runs.

        Returns the verdicts on traffic and on the container's life.
        """
        self.now += after
        seen = None if ranks is None else {name: Rank([steps, kv], busy) for name, (steps, busy, kv) in ranks.items()}
        asked = judge.needs_canary(self.state, self.now, seen)
        self.canaries += asked
        evidence = Evidence(now=self.now, ranks=seen, canary_ran=asked, canary_error=canary if asked else None)
        self.state = judge.observe(self.state, evidence)
        return judge.ready(self.state, evidence), judge.live(self.state, evidence)

    def seconds_until(self, ranks: dict[str, tuple[float, float, float]] | None, canary: str, which: int) -> float:
        """How long the same sight is borne until a verdict no longer passes."""
        since = self.now
        for _ in range(100):
            if not self.look(ranks, canary=canary)[which].passes:
                return self.now - since
        raise AssertionError("it passes for ever")


def rank(steps: float, *, busy: float = 0, kv: float = 0.0) -> dict[str, tuple[float, float, float]]:
    """An engine with one core."""
    return {"0": (steps, busy, kv)}


def test_an_engine_that_has_not_completed_a_prompt_takes_no_traffic_whatever_else_is_seen() -> None:
    gate = Gate(State())
    for steps in range(5):
        traffic, life = gate.look(rank(steps, busy=1))
        assert not traffic.passes
        assert traffic.sentence == "has not completed a prompt yet"
        assert life.passes


def test_an_engine_at_work_passes_without_a_single_canary() -> None:
    gate = Gate()
    assert all(gate.look(rank(steps, busy=500), canary="would time out")[0].passes for steps in range(100))
    assert gate.canaries == 0


def test_work_without_a_step_costs_the_traffic_after_one_window_and_the_life_after_the_other() -> None:
    stuck = rank(7, busy=8)
    gate = Gate()
    gate.look(stuck)
    gate.look(stuck)
    assert gate.seconds_until(stuck, "not asked", 0) == judge.STALL_WINDOW_SECONDS
    assert gate.look(stuck, after=0)[0].sentence == "no progress for 10 s with 8 requests in flight (engine 0)"
    assert gate.canaries == 0
    remaining = judge.RESTART_WINDOW_SECONDS - judge.STALL_WINDOW_SECONDS
    assert gate.seconds_until(stuck, "not asked", 1) == remaining


def test_an_idle_engine_that_hangs_is_found_by_the_canary() -> None:
    idle = rank(7)
    gate = Gate()
    gate.look(idle)
    assert gate.look(idle, canary="times out")[0].passes
    assert gate.seconds_until(idle, "times out", 0) == judge.STALL_WINDOW_SECONDS
    assert gate.look(idle, canary="times out", after=0)[0].sentence == "no completion for 10 s: times out"
    remaining = judge.RESTART_WINDOW_SECONDS - judge.STALL_WINDOW_SECONDS
    assert gate.seconds_until(idle, "times out", 1) == remaining


def test_an_idle_engine_is_asked_seldom() -> None:
    gate = Gate()
    for _ in range(60):
        assert gate.look(rank(7), after=1.0)[0].passes
    assert gate.canaries <= 60 / judge.CANARY_INTERVAL_SECONDS


def test_a_failed_canary_is_tried_again_at_once_and_a_completed_one_ends_the_suspicion() -> None:
    gate = Gate()
    gate.look(rank(7))
    for _ in range(4):
        gate.look(rank(7), canary="times out", after=1.0)
    before = gate.canaries
    traffic, life = gate.look(rank(7), after=1.0)
    assert gate.canaries == before + 1
    assert (traffic.passes, life.passes) == (True, True)
    assert gate.state.canary_failing_since is None


def test_a_long_prompt_that_is_read_makes_progress_though_no_counter_moves() -> None:
    gate = Gate()
    for step in range(60):
        assert gate.look(rank(7, busy=1, kv=step / 100), canary="would wait behind it")[0].passes
    assert gate.canaries == 0


def test_unreadable_metrics_with_a_good_canary_never_evict() -> None:
    gate = Gate()
    for _ in range(100):
        traffic, life = gate.look(None)
        assert traffic.passes
        assert life.passes


def test_unreadable_metrics_and_failing_canaries_do() -> None:
    gate = Gate()
    gate.look(None)
    assert gate.seconds_until(None, "times out", 0) <= judge.STALL_WINDOW_SECONDS + PERIOD
    assert gate.seconds_until(None, "times out", 1) <= judge.RESTART_WINDOW_SECONDS


def test_metrics_that_become_unreadable_do_not_forget_a_stall() -> None:
    gate = Gate()
    for _ in range(3):
        gate.look(rank(7, busy=1))
    since = gate.state.stalled_since
    gate.look(None, canary="times out")
    assert gate.state.stalled_since == since != {}


@pytest.mark.parametrize("later", [0.0, 3.0, 1e9])
def test_a_counter_that_jumps_or_is_reset_is_no_stall(later: float) -> None:
    gate = Gate()
    for _ in range(4):
        gate.look(rank(7, busy=1))
    assert not gate.look(rank(7, busy=1))[0].passes
    assert gate.look(rank(later, busy=1))[0].passes


def test_one_stuck_rank_costs_the_traffic_though_its_siblings_work() -> None:
    gate = Gate()
    verdicts = [gate.look({"0": (step, 3, 0.0), "1": (7, 2, 0.0)})[0] for step in range(5)]
    assert not verdicts[-1].passes
    assert verdicts[-1].sentence.endswith("with 2 requests in flight (engine 1)")


def test_a_rank_without_work_beside_busy_ones_has_to_complete_a_canary_too() -> None:
    gate = Gate()
    verdicts = [gate.look({"0": (step, 3, 0.0), "1": (7, 0, 0.0)}, canary="times out")[0] for step in range(5)]
    assert not verdicts[-1].passes
    assert verdicts[-1].sentence.startswith("no completion for ")


def test_one_failed_canary_does_not_evict_an_engine_of_which_only_one_rank_has_work() -> None:
    gate = Gate()
    gate.look({"0": (7, 0, 0.0), "1": (7, 0, 0.0)})
    gate.look({"0": (7, 0, 0.0), "1": (7, 0, 0.0)}, canary="times out")
    for step in range(50):
        traffic, life = gate.look({"0": (8 + step, 5, 0.0), "1": (7, 0, 0.0)})
        assert traffic.passes
        assert life.passes


def test_one_failed_canary_does_not_evict_ranks_that_make_their_steps_by_turns() -> None:
    gate = Gate()
    gate.look({"0": (7, 0, 0.0), "1": (7, 0, 0.0)})
    gate.look({"0": (7, 0, 0.0), "1": (7, 0, 0.0)}, canary="times out")
    for step in range(8, 60):
        assert gate.look({"0": (step // 2, 5, 0.0), "1": ((step + 1) // 2, 5, 0.0)})[0].passes


def test_a_rank_that_is_new_or_gone_is_no_stall() -> None:
    gate = Gate()
    for _ in range(4):
        gate.look({"0": (7, 1, 0.0)})
    assert gate.look({"1": (7, 1, 0.0)})[0].passes
    assert gate.state.stalled_since == {}


def test_a_clock_that_went_back_does_not_evict() -> None:
    gate = Gate()
    for _ in range(3):
        gate.look(rank(7, busy=1))
    assert gate.look(rank(7, busy=1), after=-3600)[0].passes


looks = st.lists(
    st.tuples(
        st.none()
        | st.dictionaries(
            st.sampled_from("01"), st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)), max_size=2
        ),
        st.none() | st.just("times out"),
        st.floats(0.5, 20),
    ),
    max_size=30,
)


def replayed(history: list[Any]) -> Gate:
    """A gate with a past."""
    gate = Gate()
    for ranks, canary, after in history:
        gate.look(ranks, canary=canary, after=after)
    return gate


@given(looks, st.integers(0, 3))
def test_progress_always_clears_suspicion(history: list[Any], busy: int) -> None:
    gate = replayed(history)
    moved = {name: (marks[0] + 1, float(busy), marks[1]) for name, marks in (gate.state.marks or {"0": [0, 0]}).items()}
    traffic, life = gate.look(moved, canary="times out")
    assert (traffic.passes, life.passes) == (True, True)
    assert gate.state.stalled_since == {}
    assert gate.state.canary_failing_since is None


@given(looks)
def test_a_completed_canary_always_clears_the_suspicion_of_canaries(history: list[Any]) -> None:
    gate = replayed(history)
    asked = gate.canaries
    gate.look(None, after=judge.CANARY_INTERVAL_SECONDS + 0.001)  # sums of times are not exact
    assert gate.canaries == asked + 1
    assert gate.state.canary_failing_since is None
    assert gate.state.stalled_since == {}


@given(looks)
def test_no_verdict_turns_faster_than_its_window_and_a_restart_never_comes_before_the_withdrawal(
    history: list[Any],
) -> None:
    gate = Gate()
    suspected: float | None = None
    for ranks, canary, after in history:
        traffic, life = gate.look(ranks, canary=canary, after=after)
        if not gate.state.stalled_since and gate.state.canary_failing_since is None:
            suspected = None
            assert (traffic.passes, life.passes) == (True, True)
            continue
        suspected = gate.now if suspected is None else suspected
        if not traffic.passes:
            assert gate.now - suspected >= judge.STALL_WINDOW_SECONDS
        if not life.passes:
            assert gate.now - suspected >= judge.RESTART_WINDOW_SECONDS
            assert not traffic.passes


@given(looks)
def test_every_verdict_says_why(history: list[Any]) -> None:
    gate = Gate()
    for ranks, canary, after in history:
        for verdict in gate.look(ranks, canary=canary, after=after):
            assert verdict.sentence
            assert "None" not in verdict.sentence


@given(looks)
def test_the_state_survives_its_file(history: list[Any]) -> None:
    state = replayed(history).state
    read = State(**state.as_dict())  # type: ignore[arg-type]
    assert read.as_dict() == state.as_dict()
    assert set(state.as_dict()) == set(State.__slots__)
