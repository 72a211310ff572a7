"""The cache, the shared memory and the other folders of an engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import model
from vllm_operator.render.children import children
from vllm_operator.render.storage import claim, mounts, on_one_node, volumes


def cached(**cache: Any) -> dict[str, Any]:
    """Sections of a spec with this cache."""
    return {"storage": {"cache": cache}}


def volume(name: str, **sections: Any) -> dict[str, Any]:
    """One of the engine's volumes."""
    (found,) = [one for one in volumes(model(**sections)) if one["name"] == name]
    return found


def strategy(**sections: Any) -> tuple[int, int]:
    """How many engines a rollout adds, and how many it takes away first."""
    (deployment,) = [child for child in children(model(**sections)) if child["kind"] == "Deployment"]
    rolling = deployment["spec"]["strategy"]["rollingUpdate"]
    return rolling["maxSurge"], rolling["maxUnavailable"]


@pytest.mark.parametrize(
    ("cache", "source"),
    [
        ({"existingClaim": "mine"}, {"persistentVolumeClaim": {"claimName": "mine"}}),
        ({"persistentVolumeClaim": {"size": "1Gi"}}, {"persistentVolumeClaim": {"claimName": "qwen-cache"}}),
        ({"emptyDir": {}}, {"emptyDir": {}}),
        ({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}),
        ({"hostPath": {"path": "/a"}}, {"hostPath": {"path": "/a", "type": "DirectoryOrCreate"}}),
    ],
)
def test_the_cache_is_what_is_asked_for_and_lies_in_the_home(cache: dict[str, Any], source: dict[str, Any]) -> None:
    assert volume("cache", **cached(**cache)) == {"name": "cache", **source}
    paths = {mount["name"]: mount["mountPath"] for mount in mounts(model(**cached(**cache)))}
    assert paths["cache"] == f"{paths['home']}/.cache"


def test_without_a_cache_the_home_lives_as_long_as_the_pod() -> None:
    assert [one["name"] for one in volumes(model())] == ["home", "shm"]
    assert claim(model()) == ()


def test_a_claim_is_made_only_where_the_cache_is_to_be_one() -> None:
    (found,) = claim(model(**cached(persistentVolumeClaim={"size": "1024Gi"})))
    assert found["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Ti"}}}
    assert found["metadata"]["ownerReferences"][0]["name"] == "qwen"
    assert claim(model(**cached(existingClaim="mine"))) == ()


def test_a_claim_that_is_to_be_kept_has_no_owner_that_takes_it_along() -> None:
    (found,) = claim(model(**cached(persistentVolumeClaim={"size": "1Gi", "keep": True})))
    assert "ownerReferences" not in found["metadata"]
    assert found["metadata"]["labels"]["vllm.echo-roots.io/kept-for"] == "qwen"


@pytest.mark.parametrize("modes", [None, ["ReadWriteOnce"], ["ReadWriteOncePod"]])
def test_engines_are_replaced_in_place_where_two_nodes_cannot_share_the_cache(modes: list[str] | None) -> None:
    sections = cached(persistentVolumeClaim={"size": "1Gi"} | ({"accessModes": modes} if modes else {}))
    assert on_one_node(model(**sections).spec.storage)
    assert strategy(**sections) == (0, 1)


@pytest.mark.parametrize("modes", [["ReadWriteMany"], ["ReadWriteOnce", "ReadWriteMany"]])
def test_an_engine_serves_before_the_old_one_goes_where_nodes_share_the_cache(modes: list[str]) -> None:
    sections = cached(persistentVolumeClaim={"size": "1Gi", "accessModes": modes})
    assert not on_one_node(model(**sections).spec.storage)
    assert strategy(**sections) == strategy() == (1, 0)


@pytest.mark.parametrize(
    ("sections", "size"),
    [
        ({}, "2Gi"),
        ({"parallelism": {"tensor": 2}}, "8Gi"),
        ({"parallelism": {"data": 2}}, "8Gi"),
        ({"parallelism": {"tensor": 2}, "storage": {"sharedMemory": "0.5Gi"}}, "512Mi"),
    ],
)
def test_shared_memory_is_as_large_as_several_processes_need(sections: dict[str, Any], size: str) -> None:
    assert volume("shm", **sections)["emptyDir"] == {"medium": "Memory", "sizeLimit": size}


def test_an_image_that_is_read_only_gets_a_folder_for_sockets_unless_the_user_gives_one() -> None:
    rights = {"containerSecurityContext": {"readOnlyRootFilesystem": True}}
    assert "tmp" in [one["name"] for one in volumes(model(pod=rights))]
    assert {"name": "tmp", "mountPath": "/tmp"} in mounts(model(pod=rights))  # noqa: S108 # a folder of the pod
    own = {"volumes": [{"name": "mine", "emptyDir": {}}], "volumeMounts": [{"name": "mine", "mountPath": "/tmp/"}]}  # noqa: S108
    assert "tmp" not in [one["name"] for one in volumes(model(pod=rights | own))]
    assert "tmp" not in [one["name"] for one in volumes(model())]
