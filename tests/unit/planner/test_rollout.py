"""Engines that do not serve never keep out those that replace them, and engines that serve are never given up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.resources import as_desired, child_of, live, observation, pod, resource
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import DESIRED_HASH
from vllm_operator.planner.decide import decide
from vllm_operator.planner.rollout import may_be_unavailable, unblocked

SCHEDULED = {"type": "PodScheduled", "status": "True"}
UNSCHEDULED = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient nvidia.com/gpu"}
CRASH = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 2}}}
LOADING = {"state": {"running": {"startedAt": "2026-11-22T11:00:00Z"}}}
HUNG = {"state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}, "started": True}
QUOTA = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}


def engine(revision: str, state: str, number: int = 1) -> dict[str, Any]:
    """A pod of a revision: serving, crashing, loading, hung or pending."""
    containers: dict[str, dict[str, Any]] = {"crashing": CRASH, "loading": LOADING, "hung": HUNG}
    place = UNSCHEDULED if state == "pending" else SCHEDULED
    found = pod(f"{revision}-{number}", ready=state == "serving", container=containers.get(state), conditions=(place,))
    found["metadata"]["labels"]["pod-template-hash"] = revision
    return found


def deployment(*pods: dict[str, Any], newest: str = "new", **status: Any) -> dict[str, Any]:
    """The live Deployment of these pods."""
    updated = [one for one in pods if one["metadata"]["labels"]["pod-template-hash"] == newest]
    serving = [one for one in pods if one["status"]["conditions"][-1]["status"] == "True"]
    counts = {"replicas": len(pods), "updatedReplicas": len(updated), "readyReplicas": len(serving)}
    return {"status": {**{key: count for key, count in counts.items() if count}, **status}}


BLOCKED: list[tuple[int, list[tuple[str, str]], int]] = [
    (1, [("old", "crashing"), ("new", "pending")], 1),
    (1, [("old", "loading"), ("new", "pending")], 1),
    (2, [("old", "serving"), ("old", "crashing"), ("new", "pending")], 1),
    (3, [("old", "crashing"), ("old", "crashing"), ("old", "crashing"), ("new", "pending")], 3),
    (3, [("old", "serving"), ("old", "crashing"), ("new", "serving"), ("new", "pending")], 1),
    (2, [("older", "crashing"), ("old", "pending"), ("new", "pending")], 2),
]
FREE: list[tuple[int, list[tuple[str, str]]]] = [
    (1, [("old", "serving"), ("new", "pending")]),
    (1, [("old", "serving"), ("new", "crashing")]),
    (1, [("old", "crashing"), ("new", "loading")]),
    (1, [("new", "crashing")]),
    (1, [("new", "pending")]),
    (2, [("new", "crashing"), ("new", "pending")]),
    (2, [("old", "serving"), ("old", "serving"), ("new", "pending")]),
    (1, [("old", "hung"), ("new", "pending")]),
    (2, [("old", "hung"), ("old", "crashing"), ("new", "pending")]),
    (1, [("old", "pending"), ("new", "pending")]),
    (0, []),
]


def engines(found: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Their pods."""
    return [engine(revision, state, number) for number, (revision, state) in enumerate(found)]


@pytest.mark.parametrize(("replicas", "found", "expendable"), BLOCKED)
def test_as_many_may_go_as_do_not_serve_where_they_keep_out_the_next_revision(
    replicas: int, found: list[tuple[str, str]], expendable: int
) -> None:
    pods = engines(found)
    assert may_be_unavailable(replicas, deployment(*pods), pods) == expendable


@pytest.mark.parametrize(("replicas", "found"), FREE)
def test_nothing_is_given_up_where_nothing_waits_for_it(replicas: int, found: list[tuple[str, str]]) -> None:
    pods = engines(found)
    assert may_be_unavailable(replicas, deployment(*pods), pods) == 0


def test_pods_that_a_quota_refuses_wait_too() -> None:
    crashing = engine("old", "crashing")
    assert may_be_unavailable(1, deployment(crashing, conditions=[QUOTA]), [crashing]) == 1
    assert may_be_unavailable(1, deployment(crashing, newest="old", conditions=[QUOTA]), [crashing]) == 0


def test_what_is_on_its_way_out_or_has_ended_holds_nothing() -> None:
    old, new = engine("old", "crashing"), engine("new", "pending")
    old["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    assert may_be_unavailable(1, deployment(old, new), [old, new]) == 0
    evicted = engine("old", "crashing")
    evicted["status"]["phase"] = "Failed"
    assert may_be_unavailable(1, deployment(evicted, new), [evicted, new]) == 0


def test_the_strategy_is_written_and_taken_back_by_what_is_seen_alone() -> None:
    raw = resource()
    old, new = engine("old", "crashing"), engine("new", "pending")
    found = as_desired(raw, **deployment(old, new)["status"])
    (write,) = decide(observation(raw, found, old, new)).writes
    assert write.desired["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 1}
    plain = found[ObjectKey("Deployment", "qwen")]
    assert write.desired["spec"]["template"] == plain["spec"]["template"]
    assert write.desired["metadata"]["annotations"][DESIRED_HASH] != plain["metadata"]["annotations"][DESIRED_HASH]

    found[ObjectKey("Deployment", "qwen")] = live(write.desired, generation=2, **deployment(old, new)["status"])
    assert decide(observation(raw, found, old, new)).writes == (), "also before the controller has seen it"

    found[ObjectKey("Deployment", "qwen")] = live(write.desired, generation=2, **deployment(new)["status"])
    (write,) = decide(observation(raw, found, new)).writes
    assert write.desired["spec"]["strategy"] == plain["spec"]["strategy"]


# --- with the arithmetic of the Deployment's controller


@dataclass
class Engine:
    """One pod: of a revision, on the node or not, crashing or not, ready or not."""

    revision: int
    sound: bool
    placed: bool = False
    ready: bool = False


@dataclass
class Node:
    """A node with a number of places, and the Deployment's controller as rolling.go has it."""

    places: int
    replicas: int
    surge: int
    engines: list[Engine] = field(default_factory=list)
    newest: int = 0
    sound: bool = True

    def seen(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The Deployment's status and its pods, as the operator sees them."""
        states = ["serving" if one.ready else "crashing" if one.placed else "pending" for one in self.engines]
        pods = [
            engine(str(one.revision), state, number)
            for number, (one, state) in enumerate(zip(self.engines, states, strict=True))
        ]
        return deployment(*pods, newest=str(self.newest)), pods

    def unavailable(self) -> int:
        """What the operator writes."""
        status, pods = self.seen()
        return max(may_be_unavailable(self.replicas, status, pods), 1 - self.surge)

    def step(self) -> None:
        """One round: schedule, get ready, and what the controller does."""
        for one in self.engines:
            one.placed |= sum(other.placed for other in self.engines) < self.places
            one.ready |= one.placed and one.sound
        unavailable = self.unavailable()
        new = [one for one in self.engines if one.revision == self.newest]
        room = min(self.replicas + self.surge - len(self.engines), self.replicas - len(new))
        if room > 0:
            self.engines += [Engine(self.newest, self.sound) for _ in range(room)]
            return
        least = self.replicas - unavailable
        count = len(self.engines) - least - sum(not one.ready for one in new)
        old = [one for one in self.engines if one.revision != self.newest]
        for one in sorted((one for one in old if not one.ready), key=lambda one: one.placed)[: max(count, 0)]:
            self.engines.remove(one)
        spare = sum(one.ready for one in self.engines) - least
        for one in [one for one in old if one.ready][: max(spare, 0)]:
            self.engines.remove(one)


@given(
    st.integers(1, 5),
    st.integers(0, 3),
    st.sampled_from([0, 1]),
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=4),
)
@example(1, 0, 1, [(False, 5)])
@example(1, 0, 1, [(False, 5), (False, 5)])
@example(1, 0, 1, [(False, 5), (False, 0), (False, 1)])
@example(3, 0, 1, [(False, 5)])
@example(3, 0, 0, [(False, 5)])
@settings(max_examples=150)
def test_a_sound_revision_replaces_all_broken_ones_and_serving_engines_go_one_by_one(
    replicas: int, spare: int, surge: int, edits: list[tuple[bool, int]]
) -> None:
    node = Node(places=replicas + spare, replicas=replicas, surge=surge)
    for sound, rounds in [*edits, (True, 60)]:
        node.newest, node.sound = node.newest + 1, sound
        for _ in range(rounds):
            serving = sum(one.ready for one in node.engines)
            node.step()
            assert sum(one.ready for one in node.engines) >= min(serving, replicas) - (1 - surge)
    stuck = [one for one in node.engines if one.placed and not one.ready and one.revision != node.newest]
    assert stuck == []
    if surge == 0 or spare:
        assert [(one.revision, one.ready) for one in node.engines] == [(node.newest, True)] * replicas


def test_a_desired_deployment_that_no_one_blocks_is_returned_as_it_is() -> None:
    desired = child_of(resource(), "Deployment")
    assert unblocked(desired, None, ()) is desired
