"""The way in for changes: which keys each puts into the queue."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import as_live, child_of, live, pod, resource
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.kinds import CONFIG_MAP, DEPLOYMENT, MODEL, PERSISTENT_VOLUME_CLAIM, POD
from vllm_operator.cluster.queue import NamespaceKey, Queue, QueueKey
from vllm_operator.controller.intake import Intake
from vllm_operator.render import manager

SHARED, QWEN = NamespaceKey("team"), Key("team", "qwen")


class Ways:
    """An intake, and the queue behind it."""

    def __init__(self, *models: str) -> None:
        self.cache, self.queue = Cache(), Queue()
        self.intake = Intake(self.cache, self.queue)
        for name in models:
            self.intake.changed(MODEL, as_live(resource(name)))

    async def keys(self) -> set[QueueKey]:
        """What is queued now; it is taken out."""
        found = set()
        while len(self.queue):
            found.add(await self.queue.get())
        for key in found:
            self.queue.done(key)
        return found


def relabelled(child: dict[str, Any], instance: str) -> dict[str, Any]:
    """The same object later, with another instance label."""
    metadata = child["metadata"]
    labels = {**metadata["labels"], "app.kubernetes.io/instance": instance}
    return {**child, "metadata": {**metadata, "labels": labels, "resourceVersion": "99"}}


def later(raw: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """The same object in a later version, with other metadata."""
    return {**raw, "metadata": {**raw["metadata"], "resourceVersion": "99", **metadata}}


async def test_a_model_concerns_itself_and_its_namespace() -> None:
    assert await Ways("qwen").keys() == {SHARED, QWEN}


@pytest.mark.parametrize("kind", ["Deployment", "Service", "ConfigMap"])
async def test_a_child_concerns_its_model_alone(kind: str) -> None:
    ways = Ways("qwen")
    await ways.keys()
    suffix = "-client" if kind == "ConfigMap" else ""
    ways.intake.changed(DEPLOYMENT, as_live(live(child_of(resource(), kind, suffix=suffix))))
    assert await ways.keys() == {QWEN}


async def test_a_pod_concerns_its_model_alone_and_a_foreign_one_nobody() -> None:
    ways = Ways("qwen")
    await ways.keys()
    ways.intake.changed(POD, as_live(pod()))
    assert await ways.keys() == {QWEN}
    ways.intake.changed(POD, as_live(relabelled(pod("other-1"), "other")))
    assert await ways.keys() == set()


async def test_a_child_that_is_relabelled_concerns_the_model_that_it_had() -> None:
    ways = Ways("qwen", "llama")
    child = live(child_of(resource(), "Deployment"))
    ways.intake.changed(DEPLOYMENT, as_live(child))
    await ways.keys()
    ways.intake.changed(DEPLOYMENT, as_live(relabelled(child, "llama")))
    assert await ways.keys() == {QWEN, Key("team", "llama")}


async def test_the_manager_concerns_its_namespace() -> None:
    ways = Ways()
    ways.intake.changed(CONFIG_MAP, as_live(live(manager.program("team"))))
    assert await ways.keys() == {SHARED}


async def test_what_is_not_newer_concerns_nobody() -> None:
    ways = Ways("qwen")
    await ways.keys()
    ways.intake.changed(MODEL, as_live(resource()))
    assert await ways.keys() == set()


async def test_a_deletion_concerns_who_had_it_once() -> None:
    ways = Ways("qwen")
    child = live(child_of(resource(), "Deployment"))
    ways.intake.changed(DEPLOYMENT, as_live(child))
    await ways.keys()
    ways.intake.deleted(DEPLOYMENT, as_live(child))
    assert await ways.keys() == {QWEN}
    ways.intake.deleted(DEPLOYMENT, as_live(child))
    assert await ways.keys() == set()


async def test_a_deleted_model_concerns_its_namespace_so_that_what_is_shared_goes_too() -> None:
    ways = Ways("qwen")
    await ways.keys()
    ways.intake.deleted(MODEL, as_live(resource()))
    assert await ways.keys() == {SHARED, QWEN}


async def test_at_the_start_every_model_and_every_shared_program_is_looked_at() -> None:
    ways = Ways("qwen")
    ways.intake.changed(CONFIG_MAP, as_live(live(manager.program("left-alone"))))
    await ways.keys()
    ways.intake.everything()
    assert await ways.keys() == {SHARED, QWEN, NamespaceKey("left-alone")}


async def test_a_model_s_own_change_goes_ahead_of_what_its_and_other_s_children_tell() -> None:
    ways = Ways("qwen", "llama")
    await ways.keys()
    ways.intake.changed(DEPLOYMENT, as_live(live(child_of(resource(), "Deployment"))))
    ways.intake.changed(MODEL, as_live(later(resource("llama"), generation=2)))
    first, second, third = [await ways.queue.get() for _ in range(3)]
    assert {first, second} == {SHARED, Key("team", "llama")}
    assert third == QWEN


@pytest.mark.parametrize(
    "change",
    [{"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}, {"labels": {"a": "b"}}, {"uid": "another"}],
    ids=["annotation", "label", "another model"],
)
async def test_whatever_somebody_changes_of_a_model_goes_ahead(change: dict[str, Any]) -> None:
    ways = Ways("qwen", "llama")
    await ways.keys()
    ways.intake.changed(DEPLOYMENT, as_live(live(child_of(resource(), "Deployment"))))
    ways.intake.changed(MODEL, as_live(later(resource("llama"), **change)))
    assert [await ways.queue.get() for _ in range(3)] == [SHARED, Key("team", "llama"), QWEN]


async def test_a_status_that_the_watch_brings_before_its_write_is_answered_goes_behind_what_is_asked_for() -> None:
    ways = Ways("qwen")
    await ways.keys()
    ways.intake.changed(MODEL, as_live({**later(resource()), "status": {"observedGeneration": 1}}))
    ways.intake.changed(MODEL, as_live(resource("llama")))
    assert [await ways.queue.get() for _ in range(3)] == [SHARED, Key("team", "llama"), QWEN]


async def test_what_changes_goes_ahead_of_the_look_at_everything() -> None:
    ways = Ways("qwen", "llama")
    await ways.keys()
    ways.intake.everything()
    ways.intake.deleted(MODEL, as_live(resource("llama")))
    assert {await ways.queue.get(), await ways.queue.get()} == {SHARED, Key("team", "llama")}


async def test_a_model_that_begins_or_ceases_to_mount_a_claim_concerns_the_model_that_had_it_made() -> None:
    ways = Ways("qwen")
    made = resource(storage={"cache": {"persistentVolumeClaim": {"size": "1Gi"}}})
    claim = live(child_of(made, "PersistentVolumeClaim", suffix="-cache"))
    ways.intake.changed(PERSISTENT_VOLUME_CLAIM, as_live(claim))
    await ways.keys()
    llama = resource("llama", model={"source": "pvc://qwen-cache/model"})
    other = {SHARED, Key("team", "llama")}
    ways.intake.changed(MODEL, as_live(llama))
    assert await ways.keys() == other | {QWEN}
    again = {**llama, "metadata": {**llama["metadata"], "resourceVersion": "11"}}
    ways.intake.changed(MODEL, as_live(again))
    assert await ways.keys() == other
    ways.intake.deleted(MODEL, as_live(again))
    assert await ways.keys() == other | {QWEN}


async def test_what_an_older_list_does_not_hold_is_not_taken_for_deleted() -> None:
    ways = Ways("qwen")
    newer = live(child_of(resource(), "Deployment"))
    ways.intake.changed(DEPLOYMENT, as_live(newer))
    ways.intake.changed(
        DEPLOYMENT, as_live(relabelled({**newer, "metadata": {**newer["metadata"], "name": "b", "uid": "b"}}, "b"))
    )
    listing = ways.intake.listing(DEPLOYMENT, None)
    older = {**newer, "metadata": {**newer["metadata"], "resourceVersion": "5"}}
    listing.seen(as_live(older))
    listing.end()
    assert {key.name for key, _ in ways.cache.items(DEPLOYMENT)} == {"qwen", "b"}
    assert ways.cache.is_listed(DEPLOYMENT, None)
    listing = ways.intake.listing(DEPLOYMENT, None)
    listing.seen(as_live(newer))
    listing.end()
    assert {key.name for key, _ in ways.cache.items(DEPLOYMENT)} == {"qwen"}


async def test_what_was_asked_for_and_is_there_is_news_whatever_was_known_of_it() -> None:
    ways = Ways("qwen")
    known = ways.cache.get(MODEL, QWEN)
    assert known is not None
    assert not ways.intake.found(MODEL, known)
    ways.intake.deleted(MODEL, known)
    assert not ways.intake.changed(MODEL, known), "an answer to an earlier write does not revive it"
    assert ways.intake.found(MODEL, known)
    assert ways.cache.get(MODEL, QWEN)
