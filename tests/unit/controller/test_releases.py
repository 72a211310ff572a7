"""Several releases of the operator, one API server: who follows a model, and what becomes of the others' objects."""

from __future__ import annotations

import asyncio
import copy
import itertools
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.resources import NOW, as_desired, as_live, condition, resource
from tests.unit.controller.test_reconcile import CHILDREN, QWEN, SHARED, Server
from vllm_operator.api.names import OPERATOR_LABEL
from vllm_operator.cluster.cache import Cache
from vllm_operator.cluster.kinds import DEPLOYMENT, MODEL, kind_of
from vllm_operator.controller.announce import Announcer
from vllm_operator.controller.namespace import NamespaceReconciler
from vllm_operator.controller.reconcile import ModelReconciler
from vllm_operator.telemetry import ModelMetrics

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.engine_status import EngineStatusReader

MOST_LOOKS = 20


class OneServer(Server):
    """An API server with one model, which every release sees as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = resource()

    async def patch_status(self, model: LiveObject, status: dict[str, Any]) -> LiveObject:
        """Keep a status."""
        told = await super().patch_status(model, status)
        metadata = {**self.raw["metadata"], "resourceVersion": str(told.resource_version)}
        return as_live({**self.raw, "metadata": metadata, "status": status})


class Release:
    """One release of the operator, on a server that it may have in common with others."""

    def __init__(self, server: OneServer, name: str = "") -> None:
        self.server, self.name, self.cache = server, name, Cache()
        client, announcer = cast("Client", server), Announcer(cast("Client", server))
        managers = cast("EngineStatusReader", server)
        self.model = ModelReconciler(
            client,
            self.cache,
            announcer,
            ModelMetrics(),
            lambda _: None,
            managers=managers,
            release=name,
            clock=lambda: NOW,
        )
        self.namespace = NamespaceReconciler(client, self.cache, announcer, release=name, clock=lambda: NOW)

    def watch(self) -> None:
        """Take in what its watches show: models, and of the children those that carry its label, or none."""
        for (kind, _), found in list(self.server.objects.items()):
            if found["metadata"]["labels"].get(OPERATOR_LABEL, "") == self.name:
                self.cache.put(kind_of(kind), as_live(found))

    def see(self, raw: dict[str, Any]) -> None:
        """Take in a model as it is now, with the last status that anybody wrote."""
        version = str(self.server.version)
        status = {"status": self.server.statuses[-1]} if self.server.statuses else {}
        self.cache.put(MODEL, as_live({**raw, **status, "metadata": {**raw["metadata"], "resourceVersion": version}}))

    @property
    def made(self) -> set[tuple[str, str]]:
        """What it has made."""
        return {
            key
            for key, found in self.server.objects.items()
            if found["metadata"]["labels"].get(OPERATOR_LABEL, "") == self.name
        }


def model(**labels: str) -> dict[str, Any]:
    """A model with labels of its own."""
    raw = resource()
    raw["metadata"]["labels"] = labels
    return raw


async def settle(raw: dict[str, Any], *releases: Release) -> None:
    """Have all of them look at once, again and again, until nobody writes any more."""
    server = releases[0].server
    server.raw = raw
    for _ in range(MOST_LOOKS):
        before = (len(server.statuses), len(server.events), dict(server.objects))
        for release in releases:
            release.watch()
            release.see(raw)
        await asyncio.gather(*(release.model.reconcile(QWEN) for release in releases))
        if before == (len(server.statuses), len(server.events), dict(server.objects)):
            return
    raise AssertionError("they write for ever")


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(["", "blue", "green"], 2)))
async def test_of_two_that_select_a_model_one_makes_all_its_children_and_the_other_tells_it_once(
    one: str, other: str
) -> None:
    server = OneServer()
    first, second = Release(server, one), Release(server, other)
    await settle(model(), first, second)
    assert {len(first.made), len(second.made)} == {0, len(CHILDREN)}
    assert len(server.statuses) == 1
    assert server.statuses[0].get("operator", "") == (one if first.made else other)
    (event,) = server.events
    assert event["reason"] == "OtherOperator"
    assert "have only one of them select this VLLMModel" in event["message"]
    await settle(model(), second, first)
    assert (len(server.statuses), len(server.events)) == (1, 1)


async def test_children_of_an_earlier_operator_do_not_change_hands() -> None:
    server = OneServer()
    server.objects = {(key.kind, key.name): found for key, found in as_desired(model()).items()}
    before = copy.deepcopy(server.objects)
    blue = Release(server, "blue")
    await settle(model(), blue)
    assert server.objects == before
    assert server.statuses == []
    assert server.deleted == []


async def test_a_model_that_names_a_release_is_told_by_it_why_its_children_are_not_followed() -> None:
    server = OneServer()
    server.objects = {(key.kind, key.name): found for key, found in as_desired(model()).items()}
    await settle(model(**{OPERATOR_LABEL: "blue"}), Release(server, "blue"))
    told = condition(server.statuses[-1], "Stalled")
    assert (told["status"], told["reason"]) == ("True", "OtherOperator")
    assert "ConfigMap qwen-client belongs to the default operator" in told["message"]
    assert "vllm.echo-roots.io/operator=blue" in told["message"]


async def test_children_that_are_labelled_for_another_release_are_its_own_from_then_on() -> None:
    server = OneServer()
    server.objects = {(key.kind, key.name): found for key, found in as_desired(model()).items()}
    for found in server.objects.values():
        found["metadata"]["labels"][OPERATOR_LABEL] = "blue"
    blue, default = Release(server, "blue"), Release(server)
    await settle(model(**{OPERATOR_LABEL: "blue"}), blue, default)
    assert len(blue.made) == len(CHILDREN)
    assert default.made == set()
    deployment = server.objects["Deployment", "qwen"]
    assert deployment["spec"]["template"]["metadata"]["labels"][OPERATOR_LABEL] == "blue"
    assert server.statuses[-1]["operator"] == "blue"


async def test_a_model_that_names_another_release_is_nobody_elses() -> None:
    server = OneServer()
    await settle(model(**{OPERATOR_LABEL: "green"}), Release(server, "blue"), Release(server))
    assert (server.objects, server.statuses, server.events) == ({}, [], [])


async def test_two_that_cannot_follow_a_spec_do_not_answer_each_others_status() -> None:
    server = OneServer()
    raw = model()
    raw["spec"]["model"]["servedNames"] = ["no-break\u00a0space"]
    await settle(raw, Release(server, "blue"), Release(server, "green"))
    assert condition(server.statuses[-1], "Ready")["reason"] == "InvalidSpec"
    assert len(server.statuses) <= 2


async def test_orphans_of_another_releases_model_are_left_alone() -> None:
    server = OneServer()
    for key, found in as_desired(model()).items():
        del found["metadata"]["ownerReferences"]
        server.objects[key.kind, key.name] = found
    before = copy.deepcopy(server.objects)
    await settle(model(), Release(server, "blue"))
    assert server.objects == before
    assert server.deleted == []


async def test_a_model_that_a_release_no_longer_selects_keeps_its_children_and_what_they_mount() -> None:
    server = OneServer()
    blue = Release(server, "blue")
    await settle(model(), blue)
    await blue.namespace.reconcile(SHARED)
    blue.watch()
    assert {name for _, name in blue.made} >= {"blue-vllm-manager", "blue-vllm-catalog", "qwen"}
    gone = blue.cache.get(MODEL, QWEN)
    assert gone is not None
    blue.cache.remove(MODEL, gone)
    await blue.model.reconcile(QWEN)
    await blue.namespace.reconcile(SHARED)
    assert server.deleted == ["blue-vllm-catalog"]
    deployment = blue.cache.get(DEPLOYMENT, QWEN)
    assert deployment is not None
    blue.cache.remove(DEPLOYMENT, deployment)
    await blue.namespace.reconcile(SHARED)
    assert server.deleted == ["blue-vllm-catalog", "blue-vllm-manager"]


async def test_what_two_releases_share_in_one_namespace_is_not_the_same() -> None:
    server = OneServer()
    for name in ("", "blue"):
        release = Release(server, name)
        release.see(model())
        await release.namespace.reconcile(SHARED)
    assert {name for _, name in server.objects} == {
        "vllm-manager",
        "vllm-catalog",
        "blue-vllm-manager",
        "blue-vllm-catalog",
    }
