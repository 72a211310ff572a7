"""Carrying out what was decided, against an API server that is told what to answer."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import pytest

from tests.support.resources import (
    NOW,
    as_desired,
    as_live,
    child_of,
    condition,
    deployment_status,
    desired,
    live,
    pod,
    resource,
)
from vllm_operator.api.live import LiveObject, ObjectVersion, key_of, live_object
from vllm_operator.api.names import MANAGED_BY
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.kinds import CHILDREN as CHILD_KINDS
from vllm_operator.cluster.kinds import CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, MODEL, POD, SERVICE, kind_of
from vllm_operator.cluster.queue import NamespaceKey, Queue, QueueKey
from vllm_operator.controller.announce import Announcer
from vllm_operator.controller.follow import Reconcilers
from vllm_operator.controller.intake import Intake
from vllm_operator.controller.namespace import NamespaceReconciler
from vllm_operator.controller.reconcile import ModelReconciler
from vllm_operator.diagnosis.engine_status import EngineStatus, NoAnswer
from vllm_operator.errors import (
    ApiConflict,
    ApiEnding,
    ApiInvalid,
    ApiNotFound,
    ApiNotServed,
    ApiRefused,
    ApiSilent,
    ApiUnavailable,
    OperatorError,
)
from vllm_operator.planner.namespace import CATALOG_AFTER
from vllm_operator.planner.pace import PAUSE
from vllm_operator.render import manager
from vllm_operator.telemetry import ModelMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.engine_status import EngineStatusReader
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.diagnosis.facts import Finding
    from vllm_operator.errors import ApiError

pytestmark = pytest.mark.slow

QWEN, SHARED = Key("team", "qwen"), NamespaceKey("team")


class Server:
    """An API server with its objects, its log of writes, and errors that it is told to answer with."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.writes: list[tuple[str, str, bool]] = []
        self.reads: list[tuple[str, str]] = []
        self.patches: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []
        self.status: Finding = EngineStatus("starting", "Loading", phase="Downloading")
        self.busy: dict[str, EngineStatus] = {}
        """What managers answer by their URLs, where it is not `status`."""
        self.errors: dict[str, Exception] = {}
        self.mounting: list[dict[str, Any]] = []
        self.version = 1000

    async def get(self, kind: Kind, namespace: str, name: str) -> LiveObject:
        """One object."""
        assert namespace == "team"
        self.reads.append((kind.kind, name))
        if kind.kind in self.errors and kind.kind == "Secret":
            raise self.errors[kind.kind]
        if (kind.kind, name) not in self.objects:
            raise ApiNotFound("GET", "not found")
        return as_live(self.objects[kind.kind, name])

    async def apply(self, desired: Mapping[str, Any], *, force: bool) -> LiveObject:
        """Make an object, or change it by force."""
        key = (desired["kind"], desired["metadata"]["name"])
        self.writes.append((*key, force))
        once = self.errors.pop(f"{desired['kind']} once", None)
        if once is not None:
            raise once
        if desired["kind"] in self.errors:
            raise self.errors[desired["kind"]]
        if not force and key in self.objects:
            raise ApiConflict("PATCH", "the object has been modified")
        self.version += 1
        before = self.objects.get(key, {})
        found = {**live(desired), "status": before.get("status", {})}
        found["metadata"] |= {"resourceVersion": str(self.version)}
        changed = before.get("spec") != found.get("spec")
        found["metadata"]["generation"] = before.get("metadata", {}).get("generation", 0) + changed
        self.objects[key] = found
        return live_object(found)

    async def patch_status(self, model: LiveObject, status: dict[str, Any]) -> LiveObject:
        """Keep a status."""
        assert (model.namespace, model.name, model.uid) == ("team", "qwen", "uid-of-qwen")
        if "status" in self.errors:
            raise self.errors["status"]
        self.version += 1
        self.statuses.append(status)
        raw = resource()
        raw["metadata"]["resourceVersion"] = str(self.version)
        return live_object({**raw, "status": status})

    async def patch(self, found: LiveObject, changes: dict[str, Any]) -> LiveObject:
        """Keep a patch, and its part of the metadata."""
        if "PATCH" in self.errors:
            raise self.errors["PATCH"]
        self.patches.append(changes)
        metadata = {**found.body["metadata"], **changes.get("metadata", {})}
        self.version += 1
        return live_object({**found.body, "metadata": {**metadata, "resourceVersion": str(self.version)}})

    async def annotate(self, found: LiveObject, annotations: dict[str, str | None]) -> LiveObject:
        """Keep annotations of a pod."""
        if "annotate" in self.errors:
            raise self.errors["annotate"]
        self.writes.append(("Pod", found.name, False))
        kept = {key: value for key, value in annotations.items() if value is not None}
        self.version += 1
        metadata = {**found.body["metadata"], "annotations": kept, "resourceVersion": str(self.version)}
        return live_object({**found.body, "metadata": metadata})

    async def pods(self, namespace: str) -> list[dict[str, Any]]:
        """Pods of a namespace."""
        self.reads.append(("Pod", namespace))
        return self.mounting

    async def delete(self, found: LiveObject) -> None:
        """Delete an object."""
        if "DELETE" in self.errors:
            raise self.errors["DELETE"]
        self.deleted.append(found.name)

    async def objects_in(self, kind: Kind, namespace: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        self.reads.append((kind.kind, namespace))
        if kind.kind in self.errors:
            raise self.errors[kind.kind]
        return [found for (name, _), found in self.objects.items() if name == kind.kind]

    async def warnings_about(self, found: LiveObject) -> list[dict[str, Any]]:
        """What kubelet said of a pod."""
        self.reads.append(("Event", found.name))
        if "Event" in self.errors:
            raise self.errors["Event"]
        return self.said

    async def read(self, url: str) -> Finding:
        """What the manager in a pod says."""
        self.reads.append(("status", url))
        return self.busy.get(url) or self.status

    async def post_event(self, event: dict[str, Any]) -> None:
        """Keep an Event."""
        if "POST" in self.errors:
            raise self.errors["POST"]
        self.events.append(event)


class Control:
    """A reconciler with its cache and its server."""

    def __init__(self, raw: dict[str, Any] | None = None) -> None:
        self.cache, self.server, self.metrics = Cache(), Server(), ModelMetrics()
        self.looked_at: list[QueueKey] = []
        client = cast("Client", self.server)
        self.passed = timedelta()
        announcer = Announcer(client)
        look_at = self.looked_at.append
        managers = cast("EngineStatusReader", self.server)
        self.model = ModelReconciler(
            client, self.cache, announcer, self.metrics, look_at, managers=managers, clock=self.now
        )
        self.namespace = NamespaceReconciler(client, self.cache, announcer, clock=self.now)
        self.reconcilers = Reconcilers(self.model, self.namespace)
        if raw is not None:
            self.cache.put(MODEL, as_live(raw))

    def now(self) -> datetime:
        """The time, as far as the test has let it pass."""
        return NOW + self.passed

    def have(self, *objects: Mapping[str, Any], cached: bool = True) -> None:
        """Objects that are there."""
        for found in objects:
            self.server.objects[found["kind"], found["metadata"]["name"]] = copy.deepcopy(dict(found))
            if cached:
                self.cache.put(kind_of(found["kind"]), as_live(found))

    def follow(self) -> None:
        """The Deployment's controller has seen what was written, and made the pods."""
        deployment = cached(self, DEPLOYMENT)
        wanted = deployment["spec"]["replicas"]
        counts = {"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": 1, "availableReplicas": 1}
        status = {**counts, "unavailableReplicas": wanted - 1}
        deployment["status"] = {"observedGeneration": deployment["metadata"]["generation"], **status}
        self.server.version += 1
        deployment["metadata"]["resourceVersion"] = str(self.server.version)
        self.have(deployment)

    def measured(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample of a metric."""
        (family,) = (family for family in self.metrics.collect() if family.name == f"vllm_operator_{name}")
        return [(sample.labels, sample.value) for sample in family.samples]

    async def reconcile(self, key: QueueKey = QWEN) -> float | None:
        """One pass."""
        return await self.reconcilers.reconcile(key)

    async def settle(self) -> float | None:
        """Passes until no lookup brings anything new, with the pause between two statuses."""
        delay = await self.reconcile()
        await self.model.lookups.settled()
        while QWEN in self.looked_at:
            self.looked_at.remove(QWEN)
            self.passed += PAUSE
            delay = await self.reconcile()
            await self.model.lookups.settled()
        return delay


@pytest.fixture
def serving() -> Control:
    """A model that serves, and whose status says so."""
    raw = resource()
    control = Control(raw)
    control.have(*as_desired(raw, **deployment_status(1)).values())
    control.cache.put(POD, as_live(pod(ready=True)))
    return control


def cached(control: Control, kind: Kind) -> dict[str, Any]:
    """The model's object of a kind as the operator knows it, to be changed."""
    found = control.cache.get(kind, QWEN)
    assert found is not None
    return copy.deepcopy(dict(found.body))


CHILDREN = sorted(map(key_of, desired(resource())), key=lambda key: key != ("ConfigMap", "qwen-client"))
"""In the order in which they are written: one before all others."""


async def test_a_new_model_costs_one_write_for_each_child_and_one_status_and_then_nothing() -> None:
    control = Control(resource())
    assert await control.reconcile() is None
    assert control.server.writes == [(*child, False) for child in CHILDREN]
    assert len(control.server.statuses) == 1
    for _ in range(3):
        await control.reconcile()
    assert len(control.server.writes) == len(CHILDREN)
    assert len(control.server.statuses) == 1


async def test_the_answers_of_all_writes_and_of_the_status_are_told_as_changes_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A watch that brings them before the answers has nothing looked at once more."""
    control, made = Control(resource()), set[ObjectVersion]()
    monkeypatch.setattr(control.model, "_made", lambda key, changes: made.update(changes if key == QWEN else ()))
    await control.reconcile()
    written = [live for kind in CHILD_KINDS for _, live in control.cache.items(kind)]
    model = control.cache.get(MODEL, QWEN)
    assert model is not None
    assert made == {live.version for live in (*written, model)}
    assert len(written) == len(CHILDREN)


async def test_a_world_as_desired_costs_no_call(serving: Control) -> None:
    await serving.reconcile()
    calls = (list(serving.server.writes), len(serving.server.statuses))
    await serving.reconcile()
    assert (serving.server.writes, len(serving.server.statuses)) == calls == ([], 1)


async def test_a_label_that_is_mended_leaves_the_model_ready(serving: Control) -> None:
    await serving.reconcile()
    deployment = cached(serving, DEPLOYMENT)
    deployment["metadata"] |= {"resourceVersion": "500", "labels": {**deployment["metadata"]["labels"]}}
    deployment["metadata"]["labels"]["app.kubernetes.io/part-of"] = "changed"
    serving.have(deployment)
    await serving.reconcile()
    assert serving.server.writes == [("Deployment", "qwen", True)]
    assert [condition(status, "Ready")["status"] for status in serving.server.statuses] == ["True"]


async def test_a_spec_that_changed_is_told_as_a_rollout_until_the_deployment_has_seen_it(serving: Control) -> None:
    await serving.reconcile()
    edited = resource(generation=2, engine={"blockSize": 32})
    edited["metadata"]["resourceVersion"] = "5000"
    serving.cache.put(MODEL, as_live({**edited, "status": serving.server.statuses[-1]}))
    await serving.reconcile()
    assert condition(serving.server.statuses[-1], "Ready")["reason"] == "RollingOut"


async def test_a_refusal_is_told_in_the_status_and_tried_again_later() -> None:
    control = Control(resource())
    control.server.errors["Deployment"] = ApiRefused("PATCH", "exceeded quota: gpus")
    delay = await control.reconcile()
    assert delay == 30
    (status,) = control.server.statuses
    assert condition(status, "Stalled")["reason"] == "ChildRefused"
    assert "exceeded quota: gpus" in condition(status, "Stalled")["message"]
    control.server.errors.clear()
    written = len(control.server.writes)
    control.passed += timedelta(seconds=29)
    assert await control.reconcile() == 1
    assert len(control.server.writes) == written, "no watch event makes it try again sooner"
    control.passed += timedelta(seconds=1)
    assert await control.reconcile() is None
    assert condition(control.server.statuses[-1], "Stalled")["status"] == "False"


async def test_a_foreign_object_that_the_cache_does_not_know_is_left_alone() -> None:
    control = Control(resource())
    foreign = {"kind": "ConfigMap", "metadata": {"name": "qwen-client", "namespace": "team"}, "data": {"a": "b"}}
    control.have(foreign, cached=False)
    assert await control.reconcile() == 30
    assert "Deployment" not in [kind for kind, _, _ in control.server.writes], "no engine starts beside it"
    assert control.server.objects["ConfigMap", "qwen-client"] == foreign
    (status,) = control.server.statuses
    assert condition(status, "Stalled")["reason"] == "NameTaken"
    del control.server.objects["ConfigMap", "qwen-client"]
    control.passed += timedelta(seconds=30)
    assert await control.reconcile() is None


async def test_children_of_ours_that_lost_the_operators_label_are_taken_back() -> None:
    raw = resource()
    control = Control(raw)
    mine = as_desired(raw)
    for child in mine.values():
        del child["metadata"]["labels"][MANAGED_BY]
        control.cache.put(kind_of(child["kind"]), as_live(child))
        control.cache.remove(kind_of(child["kind"]), as_live(child))
    control.have(*mine.values(), cached=False)
    assert await control.reconcile() is None
    forced = [name for kind, name, force in control.server.writes if force]
    assert len(forced) == len(mine)
    assert len(control.cache.children("team", "qwen")) == len(mine)


async def test_children_as_desired_that_no_watch_has_shown_yet_are_not_written() -> None:
    raw = resource()
    control = Control(raw)
    control.have(*as_desired(raw, **deployment_status(1)).values(), cached=False)
    await control.reconcile()
    assert control.server.writes == [(*child, False) for child in CHILDREN]
    assert condition(control.server.statuses[-1], "Ready")["status"] == "True"
    await control.reconcile()
    assert len(control.server.writes) == len(CHILDREN)


async def test_a_server_that_is_down_is_left_to_the_queue() -> None:
    control = Control(resource())
    control.server.errors["Service"] = ApiSilent("PATCH", "connection refused")
    with pytest.raises(ApiUnavailable):
        await control.reconcile()
    assert "Deployment" not in [kind for kind, _, _ in control.server.writes], "nothing more is asked of it"
    assert control.server.statuses == []


@pytest.mark.parametrize("error", [ApiUnavailable("PATCH", "webhook is down"), ApiNotFound("PATCH", "no such kind")])
async def test_a_child_that_cannot_be_written_now_is_told_once_and_tried_again_by_the_queue(error: ApiError) -> None:
    control = Control(resource())
    control.server.errors["Service"] = error
    for _ in range(2):
        with pytest.raises(type(error)):
            await control.reconcile()
    (status,) = control.server.statuses
    assert condition(status, "Reconciling")["reason"] == "ChildNotWritten"
    assert condition(status, "Reconciling")["message"].startswith(f"Service qwen: {error.message}; Service qwen-eng")
    assert ("Deployment", "qwen") in control.server.objects
    control.server.errors.clear()
    control.passed += PAUSE
    assert await control.reconcile() is None
    assert condition(control.server.statuses[-1], "Ready")["reason"] == "EnginesStarting"


async def test_what_is_refused_does_not_keep_the_other_children_from_being_written() -> None:
    control = Control(resource())
    control.server.errors["ConfigMap"] = ApiRefused("PATCH", "exceeded quota")
    assert await control.reconcile() == 30
    assert len(control.server.objects) == len(CHILDREN) - 1
    (status,) = control.server.statuses
    assert condition(status, "Stalled")["message"] == "ConfigMap qwen-client: exceeded quota"
    assert status["url"] == "http://qwen.team.svc:8000/v1"


async def test_a_namespace_that_is_being_deleted_costs_one_try_and_nobody_is_told() -> None:
    control = Control(resource())
    control.server.errors["ConfigMap"] = ApiEnding("PATCH", "namespace team is being terminated")
    for key in (QWEN, SHARED):
        assert await control.reconcile(key) is None
    assert "Deployment" not in [kind for kind, _, _ in control.server.writes]
    assert control.server.statuses == []


def unwanted() -> dict[str, Any]:
    """A child of the model under a name that nobody wants."""
    found = live(child_of(resource(), "Service"))
    found["metadata"] |= {"name": "qwen-old", "uid": "uid-of-old"}
    return found


async def test_a_child_that_is_no_longer_wanted_is_deleted_once_after_all_writes(serving: Control) -> None:
    serving.have(unwanted())
    await serving.reconcile()
    await serving.reconcile()
    assert serving.server.deleted == ["qwen-old"]
    assert serving.server.writes == []


async def test_nothing_is_deleted_while_a_write_is_refused() -> None:
    control = Control(resource())
    control.have(unwanted())
    control.server.errors["Deployment"] = ApiRefused("PATCH", "exceeded quota")
    await control.reconcile()
    await control.reconcile()
    assert control.server.deleted == []
    control.server.errors.clear()
    control.passed += timedelta(seconds=30)
    await control.reconcile()
    assert control.server.deleted == ["qwen-old"]


async def test_a_child_that_is_refused_for_an_edit_is_cleared_of_it_and_applied_again(serving: Control) -> None:
    edited = cached(serving, SERVICE)
    edited["metadata"]["resourceVersion"] = "500"
    edited["spec"]["ports"][0]["port"] = 9000
    serving.have(edited)
    serving.server.errors["Service once"] = ApiInvalid("PATCH", "spec.ports[1].name: Duplicate value")
    assert await serving.reconcile() is None
    assert serving.server.writes == [("Service", "qwen", True)] * 2
    first, second = serving.server.patches
    assert first["spec"]["ports"][0]["port"] == 8000
    assert list(second) == ["metadata"]


async def test_a_child_that_is_refused_for_what_it_is_is_not_patched(serving: Control) -> None:
    edited = cached(serving, SERVICE)
    edited["metadata"] |= {"resourceVersion": "500", "labels": {}}
    serving.have(edited)
    serving.cache.put(SERVICE, as_live({**edited, "metadata": {**edited["metadata"], "resourceVersion": "501"}}))
    serving.server.errors["Service"] = ApiInvalid("PATCH", "clusterIP is immutable")
    assert await serving.reconcile() == 30
    assert serving.server.patches == []
    assert condition(serving.server.statuses[-1], "Stalled")["message"] == "Service qwen: clusterIP is immutable"


# --- API keys


def keyed(**auth: Any) -> dict[str, Any]:
    """A model with that `spec.auth`."""
    return {**resource(), "spec": {**resource()["spec"], "auth": auth}}


@pytest.mark.parametrize("error", [ApiNotFound("GET", "not found"), ApiRefused("GET", "forbidden")])
async def test_a_secret_that_cannot_be_read_does_not_stop_the_look(error: ApiError) -> None:
    control = Control()
    control.server.errors["Secret"] = error
    assert await control.model._secrets("team", keyed(keys=[{"name": "a", "key": "b"}])) == {}  # noqa: SLF001 # the unit under test


async def test_each_secret_that_the_spec_names_is_read_once_and_no_other() -> None:
    control = Control()
    control.have(
        {"kind": "Secret", "metadata": {"name": "a", "namespace": "team"}, "data": {"b": "Yw=="}}, cached=False
    )
    read = control.model._secrets  # noqa: SLF001 # the unit under test
    found = await read("team", keyed(keys=[{"name": "a", "key": "b"}, {"name": "a", "key": "c"}]))
    assert found["a"]["data"] == {"b": "Yw=="}
    assert await read("team", keyed(generate=True)) == {}
    assert await read("team", resource()) == {}
    assert control.server.reads == [("Secret", "a")]


@pytest.mark.parametrize("error", [ApiNotFound("PATCH", "not found"), ApiConflict("PATCH", "another uid")])
async def test_a_model_that_is_gone_or_replaced_needs_no_status_and_its_children_are_not_made_again(
    error: ApiError,
) -> None:
    control = Control(resource())
    control.server.errors["status"] = error
    assert await control.reconcile() is None
    written = len(control.server.writes)
    control.server.objects.clear()
    for found in control.cache.children("team", "qwen"):  # the garbage collector follows
        control.cache.remove(kind_of(found.kind), found)
    assert await control.reconcile() is None
    assert len(control.server.writes) == written
    assert control.looked_at == [SHARED], "its namespace's catalogue names it no longer"


NEWER_REASON = "status.conditions[0].reason"


def definition(
    control: Control, *refused: str, lacks: str = "", defaults: Mapping[str, Any] | None = None
) -> list[int]:
    """Have the API server hold another definition of the status; returns the counts of what it took and refused."""
    write, counts = control.server.patch_status, [0, 0]

    async def patch_status(model: LiveObject, status: dict[str, Any]) -> LiveObject:
        named = tuple(field for field in refused if refuses(status, field))
        if named:
            counts[1] += 1
            raise ApiInvalid("PATCH", "Unsupported value (HTTP 422)", fields=named)
        counts[0] += 1
        kept = {name: value for name, value in status.items() if name != lacks}
        return await write(model, {**(defaults or {}), **kept})

    control.server.patch_status = patch_status  # type: ignore[method-assign] # the test's own fake
    return counts


def refuses(status: Mapping[str, Any], field: str) -> bool:
    """Whether a status has the part; conditions without a reason are refused for it, too."""
    if field == NEWER_REASON:
        return any(one["type"] == "Ready" for one in status["conditions"])
    return field.removeprefix("status.") in status


@pytest.mark.parametrize("field", ["status.binding", NEWER_REASON], ids=["field", "reason"])
async def test_what_is_refused_of_a_status_is_left_out_and_an_unchanged_world_costs_no_further_write(
    field: str, caplog: pytest.LogCaptureFixture
) -> None:
    control = Control(resource())
    counts = definition(control, field)
    with caplog.at_level("WARNING"):
        await control.reconcile()
        told, tries = control.server.statuses[-1], list(counts)
        control.passed += timedelta(hours=1)
        assert told["url"]
        assert not refuses(told, field)
        for _ in range(3):
            control.passed += timedelta(seconds=7)
            await control.reconcile()
    assert counts == tries
    assert len([record for record in caplog.records if "refuses a part of a status" in record.message]) <= 2


@pytest.mark.parametrize("defaults", [{}, {"extra": 1}], ids=["dropped", "added"])
async def test_a_status_that_is_not_kept_as_it_was_told_is_told_no_further_in_an_unchanged_world(
    defaults: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    control = Control(resource())
    counts = definition(control, lacks="binding", defaults=defaults)
    with caplog.at_level("WARNING"):
        for _ in range(2):
            control.passed += timedelta(seconds=7)
            await control.reconcile()
        tries = counts[0]
        for _ in range(3):
            control.passed += timedelta(seconds=7)
            await control.reconcile()
    assert counts[0] == tries <= 2
    (record,) = [record for record in caplog.records if "does not keep a part of a status" in record.message]
    assert "status.binding" in record.message


async def test_what_was_refused_is_tried_again_with_the_next_status() -> None:
    control = Control(resource())
    write = control.server.patch_status
    definition(control, "status.binding")
    await control.reconcile()
    assert "binding" not in control.server.statuses[-1]
    control.server.patch_status = write  # type: ignore[method-assign] # the definition is upgraded
    control.passed += timedelta(seconds=7)
    control.have(*as_desired(resource(), **deployment_status(1)).values())
    control.cache.put(POD, as_live(pod(ready=True)))
    await control.reconcile()
    assert control.server.statuses[-1]["binding"]


async def test_a_status_that_is_refused_as_a_whole_is_an_error() -> None:
    control = Control(resource())
    control.server.errors["status"] = ApiInvalid("PATCH", "no (HTTP 422)", fields=("spec.model", "status"))
    with pytest.raises(ApiInvalid):
        await control.reconcile()


@pytest.mark.parametrize("edit", ["spec", "labels", "annotations", "deletion"])
async def test_an_edit_that_the_answer_to_a_status_brings_before_the_watch_does_is_followed(edit: str) -> None:
    control, queue = Control(resource()), Queue()
    edited = resource(generation=2, replicas=7) if edit == "spec" else resource()
    edited["metadata"] |= {
        "labels": {"labels": {"team": "a"}},
        "annotations": {"annotations": {"note": "b"}},
        "deletion": {"generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z"},
    }.get(edit, {})
    edited["metadata"]["resourceVersion"] = "5000"

    async def patch_status(model: LiveObject, status: dict[str, Any]) -> LiveObject:
        assert model.uid == edited["metadata"]["uid"]
        answer = copy.deepcopy({**edited, "status": status})
        answer["metadata"]["resourceVersion"] = "5001"
        return live_object(answer)

    control.server.patch_status = patch_status  # type: ignore[method-assign] # the test's own fake
    await control.reconcile()
    assert Intake(control.cache, queue).changed(MODEL, as_live(edited)), "news, though an answer has brought it before"
    assert len(queue) == len([QWEN, SHARED])


async def test_a_status_is_for_the_model_that_was_observed_and_not_for_its_successor() -> None:
    control = Control(resource())
    successor = resource()
    successor["metadata"] |= {"uid": "uid-of-another", "resourceVersion": "4000"}
    make = control.server.apply

    async def replaced_meanwhile(desired: Mapping[str, Any], *, force: bool) -> LiveObject:
        control.cache.put(MODEL, live_object(successor))
        return await make(desired, force=force)

    control.server.apply = replaced_meanwhile  # type: ignore[method-assign] # the test's own fake
    assert await control.reconcile() is None, "the fake refuses a status for any but the first model"
    found = control.cache.get(MODEL, QWEN)
    assert found is not None


async def test_a_kind_that_is_not_served_says_nothing_of_a_model() -> None:
    control = Control(resource())
    control.server.errors["status"] = ApiNotServed("PATCH", "404 page not found")
    with pytest.raises(ApiNotServed):
        await control.reconcile()
    assert control.cache.get(MODEL, QWEN) is not None


@pytest.mark.parametrize("error", [ApiUnavailable("DELETE", "etcd is slow"), ApiRefused("DELETE", "forbidden")])
async def test_a_deletion_that_does_not_go_through_is_told(serving: Control, error: ApiError) -> None:
    serving.have(unwanted())
    serving.server.errors["DELETE"] = error
    with contextlib.suppress(ApiUnavailable):
        await serving.reconcile()
    assert condition(serving.server.statuses[-1], "Ready")["message"] == f"Service qwen-old: {error.message}"


# --- writes that do not stick


@pytest.mark.parametrize("followed", [False, True], ids=["unseen by its controller", "seen by its controller"])
async def test_a_field_that_a_policy_overwrites_is_told_and_written_at_longer_and_longer_intervals(
    serving: Control, *, followed: bool
) -> None:
    """The numbers that lead the Deployment's controller depend on what it has seen, and change with every write."""
    forced = {"replicas": 3}
    make = serving.server.apply

    async def mutated(desired: Mapping[str, Any], *, force: bool) -> LiveObject:
        found = await make(desired, force=force)
        if found.kind != "Deployment":
            return found
        return live_object({**found.body, "spec": {**found.body["spec"], **forced}})

    serving.server.apply = mutated  # type: ignore[method-assign] # the test's own fake
    deployment = cached(serving, DEPLOYMENT)
    deployment["metadata"]["resourceVersion"] = "500"
    deployment["spec"]["replicas"] = 3
    serving.have(deployment)
    writes_a_minute = []
    for minute in range(31):
        before = len(serving.server.writes)
        for _ in range(60):  # an event of the watch every second
            await serving.reconcile()
            if followed:
                serving.follow()
            serving.passed += timedelta(seconds=1)
        writes_a_minute.append(len(serving.server.writes) - before)
        assert minute > 1 or writes_a_minute[0] <= 6  # maxSurge follows what is forced once, and then stays
    assert sum(writes_a_minute[10:]) <= 3
    told = {one for status in serving.server.statuses for one in status["warnings"] if "Deployment qwen" in one}
    (warning,) = told  # the words stay the same
    assert warning.startswith("Deployment qwen: spec.replicas: 3 -> 1: what the operator writes does not stick")
    assert len(serving.server.statuses) <= 1 + 2 * sum(writes_a_minute), "a status for each write, and for who saw it"
    forced.clear()
    serving.passed += timedelta(minutes=10)
    await serving.reconcile()
    found = serving.cache.get(DEPLOYMENT, QWEN)
    assert found is not None
    assert found.body["spec"]["replicas"] == 1
    assert "warnings" not in serving.server.statuses[-1]


async def test_two_who_want_another_value_each_do_not_write_without_end(serving: Control) -> None:
    """A second controller answers each of our writes at once, and each of its writes is an event."""
    await serving.reconcile()
    for number in range(600):
        deployment = cached(serving, DEPLOYMENT)
        deployment["metadata"]["resourceVersion"] = str(10_000 + number)
        deployment["spec"]["replicas"] = 5
        serving.server.version = 10_000 + number
        serving.have(deployment)
        await serving.reconcile()
        serving.passed += timedelta(seconds=1)
    assert len(serving.server.writes) <= 30
    (warning,) = serving.server.statuses[-1]["warnings"]
    assert warning.startswith("Deployment qwen: spec.replicas: 5 -> 1: what the operator writes does not stick")


async def test_what_pods_need_is_written_side_by_side_and_before_the_deployment() -> None:
    control = Control(resource())
    make, running, most = control.server.apply, 0, 0

    async def slowly(desired: Mapping[str, Any], *, force: bool) -> LiveObject:
        nonlocal running, most
        running += 1
        most = max(most, running)
        assert desired["kind"] != "Deployment" or running == 1
        await asyncio.sleep(0)
        running -= 1
        return await make(desired, force=force)

    control.server.apply = slowly  # type: ignore[method-assign] # the test's own fake
    await control.reconcile()
    assert most == len(CHILDREN) - 2, "all but the first one and the Deployment"
    assert control.server.writes[-1][0] == "Deployment"


async def test_every_write_says_why(serving: Control, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await serving.reconcile()
    edited = resource(generation=2, engine={"maxModelLen": 512})
    edited["metadata"]["resourceVersion"] = "5000"
    serving.cache.put(MODEL, as_live(edited))
    await serving.reconcile()
    assert "applied Deployment qwen (spec.template.spec.containers[vllm].args: nothing -> --max-model-len 512" in (
        caplog.text
    )


async def test_a_model_that_is_gone_costs_nothing() -> None:
    control = Control()
    assert await control.reconcile() is None
    assert (control.server.writes, control.server.statuses, control.server.deleted) == ([], [], [])


async def test_what_models_share_comes_with_the_first_one_and_goes_with_the_last() -> None:
    control = Control(resource())
    assert await control.reconcile(SHARED) is None
    assert await control.reconcile(SHARED) == 1
    assert control.server.writes == [("ConfigMap", "vllm-manager", False), ("ConfigMap", "vllm-catalog", False)]
    control.cache.remove(MODEL, as_live({"metadata": {**resource()["metadata"], "resourceVersion": "5000"}}))
    assert await control.reconcile(SHARED) is None
    assert control.server.deleted == ["vllm-manager", "vllm-catalog"]


async def test_models_that_come_together_cost_one_more_write_of_the_catalogue() -> None:
    control = Control(resource())
    await control.reconcile(SHARED)
    for number in range(50):
        control.cache.put(MODEL, as_live(resource(f"model-{number}")))
        assert await control.reconcile(SHARED) == 1
    for _ in range(3):
        control.passed += timedelta(seconds=1)
        assert await control.reconcile(SHARED) == CATALOG_AFTER.total_seconds()
        control.passed += CATALOG_AFTER
        assert await control.reconcile(SHARED) is None
    assert [name for _, name, _ in control.server.writes].count("vllm-catalog") == 2
    assert len(shown(control)["models"]) == 51


async def test_a_model_that_comes_later_goes_before_the_catalogue_which_waits_no_longer_for_those_that_follow() -> None:
    control, half = Control(resource()), CATALOG_AFTER / 2
    await control.reconcile(SHARED)
    control.passed += timedelta(minutes=1)
    for name in ("first", "second"):
        control.cache.put(MODEL, as_live(resource(name)))
        assert await control.reconcile(SHARED) == (CATALOG_AFTER - half * (name == "second")).total_seconds()
        assert len(shown(control)["models"]) == 1
        control.passed += half
    await control.reconcile(SHARED)
    assert len(shown(control)["models"]) == 3


async def test_a_model_that_gets_ready_has_its_catalogue_looked_at_and_one_that_stays_so_has_not(
    serving: Control,
) -> None:
    await serving.reconcile()
    assert serving.looked_at == [SHARED]
    serving.passed += timedelta(seconds=1)
    await serving.reconcile(SHARED)
    assert [(one["name"], one["ready"]) for one in shown(serving)["models"]] == [("qwen", True)]
    await serving.reconcile()
    assert serving.looked_at == [SHARED]


@pytest.mark.parametrize("name", ["vllm-manager", "vllm-catalog"])
async def test_a_foreign_config_map_under_a_shared_name_is_left_alone_and_told(name: str) -> None:
    control = Control(resource())
    foreign = {"kind": "ConfigMap", "metadata": {"name": name, "namespace": "team"}}
    control.have(foreign, cached=False)
    for _ in range(2):
        with pytest.raises(OperatorError, match=f"ConfigMap {name} exists and is not the operator's"):
            await control.reconcile(SHARED)
    assert control.server.objects["ConfigMap", name] == foreign
    (event,) = control.server.events
    assert (event["type"], event["reason"], event["involvedObject"]["name"]) == ("Warning", "NameTaken", "qwen")
    assert event["message"] == f"ConfigMap {name} exists and is not the operator's: delete or rename it"
    del control.server.objects["ConfigMap", name]
    assert await control.reconcile(SHARED) is None


async def test_a_manager_of_ours_is_taken_back() -> None:
    control = Control(resource())
    old = live(manager.program("team"))
    old["data"] = {}
    control.have(old, cached=False)
    await control.reconcile(SHARED)
    assert ("ConfigMap", "vllm-manager", True) in control.server.writes
    found = control.cache.get(CONFIG_MAP, Key("team", "vllm-manager"))
    assert found is not None
    assert found.body["data"] == manager.program("team")["data"]


def shown(control: Control) -> dict[str, Any]:
    """The catalogue that is there."""
    found: dict[str, Any] = json.loads(control.server.objects["ConfigMap", "vllm-catalog"]["data"]["catalog.json"])
    return found


async def test_every_child_that_is_written_is_known_at_once() -> None:
    control = Control(resource())
    await control.reconcile()
    for kind, name, _ in control.server.writes:
        found = control.cache.get(kind_of(kind), Key("team", name))
        assert found is not None
        assert found.key == (kind, name)


# --- what lookups bring, and what is told


def silent(version: int = 31) -> dict[str, Any]:
    """A pod that has a node, and whose engine has not been admitted for a long time."""
    running = {"started": False, "state": {"running": {"startedAt": "2026-11-22T11:00:01Z"}}}
    scheduled = {"type": "PodScheduled", "status": "True"}
    found = pod(container=running, conditions=(scheduled,), podIP="10.0.0.5")
    found["metadata"]["resourceVersion"] = str(version)
    ports = [{"name": "http", "containerPort": 8000}, {"name": "gate", "containerPort": 8480}]
    return {**found, "spec": {"nodeName": "a", "containers": [{"name": "vllm", "ports": ports}]}}


def unready(*pods: dict[str, Any]) -> Control:
    """A model with these pods, of which none is ready."""
    control = Control(resource())
    control.have(*as_desired(resource(), **deployment_status(1, ready=0)).values())
    for found in pods:
        control.cache.put(POD, as_live(found))
    return control


async def test_an_engine_that_is_not_admitted_is_told_in_the_words_of_its_manager() -> None:
    control = unready(silent())
    control.server.status = EngineStatus("starting", "WrongModel", "serves other, not qwen", phase="Ready")
    delay = await control.settle()
    assert control.server.reads == [("status", "http://10.0.0.5:8480/status")]
    told = condition(control.server.statuses[-1], "Ready")
    assert told["reason"] == "WrongModel"
    assert told["message"].startswith(
        "0 of 1 engines serve; qwen-1 is not admitted since 2026-11-22T11:00:00Z: serves other, not qwen: the engine "
    )
    assert delay == 9
    assert [event["reason"] for event in control.server.events] == ["WrongModel"]


async def test_the_load_phase_is_told_as_it_moves_and_costs_a_status_each_and_no_event() -> None:
    control = unready(silent())
    phases = [
        ("Downloading", ""),
        ("LoadingWeights", "3 of 8 shards"),
        ("LoadingWeights", "8 of 8 shards"),
        ("Ready", ""),
    ]
    for phase, detail in phases:
        control.server.status = EngineStatus("starting", "Loading", phase=phase, phase_detail=detail)
        for _ in range(3):
            await control.settle()
        control.passed += timedelta(seconds=10)
    told = [status["engines"][0] for status in control.server.statuses]
    assert [(one.get("phase"), one["sentence"]) for one in told] == [
        (None, "loads its model since 2026-11-22T11:00:00Z"),
        ("Downloading", "downloads its model"),
        ("LoadingWeights", "loads its weights (3 of 8 shards)"),
        ("LoadingWeights", "loads its weights (8 of 8 shards)"),
        ("Ready", "waits for its first completion"),
    ]
    messages = [condition(status, "Reconciling")["message"] for status in control.server.statuses]
    assert messages[2] == "0 of 1 engines serve; qwen-1 loads its weights (3 of 8 shards)"
    assert control.server.events == []


async def test_an_unready_pod_in_an_unchanged_world_costs_no_question_before_its_time_and_no_second_status() -> None:
    control = unready(silent())
    for _ in range(20):
        await control.settle()
    assert control.server.reads == [("status", "http://10.0.0.5:8480/status")]
    assert len(control.server.statuses) == 2, "one before its manager had answered"
    for _ in range(20):
        control.passed += timedelta(minutes=2)
        await control.settle()
    assert len(control.server.reads) == 21
    assert len(control.server.statuses) == 2


async def test_a_manager_that_does_not_answer_is_told_as_that_and_changes_nothing_else() -> None:
    control = unready(silent())
    await control.settle()
    sentence = "its manager cannot be reached at 10.0.0.5:8480 (no answer within 2 s): a NetworkPolicy?"
    control.server.status = NoAnswer(sentence)
    control.passed += timedelta(seconds=10)
    await control.settle()
    told = control.server.statuses[-1]
    assert condition(told, "Ready")["reason"] == "EnginesStarting"
    assert condition(told, "Ready")["message"].endswith(f"loads its model since 2026-11-22T11:00:00Z; {sentence}")
    assert (control.server.writes, control.server.events) == ([], [])


async def test_the_trouble_of_a_manager_itself_is_a_warning() -> None:
    control = unready(silent())
    control.server.status = EngineStatus("starting", "Loading", trouble="its judge ended: SyntaxError")
    await control.settle()
    assert control.server.statuses[-1]["warnings"] == [
        "qwen-1: its manager is in trouble: its judge ended: SyntaxError"
    ]
    assert condition(control.server.statuses[-1], "Ready")["reason"] == "EnginesStarting"


async def test_why_a_pod_cannot_be_set_up_is_read_from_its_events() -> None:
    creating = pod(container={"state": {"waiting": {"reason": "ContainerCreating"}}})
    control = unready(creating)
    text = 'configmap "vllm-manager" not found'
    control.server.said = [{"reason": "FailedMount", "lastTimestamp": "2026-11-22T11:00:05Z", "message": text}]
    await control.settle()
    assert control.server.reads == [("Event", "qwen-1")]
    assert text in condition(control.server.statuses[-1], "Ready")["message"]


async def test_events_that_cannot_be_read_do_not_stop_the_status() -> None:
    control = unready(pod(container={"state": {"waiting": {"reason": "ContainerCreating"}}}))
    control.server.errors["Event"] = ApiRefused("GET", "events is forbidden")
    assert await control.settle() == 10
    assert condition(control.server.statuses[-1], "Ready")["reason"] == "EnginesStarting"


async def test_pods_that_are_ready_or_tell_their_trouble_themselves_are_not_looked_up(serving: Control) -> None:
    await serving.reconcile()
    crashed = pod("qwen-2", container={"state": {"terminated": {"exitCode": 1}}})
    unscheduled = pod("qwen-3", containerStatuses=[])
    for found in (crashed, unscheduled):
        serving.cache.put(POD, as_live(found))
        await serving.reconcile()
    assert serving.server.reads == []


async def test_what_kueue_takes_away_is_remembered_after_its_pod_has_gone_and_told_by_one_event() -> None:
    control = Control(resource())
    control.have(*as_desired(resource(), **deployment_status(1, ready=0)).values())
    for number in (1, 2, 3):
        target = {
            "type": "TerminationTarget",
            "status": "True",
            "reason": "WorkloadEvictedDueToPodsReadyTimeout",
            "message": f"Exceeded the PodsReady timeout team/pod-qwen-{number}",
            "lastTransitionTime": f"2026-11-22T11:0{number}:00Z",
        }
        taken, another = pod(f"qwen-{number}", conditions=(target,)), pod(f"qwen-{number + 1}")
        taken["metadata"]["resourceVersion"] = "99"
        control.cache.put(POD, as_live(taken))
        await control.reconcile()
        control.cache.remove(POD, as_live(taken))
        control.cache.put(POD, as_live(another))
        control.passed += PAUSE
        await control.reconcile()
        told = condition(control.server.statuses[-1], "Ready")
        assert told["reason"] == "EnginesStarting"
        assert f"Kueue has taken qwen-{number} away at {target['lastTransitionTime']}: Exceeded" in told["message"]
        control.passed += PAUSE
    messages = [event["message"] for event in control.server.events]
    assert len([one for one in messages if "raise waitForPodsReady.timeout" in one]) == 1, "the same cause is told once"


async def test_a_model_that_gets_ready_is_announced_once_in_a_while(serving: Control) -> None:
    for ready in (1, 0, 1, 0, 1):
        serving.server.version += 1
        deployment = as_desired(resource(), **deployment_status(1, ready=ready))[
            key_of(child_of(resource(), "Deployment"))
        ]
        deployment["metadata"]["resourceVersion"] = str(serving.server.version)
        serving.cache.put(DEPLOYMENT, as_live(deployment))
        await serving.reconcile()
    assert len(serving.server.statuses) == 5
    (event,) = serving.server.events
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "AllEnginesServe", "1 of 1 engines serve")
    assert event["involvedObject"]["uid"] == "uid-of-qwen"
    assert event["metadata"]["namespace"] == "team"


async def test_an_event_that_is_refused_stops_nothing(serving: Control, caplog: pytest.LogCaptureFixture) -> None:
    serving.server.errors["POST"] = ApiRefused("POST", "events is forbidden")
    assert await serving.reconcile() is None
    assert len(serving.server.statuses) == 1
    assert "cannot write Events" in caplog.text


# --- metrics


async def test_engines_are_counted_by_state_and_reason_and_forgotten_with_their_model(serving: Control) -> None:
    await serving.reconcile()
    assert serving.measured("template_updates_pending") == [({}, 0)]
    assert serving.measured("engines") == [({"state": "serving", "reason": "EnginesServe"}, 1)]
    ready = {"namespace": "team", "name": "qwen", "type": "Ready", "status": "True", "reason": "AllEnginesServe"}
    assert (ready, 1) in serving.measured("model_condition")
    serving.cache.remove(MODEL, as_live({"metadata": {**resource()["metadata"], "resourceVersion": "5000"}}))
    await serving.reconcile()
    assert serving.measured("engines") == serving.measured("model_condition") == []


# --- pods that are kept


def without_history() -> Control:
    """A model that serves, whose Deployment an operator made that kept no revisions, and somebody changed."""
    raw = resource(engine={"image": "x:2"})
    raw["status"] = {"observedGeneration": 1, "conditions": []}
    control = Control(raw)
    deployment = child_of(resource(engine={"image": "x:1"}), "Deployment")
    before = live(deployment, **deployment_status(1))
    before["spec"]["template"]["spec"]["containers"].append({"name": "mesh"})
    image: dict[str, Any] = {'k:{"name":"vllm"}': {"f:name": {}, "f:image": {}}}
    fields = {"f:spec": {"f:template": {"f:spec": {"f:containers": image}}}}
    before["metadata"]["managedFields"] = [{"manager": "vllm-operator", "operation": "Apply", "fieldsV1": fields}]
    control.have(before)
    return control


async def test_a_deployment_without_history_keeps_the_pods_that_were_applied_and_is_asked_for_them_once() -> None:
    control = without_history()
    await control.reconcile()
    (revision,) = (found for (kind, _), found in control.server.objects.items() if kind == "ControllerRevision")
    assert revision["data"]["template"]["spec"]["containers"] == [{"name": "vllm", "image": "x:1"}]
    assert ("Deployment", "qwen") in control.server.reads
    assert condition(control.server.statuses[-1], "TemplateUpdatePending")["status"] == "True"
    assert control.measured("template_updates_pending") == [({}, 1)]
    control.server.reads.clear()
    await control.reconcile()
    assert control.server.reads == []


async def test_a_revision_that_loses_its_label_between_two_writes_comes_back_under_its_own_name(
    serving: Control,
) -> None:
    deployment = cached(serving, DEPLOYMENT)
    pod_spec = deployment["spec"]["template"]["spec"]
    engine: dict[str, Any] = {f"f:{field}": {} for field in pod_spec["containers"][0]}
    owned: dict[str, Any] = {f"f:{field}": {} for field in pod_spec} | {"f:containers": {'k:{"name":"vllm"}': engine}}
    fields = {"f:spec": {"f:template": {"f:metadata": {}, "f:spec": owned}}}
    pod_spec["containers"].append({"name": "mesh"})
    deployment["metadata"] |= {
        "resourceVersion": "500",
        "managedFields": [{"manager": "vllm-operator", "operation": "Apply", "fieldsV1": fields}],
    }
    serving.have(deployment)
    (name,) = (name for kind, name in serving.server.objects if kind == "ControllerRevision")
    revision = serving.cache.get(CONTROLLER_REVISION, Key("team", name))
    service = serving.cache.get(SERVICE, QWEN)
    assert revision is not None
    assert service is not None
    serving.cache.remove(SERVICE, service)
    make = serving.server.apply

    async def loses_its_label_meanwhile(desired: Mapping[str, Any], *, force: bool) -> LiveObject:
        serving.cache.remove(CONTROLLER_REVISION, revision)
        return await make(desired, force=force)

    serving.server.apply = loses_its_label_meanwhile  # type: ignore[method-assign] # the test's own fake
    await serving.reconcile()
    assert ("ControllerRevision", name) in {(kind, written) for kind, written, _ in serving.server.writes}
    assert [key for key in serving.server.objects if key[0] == "ControllerRevision"] == [("ControllerRevision", name)]


async def test_a_deployment_that_is_gone_by_the_time_it_is_asked_for_its_pods_is_made_anew() -> None:
    control = without_history()
    control.server.objects.clear()
    await control.reconcile()
    (revision,) = (found for (kind, _), found in control.server.objects.items() if kind == "ControllerRevision")
    assert "x:2" in str(revision["data"]["template"])


async def test_who_waits_for_new_pods_is_forgotten_with_the_model_and_with_the_leadership() -> None:
    control = without_history()
    await control.reconcile()
    control.metrics.clear()
    assert control.measured("template_updates_pending") == [({}, 0)]
    await control.reconcile()
    control.cache.remove(MODEL, as_live({"metadata": {**resource()["metadata"], "resourceVersion": "5000"}}))
    await control.reconcile()
    assert control.measured("template_updates_pending") == [({}, 0)]


# --- claims

MADE = {"cache": {"persistentVolumeClaim": {"size": "1Gi"}}}


def with_claim(**spec: Any) -> Control:
    """A model that serves, and whose cache was a claim of its own before its spec became this one."""
    raw = resource(generation=2, **spec)
    control = Control(raw)
    control.have(*as_desired(raw, **deployment_status(1)).values())
    claim = child_of(resource(storage=MADE), "PersistentVolumeClaim", suffix="-cache")
    control.have(live(claim))
    control.cache.put(POD, as_live(pod(ready=True)))
    return control


async def test_a_claim_that_nobody_wants_is_deleted_once_the_api_server_knows_no_pod_that_mounts_it() -> None:
    control = with_claim()
    volumes = [{"name": "x", "persistentVolumeClaim": {"claimName": "qwen-cache"}}]
    control.server.mounting = [{"metadata": {"name": "copy-job"}, "spec": {"volumes": volumes}}]
    assert await control.reconcile() == 300
    assert (control.server.deleted, control.server.reads) == ([], [("Pod", "team")])
    assert "pod copy-job mounts it" in control.server.statuses[-1]["warnings"][0]
    control.server.mounting = []
    await control.reconcile()
    assert control.server.deleted == ["qwen-cache"]


@pytest.mark.parametrize("storage", [MADE, {"cache": {"existingClaim": "qwen-cache"}}], ids=["made", "named"])
async def test_nobody_is_asked_what_pods_mount_where_no_claim_may_go(storage: dict[str, Any]) -> None:
    control = with_claim(storage=storage)
    await control.reconcile()
    assert ("Pod", "team") not in control.server.reads
    assert control.server.deleted == []


@pytest.mark.parametrize(("modes", "surge"), [("ReadWriteOnce", 0), ("ReadWriteMany", 1)])
async def test_engines_are_replaced_in_place_where_the_named_claim_is_known_to_be_on_one_node(
    modes: str, surge: int
) -> None:
    control = Control(resource(model={"source": "pvc://qwen-cache/model"}))
    claim = live(child_of(resource(storage=MADE), "PersistentVolumeClaim", suffix="-cache"))
    claim["spec"]["accessModes"] = [modes]
    control.have(claim)
    await control.reconcile()
    strategy = control.server.objects["Deployment", "qwen"]["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": surge, "maxUnavailable": 1 - surge}


async def test_a_claim_that_the_spec_names_loses_its_owner() -> None:
    control = with_claim(storage={"cache": {"existingClaim": "qwen-cache"}})
    await control.reconcile()
    (changes,) = control.server.patches
    assert changes["metadata"]["ownerReferences"] is None


async def test_a_claim_that_another_model_mounts_is_not_taken_back_by_its_own() -> None:
    control = with_claim(storage=MADE)
    control.cache.put(MODEL, as_live(resource("llama", model={"source": "pvc://qwen-cache/model"})))
    await control.reconcile()
    assert control.server.writes == [("PersistentVolumeClaim", "qwen-cache", True)]
    assert "ownerReferences" not in control.server.objects["PersistentVolumeClaim", "qwen-cache"]["metadata"]


async def test_a_claim_of_another_model_that_the_spec_mounts_loses_its_owner() -> None:
    control = Control(resource(storage={"cache": {"existingClaim": "llama-cache"}}))
    theirs = live(child_of(resource("llama", storage=MADE), "PersistentVolumeClaim", suffix="-cache"))
    control.have(theirs)
    await control.reconcile()
    assert [changes["metadata"]["ownerReferences"] for changes in control.server.patches] == [None]


@pytest.mark.parametrize("error", [ApiNotFound("PATCH", "gone"), ApiRefused("PATCH", "no")], ids=["gone", "refused"])
async def test_a_claim_that_cannot_be_handed_over_is_told_unless_it_is_gone(error: Exception) -> None:
    control = with_claim(storage={"cache": {"existingClaim": "qwen-cache"}})
    control.server.errors["PATCH"] = error
    await control.reconcile()
    reasons = {condition(status, "Ready")["reason"] for status in control.server.statuses}
    assert ("ChildRefused" in reasons) is isinstance(error, ApiRefused)
    assert control.server.deleted == []


# --- autoscalers


def autoscaler(kind: str) -> dict[str, Any]:
    """A HorizontalPodAutoscaler that aims at something called qwen."""
    group = "apps/v1" if kind == "Deployment" else "vllm.echo-roots.io/v1alpha1"
    target = {"apiVersion": group, "kind": kind, "name": "qwen"}
    metadata = {"name": "web", "namespace": "team"}
    return {"kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": {"scaleTargetRef": target}}


def scale(control: Control, replicas: int) -> None:
    """Somebody else sets the replicas of the Deployment."""
    control.server.version += 1
    found = copy.deepcopy(control.server.objects["Deployment", "qwen"])
    found["spec"]["replicas"] = replicas
    found["metadata"]["resourceVersion"] = str(control.server.version)
    control.have(found)


async def test_an_autoscaler_that_fights_is_named_as_long_as_it_is_there_and_looked_for_once_a_minute(
    serving: Control,
) -> None:
    serving.have(autoscaler("Deployment"), cached=False)
    for _ in range(3):
        scale(serving, 5)
        await serving.reconcile()
    (warning,) = serving.server.statuses[-1]["warnings"]
    assert warning.startswith("HorizontalPodAutoscaler web scales Deployment qwen")
    assert serving.server.reads.count(("HorizontalPodAutoscaler", "team")) == 1
    assert await serving.reconcile() == 60
    serving.have(autoscaler("VLLMModel"), cached=False)
    serving.passed += timedelta(seconds=60)
    await serving.reconcile()
    assert not serving.server.statuses[-1].get("warnings")
    assert await serving.reconcile() is None


async def test_no_autoscaler_is_looked_for_while_nobody_else_scales(serving: Control) -> None:
    serving.have(autoscaler("Deployment"), cached=False)
    await serving.reconcile()
    assert ("HorizontalPodAutoscaler", "team") not in serving.server.reads


async def test_autoscalers_that_cannot_be_listed_stop_nothing(serving: Control) -> None:
    serving.server.errors["HorizontalPodAutoscaler"] = ApiRefused("GET", "forbidden")
    scale(serving, 5)
    await serving.reconcile()
    assert ("Deployment", "qwen", True) in serving.server.writes


# --- how often it is told


async def test_a_burst_of_events_after_a_status_costs_one_more_that_says_where_it_ended() -> None:
    control = Control(resource())
    delay = await control.reconcile()
    for replicas in (1, 2, 1):
        deployment = cached(control, DEPLOYMENT)
        deployment["status"] = deployment_status(replicas, ready=0)
        deployment["metadata"]["resourceVersion"] = str(int(deployment["metadata"]["resourceVersion"]) + 1)
        control.cache.put(DEPLOYMENT, as_live(deployment))
        control.passed += PAUSE / 10
        delay = await control.reconcile()
    assert delay is not None
    assert delay == pytest.approx(0.7)
    assert len(control.server.statuses) == 1
    control.passed += timedelta(seconds=delay)
    await control.reconcile()
    assert [status["replicas"] for status in control.server.statuses] == [0, 1]


# --- which engines go first


def fleet(**requests: float) -> Control:
    """A model of three engines that has just been told to have two; `requests` are those of its engines by name.

    What they reported at their start is known, so their managers are asked for nothing else.
    """
    reported = {"kvCacheTokens": 1000, "startedAt": "2026-11-22T11:00:00Z"}
    engines = [{"pod": name, "state": "Serving", "capacity": reported} for name in requests]
    control = Control({**resource(replicas=2), "status": {"engines": engines}})
    control.have(*as_desired(resource(replicas=3), **deployment_status(3)).values())
    for number, (name, count) in enumerate(requests.items()):
        found = {**pod(name, ready=True, podIP=f"10.0.0.{number}"), "spec": silent()["spec"]}
        control.cache.put(POD, as_live(found))
        url = f"http://10.0.0.{number}:8480/status"
        control.server.busy[url] = EngineStatus("serving", ready=True, requests=count)
    return control


async def test_the_engine_with_the_least_work_is_marked_right_before_the_deployment_is_scaled_down() -> None:
    control = fleet(a=3, b=0, c=5)
    await control.reconcile()
    assert control.server.writes == [("Pod", "b", False), ("Deployment", "qwen", True)]
    assert len({url for kind, url in control.server.reads if kind == "status"}) == 3
    marked = control.cache.get(POD, Key("team", "b"))
    assert marked is not None
    assert marked.annotations["controller.kubernetes.io/pod-deletion-cost"] == "-1"


@pytest.mark.parametrize("error", [ApiRefused("PATCH", "forbidden"), ApiNotFound("PATCH", "gone")])
async def test_a_mark_that_cannot_be_set_does_not_keep_the_deployment_from_being_scaled_down(error: ApiError) -> None:
    control = fleet(a=3, b=0, c=5)
    control.server.errors["annotate"] = error
    await control.reconcile()
    assert control.server.writes == [("Deployment", "qwen", True)]


async def test_engines_with_equal_work_are_scaled_down_without_a_mark() -> None:
    control = fleet(a=0, b=0, c=0)
    await control.reconcile()
    assert control.server.writes == [("Deployment", "qwen", True)]


async def test_changes_that_come_together_cost_no_look_at_all_models_but_one_when_the_catalogue_is_due() -> None:
    control = Control(resource())
    for number in range(2000):
        control.cache.put(MODEL, as_live(resource(f"model-{number}")))
    await control.reconcile(SHARED)
    looks = control.cache.models = Mock(wraps=control.cache.models)  # type: ignore[method-assign] # counts
    control.passed += timedelta(seconds=1)
    assert await control.reconcile(SHARED) == pytest.approx(3.0, abs=0.01), "2 ms for each of 2001 models"
    assert looks.call_count == 0
    control.passed += timedelta(seconds=3.1)
    await control.reconcile(SHARED)
    control.passed += CATALOG_AFTER
    assert await control.reconcile(SHARED) is None
    assert looks.call_count > 0


async def test_what_models_share_is_repaired_at_once_while_the_catalogue_waits() -> None:
    control = Control(resource())
    await control.reconcile(SHARED)
    live_ones = control.cache.get(CONFIG_MAP, Key("team", "vllm-manager"))
    assert live_ones is not None
    control.cache.remove(CONFIG_MAP, live_ones)
    del control.server.objects["ConfigMap", "vllm-manager"]
    control.server.writes.clear()
    await control.reconcile(SHARED)
    assert [name for _, name, _ in control.server.writes] == ["vllm-manager"]
