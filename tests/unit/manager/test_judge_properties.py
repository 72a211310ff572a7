"""What holds whatever is seen: the judge under looks that hypothesis makes up."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.manager.looks import SETTINGS
from vllm_operator.manager import judge
from vllm_operator.manager.evidence import (
    ANSWERS,
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
    Look,
    Peer,
    PeersLook,
    ProcessesLook,
    RankLook,
)

pytestmark = pytest.mark.slow

SERVERS = (ANSWERS, ANSWERS, ANSWERS, REFUSES, SILENT, SAYS_DEAD, SCALING)
OUTCOMES = (None, COMPLETED, UNANSWERED, BUSY, REFUSED, FAILED)


def looks(**fixed: Any) -> st.SearchStrategy[list[Look]]:
    """Series of looks at anything, with gaps. Each is made from one number: drawing them one by one takes minutes."""
    return st.integers(0, 2**32).map(lambda seed: _series(Random(seed), fixed))  # noqa: S311 # repeatable on purpose


def _series(random: Random, fixed: dict[str, Any]) -> list[Look]:
    found, now = [], 1000.0
    for _ in range(random.randint(1, 40)):
        now += random.choice([0.9, 1.0, 1.0, 1.0, 1.1, 4.0, 60.0])
        took = random.choice([0.01, 0.01, 0.01, 2.0, 6.0])
        values = {
            "server": random.choice(SERVERS),
            "ranks": random.choice([None, _ranks(random), _ranks(random)]),
            "paused": random.random() < 0.1,
            "canaries": tuple(sorted((_canary(random, now) for _ in range(random.choice([0, 0, 1, 2]))), key=_sent_at)),
            "unserved": random.choice([None, "", "", "serves A, not B"]),
            "processes": random.choice([None, _processes(random)]),
            "log": LogLook(random.choice([None, None, now])),
            "connections": random.choice([None, 0, 1]),
            "peers": random.choice([None, _peers(random, now)]),
        }
        found.append(Look(now, now + took, **{**values, **fixed}))
        now += took
    return found


def _ranks(random: Random) -> dict[str, RankLook]:
    def few() -> float:
        return float(random.choice([0, 0, 1, 2]))

    names = random.sample(["0", "1", "2"], random.randint(0, 3))
    return {name: RankLook(few(), few() / 4, few(), few(), few(), asleep=random.random() < 0.1) for name in names}


def _canary(random: Random, now: float) -> Canary:
    outcome, age = random.choice(OUTCOMES), random.uniform(0, 20)
    return Canary(now - age, None if outcome is None else now - age / 2, outcome, rank=random.choice([None, "0", "1"]))


def _sent_at(canary: Canary) -> float:
    return canary.sent_at


def _processes(random: Random) -> ProcessesLook:
    return ProcessesLook(random.uniform(0, 1e4), random.choice([None, 0.0, 5.0]), written_bytes=random.uniform(0, 1e9))


def _peers(random: Random, now: float) -> PeersLook:
    def flag() -> bool:
        return random.random() < 0.5

    others = [Peer(address, flag(), flag(), flag(), flag()) for address in ("10.0.0.1", "10.0.0.8", "10.0.0.9")]
    return PeersLook(now, "10.0.0.5", tuple(random.sample(others, random.randint(0, 3))), random.randint(0, 5))


def admitted() -> judge.Memory:
    """An engine that has completed its first prompt."""
    first = Look(998.0, 998.1, ANSWERS, {"0": RankLook(0)}, canaries=(Canary(997, 997.5, COMPLETED),), unserved="")
    memory = judge.observe(judge.Memory(), first, SETTINGS)
    assert memory.admitted
    return memory


def stored(memory: judge.Memory) -> object:
    """The memory as it passes from one judge to the next."""
    return json.loads(json.dumps(memory.as_dict(), allow_nan=False))


@settings(max_examples=200, deadline=None)
@given(looks())
def test_a_memory_survives_a_new_judge_unchanged(series: list[Look]) -> None:
    memory = admitted()
    for look in series:
        memory = judge.observe(memory, look, SETTINGS)
        again = judge.restored(stored(memory))
        assert again == memory
        assert judge.verdict(again, SETTINGS) == judge.verdict(memory, SETTINGS)
    assert len(json.dumps(memory.as_dict())) < 60_000


@settings(max_examples=200, deadline=None)
@given(looks(unserved=None, paused=False))
def test_an_engine_whose_ranks_all_advance_is_never_withdrawn(series: list[Look]) -> None:
    memory = admitted()
    for tick, look in enumerate(series):
        server = ANSWERS if look.server == SCALING else look.server
        ranks = {name: RankLook(100.0 + tick, running=2) for name in ("0", "1")}
        memory = judge.observe(memory, replace(look, server=server, ranks=ranks), SETTINGS)
        assert judge.verdict(memory, SETTINGS).kind == judge.SERVING


@settings(max_examples=200, deadline=None)
@given(looks(), st.floats(20.1, 1e6))
def test_a_pause_changes_no_verdict(series: list[Look], pause: float) -> None:
    memory = admitted()
    for look in series:
        memory = judge.observe(memory, look, SETTINGS)
    last = series[-1]
    same = replace(last, canaries=(), ranks=None, server=ANSWERS, paused=False, unserved=None, peers=memory.peers)
    before = judge.verdict(judge.observe(memory, _at(same, last.ended_at + 0.01), SETTINGS), SETTINGS)
    after = judge.verdict(judge.observe(memory, _at(same, last.ended_at + pause), SETTINGS), SETTINGS)
    assert (before.kind, before.cause) == (after.kind, after.cause)


def _at(look: Look, moment: float) -> Look:
    peers = None if look.peers is None else replace(look.peers, at=moment)
    return replace(look, at=moment, ended_at=moment, peers=peers, log=LogLook(), processes=None)


@settings(max_examples=200, deadline=None)
@given(looks(server=ANSWERS, paused=False, unserved=None), st.booleans())
def test_the_last_engine_is_never_taken_by_suspicion(series: list[Look], known: bool) -> None:  # noqa: FBT001
    """Work without steps is a suspicion, whatever is compiled meanwhile."""
    memory = admitted()
    others = (Peer("10.0.0.1", routable=False), Peer("10.0.0.2", routable=True, reachable=False))
    for look in series:
        peers = PeersLook(look.at, "10.0.0.5", others, 3) if known else None
        seen = replace(look, ranks={"0": RankLook(0, running=3)}, canaries=(), peers=peers)
        memory = judge.observe(memory, seen, SETTINGS)
        assert judge.verdict(memory, SETTINGS).kind in (judge.SERVING, judge.RESTART)


@settings(max_examples=200, deadline=None)
@given(looks())
def test_a_rank_that_is_asked_is_never_asked_again_meanwhile(series: list[Look]) -> None:
    memory = admitted()
    for look in series:
        memory = judge.observe(memory, look, SETTINGS)
        due = judge.due_canaries(memory, look, SETTINGS)
        waiting = {one.rank for one in look.canaries if one.ended_at is None}
        assert len(due) == len(set(due))
        assert not waiting & set(due)
