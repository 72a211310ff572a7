"""What becomes of an engine, rule by rule."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.manager.looks import SETTINGS, Watch, serving
from vllm_operator.manager import judge
from vllm_operator.manager.evidence import (
    BUSY,
    COMPLETED,
    FAILED,
    REFUSED,
    REFUSES,
    SAYS_DEAD,
    SCALING,
    SILENT,
    UNANSWERED,
    Canary,
    LogLook,
    RankLook,
)
from vllm_operator.manager.judge import RESTART, SERVING, STARTING, WITHDRAWN

OTHERS = (serving("10.0.0.6"), serving("10.0.0.7"))


def admitted(**fields: object) -> Watch:
    """An engine that has completed its first prompt, beside two others."""
    return Watch(**{"peers": OTHERS, **fields}).admit()  # type: ignore[arg-type]


# --- admission


def test_an_engine_is_admitted_by_a_completed_prompt_with_its_names_right() -> None:
    watch = Watch()
    assert watch.look().kind == STARTING
    assert watch.look(watch.completed(), unserved="serves A, not B").kind == STARTING
    assert watch.verdict.cause == "WrongModel"
    assert watch.look(watch.completed(), unserved=None).kind == STARTING
    assert watch.look(watch.completed(), unserved="").kind == SERVING


def test_a_starting_engine_says_what_it_waits_for() -> None:
    watch = Watch()
    assert watch.look(server=REFUSES).cause == "Loading"
    assert watch.look(server=SILENT).cause == "Silent"
    told = Canary(watch.now - 2, watch.now - 1, REFUSED, "401 Unauthorized", cause="Unauthorized")
    assert watch.look(told).cause == "Unauthorized"
    assert watch.verdict.sentence == "401 Unauthorized"
    assert watch.look().cause == "Unauthorized"


def test_before_admission_one_canary_at_a_time_is_due() -> None:
    watch = Watch()
    watch.look(server=REFUSES)
    assert not watch.due
    watch.look()
    assert watch.due == (None,)
    first = watch.outstanding()
    watch.looks(5, first)
    assert not watch.due
    watch.look(replace(first, ended_at=watch.now, outcome=FAILED))
    assert watch.due == (None,)


def test_an_engine_that_exceeds_its_startup_budget_is_ended_with_a_sentence() -> None:
    watch = Watch(settings=replace(SETTINGS, startup_budget=30))
    watch.looks(30, server=REFUSES)
    assert watch.verdict.kind == STARTING
    watch.looks(2, server=REFUSES)
    assert (watch.verdict.kind, watch.verdict.cause) == (RESTART, "StartupBudget")
    assert "startup budget of 30 s: nothing listens" in watch.verdict.sentence


# --- stalls: a suspicion


def test_an_engine_with_work_and_no_step_is_withdrawn_after_the_stall_window_while_others_serve() -> None:
    watch = admitted().works().hangs()
    assert watch.until(WITHDRAWN) == 7
    assert watch.verdict.cause == "Stalled"
    assert watch.verdict.sentence == "no step with 8 requests in flight (engine 0)"


def test_a_step_brings_it_back() -> None:
    watch = admitted().works().hangs()
    watch.until(WITHDRAWN)
    watch.step_rate = 1
    assert watch.look().kind == SERVING


def test_a_long_prefill_that_moves_the_cache_alone_is_progress() -> None:
    watch = admitted().works().hangs()
    for tick in range(60):
        watch.rank = RankLook(steps=0, running=1, kv_usage=(tick // 4) / 100)
        assert watch.look().kind == SERVING


def test_saturation_is_no_stall() -> None:
    watch = admitted().works(step_rate=0.5)
    watch.rank = RankLook(steps=0, running=1, waiting=500)
    late = watch.outstanding()
    assert {one.kind for one in watch.looks(300, late)} == {SERVING}


def test_idle_time_is_no_part_of_a_stall() -> None:
    watch = admitted()
    for _ in range(20):
        watch.look(watch.completed())
    watch.rank = RankLook(steps=0, running=1)
    assert {one.kind for one in watch.looks(6)} == {SERVING}


def test_deferred_requests_are_no_work() -> None:
    watch = admitted(rank=RankLook(steps=0, deferred=3))
    for _ in range(300):
        assert watch.look(watch.completed()).kind == SERVING


def test_counters_that_fall_were_reset() -> None:
    watch = admitted().works().hangs()
    watch.looks(5)
    watch.steps["0"] = 3
    assert watch.look().kind == SERVING
    assert watch.until(WITHDRAWN) == 7


def test_the_window_follows_the_longest_step_that_the_engine_has_made() -> None:
    watch = admitted().works().hangs()
    watch.core_cores = 0.9
    watch.looks(5)
    watch.steps["0"] += 1
    watch.look()
    watch.core_cores = 0.0
    longest = judge.longest_step(watch.memory)
    assert longest is not None
    assert 5 <= longest <= 6
    assert judge.stall_window(watch.memory, SETTINGS) == 2 * longest + 1
    assert watch.until(WITHDRAWN) == 13


def test_a_hang_that_ends_by_itself_teaches_nothing() -> None:
    watch = admitted().beside(*OTHERS).works()
    watch.core_cores = 0.9
    watch.looks(12)
    watch.hangs().looks(30)
    watch.works()
    assert judge.stall_window(watch.memory, SETTINGS) == SETTINGS.stall_window


def test_the_longest_step_is_forgotten_after_an_hour() -> None:
    watch = admitted().works().hangs()
    watch.looks(5)
    watch.steps["0"] += 1
    watch.works().looks(4300)
    assert judge.stall_window(watch.memory, SETTINGS) == SETTINGS.stall_window


def test_the_window_is_never_longer_than_the_longest_one() -> None:
    watch = admitted().beside().works().hangs()
    watch.core_cores = 1.0
    watch.looks(100)
    watch.steps["0"] += 1
    watch.look()
    assert judge.stall_window(watch.memory, SETTINGS) == SETTINGS.longest_stall_window


def test_a_step_in_which_kernels_were_compiled_teaches_nothing() -> None:
    watch = admitted().beside().works().hangs()
    watch.looks(20)
    watch.look(log=LogLook(compiled_at=watch.now))
    watch.steps["0"] += 1
    watch.look()
    assert judge.stall_window(watch.memory, SETTINGS) == SETTINGS.stall_window


def test_idle_time_teaches_nothing() -> None:
    watch = admitted()
    watch.looks(30)
    watch.rank = RankLook(steps=0, running=1)
    watch.steps["0"] += 1
    watch.looks(2)
    assert judge.stall_window(watch.memory, SETTINGS) == SETTINGS.stall_window


@pytest.mark.parametrize("sign", ["compilers", "log"])
def test_while_kernels_are_compiled_the_longest_window_holds(sign: str) -> None:
    watch = admitted().works().hangs()
    watch.core_cores = 1.0
    log = LogLook(compiled_at=watch.now if sign == "log" else None)
    watch.compilers = ("ptxas",) if sign == "compilers" else ()
    assert watch.until(WITHDRAWN, log=log) == 61


def test_metrics_that_cannot_be_read_neither_clear_a_stall_nor_make_it_older() -> None:
    watch = admitted().works().hangs()
    watch.looks(4)
    watch.readable = False
    assert {one.kind for one in watch.looks(30)} == {SERVING}
    watch.readable = True
    assert watch.until(WITHDRAWN) == 4


def test_each_rank_is_judged_by_itself() -> None:
    watch = admitted(steps={"0": 0.0, "1": 0.0}).works()
    watch.hung = ("1",)
    assert watch.until(WITHDRAWN) == 7
    assert watch.verdict.sentence == "no step with 8 requests in flight (engine 1)"


# --- canaries: proof where nothing computes


def test_an_idle_engine_is_asked_every_two_seconds() -> None:
    watch = admitted()
    sent = 0
    canaries: tuple[Canary, ...] = ()
    for _ in range(20):
        watch.look(*canaries)
        canaries = tuple(Canary(watch.now - 0.9, watch.now - 0.8, COMPLETED) for _ in watch.due)
        sent += len(canaries)
    assert sent == 10


def test_an_engine_with_work_is_never_asked() -> None:
    watch = admitted().works()
    watch.hangs()
    for _ in range(20):
        watch.look()
        assert watch.due == ()


def test_each_idle_rank_gets_a_canary_of_its_own_beside_busy_ones() -> None:
    watch = admitted(steps={"4": 0.0, "5": 0.0, "6": 0.0}).works()
    watch.ranks = {"5": RankLook(steps=0), "6": RankLook(steps=0)}
    watch.hung = ("5", "6")
    watch.looks(3)
    assert list(watch.due) == ["5", "6"]
    watch.look(watch.outstanding("5"))
    assert list(watch.due) == ["6"]


def test_an_idle_engine_that_does_not_complete_a_canary_is_withdrawn_alone_or_not() -> None:
    watch = admitted().beside()
    sent = watch.outstanding()
    assert watch.until(WITHDRAWN, sent) == 7
    assert watch.verdict.cause == "Failing"


def test_a_first_prompt_of_six_seconds_stays() -> None:
    watch = admitted()
    watch.looks(10)
    sent = watch.outstanding()
    assert {one.kind for one in watch.looks(6, sent)} == {SERVING}
    watch.steps["0"] += 2
    assert watch.look(replace(sent, ended_at=watch.now, outcome=COMPLETED)).kind == SERVING


def test_while_the_cores_compute_a_canary_is_a_mere_suspicion() -> None:
    watch = admitted(core_cores=1.0).beside()
    assert watch.until(WITHDRAWN, watch.outstanding(), most=100) is None
    watch.beside(*OTHERS)
    assert watch.until(WITHDRAWN, watch.outstanding(), most=10) is not None


def test_a_canary_that_only_waits_behind_work_proves_nothing() -> None:
    watch = admitted(rank=RankLook(steps=0, waiting=2), step_rate=1.0)
    sent = watch.outstanding()
    assert {one.kind for one in watch.looks(60, sent)} == {SERVING}


def test_a_canary_that_was_turned_away_by_a_full_queue_proves_nothing() -> None:
    watch = admitted()
    for _ in range(60):
        assert watch.look(watch.ended(BUSY)).kind == SERVING


def test_a_canary_of_one_rank_is_no_proof_for_another() -> None:
    watch = admitted(steps={"0": 0.0, "1": 0.0})
    sent = watch.outstanding("1")
    for _ in range(7):
        watch.steps["0"] += 1
        watch.look(watch.completed("0"), watch.completed(), sent)
    assert (watch.verdict.kind, watch.verdict.sentence) == (WITHDRAWN, "a canary does not complete (engine 1)")


def test_canaries_that_fail_withdraw_and_restart() -> None:
    watch = admitted().beside()
    told = "HTTP 500: no kernel image"
    for _ in range(6):
        assert watch.look(watch.ended(FAILED, sentence=told)).kind == SERVING
    assert watch.look(watch.ended(FAILED, sentence=told)).kind == WITHDRAWN
    assert watch.verdict.sentence == "a canary does not complete: HTTP 500: no kernel image"
    for _ in range(180):
        watch.look(watch.ended(FAILED, sentence=told))
    assert watch.verdict.kind == RESTART


def test_the_step_of_an_empty_completion_is_no_sign_of_life() -> None:
    watch = admitted()
    for _ in range(9):
        watch.steps["0"] += 1
        watch.look(watch.ended(FAILED, sentence="a completion came back empty"))
    assert watch.verdict.kind == WITHDRAWN


def test_a_refused_request_withdraws_and_never_restarts() -> None:
    watch = admitted()
    for _ in range(1000):
        watch.look(watch.ended(REFUSED, sentence="401 Unauthorized"))
    assert (watch.verdict.kind, watch.verdict.cause) == (WITHDRAWN, "Refused")


def test_without_metrics_a_canary_counts_where_nobody_else_is_connected() -> None:
    watch = admitted(readable=False)
    sent = watch.outstanding()
    assert watch.until(WITHDRAWN, sent, connections=0) == 7


def test_without_metrics_and_with_open_connections_a_canary_proves_nothing() -> None:
    watch = admitted(readable=False, core_cores=1.0)
    assert {one.kind for one in watch.looks(300, watch.outstanding(), connections=3)} == {SERVING}


def test_without_metrics_and_with_cores_that_stand_still_a_canary_is_a_suspicion() -> None:
    watch = admitted(readable=False)
    sent = watch.outstanding()
    assert watch.until(WITHDRAWN, sent, most=30, connections=3) is not None
    alone = admitted(readable=False).beside()
    assert alone.until(WITHDRAWN, alone.outstanding(), most=30, connections=3) is None


def test_without_metrics_a_guess_restarts_late_and_never_where_they_were_read_before() -> None:
    watch = Watch(readable=False).admit()
    waited = watch.until(RESTART, watch.outstanding(), connections=3)
    assert waited is not None
    assert waited > 320
    watch = admitted()
    watch.readable = False
    assert watch.until(RESTART, watch.outstanding(), connections=3) is None


def test_a_completed_canary_settles_it() -> None:
    watch = admitted(readable=False)
    watch.looks(5, watch.outstanding(), connections=0)
    watch.look(watch.completed(), connections=0)
    assert watch.memory.findings == {}


def test_canaries_can_be_switched_off() -> None:
    watch = admitted(settings=replace(SETTINGS, canary_interval=None))
    watch.looks(100)
    assert watch.due == ()


# --- the server


def test_a_server_that_answers_nothing_and_computes_nothing_is_withdrawn_alone_or_not() -> None:
    watch = admitted(server_cores=0.0, readable=False).beside()
    assert watch.until(WITHDRAWN, server=SILENT) == 6
    assert watch.verdict.cause == "Silent"
    assert watch.until(RESTART, server=SILENT, most=70) is not None


def test_a_server_that_answers_nothing_and_computes_keeps_its_traffic_for_the_longest_window() -> None:
    watch = admitted(server_cores=0.9, readable=False)
    waited = watch.until(WITHDRAWN, server=SILENT)
    assert waited in (60, 61)
    assert watch.verdict.cause == "ServerBusy"
    assert watch.until(RESTART, server=SILENT, most=200) is None


def test_a_server_that_answers_nothing_and_computes_is_never_withdrawn_where_it_is_alone() -> None:
    watch = admitted(server_cores=0.9, readable=False).beside()
    assert watch.until(WITHDRAWN, server=SILENT, most=250) is None


def test_the_time_of_a_blocked_server_is_not_held_against_the_canary_that_waited_for_it() -> None:
    watch = admitted(server_cores=0.9)
    sent = watch.outstanding()
    watch.readable = False
    watch.looks(8, sent, server=SILENT)
    watch.readable = True
    assert {one.kind for one in watch.looks(3, sent)} == {SERVING}


def test_a_server_that_ended_is_out_at_once_and_restarted_soon() -> None:
    watch = admitted(readable=False).beside()
    assert (watch.look(server=REFUSES).kind, watch.verdict.cause) == (WITHDRAWN, "Gone")
    assert watch.until(RESTART, server=REFUSES) in (30, 31)


def test_a_server_that_listens_again_has_to_complete_a_prompt() -> None:
    watch = admitted(readable=False)
    watch.look(server=REFUSES)
    watch.readable = True
    assert (watch.look().kind, watch.verdict.cause) == (WITHDRAWN, "NotProven")
    assert watch.due == (None,)
    assert watch.look(watch.completed()).kind == SERVING


def test_an_engine_that_is_dead_by_its_own_word_is_out_at_once() -> None:
    watch = admitted().works().hangs()
    watch.look(server=SAYS_DEAD, trouble="/health: HTTP 503")
    assert (watch.verdict.kind, watch.verdict.sentence) == (WITHDRAWN, "the engine is dead: /health: HTTP 503")


def test_one_of_several_servers_that_reads_nothing_is_found_though_steps_are_made() -> None:
    watch = admitted().works()
    watch.unread_since = watch.now
    assert watch.until(WITHDRAWN) == 7
    assert watch.verdict.cause == "Silent"


# --- names, sleep, pause, scaling


def test_a_name_that_is_missing_withdraws_and_never_restarts() -> None:
    watch = admitted().works()
    assert watch.until(WITHDRAWN, unserved="serves A, not B") in (6, 7)
    assert watch.verdict.cause == "WrongModel"
    assert watch.until(RESTART, unserved="serves A, not B") is None
    assert watch.look(unserved="").kind == SERVING


@pytest.mark.parametrize("cause", ["Asleep", "Paused", "Scaling"])
def test_an_engine_that_rests_has_no_traffic_and_is_never_restarted(cause: str) -> None:
    watch = admitted()
    sent = watch.outstanding()
    shown: dict[str, Any] = {"paused": True} if cause == "Paused" else {}
    if cause == "Scaling":
        shown = {"server": SCALING, "ranks": None}
    watch.rank = RankLook(steps=0, asleep=cause == "Asleep")
    for _ in range(900):
        assert (watch.look(sent, **shown).kind, watch.verdict.cause) == (WITHDRAWN, cause)
        assert watch.due == ()
    watch.rank = RankLook(steps=0)
    assert (watch.look(ranks={"0": watch.rank}).kind, watch.verdict.cause) == (WITHDRAWN, "NotProven")
    assert watch.due == (None,)
    assert watch.look(watch.completed()).kind == SERVING


def test_steps_alone_do_not_end_a_sleep() -> None:
    watch = admitted()
    watch.rank = RankLook(steps=0, asleep=True)
    watch.looks(5)
    watch.rank = RankLook(steps=0, running=1)
    watch.step_rate = 5
    assert {one.kind for one in watch.looks(5)} == {WITHDRAWN}


def test_an_engine_that_does_not_wake_up_is_restarted() -> None:
    watch = admitted()
    watch.rank = RankLook(steps=0, asleep=True)
    watch.looks(100)
    watch.rank = RankLook(steps=0)
    watch.look()
    assert watch.until(RESTART, watch.outstanding()) is not None


@pytest.mark.parametrize("cause", ["Asleep", "Paused"])
def test_metrics_that_cannot_be_read_do_not_end_a_rest_and_a_completed_prompt_does(cause: str) -> None:
    watch = admitted()
    watch.rank = RankLook(steps=0, asleep=cause == "Asleep")
    watch.looks(3, paused=cause == "Paused")
    watch.readable = False
    sent = watch.outstanding()
    assert {one.cause for one in watch.looks(600, sent, connections=0)} == {cause}
    watch.look(connections=0)
    assert watch.due == (None,)
    assert watch.look(watch.completed()).kind == SERVING


# --- restarts


def test_a_frozen_engine_is_restarted_after_a_minute() -> None:
    watch = admitted().works().hangs()
    waited = watch.until(RESTART)
    assert waited is not None
    assert 60 <= waited <= 63


def test_idle_workers_that_each_use_a_little_cpu_are_frozen_with_the_core_that_hangs() -> None:
    watch = admitted().works().hangs()
    watch.core_processes, watch.core_cores = 3, 0.033
    waited = watch.until(RESTART)
    assert waited is not None
    assert 60 <= waited <= 63


def test_a_shorter_restart_window_holds_for_frozen_engines_too() -> None:
    watch = admitted(settings=replace(SETTINGS, restart_window=30)).works().hangs()
    waited = watch.until(RESTART)
    assert waited is not None
    assert waited <= 63


@pytest.mark.parametrize("sign", ["cpu", "compilers"])
def test_an_engine_that_computes_or_compiles_is_not_restarted_within_its_own_limit(sign: str) -> None:
    watch = admitted().works().hangs()
    watch.core_cores = 1.0 if sign == "cpu" else 0.1
    watch.compilers = ("nvcc",) if sign == "compilers" else ()
    waited = watch.until(RESTART)
    assert waited is not None
    assert 320 <= waited <= 322


def test_compilation_that_pauses_for_some_seconds_is_not_frozen() -> None:
    watch = admitted().works().hangs()
    for tick in range(300):
        watch.core_cores = 0.0 if tick % 60 > 20 else 1.0
        assert watch.look().kind != RESTART


def test_an_engine_that_writes_a_profile_is_not_restarted() -> None:
    watch = admitted().works().hangs()
    watch.core_cores, watch.written = 0.9, 5e6
    assert watch.until(RESTART, most=900) is None


def test_what_is_neither_frozen_nor_computing_is_restarted_after_the_restart_window() -> None:
    watch = admitted(core_cores=None).works().hangs()
    watch.core_cores = None
    waited = watch.until(RESTART)
    assert waited is not None
    assert 180 <= waited <= 182


def test_restarts_can_be_switched_off() -> None:
    watch = admitted(settings=replace(SETTINGS, restart_window=None)).works().hangs()
    assert watch.until(RESTART) is None
    assert watch.verdict.kind == WITHDRAWN


def test_of_those_that_want_a_restart_the_one_with_the_lowest_address_is_first() -> None:
    watch = admitted().beside(serving("10.0.0.1", suspected=True), *OTHERS).works().hangs()
    assert watch.until(RESTART, most=300) is None
    assert watch.until(RESTART, most=700) is not None  # but nobody waits for ever
    other = admitted().beside(serving("10.0.0.9", suspected=True), *OTHERS).works().hangs()
    assert other.until(RESTART, most=70) is not None


def test_nobody_is_restarted_for_a_suspicion_while_another_is_restarting() -> None:
    watch = admitted().beside(serving("10.0.0.9", routable=False, restarting=True), *OTHERS).works().hangs()
    assert watch.until(RESTART, most=300) is None
    watch.beside(*OTHERS)
    assert watch.look().kind == RESTART


def test_the_last_engine_is_restarted_though_it_was_never_withdrawn() -> None:
    watch = admitted().beside().works().hangs()
    assert watch.until(WITHDRAWN, most=50) is None
    assert watch.until(RESTART, most=20) is not None


def test_restart_windows_of_a_fleet_are_spread_and_those_of_a_pod_always_the_same() -> None:
    windows = {judge.spread(180, f"model-7d9f-{number}") for number in range(50)}
    assert all(180 <= window <= 225 for window in windows)
    assert max(windows) - min(windows) > 20
    assert judge.spread(180, "pod") == judge.spread(180, "pod")


# --- gaps


def test_a_gap_says_nothing_of_the_time_in_it() -> None:
    watch = admitted().works().hangs()
    watch.looks(4)
    watch.now += 3600
    assert watch.look().kind == SERVING
    assert watch.until(WITHDRAWN) is not None


def test_a_canary_that_waited_through_a_gap_is_not_held_against_the_engine() -> None:
    watch = admitted()
    sent = watch.outstanding()
    watch.looks(2, sent)
    watch.now += 100
    assert {one.kind for one in watch.looks(4, sent)} == {SERVING}


def test_a_clock_that_steps_back_changes_nothing() -> None:
    watch = admitted().works().hangs()
    watch.until(WITHDRAWN)
    watch.now -= 900
    assert watch.look().kind == WITHDRAWN


def test_a_canary_of_a_clock_that_has_stepped_back_leaves_no_finding_for_ever() -> None:
    watch = admitted()
    sent = watch.outstanding()
    watch.now -= 900
    watch.looks(10, sent)
    assert watch.works().memory.findings == {}


def test_a_look_that_took_minutes_says_nothing() -> None:
    watch = admitted()
    watch.readable = False
    assert watch.look(server=SILENT, took=600).kind == SERVING


# --- what is told


def test_the_others_are_told_before_the_traffic_goes() -> None:
    watch = admitted().works().hangs()
    told = 0
    while not judge.suspects(watch.memory):
        watch.look()
        told += 1
    assert told == 2
    assert judge.wants_peers(watch.memory, SETTINGS)


def test_the_others_are_looked_at_seldom_without_a_reason_and_never_without_a_service() -> None:
    watch = admitted().works()
    assert not judge.wants_peers(watch.memory, SETTINGS)
    watch.peers = None
    watch.looks(61)
    assert judge.wants_peers(watch.memory, SETTINGS)
    assert not judge.wants_peers(watch.memory, replace(SETTINGS, service=""))


def test_since_is_when_the_verdict_changed() -> None:
    watch = admitted().works().hangs()
    watch.until(WITHDRAWN)
    since = watch.verdict.since
    watch.looks(10)
    assert watch.verdict.since == since == watch.now - 10 - 1 + 0.01


# --- memory


def test_what_another_version_has_written_is_read_as_far_as_it_is_understood() -> None:
    watch = admitted().works().hangs()
    watch.looks(5)
    stored = json.loads(json.dumps(watch.memory.as_dict()))
    stored.update(colour="blue", cpu=[{"taken_at": "yesterday"}], long_steps={"a": 1}, looked_at=None)
    stored["ranks"]["1"] = {"steps": True}
    stored["findings"]["Stalled/1"] = {"span": {"since": float("nan")}}
    memory = judge.restored(stored)
    assert memory.admitted
    assert (memory.cpu, memory.long_steps, memory.looked_at) == ((), (), None)
    assert set(memory.ranks) == {"0"}
    assert set(memory.findings) == {"Stalled/0"}
    assert judge.restored("nonsense") == judge.restored([]) == judge.Memory()


def test_a_restored_judge_goes_on_where_the_other_one_was() -> None:
    watch = admitted().works().hangs()
    watch.looks(5)
    watch.memory = judge.restored(json.loads(json.dumps(watch.memory.as_dict())))
    assert watch.until(WITHDRAWN) == 2


def test_unanswered_is_as_good_as_outstanding() -> None:
    watch = admitted()
    first = watch.now - 0.9
    for _ in range(7):
        watch.look(Canary(first, watch.now - 0.5, UNANSWERED))
    assert watch.verdict.kind == WITHDRAWN
