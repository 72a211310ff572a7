"""An edit that sets the replicas of an autoscaled model is put back before it counts, and told."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.resources import NOW, as_desired, as_live, resource
from vllm_operator.api.live import LiveObject, ObjectKey, live_object
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.kinds import MODEL
from vllm_operator.cluster.queue import NamespaceKey, Queue
from vllm_operator.controller.announce import Announcer
from vllm_operator.controller.intake import Intake
from vllm_operator.controller.replicas import ReplicasGuard
from vllm_operator.errors import ApiConflict, ApiNotFound, ApiRefused, ApiUnavailable
from vllm_operator.planner.replicas import ReplicasWriter, writer_of

if TYPE_CHECKING:
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.kinds import Kind

QWEN = Key("team", "qwen")


class Server:
    """An API server that has one model, and tells who has written its replicas."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw: dict[str, Any] | None = raw
        self.reads = 0
        self.scaled: list[int] = []
        self.events: list[dict[str, Any]] = []
        self.error: Exception | None = None

    async def get(self, kind: Kind, namespace: str, name: str) -> LiveObject:
        """The model."""
        assert (kind, namespace, name) == (MODEL, *QWEN)
        self.reads += 1
        if self.raw is None:
            raise ApiNotFound("GET", "not found")
        return live_object(copy.deepcopy(self.raw))

    async def scale(self, model: LiveObject, replicas: int) -> None:
        """Take a number that comes through the scale subresource."""
        if self.error:
            raise self.error
        assert self.raw
        assert model.resource_version == int(self.raw["metadata"]["resourceVersion"])
        self.scaled.append(replicas)
        self.write(replicas, "vllm-operator", subresource="scale")

    def write(self, replicas: int, manager: str, *, subresource: str = "") -> dict[str, Any]:
        """Somebody sets the number."""
        assert self.raw
        self.raw = copy.deepcopy(self.raw)
        metadata, entry = self.raw["metadata"], {"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        metadata["managedFields"] = [{**entry, "operation": "Update", "subresource": subresource}]
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
        metadata["generation"] += 1
        self.raw["spec"]["replicas"] = replicas
        return self.raw

    async def post_event(self, event: dict[str, Any]) -> None:
        """Keep an Event."""
        self.events.append(event)


class Control:
    """A guard, its cache, and a Deployment with some replicas."""

    def __init__(self, raw: dict[str, Any], *, there: int = 3, release: str = "") -> None:
        self.server, self.cache = Server(raw), Cache()
        client = cast("Client", self.server)
        self.queue = Queue()
        take_in = Intake(self.cache, self.queue).changed
        self.guard = ReplicasGuard(client, self.cache, take_in, Announcer(client), release)
        key = ObjectKey("Deployment", "qwen")
        deployment = as_desired(resource())[key]
        deployment["spec"]["replicas"] = there
        self.children = {key: as_live(deployment)}
        self.cache.put(MODEL, live_object(raw))

    async def look(self) -> int | None:
        """The number that is followed."""
        model = await self.guard.kept(self.cache.get(MODEL, QWEN), self.children, NOW)
        return model.body["spec"].get("replicas", 1) if model else None

    def sees(self, raw: dict[str, Any]) -> bool:
        """A watch brings the model. Returns whether that is news."""
        return self.cache.put(MODEL, live_object(copy.deepcopy(raw)))


def scaled(**fields: Any) -> dict[str, Any]:
    """A model with an autoscaler that a status has told of, and whose replicas were edited since."""
    raw = resource(generation=2, autoscaling={"maxReplicas": 4}, **fields)
    entry = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    raw["metadata"]["managedFields"] = [entry]
    return {**raw, "status": {"observedGeneration": 1, "conditions": [{"type": "Autoscaled"}]}}


async def test_an_edit_is_put_back_before_it_counts_and_an_unchanged_world_costs_no_question() -> None:
    control = Control(scaled(replicas=1))
    assert await control.look() == 3
    assert control.server.scaled == [3]
    found = control.cache.get(MODEL, QWEN)
    assert found
    assert writer_of(found.body) == ReplicasWriter("vllm-operator", scaled=True)
    (event,) = control.server.events
    assert event["reason"] == "ReplicasKept"
    assert "set spec.replicas to 1: kept at 3" in event["message"]
    reads = control.server.reads
    assert await control.look() == 3
    assert (control.server.reads, control.server.scaled) == (reads, [3])


async def test_all_whom_the_model_concerns_hear_of_what_it_is_afterwards_which_a_watch_brings_as_no_news() -> None:
    control = Control(scaled(replicas=1))
    await control.look()
    assert not control.sees(control.server.raw or {})
    assert len(control.queue) == 2
    assert {await control.queue.get(), await control.queue.get()} == {QWEN, NamespaceKey("team")}


async def test_what_an_autoscaler_or_a_hand_sets_through_the_scale_subresource_is_followed() -> None:
    control = Control(scaled(replicas=3))
    for replicas, manager in ((4, "kube-controller-manager"), (2, "kubectl")):
        control.sees(control.server.write(replicas, manager, subresource="scale"))
        assert await control.look() == replicas
    assert (control.server.reads, control.server.scaled) == (0, [])


async def test_of_a_new_model_nobody_has_set_anything_so_that_nothing_is_told() -> None:
    raw = scaled()
    raw["spec"]["autoscaling"]["minReplicas"] = 2
    control = Control({**raw, "status": {}}, there=2)
    assert await control.look() == 2
    assert control.server.events == []


@pytest.mark.parametrize(
    "raw",
    [
        resource(generation=2, replicas=1),
        {**scaled(replicas=1), "spec": {"model": {}, "autoscaling": {"maxReplicas": 4}, "replicas": 1}},
        {**scaled(replicas=1), "spec": {**scaled()["spec"], "autoscaling": {"maxReplicas": "many"}}},
    ],
    ids=["no autoscaler", "invalid", "unreadable"],
)
async def test_a_model_that_asks_for_no_autoscaler_or_cannot_be_read_costs_no_question(raw: dict[str, Any]) -> None:
    control = Control(raw)
    assert await control.look() == 1
    assert control.server.reads == 0


async def test_a_model_of_another_release_is_left_alone() -> None:
    raw = scaled(replicas=1)
    raw["metadata"]["labels"] = {"vllm.echo-roots.io/operator": "blue"}
    assert await Control(raw).look() == 1
    assert await Control(raw, release="blue").look() == 3


async def test_a_role_without_the_right_is_told_in_the_log_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    control = Control(scaled(replicas=1))
    control.server.error = ApiRefused("PATCH", "forbidden")
    assert await control.look() == 1
    assert "cannot set spec.replicas to 3" in caplog.text


@pytest.mark.parametrize("error", [ApiUnavailable("PATCH", "down"), ApiConflict("PATCH", "modified")])
async def test_a_number_that_cannot_be_put_back_now_is_not_followed_meanwhile(error: Exception) -> None:
    control = Control(scaled(replicas=1))
    control.server.error = error
    with pytest.raises(type(error)):
        await control.look()
    control.server.error = None
    assert await control.look() == 3


async def test_a_model_that_is_gone_needs_no_number() -> None:
    control = Control(scaled(replicas=1))
    control.server.raw = None
    control.server.error = ApiNotFound("PATCH", "not found")
    assert await control.look() == 1
    assert await control.guard.kept(None, {}, NOW) is None
