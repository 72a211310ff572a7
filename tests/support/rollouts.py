"""A Deployment, its controllers and a node with places for its pods, as a machine whose every event can be taken.

The arithmetic is that of Kubernetes 1.37: pkg/controller/deployment (rolling.go, recreate.go, `scale` in sync.go,
`GetReplicaSetProportion` in util/deployment_util.go) and the order in which pkg/controller/replicaset deletes pods.
What it leaves out: the lag between the pods and the status of their ReplicaSet.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vllm_operator.api.spec.rollout import Rollout
from vllm_operator.diagnosis.engines import reports
from vllm_operator.planner.rollout import DeploymentStrategy, applied, planned
from vllm_operator.planner.rollout_seen import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
NO_ROOM = (
    "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No preemption "
    "victims found for incoming pod."
)

# states of a pod, in the order in which its ReplicaSet deletes them
NEW, WAITS, WAITED, LOADS, FAILS, SERVES, LEAVES = "new", "waits", "waited", "loads", "fails", "serves", "leaves"
_DELETED_FIRST = (NEW, WAITS, WAITED, LOADS, FAILS, SERVES)
_PLACELESS = (NEW, WAITS, WAITED)


@dataclass(frozen=True, order=True)
class Pod:
    """One pod."""

    template: int
    state: str


@dataclass(frozen=True)
class ReplicaSet:
    """One ReplicaSet; those that were made first stand first."""

    template: int
    size: int
    desired: int
    most: int
    """Its annotations: replicas, and replicas + maxSurge, when it was last scaled."""


@dataclass(frozen=True)
class Wanted:
    """What the user wants."""

    template: int = 0
    replicas: int = 1
    sound: bool = True
    """Whether engines of this template can serve."""


@dataclass(frozen=True)
class Numbers:
    """The Deployment's spec."""

    template: int
    replicas: int
    surge: int
    unavailable: int
    type: str = "RollingUpdate"
    paused: bool = False


@dataclass(frozen=True)
class Status:
    """The Deployment's status, as its controller wrote it last."""

    observed: bool = False
    replicas: int = 0
    updated: int = 0
    ready: int = 0
    unavailable: int = 0
    newest: int = 0


@dataclass(frozen=True)
class World:
    """Everything, at one moment."""

    places: int
    rollout: Rollout
    wanted: Wanted
    edits: tuple[Wanted, ...]
    """What the user will want, one after the other."""
    numbers: Numbers
    status: Status
    sets: tuple[ReplicaSet, ...]
    pods: tuple[Pod, ...]
    unsound: frozenset[int] = frozenset()
    excluded: str = ""
    seen_serving: int = 0
    """How many engines the operator has seen serve when it last looked."""
    fewest: int = 0
    """The smallest number of replicas that is ever wanted."""

    __hash__ = None  # type: ignore[assignment] # `key` stands for it

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells worlds apart."""
        rest = (self.unsound, self.excluded, self.seen_serving)
        return (self.places, self.wanted, self.edits, self.numbers, self.status, self.sets, self.pods, *rest)

    @property
    def serving(self) -> int:
        """How many engines serve."""
        return sum(pod.state == SERVES for pod in self.pods)

    @property
    def through(self) -> bool:
        """Whether all wanted engines serve, and there are no others."""
        want = (Pod(self.wanted.template, SERVES),) * self.wanted.replicas
        return self.pods == want and not self.edits


def at_rest(
    places: int, replicas: int, edits: tuple[Wanted, ...], *, excluded: str = "", sound: bool = True, **rollout: Any
) -> World:
    """A Deployment all of whose engines serve (or fail), and what the user will want of it."""
    wanted, settings = Wanted(0, replicas, sound), Rollout.model_validate(rollout)
    state = SERVES if sound else FAILS
    resting = Numbers(0, replicas, 1, 0)
    pods = tuple(Pod(0, state if place < places else WAITED) for place in range(replicas))
    sets = (ReplicaSet(0, replicas, replicas, replicas + 1),)
    unsound = frozenset(one.template for one in (wanted, *edits) if not one.sound)
    fewest = min(one.replicas for one in (wanted, *edits))
    world = World(
        places=places,
        rollout=settings,
        wanted=wanted,
        edits=edits,
        numbers=resting,
        status=Status(),
        sets=sets,
        pods=tuple(sorted(pods)),
        unsound=unsound,
        excluded=excluded,
        fewest=fewest,
    )
    return settled(world)


# --- what the operator does


def look(world: World) -> World:
    """The operator looks, and writes what it finds right."""
    decided = decision(world)
    desired = {"spec": {"replicas": world.wanted.replicas, "template": _template(world.wanted.template)}}
    spec = applied({**desired, "metadata": {"name": "qwen"}}, decided)["spec"]
    rolling = spec["strategy"].get("rollingUpdate", {})
    numbers = Numbers(
        world.wanted.template,
        spec["replicas"],
        rolling.get("maxSurge", 0),
        rolling.get("maxUnavailable", 0),
        spec["strategy"]["type"],
        spec.get("paused", False),
    )
    seen = replace(world, seen_serving=world.serving)
    if numbers == world.numbers:
        return seen
    return replace(seen, numbers=numbers, status=replace(world.status, observed=False))


def decision(world: World) -> DeploymentStrategy:
    """What the planner says."""
    user = (world.rollout.model_dump_json(), world.wanted, world.excluded)
    return _decision(user, world.numbers, world.status, world.pods)


@functools.cache
def _decision(
    user: tuple[str, Wanted, str], numbers: Numbers, status: Status, pods: tuple[Pod, ...]
) -> DeploymentStrategy:
    rollout, wanted, excluded = user
    bodies = [_body(number, pod) for number, pod in enumerate(pods)]
    seen = Seen.of(_deployment(numbers, status), bodies, reports(bodies, now=NOW))
    desired = {"spec": {"replicas": wanted.replicas, "template": _template(wanted.template)}}
    return planned(desired, seen, Rollout.model_validate_json(rollout), excluded=excluded, now=NOW)


def _template(number: int) -> dict[str, Any]:
    return {"metadata": {"labels": {"template": str(number)}}, "spec": {"terminationGracePeriodSeconds": 45}}


def _deployment(numbers: Numbers, status: Status) -> dict[str, Any]:
    rolling = {"maxSurge": numbers.surge, "maxUnavailable": numbers.unavailable}
    strategy = {"type": numbers.type, **({"rollingUpdate": rolling} if numbers.type == "RollingUpdate" else {})}
    spec = {"replicas": numbers.replicas, "strategy": strategy, "template": _template(numbers.template)}
    counts = {
        "replicas": status.replicas,
        "updatedReplicas": status.updated,
        "readyReplicas": status.ready,
        "availableReplicas": status.ready,
        "unavailableReplicas": status.unavailable,
    }
    named = {"type": "Progressing", "status": "True", "message": f'ReplicaSet "qwen-{status.newest}" is progressing.'}
    return {
        "metadata": {"name": "qwen", "generation": 2},
        "spec": {**spec, **({"paused": True} if numbers.paused else {})},
        "status": {"observedGeneration": 2 if status.observed else 1, "conditions": [named], **counts},
    }


def _body(number: int, pod: Pod) -> dict[str, Any]:
    """The pod as the API server has it."""
    waited = timedelta(seconds=100 if pod.state == WAITED else 10)
    long_ago = "2026-11-22T10:00:00Z"
    scheduled: dict[str, Any] = {"type": "PodScheduled", "status": "True", "lastTransitionTime": long_ago}
    if pod.state in (WAITS, WAITED):
        since = (NOW - waited).strftime("%Y-%m-%dT%H:%M:%SZ")
        scheduled |= {"status": "False", "reason": "Unschedulable", "message": NO_ROOM, "lastTransitionTime": since}
    ready = {"type": "Ready", "status": str(pod.state == SERVES), "lastTransitionTime": long_ago}
    containers: dict[str, dict[str, Any]] = {
        LOADS: {"state": {"running": {"startedAt": "2026-11-22T11:00:00Z"}}},
        FAILS: {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 2}}},
        SERVES: {"state": {"running": {"startedAt": long_ago}}, "started": True, "ready": True},
    }
    container = containers.get(pod.state)
    metadata: dict[str, Any] = {
        "name": f"qwen-{number}",
        "uid": f"{number}",
        "labels": {"pod-template-hash": str(pod.template)},
        "creationTimestamp": f"2026-11-22T11:00:{pod.template:02}Z",
    }
    if pod.state == LEAVES:
        metadata["deletionTimestamp"] = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": metadata,
        "status": {
            "conditions": [ready] if pod.state == NEW else [scheduled, ready],
            "containerStatuses": [{"name": "vllm", "restartCount": 0, **container}] if container else [],
        },
    }


# --- what the Deployment's controller does


def sync(world: World) -> World:
    """One look of the Deployment's controller; its status tells of the ReplicaSets as they were before."""
    numbers = world.numbers
    if numbers.paused or any(one.size and one.desired != numbers.replicas for one in world.sets):
        after = _scaled(world)
    elif numbers.type == "Recreate":
        after = _recreated(world)
    else:
        after = _rolled(world)
    live = [pod for pod in world.pods if pod.state != LEAVES]
    updated = sum(pod.template == numbers.template for pod in live)
    total = sum(one.size for one in after.sets)
    status = Status(
        observed=True,
        replicas=len(live),
        updated=updated,
        ready=world.serving,
        unavailable=max(total - world.serving, 0),
        newest=numbers.template,
    )
    return replace(after, status=status)


def _available(world: World, template: int) -> int:
    return sum(pod == Pod(template, SERVES) for pod in world.pods)


def _resized(world: World, sizes: dict[int, int], *, forced: bool = False) -> World:
    """`scaleReplicaSet` of each; the annotations are written with the size, or where it is forced."""
    numbers, sets = world.numbers, []
    for one in world.sets:
        size = sizes.get(one.template, one.size)
        if size != one.size or (forced and one.template in sizes):
            sets.append(ReplicaSet(one.template, size, numbers.replicas, numbers.replicas + numbers.surge))
        else:
            sets.append(one)
    return replace(world, sets=tuple(sets))


def _scaled(world: World) -> World:
    """`scale` in sync.go."""
    numbers = world.numbers
    active = [one for one in world.sets if one.size]
    newest = next((one for one in world.sets if one.template == numbers.template), None)
    if len(active) <= 1:
        only = active[0] if active else newest or (world.sets[-1] if world.sets else None)
        return _resized(world, {only.template: numbers.replicas}) if only else world
    saturated = newest is not None and newest.size == newest.desired == numbers.replicas == _available(
        world, newest.template
    )
    if saturated:
        return _resized(world, {one.template: 0 for one in active if one is not newest})
    if numbers.type != "RollingUpdate":
        return world
    return _resized(world, _proportions(world, active), forced=True)


def _proportions(world: World, active: list[ReplicaSet]) -> dict[int, int]:
    numbers, age = world.numbers, {one.template: place for place, one in enumerate(world.sets)}
    allowed = numbers.replicas + numbers.surge if numbers.replicas else 0
    to_add = allowed - sum(one.size for one in active)
    newer_first = -1 if to_add > 0 else 1
    active = sorted(active, key=lambda one: (-one.size, newer_first * age[one.template]))
    sizes, added = {one.template: one.size for one in active}, 0
    for one in active:
        if to_add in (0, added):
            continue
        fraction = -one.size
        if numbers.replicas:
            exact = one.size * (numbers.replicas + numbers.surge) / one.most
            fraction = math.floor(exact + 0.5) - one.size
        rest = to_add - added
        share = min(fraction, rest) if to_add > 0 else max(fraction, rest)
        sizes[one.template] += share
        added += share
    largest = active[0].template
    sizes[largest] = max(sizes[largest] + to_add - added, 0)
    return sizes


def _rolled(world: World) -> World:
    """`rolloutRolling`: make the newest ReplicaSet, or scale it, or scale the older ones."""
    numbers = world.numbers
    total = sum(one.size for one in world.sets)
    newest = next((one for one in world.sets if one.template == numbers.template), None)
    before = newest.size if newest else 0
    grown = before
    if before > numbers.replicas:
        grown = numbers.replicas
    elif before < numbers.replicas:
        grown = before + max(min(numbers.replicas + numbers.surge - total, numbers.replicas - before), 0)
    if newest is None:
        most = numbers.replicas + numbers.surge
        world = replace(world, sets=(*world.sets, ReplicaSet(numbers.template, grown, numbers.replicas, most)))
    elif grown != before:
        return _resized(world, {numbers.template: grown})
    return _cleaned(world)


def _cleaned(world: World) -> World:
    """`reconcileOldReplicaSets`."""
    numbers = world.numbers
    least = numbers.replicas - min(numbers.unavailable or int(not numbers.surge), numbers.replicas)
    newest = next(one for one in world.sets if one.template == numbers.template)
    sizes = {one.template: one.size for one in world.sets if one is not newest and one.size}
    total = sum(one.size for one in world.sets)
    room = total - least - (newest.size - _available(world, newest.template))
    if room <= 0 or not sizes:
        return world
    for template, size in sizes.items():
        idle = min(room, size - _available(world, template))
        if room and idle < 0:
            return world  # "got invalid request to scale down": a ReplicaSet has pods that it shall not have any more
        sizes[template], room = size - idle, room - idle
    spare = sum(_available(world, template) for template in (*sizes, newest.template)) - least
    for template, size in sizes.items():
        taken = min(max(spare, 0), size)
        sizes[template], spare = size - taken, spare - taken
    return _resized(world, sizes)


def _recreated(world: World) -> World:
    numbers = world.numbers
    old = {one.template: 0 for one in world.sets if one.template != numbers.template and one.size}
    if old:
        return _resized(world, old)
    if any(pod.template != numbers.template for pod in world.pods):
        return world
    if any(one.template == numbers.template for one in world.sets):
        return _resized(world, {numbers.template: numbers.replicas})
    made = ReplicaSet(numbers.template, numbers.replicas, numbers.replicas, numbers.replicas)
    return replace(world, sets=(*world.sets, made))


# --- what happens to pods


def make_and_delete(world: World) -> World:
    """What the controllers of the ReplicaSets do."""
    pods = list(world.pods)
    for one in world.sets:
        own = [pod for pod in pods if pod.template == one.template and pod.state != LEAVES]
        pods += [Pod(one.template, NEW)] * (one.size - len(own))
        for pod in sorted(own, key=lambda pod: _DELETED_FIRST.index(pod.state))[: max(len(own) - one.size, 0)]:
            pods.remove(pod)
            if pod.state not in _PLACELESS:
                pods.append(Pod(pod.template, LEAVES))
    return replace(world, pods=tuple(sorted(pods)))


def free(world: World) -> int:
    """Places that no pod holds."""
    return world.places - sum(pod.state not in _PLACELESS for pod in world.pods)


def schedule(world: World) -> Iterator[World]:
    """A pod gets a place; where there is none, the scheduler says so of all."""
    waiting = {pod for pod in world.pods if pod.state in _PLACELESS}
    if free(world) > 0:
        for pod in waiting:
            yield _turned(world, pod, LOADS)
    elif any(pod.state == NEW for pod in waiting):
        pods = (replace(pod, state=WAITS) if pod.state == NEW else pod for pod in world.pods)
        yield replace(world, pods=tuple(sorted(pods)))


def get_on(world: World) -> Iterator[World]:
    """An engine has loaded or has failed, or is gone."""
    for pod in set(world.pods):
        if pod.state == LOADS:
            yield _turned(world, pod, FAILS if pod.template in world.unsound else SERVES)
        if pod.state == LEAVES:
            pods = [replace(one, state=WAITS) if one.state == WAITED else one for one in world.pods]
            pods.remove(pod)  # and those that wait have to do so anew, before that counts
            yield replace(world, pods=tuple(sorted(pods)))


def pass_time(world: World) -> Iterator[World]:
    """SurgeTimeoutSeconds are over, and nothing else has happened: a scheduler is quicker than that."""
    waits = any(pod.state == WAITS for pod in world.pods)
    if waits and free(world) <= 0 and not any(pod.state in (LEAVES, NEW) for pod in world.pods):
        pods = (replace(pod, state=WAITED) if pod.state == WAITS else pod for pod in world.pods)
        yield replace(world, pods=tuple(sorted(pods)))


def edit(world: World) -> Iterator[World]:
    """The user wants something else."""
    if world.edits:
        yield replace(world, wanted=world.edits[0], edits=world.edits[1:])


def _turned(world: World, pod: Pod, state: str) -> World:
    pods = list(world.pods)
    pods[pods.index(pod)] = replace(pod, state=state)
    return replace(world, pods=tuple(sorted(pods)))


# --- how it goes on

CONTROLLERS: tuple[Callable[[World], World], ...] = (look, sync, make_and_delete)
EVENTS: tuple[Callable[[World], Iterator[World]], ...] = (schedule, get_on, pass_time, edit)


def settled(world: World) -> World:
    """The world once the operator and the controllers have nothing left to do."""
    for _ in range(100):
        before = world.key
        for step in CONTROLLERS:
            world = step(world)
        if world.key == before:
            return world
    raise AssertionError(f"it never rests: {world}")


def unsettled(world: World) -> Iterator[World]:
    """Each single step of the operator and the controllers that changes something."""
    for step in CONTROLLERS:
        after = step(world)
        if after.key != world.key:
            yield after


def happenings(world: World) -> Iterator[World]:
    """Each event that the operator has no hand in."""
    for event in EVENTS:
        yield from event(world)
