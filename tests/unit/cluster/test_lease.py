"""The election: who may take the Lease when, and that two never hold it at the same time."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import pytest

from tests.support.lease_server import LeaseServer
from vllm_operator.cluster.fence import LeaseFence
from vllm_operator.cluster.lease import Candidate, LeaderElector, Sighting, Timing, held, released, sighting
from vllm_operator.errors import ApiConflict, ApiNotFound, ApiRefused, ApiSilent, NotLeading

if TYPE_CHECKING:
    from vllm_operator.cluster.client import Client

NOW = datetime(2026, 11, 26, 6, 0, 0, 123456, tzinfo=UTC)
TIMING = Timing()
DOWN = ApiSilent("PUT", "no answer")


class Replica:
    """An operator that stands for election; the clock is its own, and moves only when a test says so."""

    def __init__(self, server: LeaseServer, pod: str, *, now: float = 0.0, identity: str = "") -> None:
        self.now = now
        self.fence = LeaseFence(lease_duration=15, renew_deadline=10, clock=lambda: self.now)
        self.candidate = Candidate(identity or f"{pod}_1", pod)
        self.elector = LeaderElector(
            cast("Client", server),
            self.fence,
            namespace="vllm-system",
            name="vllm-operator",
            candidate=self.candidate,
            timing=TIMING,
            clock=lambda: self.now,
        )

    async def turn(self, now: float | None = None) -> bool:
        """One try at this time, and whether it may write then."""
        self.now = self.now if now is None else now
        await self.elector.turn()
        return self.may_write

    @property
    def may_write(self) -> bool:
        """Whether the fence is open."""
        try:
            self.fence.check()
        except NotLeading:
            return False
        return True


async def test_the_first_one_makes_the_lease_and_leads() -> None:
    server = LeaseServer()
    assert await Replica(server, "a").turn()
    assert server.spec["holderIdentity"] == "a_1"
    assert server.spec["leaseDurationSeconds"] == 15
    assert server.spec["leaseTransitions"] == 0
    assert server.spec["acquireTime"] == server.spec["renewTime"]


async def test_a_renewal_moves_the_renew_time_alone() -> None:
    server = LeaseServer()
    leader = Replica(server, "a")
    await leader.turn()
    before = dict(server.spec)
    assert await leader.turn(2.0)
    assert {key for key in before if before[key] != server.spec[key]} == {"renewTime"}
    assert server.writes == 2


async def test_another_one_waits_for_the_whole_duration_since_it_saw_the_last_renewal() -> None:
    server = LeaseServer()
    leader, other = Replica(server, "a"), Replica(server, "b", now=1000.0)
    await leader.turn()
    assert not await other.turn(1007.0)
    await leader.turn(9.0)
    assert not await other.turn(1009.0), "this renewal counts for it from now on"
    assert not await other.turn(1023.9)
    assert await other.turn(1024.0)
    assert server.spec["leaseTransitions"] == 1


async def test_the_leader_that_was_cut_off_stops_long_before_another_may_begin() -> None:
    server = LeaseServer()
    leader = Replica(server, "a")
    await leader.turn()
    leader.now = 9.9
    assert leader.may_write
    server.failures = [DOWN]
    assert not await leader.turn(10.0)
    assert not leader.fence.in_term


async def test_a_leader_that_comes_back_in_time_goes_on_with_the_same_term() -> None:
    server = LeaseServer()
    leader = Replica(server, "a")
    await leader.turn()
    over = await leader.fence.term()
    server.failures = [DOWN]
    assert await leader.turn(5.0)
    assert await leader.turn(7.0)
    assert not over.is_set()


async def test_a_frozen_leader_that_nobody_followed_leads_on_and_one_that_was_followed_stands_by() -> None:
    server = LeaseServer()
    leader, other = Replica(server, "a"), Replica(server, "b")
    await leader.turn()
    leader.now = 40.0
    assert not leader.may_write
    assert await leader.turn()
    await other.turn(0.0)
    await other.turn(15.0)
    over = await leader.fence.term()
    assert other.may_write
    assert not await leader.turn(80.0)
    assert over.is_set()


async def test_a_released_lease_is_taken_at_once() -> None:
    server = LeaseServer()
    leader, other = Replica(server, "a"), Replica(server, "b")
    await leader.turn()
    await other.turn()
    await leader.elector.stand_down()
    assert server.spec["holderIdentity"] == ""
    assert server.spec["leaseDurationSeconds"] == 1
    assert not leader.may_write
    assert await other.turn()
    assert server.spec["leaseDurationSeconds"] == 15


async def test_one_that_stood_down_never_stands_again() -> None:
    server = LeaseServer()
    leader = Replica(server, "a")
    await leader.turn()
    await leader.elector.stand_down()
    assert not await leader.turn(2.0)
    assert server.spec["holderIdentity"] == ""


async def test_a_lease_is_not_released_while_a_write_may_still_be_carried_out() -> None:
    server = LeaseServer()
    leader = Replica(server, "a")
    await leader.turn()
    with pytest.raises(ApiSilent), leader.fence.writing():
        raise DOWN
    await leader.elector.stand_down()
    assert server.spec["holderIdentity"] == "a_1"
    assert not leader.may_write


async def test_one_that_stands_by_releases_nothing() -> None:
    server = LeaseServer()
    await Replica(server, "a").turn()
    other = Replica(server, "b")
    await other.turn()
    await other.elector.stand_down()
    assert server.spec["holderIdentity"] == "a_1"


async def test_a_renewal_whose_answer_was_lost_is_made_again_at_once() -> None:
    server = LeaseServer()
    leader = Replica(server, "a")
    await leader.turn()
    server.lost_answers = 1
    assert await leader.turn(5.0)
    assert await leader.turn(9.0)
    leader.now = 18.0
    assert leader.may_write, "the second renewal at 9.0 counts"


async def test_an_edit_of_the_lease_by_hand_costs_the_leader_nothing() -> None:
    server = LeaseServer()
    leader = Replica(server, "a")
    await leader.turn()
    server.edit(strategy=None)
    assert await leader.turn(2.0)
    leader.now = 11.0
    assert leader.may_write


async def test_a_lease_that_is_taken_by_hand_is_given_up() -> None:
    server = LeaseServer()
    leader = Replica(server, "a")
    await leader.turn()
    server.edit(holderIdentity="somebody")
    assert not await leader.turn(2.0)
    assert not await leader.turn(16.9)
    assert await leader.turn(17.1)


async def test_a_deleted_lease_is_made_again_by_its_holder_and_not_by_the_others() -> None:
    server = LeaseServer()
    leader, other = Replica(server, "a"), Replica(server, "b")
    await leader.turn()
    await other.turn()
    server.lease = None
    assert not await other.turn(1.0), "its holder does not know yet"
    assert await leader.turn(2.0)
    assert server.spec["holderIdentity"] == "a_1"


async def test_a_deleted_lease_whose_holder_is_gone_is_taken_when_it_would_have_ended() -> None:
    server = LeaseServer()
    leader, other = Replica(server, "a"), Replica(server, "b")
    await leader.turn()
    await other.turn()
    server.lease = None
    assert not await other.turn(14.9)
    assert await other.turn(15.0)


async def test_a_process_that_comes_back_in_its_pod_leads_at_once() -> None:
    server = LeaseServer()
    await Replica(server, "a", identity="a_1").turn()
    assert await Replica(server, "a", identity="a_2").turn()
    assert server.spec["leaseTransitions"] == 1


async def test_two_that_claim_the_same_pod_do_not_take_the_lease_from_each_other_for_ever() -> None:
    server = LeaseServer()
    first, second = Replica(server, "a", identity="a_1"), Replica(server, "a", identity="a_2")
    await first.turn()
    await second.turn()
    assert not await first.turn(2.0)
    assert await second.turn(2.0)
    assert not await first.turn(4.0)


def test_outside_of_a_pod_no_name_makes_anybody_the_successor() -> None:
    one = Candidate.of("")
    assert one.identity != Candidate.of("").identity
    assert not one.succeeds(one.identity)
    assert Candidate.of("pod-1").identity.startswith("pod-1_")
    assert not Candidate.of("pod-1").succeeds("pod-11_0")


@pytest.mark.parametrize("error", [ApiRefused("GET", "leases is forbidden"), DOWN])
async def test_what_keeps_a_replica_from_being_elected_is_told_until_it_is_over(error: ApiRefused | ApiSilent) -> None:
    server = LeaseServer()
    server.failures = [error]
    replica = Replica(server, "a")
    assert "has not read the Lease vllm-system/vllm-operator yet" in replica.elector.trouble
    assert not await replica.turn()
    assert replica.elector.trouble == str(error)
    assert await replica.turn(2.0)
    assert not replica.elector.trouble


async def test_a_single_failure_is_no_trouble_and_one_that_lasts_as_long_as_a_lease_is() -> None:
    server = LeaseServer()
    replica = Replica(server, "a")
    await replica.turn()
    server.failures = [DOWN, DOWN]
    await replica.turn(2.0)
    assert not replica.elector.trouble
    await replica.turn(15.1)
    assert replica.elector.trouble == str(DOWN)


async def test_a_namespace_that_is_not_there_is_told() -> None:
    server = LeaseServer()
    server.namespace_is_there = False
    replica = Replica(server, "a")
    assert not await replica.turn()
    assert 'namespaces "vllm-system" not found' in replica.elector.trouble


async def test_of_two_that_find_no_lease_at_the_same_time_one_leads() -> None:
    server = LeaseServer()
    first, second = Replica(server, "a"), Replica(server, "b")
    missing = ApiNotFound("GET", "not found")
    server.failures = [missing]
    assert await first.turn()
    server.failures = [missing, ApiConflict("POST", "there is one")]
    assert not await second.turn()


def test_what_others_added_to_the_lease_stays() -> None:
    seen = Sighting({"metadata": {}, "spec": {"preferredHolder": "x", "holderIdentity": "b"}}, 0.0)
    candidate = Candidate("a_1")
    assert held(seen, candidate, 15, NOW)["preferredHolder"] == "x"
    assert released(seen, NOW)["preferredHolder"] == "x"
    assert held(seen, candidate, 15, NOW)["renewTime"] == "2026-11-26T06:00:00.123456Z"


def test_the_duration_of_the_holder_counts_and_not_ones_own() -> None:
    lease = {"metadata": {}, "spec": {"holderIdentity": "b", "leaseDurationSeconds": 60}}
    assert sighting(None, lease, Candidate("a_1"), 5.0, 15).free_at == 65.0


@pytest.mark.parametrize("seed", range(30))
async def test_two_never_write_at_the_same_time_whatever_freezes_fails_and_gets_lost(seed: int) -> None:
    """Real time is shared; each replica's clock has an offset of its own, and runs up to a tenth too fast or slow."""
    chance = random.Random(seed)  # noqa: S311 # a simulation that can be repeated
    server = LeaseServer()
    replicas = [Replica(server, name) for name in "abc"]
    offsets = [chance.uniform(0, 1e6) for _ in replicas]
    rates = [chance.uniform(0.95, 1.05) for _ in replicas]
    frozen_until = [0.0] * len(replicas)
    led = set()
    time = 0.0
    while time < 600:
        time += chance.uniform(0.1, 2.0)
        for number, replica in enumerate(replicas):
            replica.now = offsets[number] + time * rates[number]
            if time >= frozen_until[number]:
                server.failures = [DOWN] if chance.random() < 0.3 else []
                server.lost_answers = chance.random() < 0.1
                await replica.turn()
                server.failures, server.lost_answers = [], 0
                if chance.random() < 0.02:
                    frozen_until[number] = time + chance.uniform(5, 40)
        writers = [number for number, replica in enumerate(replicas) if replica.may_write]
        assert len(writers) <= 1, f"at {time}"
        led |= set(writers)
    assert len(led) > 1, "the simulation has to see the Lease change hands"
