"""The numbers by which a rollout is led, state by state, and what is told of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.resources import NOW, as_desired, condition, live, observation, pod, resource
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import DESIRED_HASH
from vllm_operator.api.spec.rollout import Rollout
from vllm_operator.diagnosis.engines import reports
from vllm_operator.diagnosis.queues import Admission
from vllm_operator.planner.decide import decide
from vllm_operator.planner.rollout import DeploymentStrategy, applied, planned
from vllm_operator.planner.rollout_seen import Seen

if TYPE_CHECKING:
    from vllm_operator.diagnosis.facts import Finding

SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-22T10:00:00Z"}
NO_VICTIMS = (
    "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 Insufficient nvidia.com/gpu. preemption: 0/2 nodes "
    "are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
)
TOO_LARGE = (
    "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 Preemption is not "
    "helpful for scheduling."
)
CRASH = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 2}}}
LOADING = {"state": {"running": {"startedAt": "2026-11-22T11:00:00Z"}}}
HUNG = {"state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}, "started": True}
REFUSED = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "admission webhook denied"}
QUOTA = {
    **REFUSED,
    "message": 'pods "qwen-x" is forbidden: exceeded quota: gpus, requested: nvidia.com/gpu=1, used: 2, limited: 2',
    "lastTransitionTime": "2026-11-22T11:58:00Z",
}


def unscheduled(seconds: int = 10, message: str = NO_VICTIMS, reason: str = "Unschedulable") -> dict[str, Any]:
    """The condition of a pod that has found no node for so long."""
    since = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return {**told, "lastTransitionTime": since}


def engine(revision: str, state: str, number: int = 1, **scheduled: Any) -> dict[str, Any]:
    """A pod of a revision: serving, crashing, loading, hung or pending."""
    containers: dict[str, dict[str, Any]] = {"crashing": CRASH, "loading": LOADING, "hung": HUNG}
    place = unscheduled(**scheduled) if state == "pending" else SCHEDULED
    container = {} if state == "pending" else containers.get(state)
    found = pod(f"{revision}-{number}", ready=state == "serving", container=container, conditions=(place,))
    found["metadata"]["labels"]["pod-template-hash"] = revision
    found["metadata"]["creationTimestamp"] = f"2026-11-22T11:{59 if revision == 'new' else 10}:00Z"
    return found


def engines(found: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Their pods."""
    return [engine(revision, state, number) for number, (revision, state) in enumerate(found)]


def status_of(*pods: dict[str, Any], newest: str = "new", total: int | None = None, **status: Any) -> dict[str, Any]:
    """Status of a Deployment of these pods, whose controller has seen all."""
    updated = [one for one in pods if one["metadata"]["labels"]["pod-template-hash"] == newest]
    serving = [one for one in pods if one["status"]["conditions"][-1]["status"] == "True"]
    counts = {"replicas": len(pods), "updatedReplicas": len(updated), "readyReplicas": len(serving)}
    idle = (len(pods) if total is None else total) - len(serving)
    counts |= {"availableReplicas": len(serving), "unavailableReplicas": idle}
    return {"observedGeneration": 9, **{key: count for key, count in counts.items() if count}, **status}


def numbers(
    replicas: int,
    *pods: dict[str, Any],
    was: int | None = None,
    live_surge: int = 1,
    live_unavailable: int = 0,
    excluded: str = "",
    changed: bool = False,
    paused: bool = False,
    rollout: dict[str, Any] | None = None,
    findings: dict[str, Finding | None] | None = None,
    **status: Any,
) -> DeploymentStrategy:
    """What the planner says of a Deployment with these pods, which had `was` replicas."""
    rolling = {"maxSurge": live_surge, "maxUnavailable": live_unavailable}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"terminationGracePeriodSeconds": 45}}
    spec = {"replicas": replicas if was is None else was, "template": template, "paused": paused}
    spec |= {"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}
    deployment = {"metadata": {"name": "qwen", "generation": 9}, "spec": spec, "status": status_of(*pods, **status)}
    wanted = {**template, "metadata": {"labels": {"a": "c"}}} if changed else template
    return planned(
        {"spec": {"replicas": replicas, "template": wanted}},
        Seen.of(deployment, pods, reports(pods, findings, now=NOW)),
        Rollout.model_validate(rollout or {}),
        excluded=excluded,
        now=NOW,
    )


# --- engines that do not serve and hold what others wait for

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


@pytest.mark.parametrize(("replicas", "found", "expendable"), BLOCKED)
def test_as_many_may_go_as_do_not_serve_where_they_keep_out_the_next_revision(
    replicas: int, found: list[tuple[str, str]], expendable: int
) -> None:
    assert numbers(replicas, *engines(found)).max_unavailable == expendable


@pytest.mark.parametrize(("replicas", "found"), FREE)
def test_nothing_is_given_up_where_nothing_waits_for_it(replicas: int, found: list[tuple[str, str]]) -> None:
    decided = numbers(replicas, *engines(found))
    assert (decided.max_surge, decided.max_unavailable) == (1, 0)


def test_pods_that_a_quota_refuses_wait_too() -> None:
    crashing = engine("old", "crashing")
    assert numbers(1, crashing, conditions=[REFUSED]).max_unavailable == 1
    assert numbers(1, crashing, newest="old", conditions=[REFUSED]).max_unavailable == 0


def test_what_is_on_its_way_out_or_has_ended_holds_nothing() -> None:
    old, new = engine("old", "crashing"), engine("new", "pending")
    old["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    assert numbers(1, old, new).max_unavailable == 0
    evicted = engine("old", "crashing")
    evicted["status"]["phase"] = "Failed"
    assert numbers(1, evicted, new).max_unavailable == 0


# --- Auto: where there is no room for one more

OLD, NEW = engine("old", "serving"), engine("new", "pending", seconds=61)


def test_auto_replaces_in_place_once_the_additional_engine_has_waited_long_enough() -> None:
    early = numbers(1, OLD, engine("new", "pending", seconds=59))
    assert (early.strategy, early.max_surge, early.max_unavailable) == ("Surge", 1, 0)
    assert early.look_again_at == NOW + timedelta(seconds=1)
    late = numbers(1, OLD, NEW)
    assert (late.strategy, late.max_surge, late.max_unavailable) == ("InPlace", 0, 1)
    assert late.look_again_at is None
    assert numbers(1, OLD, NEW, rollout={"surgeTimeoutSeconds": 90}).strategy == "Surge"


def test_it_goes_on_in_place_until_the_rollout_is_through() -> None:
    others = (engine("old", "serving", 2), engine("new", "loading"))
    assert numbers(2, *others, live_surge=0, live_unavailable=1).strategy == "InPlace"
    through = (engine("new", "serving"), engine("new", "serving", 2))
    assert numbers(2, *through, live_surge=0, live_unavailable=1).strategy == "Surge"


@pytest.mark.parametrize(
    "waiting",
    [
        {"message": TOO_LARGE},
        {"message": "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."},
        {"message": ""},
        {"reason": "SchedulingGated"},
        {"reason": "SchedulerError"},
    ],
)
def test_no_engine_is_given_up_for_one_that_could_not_start_either(waiting: dict[str, Any]) -> None:
    decided = numbers(1, OLD, engine("new", "pending", seconds=600, **waiting))
    assert (decided.strategy, decided.max_surge, decided.max_unavailable) == ("Surge", 1, 0)


USED_UP = "insufficient unused quota for nvidia.com/gpu in flavor %s, 1 more needed"
NEVER = "insufficient quota for nvidia.com/gpu in flavor %s, previously considered ... > maximum capacity (1)"


def in_queue(revision: str, seconds: int, words: str | None) -> tuple[dict[str, Any], dict[str, Finding | None]]:
    """A pod that a queue holds back for so long, and what was looked up of it; None where nobody has looked."""
    found = engine(revision, "pending", seconds=seconds, reason="SchedulingGated")
    found["spec"] = {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}
    return found, {} if words is None else {found["metadata"]["uid"]: Admission(words)}


@pytest.mark.parametrize(
    ("seconds", "words", "strategy", "wanting"),
    [
        (61, f"couldn't assign flavors: {USED_UP % 'a100'}", "InPlace", ""),
        (59, f"couldn't assign flavors: {USED_UP % 'a100'}", "Surge", ""),
        (61, f"couldn't assign flavors: {NEVER % 'small'}, {USED_UP % 'a100'}", "InPlace", ""),
        (61, f"{USED_UP.replace('nvidia.com/gpu', 'cpu') % 'a100'}, {NEVER % 'a100'}", "Surge", "so none goes"),
        (61, "LocalQueue gpus doesn't exist", "Surge", "so none goes"),
        (61, "", "Surge", "so none goes"),
        (61, None, "Surge", ""),
    ],
)
def test_auto_replaces_in_place_where_its_queue_would_admit_the_new_engine_then(
    seconds: int, words: str | None, strategy: str, wanting: str
) -> None:
    new, findings = in_queue("new", seconds, words)
    decided = numbers(1, OLD, new, findings=findings)
    assert decided.strategy == strategy
    assert wanting in decided.wanting
    assert bool(wanting) == bool(decided.wanting)


def test_an_engine_that_does_not_serve_goes_for_one_that_its_queue_holds_back() -> None:
    new, findings = in_queue("new", 5, USED_UP % "a100")
    assert numbers(1, engine("old", "crashing"), new, findings=findings).max_unavailable == 1


@pytest.mark.parametrize(
    "message",
    [
        NO_VICTIMS,
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
        "0/1 nodes are available: 1 Too many pods. preemption: not eligible due to preemptionPolicy=Never.",
    ],
)
def test_the_schedulers_words_say_whether_a_place_would_help(message: str) -> None:
    assert numbers(1, OLD, engine("new", "pending", seconds=61, message=message)).strategy == "InPlace"


NO_DEVICES = (
    "0/1 nodes are available: 1 cannot allocate all claims. preemption: 0/1 nodes are available: 1 Preemption is not "
    "helpful for scheduling."
)


@pytest.mark.parametrize(("template", "strategy"), [("two-gpus", "InPlace"), ("four-gpus", "Surge")])
def test_an_engine_that_waits_for_devices_such_as_an_older_one_holds_gets_those(template: str, strategy: str) -> None:
    old, new = engine("old", "serving"), engine("new", "pending", seconds=61, message=NO_DEVICES)
    old.setdefault("spec", {})["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": "two-gpus"}]
    new.setdefault("spec", {})["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": template}]
    assert numbers(1, old, new).strategy == strategy


def test_a_quota_without_room_counts_as_a_node_without_room_and_a_refusal_by_others_does_not() -> None:
    assert numbers(1, OLD, total=2, conditions=[QUOTA]).strategy == "InPlace"
    assert numbers(1, OLD, total=2, conditions=[{**QUOTA, **REFUSED}]).strategy == "Surge"


def test_a_place_that_becomes_free_by_itself_is_waited_for() -> None:
    leaving = engine("old", "serving", 2)
    leaving["metadata"]["deletionTimestamp"] = (NOW + timedelta(seconds=20)).strftime("%Y-%m-%dT%H:%M:%SZ")
    decided = numbers(2, OLD, engine("new", "serving", 2), NEW, leaving)
    assert decided.strategy == "Surge"
    assert decided.look_again_at == NOW + timedelta(seconds=80)


def test_an_engine_that_has_just_become_ready_lets_another_go_first() -> None:
    just = engine("new", "serving", 2)
    just["status"]["conditions"][-1]["lastTransitionTime"] = "2026-11-22T11:59:50Z"
    decided = numbers(2, OLD, just, NEW)
    assert decided.strategy == "Surge"
    assert decided.look_again_at == NOW + timedelta(seconds=-10 + 45 + 60)


def test_a_pod_of_another_revision_that_waits_says_nothing_of_the_newest_one() -> None:
    waiting, loading = engine("old", "pending", 2, seconds=600), engine("new", "loading")
    assert numbers(2, OLD, waiting, loading).strategy == "Surge"


def test_what_a_template_waited_for_says_nothing_of_the_one_that_replaces_it() -> None:
    assert numbers(1, OLD, NEW, changed=True).strategy == "Surge"


def test_the_newest_revision_is_told_by_its_number_of_pods_and_in_doubt_by_the_controllers_words() -> None:
    undone = engine("old", "pending", 2, seconds=61)
    failed = engine("new", "loading")
    named = {"type": "Progressing", "status": "True", "message": 'ReplicaSet "qwen-old" is progressing.'}
    told = numbers(2, OLD, undone, failed, newest="old", conditions=[named])
    assert told.max_unavailable == 1, "the failed one is in the way"
    named = {**named, "message": 'ReplicaSet "qwen-new" is progressing.'}
    one_each = numbers(1, OLD, NEW, conditions=[named])
    assert one_each.strategy == "InPlace"


# --- what else the spec says


@pytest.mark.parametrize(
    ("rollout", "excluded", "expected"),
    [
        ({}, "", ("Surge", 1, 0)),
        ({}, "a claim", ("InPlace", 0, 1)),
        ({"strategy": "Surge"}, "a claim", ("Surge", 1, 0)),
        ({"strategy": "InPlace"}, "", ("InPlace", 0, 1)),
        ({"strategy": "InPlace", "minAvailable": 1}, "", ("InPlace", 0, 3)),
        ({"strategy": "InPlace", "minAvailable": "51%"}, "", ("InPlace", 0, 1)),
        ({"strategy": "InPlace", "minAvailable": 0}, "", ("InPlace", 0, 4)),
        ({"strategy": "Recreate"}, "", ("Recreate", 0, 0)),
        ({"strategy": "Recreate", "minAvailable": "25%"}, "", ("InPlace", 0, 3)),
    ],
)
def test_a_rollout_begins_as_the_spec_says(
    rollout: dict[str, Any], excluded: str, expected: tuple[str, int, int]
) -> None:
    serving = [engine("new", "serving", number) for number in range(4)]
    decided = numbers(4, *serving, rollout=rollout, excluded=excluded, changed=True)
    assert (decided.strategy, decided.max_surge, decided.max_unavailable) == expected


def test_a_rollout_in_place_that_may_take_none_is_held_and_says_so() -> None:
    rollout = {"strategy": "InPlace", "minAvailable": 1}
    assert not numbers(1, engine("new", "serving"), rollout=rollout).paused, "a Deployment at rest"
    decided = numbers(1, engine("new", "serving"), rollout=rollout, changed=True)
    assert decided.paused
    assert "lower minAvailable" in decided.held
    crashing = numbers(1, engine("new", "crashing"), rollout=rollout, changed=True)
    assert (crashing.paused, crashing.max_unavailable) == (False, 1), "none serves that has to stay"


def test_no_engine_goes_in_place_where_its_successor_has_a_place_already() -> None:
    decided = numbers(1, OLD, engine("new", "loading"), excluded="a claim", live_surge=0, live_unavailable=1)
    assert (decided.max_surge, decided.max_unavailable) == (0, 0)
    assert applied({"metadata": {}, "spec": {}}, decided)["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1


def test_no_engine_goes_in_place_before_its_successor_has_waited_where_more_exist_than_are_wanted() -> None:
    around: dict[str, Any] = {"excluded": "a claim", "live_surge": 0, "live_unavailable": 1}
    early = numbers(1, OLD, engine("new", "pending", seconds=59), **around)
    assert (early.max_unavailable, early.look_again_at) == (0, NOW + timedelta(seconds=1))
    assert numbers(1, OLD, engine("new", "pending", seconds=61), **around).max_unavailable == 1


def test_what_was_written_for_a_rollout_stands_until_the_controller_has_seen_it() -> None:
    in_place = numbers(1, OLD, NEW, live_surge=0, live_unavailable=1, observedGeneration=8)
    assert (in_place.strategy, in_place.max_surge, in_place.max_unavailable) == ("InPlace", 0, 1)
    surge = numbers(1, OLD, NEW, observedGeneration=8)
    assert (surge.strategy, surge.max_surge, surge.max_unavailable) == ("Surge", 1, 0)


# --- replicas


def test_fewer_replicas_in_a_rollout_leave_the_choice_to_the_part_of_the_controller_that_looks_at_who_serves() -> None:
    three = engines([("a", "serving"), ("b", "loading"), ("new", "loading")])
    decided = numbers(1, *three, was=2)
    assert (decided.replicas, decided.max_surge) == (1, 2)


def test_pods_that_are_not_there_yet_are_counted() -> None:
    decided = numbers(1, engine("a", "serving"), was=2, newest="a", observedGeneration=8)
    assert decided.max_surge == 2


def test_fewer_replicas_at_rest_are_written_at_once_and_alone() -> None:
    decided = numbers(1, *(engine("new", "serving", number) for number in range(3)), was=3)
    assert (decided.replicas, decided.max_surge, decided.max_unavailable) == (1, 1, 0)


def test_the_numbers_go_back_once_the_controller_has_seen_them_and_not_before() -> None:
    three = engines([("a", "serving"), ("b", "loading"), ("new", "loading")])
    assert numbers(1, *three, live_surge=2, observedGeneration=8).max_surge == 2
    assert numbers(1, *three, live_surge=2).max_surge == 1


def test_somebody_who_sets_replicas_again_and_again_does_not_make_the_numbers_grow() -> None:
    one = engine("new", "serving")
    surges = [1]
    for _ in range(6):
        surges.append(numbers(1, one, was=5, live_surge=surges[-1], observedGeneration=8).max_surge)
    assert len(set(surges[-4:])) == 1


def test_paused_the_controller_gets_no_reason_to_take_or_add_a_pod() -> None:
    three = engines([("a", "serving"), ("b", "loading"), ("new", "loading")])
    decided = numbers(2, *three, rollout={"paused": True})
    assert (decided.paused, decided.max_surge) == (True, 1)
    fewer = numbers(1, *three, was=2, rollout={"paused": True}, paused=True)
    assert (fewer.replicas, fewer.max_surge) == (1, 2)


def test_what_goes_on_after_a_pause_takes_no_engine_where_there_was_room_for_one_more() -> None:
    old = engines([("old", "serving"), ("old", "serving")])
    held = numbers(2, *old, was=1, rollout={"paused": True}, paused=True, updatedReplicas=0)
    assert (held.paused, held.max_surge, held.max_unavailable) == (True, 0, 1)
    resumed = numbers(2, *old, live_surge=0, live_unavailable=1, paused=True, updatedReplicas=0)
    assert (resumed.paused, resumed.strategy, resumed.max_surge, resumed.max_unavailable) == (False, "Surge", 1, 0)


def test_a_deployment_is_not_paused_before_there_is_anything_to_hold() -> None:
    assert not numbers(1, rollout={"paused": True}, observedGeneration=0).paused
    assert not planned(
        {"spec": {"replicas": 1}}, None, Rollout.model_validate({"paused": True}), excluded="", now=NOW
    ).paused


# --- in the whole decision


def deployed(*pods: dict[str, Any], raw: dict[str, Any] | None = None, **status: Any) -> dict[ObjectKey, Any]:
    """The children of a model, as they are desired, with such a Deployment."""
    return as_desired(raw or resource(), **status_of(*pods, **status))


def test_the_strategy_is_written_and_taken_back_by_what_is_seen_alone() -> None:
    raw = resource()
    old, new = engine("old", "crashing"), engine("new", "pending")
    found = deployed(old, new)
    (write,) = decide(observation(raw, found, old, new)).writes
    assert write.desired["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 1}
    plain = found[ObjectKey("Deployment", "qwen")]
    assert write.desired["spec"]["template"] == plain["spec"]["template"]
    assert write.desired["metadata"]["annotations"][DESIRED_HASH] != plain["metadata"]["annotations"][DESIRED_HASH]

    found[ObjectKey("Deployment", "qwen")] = live(write.desired, generation=10, **status_of(old, new))
    assert decide(observation(raw, found, old, new)).writes == (), "also before the controller has seen it"

    found[ObjectKey("Deployment", "qwen")] = live(write.desired, generation=9, **status_of(new))
    (write,) = decide(observation(raw, found, new)).writes
    assert write.desired["spec"]["strategy"] == plain["spec"]["strategy"]


def told(found: dict[ObjectKey, Any], *pods: dict[str, Any], raw: dict[str, Any] | None = None) -> dict[str, Any]:
    """The status that is told."""
    return dict(decide(observation(raw or resource(), found, *pods)).status or {})


def test_a_rollout_is_told_with_its_strategy_and_how_far_it_is() -> None:
    pods = (OLD, engine("new", "loading"))
    status = told(deployed(*pods), *pods)
    assert status["updatedReplicas"] == 1
    rollout = status["rollout"]
    assert (rollout["strategy"], rollout["updated"], rollout["wanted"]) == ("Surge", 1, 1)
    assert rollout["reason"] == "so far there is room for it"
    assert "rollout" not in told(deployed(pods[1]), pods[1])


def test_the_status_stays_until_the_controller_has_seen_what_was_written() -> None:
    pods = (OLD, engine("new", "loading"))
    raw = resource()
    raw["status"] = told(deployed(*pods), *pods)
    unseen = deployed(*pods, observedGeneration=0)
    assert told(unseen, *pods, raw=raw)["rollout"]["wanted"] == 1
    assert "rollout" not in told(deployed(OLD, newest="old", observedGeneration=0), OLD)


def test_a_revision_that_fails_is_stalled_with_its_cause_and_the_way_out() -> None:
    failing = engine("new", "crashing")
    failing["status"]["containerStatuses"][0]["restartCount"] = 2
    status = told(deployed(OLD, failing), OLD, failing)
    stalled = condition(status, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RevisionFails")
    assert "exit code 2" in stalled["message"]
    assert "kubectl vllm rollout undo qwen" in stalled["message"]
    assert condition(status, "Available")["status"] == "True"


def test_one_failure_is_no_verdict_on_a_revision_and_five_minutes_of_it_are() -> None:
    failing = engine("new", "crashing")
    plan = decide(observation(resource(), deployed(OLD, failing), OLD, failing))
    assert condition(plan.status or {}, "Stalled")["status"] == "False"
    assert plan.look_again_at is not None
    assert plan.look_again_at <= NOW + timedelta(minutes=4)
    failing["metadata"]["creationTimestamp"] = "2026-11-22T11:55:00Z"
    assert condition(told(deployed(OLD, failing), OLD, failing), "Stalled")["reason"] == "RevisionFails"


def test_an_old_engine_that_fails_says_nothing_of_the_new_revision() -> None:
    failing = engine("old", "crashing", 2)
    failing["status"]["containerStatuses"][0]["restartCount"] = 9
    pods = (OLD, failing, engine("new", "loading"))
    status = told(deployed(*pods, raw=resource(replicas=2)), *pods, raw=resource(replicas=2))
    assert condition(status, "Stalled")["status"] == "False"


def test_a_rollout_that_finds_no_node_says_what_would_help_and_is_not_stalled() -> None:
    raw = resource(rollout={"strategy": "Surge"})
    status = told(deployed(OLD, NEW, raw=raw), OLD, NEW, raw=raw)
    ready = condition(status, "Ready")
    assert ready["reason"] == "RolloutWaits"
    assert "Insufficient nvidia.com/gpu" in ready["message"]
    assert "set Auto or InPlace" in ready["message"]
    assert condition(status, "Reconciling")["status"] == "True"
    assert "set Auto or InPlace" in status["rollout"]["reason"]


def test_a_rollout_that_is_held_by_min_available_is_stalled() -> None:
    raw = resource(rollout={"strategy": "InPlace", "minAvailable": "100%"})
    found = deployed(OLD, raw=raw)
    status = told(found, OLD, raw=raw)
    stalled = condition(status, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RolloutBlocked")


def test_a_paused_rollout_is_told_as_one_and_nothing_is_on_its_way() -> None:
    raw = resource(rollout={"paused": True})
    status = told(deployed(OLD, raw=raw), OLD, raw=raw)
    assert condition(status, "Ready")["reason"] == "RolloutPaused"
    assert condition(status, "Reconciling")["status"] == "False"
    assert condition(status, "Stalled")["status"] == "False"


def test_a_deployment_that_somebody_else_has_paused_is_named() -> None:
    found = deployed(OLD)
    found[ObjectKey("Deployment", "qwen")]["spec"]["paused"] = True
    assert "kubectl rollout resume deployment qwen" in condition(told(found, OLD), "Ready")["message"]
