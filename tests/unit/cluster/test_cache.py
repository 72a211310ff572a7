"""The cache: newer wins, gone stays gone, and every pod is found by its model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import as_live, desired, live, pod, resource
from vllm_operator.api.live import live_object
from vllm_operator.api.names import KEPT_FOR, instance_name
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.kinds import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    MODEL,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POD_MONITOR,
)

KEY = Key("team", "qwen")


def child(version: int, *, uid: str = "u", **labels: str) -> dict[str, Any]:
    """A Deployment of the model."""
    metadata = {"name": "qwen", "namespace": "team", "uid": uid, "resourceVersion": str(version)}
    return {"kind": "Deployment", "metadata": {**metadata, "labels": {"app.kubernetes.io/instance": "qwen", **labels}}}


def engine(version: int, instance: str = "qwen") -> dict[str, Any]:
    """A pod that says it belongs to that instance."""
    found = pod()
    labels = {"app.kubernetes.io/instance": instance}
    return {**found, "metadata": {**found["metadata"], "resourceVersion": str(version), "labels": labels}}


def test_a_newer_version_replaces_an_older_one_and_numbers_are_not_compared_as_text() -> None:
    cache = Cache()
    assert cache.put(DEPLOYMENT, as_live(child(9)))
    assert cache.put(DEPLOYMENT, as_live(child(10)))
    found = cache.get(DEPLOYMENT, KEY)
    assert found is not None
    assert found.resource_version == 10


@pytest.mark.parametrize("version", [9, 10])
def test_an_older_or_equal_version_is_no_change(version: int) -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, as_live(child(10)))
    assert not cache.put(DEPLOYMENT, as_live(child(version)))


def test_an_object_of_the_same_name_with_another_uid_replaces_it() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, as_live(child(10, uid="old")))
    assert cache.put(DEPLOYMENT, as_live(child(12, uid="new")))
    assert not cache.remove(DEPLOYMENT, as_live(child(11, uid="old")))
    assert cache.has(DEPLOYMENT, KEY, "new")


def test_an_answer_that_comes_after_the_deletion_does_not_revive_it() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, as_live(child(10)))
    assert cache.remove(DEPLOYMENT, as_live(child(12)))
    assert not cache.put(DEPLOYMENT, as_live(child(11)))
    assert cache.get(DEPLOYMENT, KEY) is None
    assert cache.has(DEPLOYMENT, KEY, "u"), "it is known to be deleted"


def test_an_object_that_lost_its_label_comes_back_with_it() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, as_live(child(10)))
    assert cache.remove(DEPLOYMENT, as_live(child(11)))
    assert cache.put(DEPLOYMENT, as_live(child(12)))
    assert cache.get(DEPLOYMENT, KEY) is not None


def test_a_loss_of_the_label_that_was_mended_already_removes_nothing() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, as_live(child(10)))
    cache.put(DEPLOYMENT, as_live(child(12)))
    assert not cache.remove(DEPLOYMENT, as_live(child(11)))
    assert cache.get(DEPLOYMENT, KEY) is not None


def test_removing_what_is_not_there_is_no_change() -> None:
    assert not Cache().remove(DEPLOYMENT, as_live(child(1)))


def test_the_memory_of_deletions_is_bounded() -> None:
    cache = Cache()
    for number in range(5000):
        cache.remove(DEPLOYMENT, as_live(child(number + 1, uid=f"u{number}")))
    assert not cache.has(DEPLOYMENT, KEY, "u0")
    assert cache.has(DEPLOYMENT, KEY, "u4999")


def test_pods_are_found_by_their_model() -> None:
    cache = Cache()
    cache.put(POD, as_live(engine(1)))
    assert [found.name for found in cache.pods("team", "qwen")] == ["qwen-1"]
    assert cache.pods("team", "other") == cache.pods("other", "qwen") == ()
    cache.remove(POD, as_live(engine(2)))
    assert cache.pods("team", "qwen") == ()


def test_a_pod_that_changes_its_label_leaves_the_model() -> None:
    cache = Cache()
    cache.put(POD, as_live(engine(1)))
    cache.put(POD, as_live(engine(2, instance="debugging")))
    assert cache.pods("team", "qwen") == ()
    assert len(cache.pods("team", "debugging")) == 1
    cache.remove(POD, as_live(engine(3, instance="debugging")))
    assert cache.pods("team", "debugging") == ()


def test_children_are_found_by_their_label_or_their_owner_whatever_their_names() -> None:
    cache = Cache()
    owner = {"kind": "VLLMModel", "name": "qwen", "uid": "u", "controller": True}
    by_label = child(1)
    by_owner = child(2, uid="v", **{"app.kubernetes.io/instance": "changed by hand"})
    by_owner["metadata"] |= {"name": "other-name", "ownerReferences": [owner]}
    cache.put(DEPLOYMENT, as_live(by_label))
    cache.put(DEPLOYMENT, as_live(by_owner))
    cache.put(CONFIG_MAP, as_live({**child(3, uid="w"), "kind": "ConfigMap"}))
    cache.put(POD, as_live(engine(4)))
    found = [(live.kind, live.name) for live in cache.children("team", "qwen")]
    assert found == [("Deployment", "qwen"), ("Deployment", "other-name"), ("ConfigMap", "qwen")]
    assert len(cache.pods("team", "qwen")) == 1
    assert cache.children("team", "llama") == cache.children("other", "qwen") == ()
    orphan = child(9, uid="v", **{"app.kubernetes.io/instance": "changed by hand"})
    orphan["metadata"]["name"] = "other-name"
    cache.put(DEPLOYMENT, as_live(orphan))
    cache.remove(CONFIG_MAP, as_live(child(9, uid="w")))
    assert [live.name for live in cache.children("team", "qwen")] == ["qwen"]


def test_a_child_of_a_model_with_a_long_name_is_found_by_its_owner() -> None:
    cache = Cache()
    owner = {"kind": "VLLMModel", "name": "a" * 100, "uid": "u", "controller": True}
    found = child(1)
    found["metadata"]["ownerReferences"] = [owner]
    cache.put(DEPLOYMENT, as_live(found))
    assert len(cache.children("team", instance_name("a" * 100))) == 1


def test_whether_an_optional_kind_is_served_is_news_once() -> None:
    cache = Cache()
    assert not cache.serves(POD_MONITOR)
    assert not cache.set_served(POD_MONITOR, served=False)
    assert cache.set_served(POD_MONITOR, served=True)
    assert not cache.set_served(POD_MONITOR, served=True)
    assert cache.serves(POD_MONITOR)
    assert cache.set_served(POD_MONITOR, served=False)
    assert not cache.serves(POD_MONITOR)


@pytest.mark.parametrize("name", ["qwen", "qwen2.5", "7b", "a" * 100])
def test_children_lead_to_their_model_by_its_instance_name(name: str) -> None:
    cache = Cache()
    cache.put(MODEL, as_live(resource(name)))
    labelled = child(1, **{"app.kubernetes.io/instance": instance_name(name)})
    assert cache.model_of(as_live(labelled)) == Key("team", name)
    gone = {**resource(name)["metadata"], "resourceVersion": "11"}
    cache.remove(MODEL, as_live({"metadata": gone}))
    assert cache.model_of(as_live(labelled)) is None


def test_models_are_found_by_their_namespace_until_they_are_deleted() -> None:
    cache = Cache()
    assert cache.models("team") == ()
    for name, namespace in (("qwen", "team"), ("llama", "team"), ("qwen", "other")):
        cache.put(MODEL, as_live(resource(name, namespace=namespace) | {"metadata": metadata(name, namespace)}))
    assert {model.name for model in cache.models("team")} == {"qwen", "llama"}
    cache.put(MODEL, as_live({**resource(), "metadata": metadata("qwen", "team", "11")}))
    cache.remove(MODEL, as_live({"metadata": metadata("llama", "team", "12")}))
    (left,) = cache.models("team")
    assert left.resource_version == 11
    assert len(cache.models("other")) == 1


def metadata(name: str, namespace: str, version: str = "10") -> dict[str, Any]:
    """What tells models of two namespaces apart."""
    found: dict[str, Any] = resource(name, namespace=namespace)["metadata"]
    return {**found, "uid": f"{namespace}-{name}", "resourceVersion": version}


def test_bookkeeping_is_dropped_and_kinds_are_filled_in() -> None:
    cache = Cache()
    live = child(1)
    live["metadata"]["managedFields"] = [{}]
    del live["kind"]
    cache.put(DEPLOYMENT, live_object(live, kind="Deployment"))
    found = cache.get(DEPLOYMENT, KEY)
    assert found is not None
    assert (found.body["apiVersion"], found.body["kind"], found.kind) == ("apps/v1", "Deployment", "Deployment")
    assert "managedFields" not in found.body["metadata"]
    assert "managedFields" in live["metadata"], "what was given stays as it was"


def test_of_an_autoscaled_model_is_kept_who_has_written_its_replicas() -> None:
    cache = Cache()
    fields: dict[str, Any] = {"f:spec": {"f:replicas": {}, "f:engine": {"f:seed": {}}}}
    entry = {"manager": "kubectl", "operation": "Update", "subresource": "scale", "time": "now", "fieldsV1": fields}
    scaled: dict[str, Any] = {"autoscaling": {"maxReplicas": 2}}
    for spec, kept in (({}, None), (scaled, [{"f:spec": {"f:replicas": {}}}])):
        raw = resource(**spec)
        raw["metadata"] |= {"managedFields": [entry, {"manager": "other"}], "resourceVersion": str(20 + len(spec))}
        cache.put(MODEL, live_object(raw))
        found = cache.get(MODEL, KEY)
        assert found is not None
        told = found.body["metadata"].get("managedFields")
        assert (told and [one["fieldsV1"] for one in told]) == kept


def test_of_the_spec_of_a_pod_only_what_explains_that_it_does_not_run_and_where_its_manager_answers_is_kept() -> None:
    cache = Cache()
    gate = {"name": "gate", "containerPort": 8480}
    http = {"name": "http", "containerPort": 8000, "protocol": "TCP"}
    spec = {
        "containers": [
            {"name": "mesh", "image": "mesh:1", "ports": [{"name": "gate", "containerPort": 1}]},
            {"name": "vllm", "image": "vllm:1", "ports": [http, {**gate, "protocol": "TCP"}]},
        ],
        "initContainers": [{"name": "fetch"}, {"name": "mesh", "restartPolicy": "Always", "image": "mesh:1"}],
        "nodeName": "gpu-1",
        "schedulerName": "volcano",
        "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}],
    }
    kept = {
        "nodeName": "gpu-1",
        "schedulerName": "volcano",
        "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}],
        "initContainers": [{"name": "mesh", "restartPolicy": "Always"}],
        "containers": [{"name": "vllm", "ports": [gate]}],
    }
    cache.put(POD, as_live({**engine(1), "spec": spec}))
    assert cache.pods("team", "qwen")[0].body["spec"] == kept
    plain = {"containers": [{"name": "vllm"}], "nodeName": "gpu-1", "schedulerName": "default-scheduler"}
    cache.put(POD, as_live({**engine(2), "spec": plain}))
    assert cache.pods("team", "qwen")[0].body["spec"] == {"nodeName": "gpu-1"}


def test_revisions_come_back_whole_however_they_are_kept() -> None:
    cache = Cache()
    (before,) = (one for one in desired(resource()) if one["kind"] == "ControllerRevision")
    cache.put(CONTROLLER_REVISION, live_object(live(before)))
    (found,) = cache.children("team", "qwen")
    assert (found.body["data"], found.body["revision"]) == (before["data"], 1)
    assert found.labels == before["metadata"]["labels"]
    without = live(before)
    del without["data"]
    without["metadata"]["resourceVersion"] = "21"
    cache.put(CONTROLLER_REVISION, live_object(without))
    (found,) = cache.children("team", "qwen")
    assert "data" not in found.body


def test_kinds_do_not_meet() -> None:
    cache = Cache()
    cache.put(DEPLOYMENT, as_live(child(1)))
    assert cache.get(CONFIG_MAP, KEY) is None
    assert [key for key, _ in cache.items(DEPLOYMENT)] == [KEY]


def test_the_models_that_mount_a_claim_are_known_as_long_as_they_do() -> None:
    cache = Cache()
    mounting = resource(storage={"cache": {"existingClaim": "mine"}})
    cache.put(MODEL, as_live(mounting))
    assert cache.models_mounting("team", "mine") == {"qwen"}
    assert cache.models_mounting("other", "mine") == set()
    cache.put(MODEL, as_live({**resource(), "metadata": {**mounting["metadata"], "resourceVersion": "11"}}))
    assert cache.models_mounting("team", "mine") == set()
    going = {**mounting["metadata"], "resourceVersion": "12", "deletionTimestamp": "2026-11-22T12:00:00Z"}
    cache.put(MODEL, as_live({**mounting, "metadata": going}))
    assert cache.models_mounting("team", "mine") == set()
    cache.remove(MODEL, as_live({**mounting, "metadata": going}))
    assert cache.models_mounting("team", "mine") == set()


def test_a_claim_that_is_no_child_any_more_is_found_by_the_model_that_it_was_made_for() -> None:
    cache = Cache()
    metadata = {"name": "qwen-cache", "namespace": "team", "uid": "u", "resourceVersion": "9"}
    kept = {"kind": "PersistentVolumeClaim", "metadata": {**metadata, "labels": {KEPT_FOR: "qwen"}}}
    cache.put(PERSISTENT_VOLUME_CLAIM, as_live(kept))
    assert [found.name for found in cache.children("team", "qwen")] == ["qwen-cache"]
