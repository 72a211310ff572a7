"""The judgement of the gate, with time as data: no test here waits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.api.spec import operations
from vllm_operator.gates import judge
from vllm_operator.gates.judge import Evidence, Rank, Settings, State, Verdict

PERIOD = 5.0
WINDOWS = Settings(restart_window=35.0)
"""Short, so that a dozen looks lead to a restart."""
Seen = dict[str, tuple[float, float, float]] | None
"""Steps, requests in flight and KV cache in use of each rank; None: the metrics cannot be read."""


@dataclass
class Gate:
    """Looks, one after the other."""

    state: State = field(default_factory=lambda: State(admitted=True, proven_at=0.0, looked_at=0.0))
    settings: Settings = WINDOWS
    now: float = 0.0
    canaries: int = 0

    def look(
        self,
        ranks: Seen = None,
        *,
        canary: str = judge.COMPLETED,
        after: float = PERIOD,
        answered: bool = True,
        gone: bool = False,
        callers: int | None = None,
        unserved: str | None = None,
        asleep: bool = False,
        paused: bool = False,
    ) -> Verdict:
        """One look; `canary` is what comes of one, if it is sent: one without an answer takes its whole deadline."""
        self.now += after
        began = self.now
        seen = None if ranks is None else ranks_of(ranks, asleep=asleep)
        asked = answered and not gone and not paused and not asleep
        asked = asked and judge.needs_canary(self.state, self.now, seen, self.settings)
        self.canaries += asked
        self.now += 0.1
        if asked and canary == judge.SILENT:
            self.now = began + judge.CANARY_SECONDS
        evidence = Evidence(
            asked_at=self.now - 0.1 if asked and seen is not None else began,
            began_at=began,
            now=self.now,
            ranks=seen,
            before=seen if asked else None,
            answered=answered,
            gone=gone,
            canary=canary if asked else None,
            callers=callers,
            said=f"canary: {canary}",
            unserved=unserved,
            paused=paused,
        )
        self.state = judge.observe(self.state, evidence)
        return judge.verdict(self.state, self.settings)

    def kinds(self, looks: list[dict[str, Any]]) -> list[str]:
        """Verdicts of a sequence of looks."""
        return [self.look(**look).kind for look in looks]

    def seconds_until(self, kind: str, **look: Any) -> float:
        """How long the same sight is borne until that verdict, from the last look before."""
        since = self.now
        for _ in range(100):
            if self.look(**look).kind == kind:
                return self.now - since
        raise AssertionError(f"never {kind}")


def ranks_of(seen: dict[str, tuple[float, float, float]], *, asleep: bool = False) -> dict[str, Rank]:
    """Ranks as the judge takes them."""
    return {name: Rank([steps, kv], busy, asleep=asleep) for name, (steps, busy, kv) in seen.items()}


def rank(steps: float, *, busy: float = 0, kv: float = 0.0) -> Seen:
    """An engine with one core."""
    return {"0": (steps, busy, kv)}


IDLE: dict[str, Any] = {"ranks": rank(7)}
PUT_OFF: dict[str, Any] = {"ranks": rank(7), "canary": judge.COMPLETED}
"""Requests that the scheduler has put off are in flight for nobody, so the rank is asked for a canary."""
SLEEPS: dict[str, Any] = {"ranks": rank(7, busy=2), "asleep": True}
PAUSES: dict[str, Any] = {"ranks": rank(7, busy=2), "paused": True}
CAME: dict[str, Any] = {"ranks": rank(7, busy=1)}
STUCK: dict[str, Any] = {"ranks": rank(7, busy=8), "canary": judge.SILENT}
HUNG_IDLE: dict[str, Any] = {"ranks": rank(7), "canary": judge.SILENT}
HUNG_AFTER_CANARY: dict[str, Any] = {"ranks": rank(8), "canary": judge.SILENT}
NO_ANSWER: dict[str, Any] = {"answered": False}
GONE: dict[str, Any] = {"gone": True}
QUEUE_UNSEEN: dict[str, Any] = {"ranks": None, "canary": judge.SILENT, "callers": 200}
ALONE_UNSEEN: dict[str, Any] = {"ranks": None, "canary": judge.SILENT, "callers": 0}
UNSEEN: dict[str, Any] = {"ranks": None}
WORKS: list[dict[str, Any]] = [{"ranks": rank(step, busy=8)} for step in range(8, 60)]
PREFILL: list[dict[str, Any]] = [{"ranks": rank(7, busy=1, kv=step / 100)} for step in range(1, 60)]
ONE_RANK_STUCK: list[dict[str, Any]] = [{"ranks": {"0": (step, 3, 0.0), "1": (7, 2, 0.0)}} for step in range(4)]
S, W, R = judge.SERVING, judge.WITHDRAWN, judge.RESTART

DECISIONS: list[tuple[str, list[dict[str, Any]], list[str]]] = [
    ("row 5: hung at work", [WORKS[0], STUCK | WORKS[0], WORKS[0] | {}, WORKS[0]], [S, S, W, W]),
    ("row 5: hung at work, for long", [WORKS[0]] * 12, [S, S, *[W] * 5, *[R] * 5]),
    ("row 6: hung while idle", [IDLE, HUNG_IDLE, HUNG_IDLE, IDLE], [S, S, W, S]),
    ("row 6: hung after a canary, whose step tells nothing", [IDLE, IDLE, *[HUNG_AFTER_CANARY] * 2], [S, S, S, W]),
    ("row 8: killed", [IDLE, GONE, GONE], [S, W, W]),
    ("row 9: the server hangs", [IDLE, NO_ANSWER | {"after": 5.0}, NO_ANSWER], [S, S, W]),
    ("row 9: and comes back", [IDLE, NO_ANSWER, NO_ANSWER, NO_ANSWER, IDLE], [S, S, W, W, S]),
    ("row 10: saturated", [look | {"canary": judge.SILENT} for look in WORKS], [S] * len(WORKS)),
    ("row 10: saturated, metrics unreadable", [WORKS[0], *[QUEUE_UNSEEN] * 60], [S] * 61),
    ("row 11: one very long prompt", [look | {"canary": judge.SILENT} for look in PREFILL], [S] * len(PREFILL)),
    ("row 12: metrics unreadable, completions fine", [UNSEEN] * 60, [S] * 60),
    ("row 12: metrics unreadable, nobody else, no completion", [UNSEEN, ALONE_UNSEEN, ALONE_UNSEEN], [S, S, W]),
    ("row 18: one rank stuck", ONE_RANK_STUCK, [S, S, W, W]),
    ("row 20: a clock that steps forward", [WORKS[0], WORKS[0] | {"after": 1e6}, WORKS[1]], [S, S, S]),
    ("row 20: a clock that steps back", [WORKS[0], WORKS[0] | {"after": -1e6}, WORKS[1]], [S, S, S]),
    ("row 20: counters reset", [{"ranks": rank(9, busy=1)}, {"ranks": rank(0, busy=1)}], [S, S]),
    ("row 20: renamed, saturated", [QUEUE_UNSEEN] * 60, [S] * 60),
    ("row 21: a request waits for its grammar", [IDLE, *[PUT_OFF] * 60], [S] * 61),
    ("row 22: work comes to an idle engine, and takes its time", [IDLE, CAME, WORKS[0]], [S, S, S]),
    ("row 22: and makes no step", [IDLE, CAME, CAME, CAME, CAME], [S, S, S, W, W]),
    ("row 22: metrics unreadable between idling and work", [IDLE, QUEUE_UNSEEN, CAME, CAME, CAME], [S, S, S, S, W]),
    ("row 22: its canary fails at once", [IDLE, IDLE | {"canary": judge.FAILED}, IDLE], [S, S, S]),
    ("row 24: asleep for an hour", [IDLE, *[SLEEPS] * 720], [S, *[W] * 720]),
    ("row 24: and awake again", [IDLE, SLEEPS, SLEEPS, IDLE, IDLE], [S, W, W, S, S]),
    ("row 24: awake, at work for others", [IDLE, SLEEPS, WORKS[0] | {"canary": judge.SILENT}, WORKS[1]], [S, W, W, S]),
    ("row 24: asleep, metrics unreadable", [IDLE, SLEEPS, *[ALONE_UNSEEN] * 60], [S, W, *[W] * 60]),
    ("row 24: does not wake up", [SLEEPS, *[HUNG_IDLE] * 8], [*[W] * 5, *[R] * 4]),
    ("row 25: paused for an hour", [WORKS[0], *[PAUSES] * 720, IDLE], [S, *[W] * 720, S]),
    ("row 27: hung before it was put to sleep", [*[WORKS[0]] * 4, SLEEPS, IDLE], [S, S, W, W, W, S]),
    ("row 36: another server listens", [IDLE, GONE, GONE, WORKS[0], IDLE], [S, W, W, S, S]),
    ("row 36: and completes nothing", [IDLE, GONE, WORKS[0] | {"canary": judge.FAILED}], [S, W, W]),
    ("row 20: a rank vanishes", [WORKS[0], WORKS[0], {"ranks": {"1": (7, 1, 0.0)}}], [S, S, S]),
]


@pytest.mark.parametrize(("name", "looks", "verdicts"), DECISIONS, ids=[name for name, _, _ in DECISIONS])
def test_what_is_decided(name: str, looks: list[dict[str, Any]], verdicts: list[str]) -> None:
    assert Gate().kinds(looks) == verdicts, name


@pytest.mark.parametrize("look", [WORKS[0], IDLE, UNSEEN], ids=["busy", "idle", "unseen"])
def test_rows_1_to_4_and_14_nothing_but_a_completed_prompt_of_this_life_gives_traffic(look: dict[str, Any]) -> None:
    gate = Gate(State())
    verdict = gate.look(**look)
    assert (verdict.kind, verdict.sentence) == (judge.STARTING, "has not completed a prompt yet")
    assert (verdict.passes("ready"), verdict.passes("live")) == (False, True)


def test_a_hung_engine_whose_proof_was_lost_is_restarted_all_the_same() -> None:
    assert Gate(State()).seconds_until(R, **HUNG_IDLE) < 60


@pytest.mark.parametrize(
    ("kind", "ready", "live"),
    [
        (judge.STARTING, False, True),
        (judge.ADMITTED, True, True),
        (judge.SERVING, True, True),
        (judge.WITHDRAWN, False, True),
        (judge.RESTART, False, False),
    ],
)
def test_what_a_verdict_means_to_the_probes(kind: str, ready: bool, live: bool) -> None:  # noqa: FBT001 # a table
    verdict = Verdict(kind, "", "")
    assert (verdict.passes("ready"), verdict.passes("live"), verdict.passes("startup")) == (ready, live, ready)


def test_an_engine_at_work_gets_no_canary_and_an_idle_one_seldom() -> None:
    gate = Gate()
    gate.kinds(WORKS)
    assert gate.canaries == 0
    for _ in range(60):
        gate.look(**WORKS[-1] | {"ranks": rank(59)}, after=0.9)
    assert 20 <= gate.canaries <= 60 / judge.CANARY_INTERVAL_SECONDS


def test_a_failed_canary_is_tried_again_at_the_next_look_and_a_completed_one_ends_the_suspicion() -> None:
    gate = Gate()
    gate.look(**IDLE)
    gate.look(**HUNG_IDLE)
    gate.look(**HUNG_IDLE, after=0.6)
    assert gate.canaries == 2
    assert gate.look(**IDLE, after=0.6).sentence == "makes progress, or completed its last prompt"


def test_an_engine_that_fails_its_prompts_is_withdrawn_with_its_words_and_restarted() -> None:
    gate = Gate()
    gate.look(**IDLE)
    gate.seconds_until(W, ranks=rank(7), canary=judge.FAILED)
    assert judge.verdict(gate.state, gate.settings).sentence.endswith("canary: failed")
    gate.seconds_until(R, ranks=rank(7), canary=judge.FAILED)


def test_an_engine_that_refuses_a_prompt_is_withdrawn_and_never_restarted() -> None:
    gate = Gate()
    gate.look(**IDLE)
    assert set(gate.kinds([{"ranks": rank(7), "canary": judge.REFUSED}] * 60)[2:]) == {W}


def test_a_queue_that_turns_canaries_away_is_held_against_idle_engines_alone() -> None:
    assert set(Gate().kinds([{"ranks": None, "canary": judge.BUSY, "callers": 3}] * 60)) == {S}
    assert Gate().kinds([{"ranks": rank(7), "canary": judge.BUSY}] * 4)[-1] == W


def test_what_proves_nothing_neither_clears_a_suspicion_nor_makes_it_older() -> None:
    gate = Gate()
    gate.kinds([WORKS[0], WORKS[0]])
    first = judge.verdict(gate.state, gate.settings).sentence
    assert first.startswith("no progress for 5 s")
    assert set(gate.kinds([QUEUE_UNSEEN] * 30)) == {S}
    assert judge.verdict(gate.state, gate.settings).sentence == first
    assert gate.look(**WORKS[0]).kind == R  # the counter proves the time between as well


def test_a_stuck_rank_stays_accused_when_its_sibling_completes_the_canary() -> None:
    gate = Gate()
    looks = [{"ranks": {"0": (7, 0, 0.0), "1": (7, 2, 0.0)}}] * 4
    assert gate.kinds(looks)[-1] == W


def test_a_hang_that_goes_on_after_a_pause_of_kubelet_is_not_made_older_by_it() -> None:
    gate = Gate()
    gate.kinds([WORKS[0], WORKS[0]])
    assert gate.look(**WORKS[0], after=600).kind == S
    assert gate.look(**WORKS[0]).kind == W


LACKS: dict[str, Any] = {"canary": judge.COMPLETED, "unserved": "serves tiny, not tiny-sql"}


def test_an_engine_that_lost_an_adapter_loses_its_traffic_and_is_restarted_though_it_completes_prompts() -> None:
    gate = Gate()
    kinds = gate.kinds([{"ranks": rank(step, busy=1), **LACKS} for step in range(14)])
    assert kinds[:2] == [S, W]
    assert kinds[2:6] == [W] * 4
    assert kinds[-1] == R
    assert "serves tiny, not tiny-sql for" in judge.verdict(gate.state, gate.settings).sentence
    assert gate.look(rank(99), canary=judge.COMPLETED, unserved="").kind == S


def test_a_server_that_does_not_say_what_it_serves_lacks_nothing_and_gets_no_older_suspicion() -> None:
    gate = Gate()
    gate.look(rank(1, busy=1), **LACKS)
    silent = [{"ranks": rank(step, busy=1), "unserved": None} for step in range(2, 40)]
    assert set(gate.kinds(silent)) == {S}


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        (WINDOWS, {S, W, R}),
        (Settings(), {S, W}),
        (Settings(restart_window=None), {S, W}),
        (Settings(stall_window=200, restart_window=400), {S}),
    ],
)
def test_the_windows_are_settings(settings: Settings, kinds: set[str]) -> None:
    assert set(Gate(settings=settings).kinds([WORKS[0]] * 20)) == kinds


def test_without_canaries_an_idle_engine_is_believed() -> None:
    gate = Gate(settings=Settings(canary_interval=None))
    assert set(gate.kinds([HUNG_IDLE] * 60)) == {S}
    assert gate.canaries == 0


def test_the_defaults_are_those_that_the_resource_names() -> None:
    assert judge.CANARY_INTERVAL_SECONDS == operations.DEFAULT_CANARY_SECONDS
    assert judge.STALL_WINDOW_SECONDS == operations.DEFAULT_STALL_SECONDS
    assert judge.RESTART_WINDOW_SECONDS == operations.DEFAULT_RESTART_SECONDS


@given(st.text(max_size=60), st.floats(1, 10_000))
def test_the_restart_window_of_a_pod_is_longer_by_up_to_a_quarter_and_always_the_same(name: str, window: float) -> None:
    assert window <= judge.spread(window, name) <= window * 1.25
    assert judge.spread(window, name) == judge.spread(window, name)


def test_the_pods_of_a_fleet_differ() -> None:
    windows = sorted(judge.spread(40, f"llama-7d9c5b-{number:05d}") for number in range(100))
    assert windows[0] < 42
    assert windows[-1] > 48


# --- whatever happens

moments = st.floats(0.6, 15)
marks = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1))
outcomes = st.sampled_from([judge.COMPLETED, judge.SILENT, judge.BUSY, judge.REFUSED, judge.FAILED])
looks = st.lists(
    st.fixed_dictionaries(
        {
            "ranks": st.none() | st.dictionaries(st.sampled_from("01"), marks, max_size=2),
            "canary": outcomes,
            "after": moments,
            "answered": st.sampled_from([True, True, True, False]),
            "callers": st.sampled_from([None, 0, 3]),
        }
    ),
    max_size=30,
)


def replayed(history: list[dict[str, Any]]) -> Gate:
    """A gate with a past."""
    gate = Gate()
    gate.kinds(history)
    return gate


@given(looks, st.integers(0, 3))
def test_progress_always_clears_suspicion(history: list[dict[str, Any]], busy: int) -> None:
    gate = replayed(history)
    moved = {name: (seen[0] + 1, float(busy), seen[1]) for name, seen in (gate.state.marks or {"0": [0, 0]}).items()}
    assert gate.look(moved).sentence == "makes progress, or completed its last prompt"


@given(looks)
def test_a_completed_canary_clears_every_suspicion_but_that_of_a_rank_with_work(history: list[dict[str, Any]]) -> None:
    gate = replayed(history)
    assert gate.look(None).kind == S


@given(st.lists(moments, max_size=60))
def test_scrape_failures_alone_never_evict(pauses: list[float]) -> None:
    gate = Gate()
    gate.look(rank(7, busy=3))
    looks = [{"ranks": None, "canary": judge.SILENT, "callers": callers, "after": after} for after in pauses
             for callers in (None, 3)]  # fmt: skip
    assert set(gate.kinds(looks)) <= {S}


@given(looks)
def test_no_verdict_turns_faster_than_its_window_and_a_restart_is_a_withdrawal_too(
    history: list[dict[str, Any]],
) -> None:
    gate = Gate()
    good_until = 0.0
    for look in history:
        before, last_look = gate.state, gate.now
        verdict = gate.look(**look)
        if verdict.sentence == "makes progress, or completed its last prompt":
            good_until = gate.now
        elif verdict.kind != S and not before.stalled_since and before.canary_failing_since is None:
            head_start = gate.now - max(good_until, last_look - PERIOD - judge.CANARY_INTERVAL_SECONDS - 1)
            assert head_start + 1e-6 >= judge.STALL_WINDOW_SECONDS
        if verdict.kind == R:
            assert gate.now - good_until >= (WINDOWS.restart_window or 0)
            assert not verdict.passes("ready")


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40))
def test_counters_that_are_reset_or_vanish_never_evict(steps: list[int]) -> None:
    gate = Gate()
    seen = [
        {} if step == 0 else {str(step % 2): (float(number % 7 * -1), 5.0, 0.0)} for number, step in enumerate(steps)
    ]
    assert set(gate.kinds([{"ranks": ranks, "callers": 5} for ranks in seen])) == {S}


@given(looks)
def test_every_verdict_says_why(history: list[dict[str, Any]]) -> None:
    gate = Gate()
    for look in history:
        verdict = gate.look(**look)
        assert verdict.sentence
        assert verdict.cause
        assert "None" not in verdict.sentence


# --- the state's file

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=True) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("01"), inner, max_size=3),
    max_leaves=5,
)


@given(looks)
def test_the_state_survives_its_file(history: list[dict[str, Any]]) -> None:
    state = replayed(history).state
    read = judge.restored(json.loads(json.dumps(state.as_dict())))
    assert read.as_dict() == state.as_dict()
    assert set(state.as_dict()) == set(State.__slots__)


@given(st.dictionaries(st.sampled_from([*State.__slots__, "of a newer version"]), values), st.booleans())
def test_a_state_that_any_version_has_written_is_read_and_keeps_the_admission(
    stored: dict[str, Any],
    admitted: bool,  # noqa: FBT001 # drawn
) -> None:
    state = judge.restored(json.loads(json.dumps(stored | {"admitted": admitted})))
    assert state.admitted is admitted
    gate = Gate(state)
    gate.look(rank(1, busy=1))
    assert gate.look(rank(2, busy=1)).kind == (S if admitted else judge.STARTING)


def test_the_state_of_the_first_version_is_read() -> None:
    stored: dict[str, Any] = {"admitted": True, "marks": {"0": [7, 0.0]}, "stalled_since": {"0": 1.0}}
    state = judge.restored(stored | {"canary_failing_since": None, "proven_at": 1.0})
    assert (state.admitted, state.marks, state.stalled_since) == (True, {"0": [7, 0.0]}, {"0": 1.0})


def blamed(before: Seen, after: Seen, asked: str | None) -> bool:
    """Whether an idle engine with two ranks is suspected after a canary that was not answered in time."""
    known = State(admitted=True, proven_at=0.0, looked_at=0.0, marks={"0": [7, 0.0], "1": [7, 0.0]})
    ranks = [ranks_of(seen or {}) for seen in (before, after)]
    evidence = Evidence(
        asked_at=9.0, began_at=5.0, now=9.1, before=ranks[0], ranks=ranks[1], canary=judge.SILENT, canary_rank=asked
    )
    return judge.observe(known, evidence).canary_failing_since is not None


@pytest.mark.parametrize(
    ("after", "asked", "suspected"),
    [
        ({"0": (7, 0, 0.0), "1": (7, 0, 0.0)}, "1", True),
        ({"0": (7, 0, 0.0), "1": (7, 2, 0.0)}, "1", False),
        ({"0": (7, 0, 0.0), "1": (8, 0, 0.0)}, "1", False),
        ({"0": (9, 2, 0.0), "1": (7, 0, 0.0)}, "1", True),
        ({"0": (9, 2, 0.0), "1": (7, 0, 0.0)}, "0", False),
        ({"0": (7, 0, 0.0)}, "1", True),
    ],
    ids=["idle", "work came", "stepped", "its sibling works", "not the one that was asked", "rank not told any more"],
)
def test_a_canary_that_is_not_answered_speaks_against_the_rank_that_was_asked(
    after: Seen, asked: str, *, suspected: bool
) -> None:
    assert blamed({"0": (7, 0, 0.0), "1": (7, 0, 0.0)}, after, asked) is suspected
