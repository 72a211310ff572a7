"""How the Deployment's controller is led through a rollout: which numbers it is given, and when. Pure.

The operator controls no ReplicaSet. It writes R (replicas), S (maxSurge), U (maxUnavailable) and `paused`, and knows
what the controller makes of them (kubernetes/pkg/controller/deployment of 1.37). T are the pods that its ReplicaSets
shall have together, N those of the newest one:

- `rolling.go` grows the newest one to min(R, N + R + S - T); takes from the older ones first what is not available, at
  most T - (R - U) - (N not available), then what is, as long as more than R - U are available.
- `scale` in `sync.go`, where R has changed, and at every look while it is paused: with one ReplicaSet that has pods, it
  gets R. With several, T - (R + S) pods go, from all of them by their size, of equals from the oldest: whichever serve.
  Three quick edits with R = 1, 2, 1 leave three ReplicaSets of one pod each; the oldest alone serves, and it pays.

So the numbers are, with F the fewest engines that `spec.rollout` lets serve (`minAvailable`, else R - 1):

    Surge     S = 1                 U = 0
    InPlace   S = 0                 U = R - F; where T > R, so that the next ones may have their places already, no more
                                    than R - (engines that serve) until one has waited for surgeTimeoutSeconds
    Recreate  the type of this name; with a minAvailable InPlace, which then takes all but F at once
    Auto      InPlace where two engines exclude each other, or where the additional one has found no node, or no quota
              of its queue, for surgeTimeoutSeconds although there would be one if an engine went; from then on until
              the rollout is through, or until it finds one after all. Else Surge.

and on top of any of them
    U >= R - (engines that serve)   where engines that do not serve hold what another revision waits for: they go
    S >= T - R                      where R is changed while there may be several ReplicaSets: `scale` takes none,
                                    and `rolling.go` does it, which takes first what does not serve
    S =  T - R                      while paused

What was written for a rollout stands until the controller has seen it: only then shows what follows from it.

Invariants, which tests hold over all orders of events of up to four engines:
1. The controller never takes an engine that serves while no more than R - U do; so with Surge, and in any change of R,
   no engine goes that serves and is needed, and with InPlace F of them stay.
2. A revision that fails stops there: as many engines of the one before go on as the strategy leaves.
3. A revision that is sound gets through, whatever failed before it, where there is room for R engines.
4. The numbers depend on what is seen alone, and once a rollout is through they are those of a Deployment at rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.names import QUEUE
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.planner.compare import holds
from vllm_operator.planner.places import a_place_would_help, quota_would_help, waits_for_devices
from vllm_operator.render.objects import hash_of, hashed
from vllm_operator.render.rollout import Strategy, expendable, fewest_available, manifest, resting_strategy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.spec.rollout import Rollout
    from vllm_operator.planner.rollout_seen import PodSeen, Seen

_NO_ROOM: Final = "no node had room for one engine more"
_NO_QUOTA: Final = "neither its queue nor a node had room for one engine more"


@dataclass(frozen=True, slots=True)
class DeploymentStrategy:
    """What goes into the Deployment, and why."""

    strategy: Strategy
    """The one in effect."""
    replicas: int
    max_surge: int = 0
    max_unavailable: int = 0
    """0 and 0 with Recreate, which has no numbers."""
    paused: bool = False
    reason: str = ""
    """Why this strategy, in words for people."""
    held: str = ""
    """Why nothing moves until somebody acts, and what to do; empty where something does."""
    wanting: str = ""
    """What the next engine waits for, and what would help it; empty where it waits for nothing."""
    look_again_at: datetime | None = None
    """When something will have changed that no watch reports."""


def is_through(deployment: LiveObject) -> bool:
    """Whether every engine that exists is of the newest template, as the Deployment's controller has seen it."""
    status = deployment.status
    seen = status.get("observedGeneration", 0) >= deployment.generation
    return bool(seen and status.get("replicas", 0) == status.get("updatedReplicas", 0))


def applied(desired: Mapping[str, Any], planned: DeploymentStrategy) -> Mapping[str, Any]:
    """The desired Deployment with these numbers."""
    numbers = manifest(planned.strategy, surge=planned.max_surge, unavailable=planned.max_unavailable)
    return _with(desired, replicas=planned.replicas, strategy=numbers, paused=planned.paused)


def is_as_written(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether a live Deployment is the desired one with numbers that it has been given by `applied`, and no others."""
    spec = live["spec"]
    written = _with(
        desired, replicas=spec.get("replicas"), strategy=spec.get("strategy"), paused=bool(spec.get("paused"))
    )
    return hash_of(live) == hash_of(written) and holds(live, written)


def _with(desired: Mapping[str, Any], *, replicas: Any, strategy: Any, paused: bool) -> Mapping[str, Any]:
    changed = {"replicas": replicas, "strategy": strategy, **({"paused": True} if paused else {})}
    if changed.items() <= desired["spec"].items():
        return desired
    return hashed({**desired, "spec": {**desired["spec"], **changed}})


def planned(
    desired: Mapping[str, Any], seen: Seen | None, wanted: Rollout, *, excluded: str, now: datetime
) -> DeploymentStrategy:
    """The numbers for a Deployment, of which nothing is seen before it is made.

    `excluded` says what keeps two engines apart; empty where nothing does.
    """
    replicas = int(desired["spec"]["replicas"])
    resting = resting_numbers(wanted, replicas, excluded)
    if seen is None:
        return resting
    if seen.at_rest and seen.replicas == replicas and not wanted.paused and not _may_be_held(resting):
        return resting
    changed = not holds(seen.spec.get("template", {}), desired["spec"]["template"])
    if not changed and _is_on_its_way(seen, replicas, paused=wanted.paused):
        return _as_written(resting, seen)
    chosen = resting if changed and not seen.in_place else _chosen(resting, seen, wanted, now)
    roomy = _with_room(chosen, seen, wanted, now)
    held = _held(roomy, seen) if changed or seen.rolling else roomy
    return _kept_whole(held, seen, paused=wanted.paused)


def resting_numbers(wanted: Rollout, replicas: int, excluded: str) -> DeploymentStrategy:
    """The numbers where no rollout is on its way; `excluded` says what keeps two engines apart."""
    strategy = resting_strategy(wanted, excluded)
    return DeploymentStrategy(
        strategy=strategy,
        replicas=replicas,
        max_surge=int(strategy is Strategy.SURGE),
        max_unavailable=expendable(strategy, wanted, replicas),
        reason=_why(strategy, wanted, excluded),
    )


def _why(strategy: Strategy, wanted: Rollout, excluded: str) -> str:
    if wanted.strategy == strategy:
        return "spec.rollout.strategy says so"
    if wanted.strategy == "Recreate":
        return "spec.rollout.minAvailable keeps some engines of a strategy that takes all"
    return f"two engines cannot be there at the same time: {excluded}" if excluded else "so far there is room for it"


def _is_on_its_way(seen: Seen, replicas: int, *, paused: bool) -> bool:
    """Whether what was written for this rollout has not been seen yet: what follows from it shows afterwards."""
    return seen.rolling and not seen.observed and seen.replicas == replicas and seen.paused == paused


def _as_written(resting: DeploymentStrategy, seen: Seen) -> DeploymentStrategy:
    strategy = Strategy.IN_PLACE if seen.in_place and resting.strategy is Strategy.SURGE else resting.strategy
    if seen.recreates:
        strategy = Strategy.RECREATE
    return replace(
        resting,
        strategy=strategy,
        max_surge=seen.surge,
        max_unavailable=seen.unavailable,
        paused=seen.paused,
        reason=_no_room(seen) if strategy is not resting.strategy else resting.reason,
    )


def _no_room(seen: Seen) -> str:
    """Why a rollout goes on in place, in words for people."""
    return _NO_QUOTA if QUEUE in (seen.deployment["metadata"].get("labels") or {}) else _NO_ROOM


def _chosen(resting: DeploymentStrategy, seen: Seen, wanted: Rollout, now: datetime) -> DeploymentStrategy:
    """The strategy of the rollout on its way: what has shown that there is no room decides."""
    if resting.strategy is not Strategy.SURGE:
        return resting
    in_place = replace(
        resting,
        strategy=Strategy.IN_PLACE,
        max_surge=0,
        max_unavailable=expendable(Strategy.IN_PLACE, wanted, resting.replicas),
        reason=_no_room(seen),
    )
    may_go = wanted.strategy == "Auto" and in_place.max_unavailable > 0
    if may_go and seen.in_place and not seen.paused:  # the numbers of a paused Deployment say nothing of places
        return in_place
    shortage = _shortage(seen)
    if shortage is None:
        return resting
    due = shortage.since + timedelta(seconds=wanted.surge_timeout_seconds)
    if now < due:
        return replace(resting, look_again_at=due)
    if may_go and shortage.a_place_would_help:
        return in_place
    return replace(resting, wanting=_advice(wanted, shortage))


@dataclass(frozen=True, slots=True)
class _Shortage:
    """The additional engine of a rollout has no place."""

    since: datetime
    a_place_would_help: bool
    queued: bool
    """Whether it is a queue that holds it back."""


def _shortage(seen: Seen) -> _Shortage | None:
    """What the newest engines wait for; None where they do not, or places become free by themselves.

    An engine that has just become ready lets an older one go, which may take its time to end; and where one has gone,
    the scheduler takes its time to see it.
    """
    if not (seen.rolling and seen.observed):
        return None
    newest = [pod for pod in seen.pods if pod.revision == seen.newest]
    waiting = [(pod.waits_since, pod) for pod in newest if pod.waits_since]
    full_since = seen.quota_full_since
    times = [*(since for since, _ in waiting), *([full_since] if full_since else [])]
    if not times:
        return None
    grace = timedelta(seconds=seen.spec["template"]["spec"].get("terminationGracePeriodSeconds", 30))
    relieved = [pod.ready_since + grace for pod in newest if pod.ready_since]
    helps = bool(full_since) or any(_would_help(pod) for _, pod in waiting) or _devices_would_help(seen)
    moved = [seen.moved_at] if seen.moved_at else []
    queued = any(pod.queued for _, pod in waiting)
    return _Shortage(max([min(times), *relieved, *seen.places_free_by, *moved]), helps, queued)


def _would_help(pod: PodSeen) -> bool:
    return quota_would_help(pod.waits_for) if pod.queued else a_place_would_help(pod.waits_for)


def _devices_would_help(seen: Seen) -> bool:
    """Whether a new engine waits for devices such as an older one holds: for claims of the very same templates."""
    held = {pod.device_templates for pod in seen.pods if pod.placed and pod.revision != seen.newest}
    waiting = (pod for pod in seen.pods if pod.revision == seen.newest and pod.waits_since)
    return any(waits_for_devices(pod.waits_for) and pod.device_templates in held for pod in waiting)


def _advice(wanted: Rollout, shortage: _Shortage) -> str:
    if shortage.queued and not shortage.a_place_would_help:
        return (
            "nothing says that the queue would admit the new engine if an old one went, so none goes: see what the "
            "queue says, or change what the engine asks for"
        )
    if not shortage.a_place_would_help:
        return (
            "the new engine would find no node if an old one went, so none goes: change what it asks for, or add a "
            "node for it"
        )
    if wanted.strategy == "Surge":
        return (
            "spec.rollout.strategy Surge needs room for one engine more: make some, or set Auto or InPlace, with which "
            "an old engine goes first"
        )
    return (
        "spec.rollout.minAvailable lets no engine go, so there has to be room for one more: make some, or lower "
        "minAvailable"
    )


def _with_room(planned: DeploymentStrategy, seen: Seen, wanted: Rollout, now: datetime) -> DeploymentStrategy:
    """U such that no engine that does not serve is in the way, and no more that serve go than have to."""
    if planned.strategy is Strategy.RECREATE or not planned.replicas:
        return planned
    idle = max(planned.replicas - seen.serving, 0)
    if seen.rolling and _blocked(seen):
        return replace(planned, max_unavailable=max(planned.max_unavailable, idle))
    if planned.strategy is Strategy.SURGE:
        return planned
    all_stay = fewest_available(wanted, planned.replicas) >= planned.replicas
    if not (seen.rolling and seen.total > planned.replicas):
        return replace(planned, max_unavailable=idle) if all_stay else planned
    shortage = _shortage(seen)  # more exist than are wanted: the next ones may get their places without anybody's going
    due = shortage.since + timedelta(seconds=wanted.surge_timeout_seconds) if shortage else None
    if shortage is None or due is None or now < due:
        return replace(planned, max_unavailable=idle, look_again_at=due)
    return replace(planned, max_unavailable=idle, wanting=_advice(wanted, shortage)) if all_stay else planned


def _blocked(seen: Seen) -> bool:
    """Whether engines that do not serve hold what a pod of another revision waits for: a place, or the quota.

    One that has served and is withdrawn for a moment may come back, and the controller knows no difference between it
    and one that crashes: as long as there is one, everything stays.
    """
    if any(pod.state is EngineState.WITHDRAWN for pod in seen.pods):
        return False
    holders = {pod.revision for pod in seen.pods if pod.placed and not pod.serves}
    if holders and seen.pods_refused:
        return True
    waiting = {pod.revision for pod in seen.pods if pod.waits_since}
    return any(one != other for one in waiting for other in holders)


def _may_be_held(planned: DeploymentStrategy) -> bool:
    """Whether nothing may be added and nothing taken away."""
    return planned.strategy is Strategy.IN_PLACE and planned.replicas > 0 and planned.max_unavailable == 0


def _held(planned: DeploymentStrategy, seen: Seen) -> DeploymentStrategy:
    """A rollout in place that may take no engine away cannot begin."""
    if not _may_be_held(planned) or seen.total > planned.replicas or not seen.status.get("observedGeneration"):
        return planned
    return replace(
        planned,
        paused=True,
        held="spec.rollout.minAvailable lets no engine go, and in place one has to go first: lower minAvailable, raise "
        "spec.replicas, or set the strategy to Surge",
    )


def _kept_whole(planned: DeploymentStrategy, seen: Seen, *, paused: bool) -> DeploymentStrategy:
    """S such that `scale` takes away no engine that serves: `rolling.go` does it then, and looks at who serves."""
    created = bool(seen.status.get("observedGeneration"))  # before that, nothing would be made at all
    planned = replace(planned, paused=planned.paused or (paused and created))
    if seen.single or not planned.replicas:
        return planned
    changes = planned.replicas != seen.replicas
    if planned.strategy is Strategy.RECREATE:
        return _recreated(planned, seen) if changes or not seen.observed else planned
    surplus = max(seen.most - planned.replicas, 0)
    if planned.paused:
        some = planned.max_unavailable or int(not surplus)  # no engine is taken by it while paused
        return replace(planned, max_surge=surplus, max_unavailable=some)
    if changes:
        return replace(planned, max_surge=max(planned.max_surge, surplus))
    return planned if seen.observed else replace(planned, max_surge=max(planned.max_surge, seen.surge))


def _recreated(planned: DeploymentStrategy, seen: Seen) -> DeploymentStrategy:
    """Recreate knows no `scale` of several ReplicaSets, and would wait for it for ever: R changes when one is left."""
    if seen.observed:
        return replace(planned, replicas=seen.replicas)
    surplus = max(seen.most - planned.replicas, 0)
    return replace(planned, strategy=Strategy.SURGE, max_surge=max(1, surplus), max_unavailable=0)
