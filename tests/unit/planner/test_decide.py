"""`decide(observation) == plan`: everything that the operator judges, without a cluster."""

from __future__ import annotations

import base64
import copy
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.support.catalogs import catalog
from tests.support.resources import (
    NOW,
    as_desired,
    as_live,
    child_of,
    condition,
    deployment_status,
    live,
    observation,
    pod,
    resource,
)
from tests.support.resources import desired as wanted
from tests.unit.diagnosis.test_engines import NO_GPU_FREE
from vllm_operator.api import names
from vllm_operator.api.live import ObjectKey, key_of
from vllm_operator.api.meta import KIND
from vllm_operator.api.names import CATALOG_CONFIG_MAP, DESIRED_HASH, GATES_CONFIG_MAP, MANAGER_CONFIG_MAP
from vllm_operator.api.resource import parse_resource
from vllm_operator.api.spec import versions
from vllm_operator.diagnosis import fleet, lookups
from vllm_operator.diagnosis.engine_status import EngineStatus, NoAnswer
from vllm_operator.diagnosis.known import Recognized
from vllm_operator.diagnosis.placement import Placement
from vllm_operator.planner import api_keys, status
from vllm_operator.planner.attempts import Attempt, Outcome
from vllm_operator.planner.budgets import Budget
from vllm_operator.planner.decide import decide
from vllm_operator.planner.namespace import catalog_interval, decide_namespace
from vllm_operator.planner.plan import Deletion, NamespaceObservation, Plan, Write
from vllm_operator.render import manager
from vllm_operator.render.children import _renderings
from vllm_operator.render.context import RenderContext
from vllm_operator.render.objects import shared as rendered_shared

if TYPE_CHECKING:
    from collections.abc import Mapping

DEPLOYMENT = ObjectKey("Deployment", "qwen")
BINDING = ObjectKey("ConfigMap", "qwen-client")
CRASH_TOO = ", which is a crash too: vLLM exits so when its engine has died"
ITS_LOG = "kubectl logs --previous has the cause"
STAMP = "2026-11-22T12:00:00Z"
LATER = NOW + timedelta(hours=1)


def test_who_carries_a_plan_out_at_once_gets_the_same_changes_and_nothing_that_is_told_before_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = observation(resource())
    whole, silent = decide(seen), decide(seen, telling=False)
    assert silent.writes == whole.writes
    assert (silent.status, silent.news, silent.look_again_at) == (None, None, None)
    settled = observation(resource(), as_desired(resource(), **deployment_status(1)))
    assert decide(settled, telling=False) == decide(settled)
    monkeypatch.setattr(status, "status_of", None)
    assert decide(seen, telling=False) == silent


def test_what_a_version_does_not_know_is_found_out_once_for_each_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, asked = resource("asked-once"), list[object]()

    def remember(spec: object) -> list[str]:
        asked.append(spec)
        return []

    monkeypatch.setattr(versions, "warnings", remember)
    for _ in range(3):
        decide(observation(raw, as_desired(raw, **deployment_status(1))))
    assert len(asked) == 1


def told_by(plan: Plan) -> Mapping[str, Any]:
    """The status that a plan writes."""
    assert plan.status is not None
    return plan.status


def conditions(status: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition that tells of engines."""
    told = {found["type"]: (found["status"], found["reason"]) for found in status["conditions"]}
    return {kind: found for kind, found in told.items() if kind != "TemplateUpdatePending"}


def deletion(child: Mapping[str, Any]) -> Deletion:
    """That an object is to go."""
    return Deletion(as_live(child), "no longer wanted")


def judged(*pods: dict[str, Any], deployment: dict[str, Any], **spec: Any) -> Mapping[str, Any]:
    """Status of a model whose children are as desired."""
    raw = resource(**spec)
    return told_by(decide(observation(raw, as_desired(raw, **deployment), *pods)))


def settled(**spec: Any) -> tuple[dict[str, Any], dict[ObjectKey, dict[str, Any]], dict[str, Any]]:
    """A model that serves: the resource with its status, its children and its pod."""
    raw = resource(**spec)
    found = as_desired(raw, **deployment_status(raw["spec"].get("replicas", 1)))
    engine = pod(ready=True)
    raw["status"] = told_by(decide(observation(raw, found, engine)))
    return raw, found, engine


# --- what to write


def test_a_new_resource_gets_all_its_children_and_a_first_status() -> None:
    raw = resource()
    plan = decide(observation(raw))
    assert plan.writes == tuple(Write(child, ours=False, reason="") for child in wanted(raw))
    assert conditions(told_by(plan)) == {
        "Ready": ("False", "EnginesStarting"),
        "Available": ("False", "NoEngineServes"),
        "Degraded": ("False", "NoEngineServes"),
        "Reconciling": ("True", "EnginesStarting"),
        "Stalled": ("False", "AsDesired"),
    }
    assert {**told_by(plan), "conditions": []} == {
        "observedGeneration": 1,
        "replicas": 0,
        "readyReplicas": 0,
        "updatedReplicas": 0,
        "selector": "app.kubernetes.io/instance=qwen,app.kubernetes.io/name=vllm",
        "url": "http://qwen.team.svc:8000/v1",
        "vllmVersion": "0.32.0",
        "binding": {"name": "qwen-binding", "configMap": "qwen-client"},
        "conditions": [],
    }
    assert plan.look_again_at is None
    assert plan.deletions == ()


def test_nothing_to_do_is_the_empty_plan_whatever_the_time() -> None:
    raw, found, engine = settled()
    assert decide(observation(raw, found, engine)) == Plan()
    assert decide(observation(raw, found, engine, now=LATER)) == Plan()


def test_a_decision_changes_nothing_of_what_is_remembered_of_the_rendering() -> None:
    raw, found, engine = settled(engine={"env": [{"name": "A", "value": "1"}]}, auth={"generate": True})
    decide(observation(raw, found, engine))
    (rendering,) = (one for one in _renderings._values.values() if one.model.uid == raw["metadata"]["uid"])  # noqa: SLF001 # what is remembered is the point
    before = copy.deepcopy(rendering.children)
    for engines in ((engine,), (), (pod(ready=False),)):
        decide(observation(raw, found, *engines))
        decide(observation(raw, {}, *engines))
    assert rendering.children == before


def test_a_resource_that_is_gone_or_going_is_left_to_garbage_collection() -> None:
    raw, found, engine = settled()
    raw["metadata"]["deletionTimestamp"] = STAMP
    assert decide(observation(raw, {}, engine)) == Plan()
    assert decide(observation(raw, found, engine)) == Plan()
    assert decide(observation(None, found, engine)) == Plan()


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        ({"engine": {"maxModelLen": 4096}}, ["ControllerRevision", "Deployment"]),
        ({"engine": {"extraArgs": ["--seed", "1"]}}, ["ControllerRevision", "Deployment"]),
        ({"engine": {"env": [{"name": "A", "value": "1"}]}}, ["ControllerRevision", "Deployment"]),
        ({"engine": {"image": "other:1"}}, ["ControllerRevision", "Deployment"]),
        ({"engine": {"port": 9000}}, ["ControllerRevision", "ConfigMap", "Service", "Deployment"]),
        ({"parallelism": {"tensor": 2}}, ["ControllerRevision", "Deployment"]),
        ({"replicas": 3}, ["Deployment"]),
        ({"replicas": 0}, ["Deployment"]),
        ({"resources": {"limits": {"memory": "1Gi"}}}, ["ControllerRevision", "Deployment"]),
        ({"model": {"source": "other/model"}}, ["ControllerRevision", "ConfigMap", "Secret", "Deployment"]),
    ],
    ids=str,
)
def test_an_edited_spec_is_written_to_the_children_that_it_touches(spec: dict[str, Any], kinds: list[str]) -> None:
    raw, found, engine = settled()
    edited = {**raw, **resource(generation=2, **spec), "status": raw["status"]}
    plan = decide(observation(edited, found, engine))
    assert [write.desired["kind"] for write in plan.writes] == kinds
    assert all(write.ours is (write.desired["kind"] != "ControllerRevision") for write in plan.writes)
    assert conditions(told_by(plan))["Ready"] == ("False", "RollingOut")
    assert told_by(plan)["observedGeneration"] == 2


def test_a_field_that_is_taken_out_of_the_spec_is_noticed() -> None:
    raw, found, engine = settled(engine={"env": [{"name": "A", "value": "1"}]})
    plain = {**raw, **resource(generation=2), "status": raw["status"]}
    _, write = decide(observation(plain, found, engine)).writes
    names = [variable["name"] for variable in write.desired["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert "A" not in names


@pytest.mark.parametrize(
    "key",
    [ObjectKey(child["kind"], child["metadata"]["name"]) for child in wanted(resource())],
    ids=str,
)
def test_a_child_that_is_missing_is_made_again_alone(key: ObjectKey) -> None:
    raw, found, engine = settled()
    del found[key]
    (write,) = decide(observation(raw, found, engine)).writes
    assert (write.desired["kind"], write.desired["metadata"]["name"], write.ours) == (*key, False)


def test_a_child_that_somebody_changed_is_written_once_and_only_that() -> None:
    raw, found, engine = settled()
    found[DEPLOYMENT]["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    (write,) = decide(observation(raw, found, engine)).writes
    assert write == Write(next(one for one in wanted(raw) if key_of(one) == DEPLOYMENT), ours=True, reason="")


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found[DEPLOYMENT]["metadata"]["annotations"].update(mine="1"),
        lambda found: found[DEPLOYMENT]["metadata"]["labels"].update(mine="1"),
        lambda found: found[DEPLOYMENT]["spec"]["template"]["spec"]["containers"].append({"name": "mesh"}),
        lambda found: found[DEPLOYMENT]["spec"].update(paused=False, minReadySeconds=0),
        lambda found: found[BINDING]["data"].update(MINE="1"),
    ],
    ids=["annotation", "label", "sidecar", "default", "data"],
)
def test_what_others_add_is_theirs(change: Any) -> None:
    raw, found, engine = settled()
    change(found)
    assert decide(observation(raw, found, engine)) == Plan()


@pytest.mark.parametrize(
    "change",
    [
        lambda metadata: metadata["labels"].pop("app.kubernetes.io/instance"),
        lambda metadata: metadata["labels"].update({"app.kubernetes.io/instance": "other"}),
        lambda metadata: metadata["annotations"].pop(DESIRED_HASH),
        lambda metadata: metadata["annotations"].update({DESIRED_HASH: "0"}),
    ],
    ids=["label lost", "label changed", "hash lost", "hash of an older operator"],
)
def test_metadata_that_somebody_changed_is_mended(change: Any) -> None:
    raw, found, engine = settled()
    change(found[BINDING]["metadata"])
    assert [write.desired["metadata"]["name"] for write in decide(observation(raw, found, engine)).writes] == [
        "qwen-client"
    ]


def test_a_child_on_its_way_out_is_waited_for() -> None:
    raw, found, engine = settled()
    found[BINDING]["metadata"]["deletionTimestamp"] = STAMP
    found[BINDING]["data"] = {}
    assert decide(observation(raw, found, engine)).writes == ()


def test_children_of_an_earlier_model_of_that_name_are_taken_over() -> None:
    raw, found, engine = settled()
    reborn = {**raw, "metadata": {**raw["metadata"], "uid": "another"}}
    plan = decide(observation(reborn, found, engine))
    assert len(plan.writes) == len(found)
    assert all(write.ours for write in plan.writes)


# --- what to say


def test_all_engines_serve() -> None:
    status = judged(pod(ready=True), deployment=deployment_status(2), replicas=2)
    assert conditions(status) == {
        "Ready": ("True", "AllEnginesServe"),
        "Available": ("True", "EnginesServe"),
        "Degraded": ("False", "AsDesired"),
        "Reconciling": ("False", "AsDesired"),
        "Stalled": ("False", "AsDesired"),
    }
    assert condition(status, "Ready")["message"] == "2 of 2 engines serve"
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)


def test_replicas_zero_is_not_ready_and_nothing_is_on_its_way() -> None:
    status = judged(deployment=deployment_status(0), replicas=0)
    assert conditions(status) == {
        "Ready": ("False", "ScaledToZero"),
        "Available": ("False", "NoEngineServes"),
        "Degraded": ("False", "AsDesired"),
        "Reconciling": ("False", "AsDesired"),
        "Stalled": ("False", "AsDesired"),
    }


def test_a_suspended_model_has_no_engines_whatever_its_replicas_and_nothing_is_on_its_way() -> None:
    status = judged(deployment=deployment_status(0), replicas=2, suspend=True)
    assert conditions(status) == {
        "Ready": ("False", "Suspended"),
        "Available": ("False", "NoEngineServes"),
        "Degraded": ("False", "AsDesired"),
        "Reconciling": ("False", "AsDesired"),
        "Stalled": ("False", "AsDesired"),
    }


def test_scaling_up_serves_with_what_is_there() -> None:
    status = judged(pod(ready=True), deployment=deployment_status(1), replicas=3)
    assert conditions(status)["Ready"] == ("False", "Scaling")
    assert conditions(status)["Available"] == ("True", "EnginesServe")
    assert conditions(status)["Reconciling"] == ("True", "Scaling")


def test_new_engines_that_load_beside_serving_ones_are_named() -> None:
    status = judged(pod(ready=True), pod("qwen-2"), deployment=deployment_status(2, ready=1), replicas=2)
    assert conditions(status)["Ready"] == ("False", "EnginesStarting")
    assert (
        condition(status, "Ready")["message"]
        == "1 of 2 engines serve; qwen-2 loads its model since 2026-11-22T11:00:00Z"
    )


def test_a_rollout_in_progress_is_told_as_one() -> None:
    status = judged(pod(ready=True), deployment=deployment_status(2, ready=1, updated=1))
    assert conditions(status)["Ready"] == ("False", "RollingOut")
    assert conditions(status)["Available"] == ("True", "EnginesServe")


def test_a_deployment_that_its_controller_has_not_seen_yet_speaks_of_the_past() -> None:
    raw = resource()
    found = as_desired(raw, **deployment_status(1))
    found[DEPLOYMENT]["metadata"]["generation"] = 2
    assert conditions(told_by(decide(observation(raw, found))))["Ready"] == ("False", "RollingOut")


@pytest.mark.parametrize(
    ("engine", "reason", "sentence"),
    [
        (
            pod(
                container={
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "restartCount": 3,
                    "lastState": {
                        "terminated": {"exitCode": 1, "reason": "Error", "message": "INFO\nValueError: no such model"}
                    },
                }
            ),
            "EnginesFailing",
            "0 of 1 engines serve; qwen-1 ended with exit code 1 (Error, 3 restarts): ValueError: no such model",
        ),
        (
            pod(conditions=({"type": "PodScheduled", "status": "False", "message": "Insufficient nvidia.com/gpu"},)),
            "EnginesFailing",
            f"0 of 1 engines serve; qwen-1 cannot be scheduled: Insufficient nvidia.com/gpu: {NO_GPU_FREE}",
        ),
        (
            pod(container={"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}),
            "EnginesFailing",
            "0 of 1 engines serve; qwen-1 cannot start: ErrImagePull: not found",
        ),
        (
            pod(container={"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}),
            "EnginesFailing",
            f"0 of 1 engines serve; qwen-1 ended with exit code 0 (Completed, 0 restarts){CRASH_TOO}; {ITS_LOG}",
        ),
        (
            pod(container={"started": True, "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}}),
            "EnginesWithdrawn",
            "0 of 1 engines serve; qwen-1 served before, and takes no traffic since 2026-11-22T11:00:00Z",
        ),
        (pod(), "EnginesStarting", "0 of 1 engines serve; qwen-1 loads its model since 2026-11-22T11:00:00Z"),
    ],
    ids=["crash loop", "unschedulable", "image pull", "exit code 0", "withdrawn", "loading"],
)
def test_what_keeps_engines_from_serving_is_named_with_its_cause(
    engine: dict[str, Any], reason: str, sentence: str
) -> None:
    status = judged(engine, deployment=deployment_status(1, ready=0))
    assert conditions(status)["Ready"] == ("False", reason)
    assert conditions(status)["Reconciling"] == ("True", reason)
    assert conditions(status)["Stalled"] == ("False", "AsDesired")
    assert condition(status, "Ready")["message"] == sentence


def test_a_pod_that_no_scheduler_looks_at_is_told_with_its_claim_and_looked_at_again_when_that_is_a_fault() -> None:
    raw = resource(storage={"cache": {"persistentVolumeClaim": {"size": "10Gi"}}})
    unseen = pod(containerStatuses=[])
    unseen["metadata"]["creationTimestamp"] = "2026-11-22T11:59:00Z"
    there = as_desired(raw, **deployment_status(1, ready=0))
    plan = decide(observation(raw, there, unseen))
    assert plan.status is not None
    message = condition(plan.status, "Ready")["message"]
    assert "waits since 2026-11-22T11:59:00Z for scheduler default-scheduler" in message
    assert "; claim qwen-cache has no volume" in message
    assert plan.look_again_at == NOW + timedelta(minutes=4)


def test_a_deadline_that_passed_is_stalled_with_the_cause() -> None:
    crashed = pod(container={"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}})
    progressing = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    status = judged(crashed, deployment={**deployment_status(1, ready=0), "conditions": [progressing]})
    assert conditions(status) == {
        "Ready": ("False", "ProgressDeadlineExceeded"),
        "Available": ("False", "NoEngineServes"),
        "Degraded": ("False", "NoEngineServes"),
        "Reconciling": ("False", "ProgressDeadlineExceeded"),
        "Stalled": ("True", "ProgressDeadlineExceeded"),
    }
    assert "ErrImagePull: not found" in condition(status, "Stalled")["message"]


def test_a_stuck_rollout_is_not_ready_however_many_engines_serve() -> None:
    progressing = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    deployment = {**deployment_status(2, ready=1, updated=1), "conditions": [progressing]}
    status = judged(pod(ready=True), deployment=deployment)
    assert conditions(status)["Ready"] == ("False", "ProgressDeadlineExceeded")
    assert conditions(status)["Available"] == ("True", "EnginesServe")


# --- what cannot be done


def test_an_invalid_spec_is_stalled_and_nothing_is_written() -> None:
    raw, found, engine = settled()
    broken = {**raw, **resource(generation=2, replicas=-1), "status": raw["status"]}
    plan = decide(observation(broken, found, engine))
    assert (plan.writes, plan.deletions, plan.look_again_at) == ((), (), None)
    status = told_by(plan)
    assert conditions(status) == {
        "Ready": ("False", "InvalidSpec"),
        "Available": ("True", "EnginesServe"),
        "Degraded": ("False", "AsDesired"),
        "Reconciling": ("False", "InvalidSpec"),
        "Stalled": ("True", "InvalidSpec"),
    }
    assert condition(status, "Stalled")["message"].startswith(
        "spec.replicas: Input should be greater than or equal to 0"
    )
    assert status["observedGeneration"] == 2
    told = {**broken, "status": status}
    assert decide(observation(told, found, engine, now=LATER)) == Plan()


def test_a_spec_that_was_never_valid_has_a_whole_status_too() -> None:
    raw = resource(model={})
    status = told_by(decide(observation(raw)))
    assert conditions(status)["Stalled"] == ("True", "InvalidSpec")
    assert conditions(status)["Available"] == ("False", "NoEngineServes")
    assert (status["replicas"], status["url"]) == (0, "")
    assert status["selector"] == "app.kubernetes.io/instance=qwen,app.kubernetes.io/name=vllm"


def test_the_engines_of_a_model_whose_spec_became_invalid_are_still_counted() -> None:
    raw, found, _ = settled(replicas=3)
    found[DEPLOYMENT]["status"] = deployment_status(3, ready=1)
    broken = {**raw, **resource(generation=2, replicas=-1), "status": raw["status"]}
    status = told_by(decide(observation(broken, found)))
    assert (status["replicas"], status["readyReplicas"]) == (3, 1)
    found[DEPLOYMENT]["status"] = deployment_status(3, ready=0)
    status = told_by(decide(observation({**broken, "status": status}, found)))
    assert (status["replicas"], status["readyReplicas"]) == (3, 0)
    assert conditions(status)["Available"] == ("False", "NoEngineServes")
    assert status["url"] == raw["status"]["url"]


def disowned(child: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    """A child as `kubectl delete --cascade=orphan` leaves it; `metadata` holds what is otherwise."""
    return {**child, "metadata": {**child["metadata"], "ownerReferences": [], **metadata}}


def test_children_that_were_left_without_an_owner_are_taken_over_by_the_next_model_of_that_name() -> None:
    raw, found, engine = settled()
    reborn = {**raw, "metadata": {**raw["metadata"], "uid": "another"}}
    plan = decide(observation(reborn, {key: disowned(child) for key, child in found.items()}, engine))
    assert len(plan.writes) == len(found)
    assert all(write.ours for write in plan.writes)
    assert plan.deletions == ()


@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": {}},
        {"labels": {}},
        {"labels": names.labels("other", "client")},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Other", "name": "qwen", "uid": "x", "controller": True}]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": KIND, "name": "other", "uid": "x", "controller": True}]},
        {"annotations": {}, "ownerReferences": [{"apiVersion": "v1", "kind": KIND, "name": "qwen", "uid": "x"}]},
    ],
    ids=["only labels", "no labels", "another's labels", "of another kind", "of another model", "not controlled"],
)
def test_a_name_that_is_taken_is_left_alone_and_told(metadata: dict[str, Any]) -> None:
    raw, found, engine = settled()
    found[BINDING] = disowned(found[BINDING], **metadata)
    plan = decide(observation(raw, found, engine))
    assert plan.writes == ()
    assert plan.look_again_at is not None
    assert plan.look_again_at > NOW
    assert conditions(told_by(plan))["Stalled"] == ("True", "NameTaken")
    message = condition(told_by(plan), "Ready")["message"]
    assert message.startswith("ConfigMap qwen-client exists and is not the operator's: ")
    told = {**raw, "status": told_by(plan)}
    assert decide(observation(told, found, engine, now=LATER)).status is None


def test_a_model_that_wants_the_name_of_another_models_child_is_told() -> None:
    first = resource("qwen")
    second = resource("qwen-engines")
    taken = live(child_of(first, "Service", suffix="-engines"))
    plan = decide(observation(second, {ObjectKey("Service", "qwen-engines"): taken}))
    assert plan.writes == ()
    assert "Service qwen-engines exists" in condition(told_by(plan), "Ready")["message"]


SERVICE = ObjectKey("Service", "qwen")
WORDS = {Outcome.REFUSED: "exceeded quota", Outcome.UNAVAILABLE: "failed calling webhook"}


def attempted(raw: dict[str, Any], outcome: Outcome, *keys: ObjectKey, message: str = "") -> dict[ObjectKey, Attempt]:
    """What came of the last write of these children, a moment ago."""
    desired = {key_of(child): child for child in wanted(raw)}
    hashes = {key: desired[key]["metadata"]["annotations"][DESIRED_HASH] for key in keys}
    told = message or WORDS[outcome]
    return {key: Attempt(hashes[key], NOW, outcome, f"{key.kind} {key.name}: {told}") for key in keys}


def after(raw: dict[str, Any], found: dict[ObjectKey, dict[str, Any]], attempts: dict[ObjectKey, Attempt]) -> Plan:
    """What is decided while the children of these attempts are missing."""
    there = {key: child for key, child in found.items() if key not in attempts}
    return decide(observation(raw, there, pod(ready=True), attempts=attempts))


def test_a_refused_child_is_told_in_the_words_of_the_api_server_and_tried_again() -> None:
    raw, found, engine = settled()
    attempts = attempted(raw, Outcome.REFUSED, SERVICE)
    plan = after(raw, found, attempts)
    assert conditions(told_by(plan)) == {
        "Ready": ("False", "ChildRefused"),
        "Available": ("True", "EnginesServe"),
        "Degraded": ("False", "AsDesired"),
        "Reconciling": ("False", "ChildRefused"),
        "Stalled": ("True", "ChildRefused"),
    }
    assert condition(told_by(plan), "Ready")["message"] == "Service qwen: exceeded quota"
    assert plan.writes == ()
    assert plan.look_again_at == NOW + timedelta(seconds=30)
    del found[SERVICE]
    again = decide(observation(raw, found, engine, attempts=attempts, now=NOW + timedelta(seconds=30)))
    assert [write.desired["kind"] for write in again.writes] == ["Service"]


def test_what_was_refused_is_written_at_once_when_something_else_is_desired() -> None:
    raw, found, engine = settled()
    attempts = attempted(raw, Outcome.REFUSED, DEPLOYMENT)
    edited = {**raw, **resource(generation=2, replicas=2), "status": raw["status"]}
    plan = decide(observation(edited, found, engine, attempts=attempts))
    assert [write.desired["kind"] for write in plan.writes] == ["Deployment"]
    assert conditions(told_by(plan))["Stalled"] == ("False", "AsDesired")


def test_a_child_that_cannot_be_written_now_is_told_as_on_its_way() -> None:
    raw, found, _ = settled()
    plan = after(raw, found, attempted(raw, Outcome.UNAVAILABLE, SERVICE))
    assert conditions(told_by(plan)) == {
        "Ready": ("False", "ChildNotWritten"),
        "Available": ("True", "EnginesServe"),
        "Degraded": ("False", "AsDesired"),
        "Reconciling": ("True", "ChildNotWritten"),
        "Stalled": ("False", "AsDesired"),
    }
    assert plan.look_again_at is None, "the queue tries again by itself"
    assert [write.desired["kind"] for write in plan.writes] == ["Service"]


def test_a_refusal_weighs_more_than_a_failure_and_all_are_told() -> None:
    raw, found, _ = settled()
    unwritten, refused = (attempted(raw, Outcome.UNAVAILABLE, SERVICE), attempted(raw, Outcome.REFUSED, DEPLOYMENT))
    plan = after(raw, found, {**unwritten, **refused})
    assert conditions(told_by(plan))["Stalled"] == ("True", "ChildRefused")
    message = condition(told_by(plan), "Ready")["message"]
    assert message == "Service qwen: failed calling webhook; Deployment qwen: exceeded quota"


def test_the_first_few_of_many_problems_stand_for_all() -> None:
    raw, found, _ = settled()
    plan = after(raw, found, attempted(raw, Outcome.REFUSED, *found))
    message = condition(told_by(plan), "Ready")["message"]
    assert message.count("exceeded quota") == 3
    assert message.endswith(f"; and {len(found) - 3} more")


def test_a_message_longer_than_the_schema_allows_is_cut() -> None:
    raw, found, _ = settled()
    plan = after(raw, found, attempted(raw, Outcome.REFUSED, SERVICE, message="x" * 5000))
    assert len(condition(told_by(plan), "Ready")["message"]) == 2048


# --- what is no longer wanted


def extra(name: str, **metadata: Any) -> dict[str, Any]:
    """A child of the model under a name that nobody wants."""
    child = live(child_of(resource(), "ConfigMap", suffix="-client"))
    child["metadata"] |= {"name": name, **metadata}
    return child


def with_extra(child: dict[str, Any]) -> Plan:
    """What is done about a model that serves and has one child too many."""
    raw, found, engine = settled()
    found[key_of(child)] = child
    return decide(observation(raw, found, engine))


def test_a_child_that_is_no_longer_wanted_is_deleted() -> None:
    child = extra("qwen-old")
    assert with_extra(child) == Plan(deletions=(deletion(child),))


def test_an_orphan_that_the_next_model_of_its_name_does_not_want_is_deleted() -> None:
    child = extra("qwen-config", ownerReferences=[])
    assert with_extra(child) == Plan(deletions=(deletion(child),))


def test_a_copy_of_a_child_under_another_name_is_never_deleted() -> None:
    assert with_extra(extra("qwen-client-backup", ownerReferences=[])) == Plan()


def test_children_are_deleted_in_the_plan_that_writes_what_replaces_them() -> None:
    raw, found, _ = settled()
    child = extra("qwen-old")
    edited = {**raw, **resource(generation=2, replicas=2), "status": raw["status"]}
    plan = decide(observation(edited, {**found, key_of(child): child}))
    assert [write.desired["kind"] for write in plan.writes] == ["Deployment"]
    assert plan.deletions == (deletion(child),)


@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": [], "annotations": {}},
        {"ownerReferences": [], "labels": names.labels("llama", "client")},
        {"ownerReferences": [{**parse_resource(resource()).owner_reference, "uid": "an-earlier-one"}]},
        {"ownerReferences": [{**parse_resource(resource("llama")).owner_reference}]},
        {"deletionTimestamp": STAMP},
    ],
    ids=["nobody's", "another's orphan", "of an earlier model", "of another model", "on its way out"],
)
def test_what_the_model_does_not_control_is_never_deleted(metadata: dict[str, Any]) -> None:
    assert with_extra(extra("qwen-old", **metadata)) == Plan()


def test_nothing_is_deleted_while_a_name_is_taken_or_the_spec_is_invalid() -> None:
    raw, found, engine = settled()
    child = extra("qwen-old")
    found[key_of(child)] = child
    broken = {**raw, **resource(generation=2, replicas=-1), "status": raw["status"]}
    assert decide(observation(broken, found, engine)).deletions == ()
    found[BINDING] = disowned(found[BINDING], annotations={})
    assert decide(observation(raw, found, engine)).deletions == ()


# --- warnings and API keys


def serving(raw: dict[str, Any], **around: Any) -> Plan:
    """What is done about a model whose engines serve, once its children are written."""
    standing = api_keys.standing(observation(raw, **around))
    around_it = RenderContext(
        api_key=standing.client_key, key_record=standing.record, pod_monitors=around.get("pod_monitors", False)
    )
    found = {key_of(child): live(child) for child in wanted(raw, around_it)}
    found[DEPLOYMENT]["status"] = deployment_status(1)
    return decide(observation(raw, found, pod(ready=True), **around))


def test_a_monitor_that_the_cluster_does_not_know_is_told_and_stops_nothing() -> None:
    raw = resource(monitoring={})
    plan = serving(raw, pod_monitors=False)
    assert plan.writes == ()
    assert conditions(told_by(plan))["Ready"] == ("True", "AllEnginesServe")
    (warning,) = told_by(plan)["warnings"]
    assert warning.startswith("spec.monitoring: this cluster has no PodMonitor (monitoring.coreos.com/v1)")
    told = {**raw, "status": told_by(plan)}
    assert serving(told) == Plan()
    status = told_by(serving(told, pod_monitors=True))
    assert "warnings" not in status


def test_a_monitor_is_made_where_the_cluster_knows_it_and_not_missed_where_nobody_asks_for_one() -> None:
    raw = resource(monitoring={})
    plan = decide(observation(raw, as_desired(raw), pod_monitors=True))
    assert [write.desired["kind"] for write in plan.writes] == ["PodMonitor"]
    assert "warnings" not in told_by(serving(resource(), pod_monitors=False))


def test_a_budget_of_somebody_else_is_told_once_and_stops_nothing() -> None:
    theirs = Budget("theirs", {"matchLabels": {"app.kubernetes.io/instance": "qwen"}}, max_unavailable=0)
    raw = resource()
    plan = serving(raw, budgets=(theirs,))
    assert plan.writes == ()
    assert conditions(told_by(plan))["Ready"] == ("True", "AllEnginesServe")
    (warning,) = told_by(plan)["warnings"]
    assert warning.startswith("PodDisruptionBudget theirs (maxUnavailable 0) of somebody else lets no engine go")
    told = {**raw, "status": told_by(plan)}
    assert serving(told, budgets=(theirs,)) == Plan()
    assert "warnings" not in told_by(serving(told))


def token(text: str) -> dict[str, Any]:
    """A Secret of the user's."""
    return {"kind": "Secret", "data": {"token": base64.b64encode(text.encode()).decode()}}


def test_a_key_of_the_users_reaches_the_binding_and_is_looked_for_again() -> None:
    raw = resource(auth={"keys": [{"name": "team-key", "key": "token"}]})
    plan = serving(raw, secrets={"team-key": token("s3cret")})
    assert plan.writes == ()
    assert "warnings" not in told_by(plan)
    assert plan.look_again_at == NOW + timedelta(seconds=60)
    children_of_before = {key_of(child): live(child) for child in wanted(raw)}
    write, record = decide(observation(raw, children_of_before, secrets={"team-key": token("s3cret")})).writes
    assert key_of(record.desired) == ObjectKey("Secret", "qwen-key-record")
    assert key_of(write.desired) == ObjectKey("Secret", "qwen-binding")
    assert write.desired["data"]["VLLM_API_KEY"] == token("s3cret")["data"]["token"]


def test_a_key_that_is_missing_is_told_and_looked_for_again_soon() -> None:
    raw = resource(auth={"keys": [{"name": "team-key", "key": "token"}]})
    plan = serving(raw)
    assert plan.writes == ()
    assert conditions(told_by(plan))["Ready"] == ("True", "AllEnginesServe")
    (warning,) = told_by(plan)["warnings"]
    assert warning.startswith("spec.auth.keys[0]: there is no Secret team-key")
    assert plan.look_again_at == NOW + timedelta(seconds=30)


def test_a_generated_key_is_written_once_and_no_status_shows_it() -> None:
    raw = resource(auth={"generate": True})
    plan = decide(observation(raw, fresh_key="first-key"))
    secret, record = [write.desired for write in plan.writes if write.desired["kind"] == "Secret"]
    assert "first-key" not in str([base64.b64decode(text) for text in record["data"].values()])
    assert base64.b64decode(secret["data"]["VLLM_API_KEY"]) == b"first-key"
    assert "first-key" not in str(plan.status)
    found = {key_of(write.desired): live(write.desired) for write in plan.writes}
    assert decide(observation(raw, found, fresh_key="second-key")).writes == ()


def test_more_and_longer_warnings_than_the_schema_allows_are_cut() -> None:
    seen = fleet.observed(0, None, (), pending=False)
    told = status.status_of(resource(), seen, fleet.judge(seen), address="", warnings=["x" * 5000] * 20, now=NOW)
    assert [len(warning) for warning in told["warnings"]] == [1024] * 16


# --- the engines, one by one

RUNNING: Mapping[str, Any] = {"state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}}


def test_each_engine_is_told_and_those_first_that_do_not_serve() -> None:
    raw, found, _ = settled()
    pods = [
        pod("qwen-a", ready=True, container={"started": True, **RUNNING}),
        pod("qwen-c", container={"started": True, **RUNNING}),
        pod("qwen-b", container={"started": False, **RUNNING}),
        pod("qwen-d", containerStatuses=[], conditions=()),
    ]
    loading = lookups.after_lookup(pods[2], None, EngineStatus("starting", "Loading", phase="Compiling"), NOW)
    plan = decide(observation(raw, found, *pods, lookups={"uid-of-qwen-b": loading}))
    assert told_by(plan)["engines"] == [
        {
            "pod": "qwen-b",
            "state": "Starting",
            "phase": "Compiling",
            "since": "2026-11-22T11:00:00Z",
            "sentence": "compiles its kernels",
        },
        {
            "pod": "qwen-c",
            "state": "Withdrawn",
            "since": "2026-11-22T11:00:00Z",
            "sentence": "served before, and takes no traffic since 2026-11-22T11:00:00Z",
        },
        {
            "pod": "qwen-d",
            "state": "Starting",
            "since": "2026-11-22T11:00:00Z",
            "sentence": "waits for scheduler default-scheduler, which has said nothing of it",
        },
        {"pod": "qwen-a", "state": "Serving", "since": "2026-11-22T11:00:00Z"},
    ]


def failing_of(line: str, restarts: int, name: str = "qwen-5d8c9b7f6-x2x5p") -> dict[str, Any]:
    """A pod whose engine keeps ending with these words."""
    state = {"terminated": {"exitCode": 1, "reason": "Error", "message": line}}
    return pod(name, container={"started": False, "restartCount": restarts, "state": state})


def test_a_known_failure_is_told_to_programs_and_once_by_an_event() -> None:
    """A second crash and another pod change neither its time nor say it again; another cause does."""
    raw, found, _ = settled()
    found[DEPLOYMENT]["status"] = deployment_status(1, ready=0)
    shared = "ValueError: Free memory on device cuda:0 ({}/79.14 GiB) on startup is less than desired GPU memory "
    shared += "utilization (0.92, 72.81 GiB). Decrease GPU memory utilization"
    first = decide(observation(raw, found, failing_of(shared.format("31.35"), 1)))
    (told,) = told_by(first)["diagnosis"]
    assert told == {
        "engine": "qwen-5d8c9b7f6-x2x5p",
        "id": "GpuShared",
        "cause": "another process holds memory of the GPU, 31.35 of 79.14 GiB are free and 72.81 GiB are wanted",
        "advice": "end what else runs on that GPU of the node, or set spec.engine.gpuMemoryUtilization to what is free",
        "field": "spec.engine.gpuMemoryUtilization",
        "value": "0.39",
        "since": "2026-11-22T12:00:00Z",
        "excerpt": shared.format("31.35"),
    }
    assert first.news is not None
    assert first.news.type == "Warning"
    assert told["advice"] in first.news.message
    raw["status"] = told_by(first)
    later = NOW + timedelta(hours=1)
    again = decide(replace(observation(raw, found, failing_of(shared.format("30.01"), 2)), now=later))
    assert [one["since"] for one in told_by(again)["diagnosis"]] == ["2026-11-22T12:00:00Z"]
    assert again.news is None
    other = failing_of(shared.format("30.01"), 1, "qwen-5d8c9b7f6-9kq4z")
    assert decide(replace(observation(raw, found, other), now=later)).news is None
    full = failing_of("OSError: [Errno 28] No space left on device", 3)
    changed = decide(replace(observation(raw, found, full), now=later))
    assert [(one["id"], one["since"]) for one in told_by(changed)["diagnosis"]] == [
        ("DiskFull", "2026-11-22T13:00:00Z")
    ]
    assert changed.news is not None


def test_a_failure_that_only_a_change_of_the_spec_can_mend_is_stalled() -> None:
    raw, found, _ = settled()
    found[DEPLOYMENT]["status"] = deployment_status(1, ready=0)
    arguments = failing_of("vllm serve: error: unrecognized arguments: --task", 1)
    told = conditions(told_by(decide(observation(raw, found, arguments))))
    assert told["Stalled"] == ("True", "EnginesFailing")
    assert told["Reconciling"][0] == "False"
    full = failing_of("OSError: [Errno 28] No space left on device", 1)
    told = conditions(told_by(decide(observation(raw, found, full))))
    assert (told["Stalled"][0], told["Reconciling"]) == ("False", ("True", "EnginesFailing"))
    beside = decide(observation(raw, found, arguments, pod("qwen-2", container={"started": False, **RUNNING})))
    assert conditions(told_by(beside))["Stalled"][0] == "False", "another engine still loads"


def test_of_many_known_failures_some_are_told_and_the_status_stays_small() -> None:
    raw, found, _ = settled()
    words = f"ValueError: Invalid repository ID or local directory specified: '{'x' * 290}'." + "y" * 3000
    status = told_by(decide(observation(raw, found, *(failing_of(words, 1, f"qwen-{n:03}") for n in range(100)))))
    assert len(status["diagnosis"]) == 16
    assert len(orjson.dumps(status)) < 100_000


def test_of_many_engines_those_are_told_that_do_not_serve_and_the_status_stays_small() -> None:
    raw, found, _ = settled()
    serving = [pod(f"qwen-{number:03}", ready=True, container={"started": True, **RUNNING}) for number in range(200)]
    trouble = {"state": {"waiting": {"reason": "ErrImagePull", "message": "x" * 5000}}, "started": False}
    failing = [pod(f"qwen-z{number:03}", container=trouble) for number in range(20)]
    status = told_by(decide(observation(raw, found, *serving, *failing)))
    assert [one["state"] for one in status["engines"]] == ["Failing"] * 20 + ["Serving"] * 12
    assert len(orjson.dumps(status)) < 40_000


def test_a_model_without_engines_has_no_list_of_them() -> None:
    raw, found, _ = settled()
    assert "engines" not in told_by(decide(observation(raw, found)))


def test_an_engine_that_sleeps_is_the_reason_where_it_is_the_only_one() -> None:
    raw, found, _ = settled()
    found[DEPLOYMENT]["status"] = deployment_status(1, ready=0)
    sleeper = pod(container={"started": True, **RUNNING})
    told = EngineStatus("withdrawn", "Asleep", "asleep until it is woken up")
    known = {"uid-of-qwen-1": lookups.after_lookup(sleeper, None, told, NOW)}
    plan = decide(observation(raw, found, sleeper, lookups=known))
    assert conditions(told_by(plan))["Ready"] == ("False", "Asleep")
    assert condition(told_by(plan), "Ready")["message"] == (
        "0 of 1 engines serve; qwen-1 takes no traffic since 2026-11-22T11:00:00Z: asleep until it is woken up"
    )
    assert plan.news is None, "somebody has put it to sleep"


def test_the_event_of_an_engine_that_lost_its_traffic_waits_for_the_words_of_its_manager() -> None:
    raw, found, _ = settled()
    found[DEPLOYMENT]["status"] = deployment_status(1, ready=0)
    ports = [{"name": "gate", "containerPort": 8480}]
    lost = pod(container={"started": True, **RUNNING}, podIP="10.0.0.5")
    lost["spec"] = {"containers": [{"name": "vllm", "ports": ports}]}
    first = decide(observation(raw, found, lost))
    assert conditions(told_by(first))["Ready"] == ("False", "EnginesWithdrawn")
    assert first.news is None
    raw["status"] = told_by(first)
    for told in (EngineStatus("withdrawn", "Stalled", "no step with work"), NoAnswer("its manager cannot be reached")):
        known = {"uid-of-qwen-1": lookups.after_lookup(lost, None, told, NOW)}
        news = decide(observation(raw, found, lost, lookups=known)).news
        assert news is not None
        assert told.sentence in news.message
    lost["spec"] = {}
    unmanaged = decide(observation({**raw, "status": {}}, found, lost)).news
    assert unmanaged is not None, "nobody can be asked"


def test_the_event_of_an_engine_that_no_node_takes_waits_for_what_nodes_show_and_for_no_other_engine() -> None:
    raw, found, _ = settled(replicas=2)
    found[DEPLOYMENT]["status"] = deployment_status(2, ready=0)
    told = {"type": "PodScheduled", "status": "False", "message": "1 Insufficient nvidia.com/gpu."}
    unplaced = pod(conditions=({**told, "lastTransitionTime": "2026-11-22T11:59:00Z"},), containerStatuses=[])
    first = decide(observation(raw, found, unplaced))
    assert conditions(told_by(first))["Ready"] == ("False", "EnginesFailing")
    assert first.news is None
    raw["status"] = told_by(first)
    for placement in (Placement(Recognized("Unschedulable")), Placement(remark="nodes cannot be seen")):
        known = {"uid-of-qwen-1": lookups.after_lookup(unplaced, None, placement, NOW)}
        assert decide(observation(raw, found, unplaced, lookups=known)).news is not None
    crashed = pod("qwen-2", container={"state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no"}}})
    assert decide(observation(raw, found, unplaced, crashed)).news is not None, "that is known already"


def test_the_troubles_of_many_managers_are_a_few_warnings() -> None:
    raw, found, _ = settled()
    pods = [pod(f"qwen-{number}", container={"started": False, **RUNNING}) for number in range(5)]
    trouble = EngineStatus("starting", "Loading", trouble="a newer program is refused")
    known = {one["metadata"]["uid"]: lookups.after_lookup(one, None, trouble, NOW) for one in pods}
    warnings = told_by(decide(observation(raw, found, *pods, lookups=known)))["warnings"]
    assert warnings == [
        *(f"qwen-{number}: its manager is in trouble: a newer program is refused" for number in range(3)),
        "and the managers of 2 more engines",
    ]


# --- times


def test_a_transition_time_moves_with_its_status_only() -> None:
    raw, found, _ = settled()
    changed = copy.deepcopy(found)
    changed[DEPLOYMENT]["status"] = deployment_status(1, ready=0)
    withdrawn = pod(container={"started": True, "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}})
    status = told_by(decide(observation(raw, changed, withdrawn, now=LATER)))
    times = {found["type"]: found["lastTransitionTime"] for found in status["conditions"]}
    moved = "2026-11-22T13:00:00Z"
    stayed = dict.fromkeys(("Degraded", "Stalled", "TemplateUpdatePending"), STAMP)
    assert times == {"Ready": moved, "Available": moved, "Reconciling": moved, **stayed}


def test_a_message_that_changes_keeps_the_transition_time() -> None:
    def crashed(restarts: int) -> dict[str, Any]:
        state = {"terminated": {"exitCode": 1, "reason": "Error"}}
        return pod(container={"state": state, "restartCount": restarts})

    raw = resource()
    found = as_desired(raw, **deployment_status(1, ready=0))
    raw["status"] = told_by(decide(observation(raw, found, crashed(1))))
    status = told_by(decide(observation(raw, found, crashed(2), now=LATER)))
    assert "2 restarts" in condition(status, "Ready")["message"]
    assert {found["lastTransitionTime"] for found in status["conditions"]} == {STAMP}


# --- namespaces


def shared(*found: dict[str, Any]) -> dict[ObjectKey, dict[str, Any]]:
    """Live objects that the models of a namespace share."""
    return {key_of(one): one for one in found}


def around(*models: dict[str, Any], live_ones: Mapping[ObjectKey, Any] | None = None, **more: Any) -> Plan:
    """What is decided about a namespace."""
    found = {key: as_live(one) for key, one in (live_ones or {}).items()}
    return decide_namespace(NamespaceObservation("team", tuple(map(as_live, models)), found, NOW, **more))


def available(raw: dict[str, Any], status: str = "True") -> dict[str, Any]:
    """The same model with this status of Available."""
    return {**raw, "status": {"conditions": [{"type": "Available", "status": status}]}}


def listed_in(plan: Plan) -> list[dict[str, Any]]:
    """The models of the catalogue that a plan writes."""
    (write,) = plan.writes
    found: list[dict[str, Any]] = orjson.loads(write.desired["data"]["catalog.json"])["models"]
    return found


def test_what_models_share_is_made_with_the_first_one() -> None:
    made = (manager.program("team"), catalog("team", [resource()]))
    assert around(resource()) == Plan(writes=tuple(Write(desired, ours=False, reason="") for desired in made))


def test_what_models_share_is_left_alone_while_it_is_current() -> None:
    found = shared(live(manager.program("team")), live(catalog("team", [resource()])))
    assert around(resource(), live_ones=found) == Plan()
    touched = resource(generation=7)
    touched["metadata"]["annotations"] = {"example.com/touched": "yes"}
    assert around(touched, live_ones=found) == Plan()


@pytest.mark.parametrize("name", ["settings.py", "sitecustomize.py"])
def test_an_outdated_or_damaged_manager_is_written_again(name: str) -> None:
    program = live(manager.program("team"))
    program["data"][name] = "raise SystemExit(1)"
    plan = around(resource(), live_ones=shared(program, live(catalog("team", [resource()]))))
    assert plan == Plan(writes=(Write(manager.program("team"), ours=True, reason=""),))


def test_what_models_share_goes_with_the_last_one() -> None:
    program, shown = live(manager.program("team")), live(catalog("team", [resource()]))
    leaving = resource()
    leaving["metadata"]["deletionTimestamp"] = STAMP
    for models in ((), (leaving,)):
        assert around(*models, live_ones=shared(program, shown)) == Plan(deletions=(deletion(program), deletion(shown)))
        assert around(*models) == Plan()
    assert {program["metadata"]["name"], shown["metadata"]["name"]} == {MANAGER_CONFIG_MAP, CATALOG_CONFIG_MAP}


def test_the_programs_that_pods_of_an_earlier_version_run_are_left_as_they_are_until_the_last_model_goes() -> None:
    """Their kubelet runs the probes out of that ConfigMap: without a file of it, every one of those engines is out."""
    old = live(rendered_shared("team", GATES_CONFIG_MAP, component="gates", data={"probe.py": "as it was"}))
    current = (live(manager.program("team")), live(catalog("team", [resource()])))
    assert around(resource(), live_ones=shared(*current, old)) == Plan()
    assert around(live_ones=shared(old)) == Plan(deletions=(deletion(old),))


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"models": [{}]}', '{"models": 1}'])
def test_a_damaged_catalogue_is_written_again(damage: str) -> None:
    damaged = live(catalog("team", [resource()]))
    damaged["data"]["catalog.json"] = damage
    plan = around(resource(), live_ones=shared(live(manager.program("team")), damaged))
    assert plan == Plan(writes=(Write(catalog("team", [resource()]), ours=True, reason=""),))


def test_a_part_of_the_catalogue_that_is_no_longer_needed_goes() -> None:
    part = live(rendered_shared("team", "vllm-catalog-2", component="catalog", data={"catalog-2.json": "{}"}))
    found = shared(live(manager.program("team")), live(catalog("team", [resource()])), part)
    assert around(resource(), live_ones=found) == Plan(deletions=(deletion(part),))


def test_the_catalogue_follows_readiness_edits_and_deletions() -> None:
    leaving = resource("llama")
    leaving["metadata"]["deletionTimestamp"] = STAMP
    found = shared(live(manager.program("team")), live(catalog("team", [resource(), resource("llama")])))
    plan = around(available(resource(catalog={"tasks": ["chat"]})), leaving, live_ones=found)
    (shown,) = listed_in(plan)
    assert (shown["name"], shown["ready"], shown["tasks"]) == ("qwen", True, ["chat"])
    unready = shared(live(manager.program("team")), live(catalog("team", [available(resource())])))
    assert [one["ready"] for one in listed_in(around(available(resource(), "False"), live_ones=unready))] == [False]


def test_a_model_whose_edit_cannot_be_followed_stays_in_the_catalogue_as_its_engines_stay() -> None:
    bad = resource(engine={"extraArgs": ["--seed", "1", "--see=1"]}, model={"source": "org/other"})
    before = shared(live(manager.program("team")), live(catalog("team", [resource()])))
    (shown,) = listed_in(around(available(bad), live_ones=before))
    assert (shown["served_names"], shown["ready"]) == ([resource()["spec"]["model"]["source"]], True)
    assert listed_in(around(bad, live_ones=shared(live(manager.program("team"))))) == []


def test_a_catalogue_that_was_just_judged_waits_so_that_many_changes_cost_one_write() -> None:
    program = shared(live(manager.program("team")))
    just = NOW - timedelta(seconds=0.3)
    assert around(resource(), live_ones=program, catalog_judged_at=just) == Plan(
        look_again_at=just + timedelta(seconds=1)
    )
    late = around(resource(), live_ones=program, catalog_judged_at=NOW - timedelta(seconds=1))
    assert late == Plan(writes=(Write(catalog("team", [resource()]), ours=False, reason=""),))
    gone = shared(live(catalog("team", [resource()])))
    assert around(live_ones=gone, catalog_judged_at=just).deletions == tuple(map(deletion, gone.values()))


def test_a_patch_that_does_not_fit_stalls_the_model_and_leaves_its_children() -> None:
    raw = resource(generation=2, pod={"patch": {"spec": {"containers": [{"image": "x"}]}}})
    plan = decide(observation(raw, as_desired(resource())))
    assert (plan.writes, plan.deletions) == ((), ())
    assert plan.status is not None
    stalled = condition(plan.status, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    assert "spec.pod.patch.spec.containers[0]" in stalled["message"]


def test_a_catalogue_of_thousands_is_compared_more_rarely() -> None:
    assert catalog_interval(1) == catalog_interval(500) == timedelta(seconds=1)
    assert catalog_interval(3000) == timedelta(seconds=6)
