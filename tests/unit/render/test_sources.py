"""Where the engine finds a model, a tokenizer or an adapter, and the volumes that bring it there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import model
from vllm_operator.render.images import pull_policy
from vllm_operator.render.pod import template
from vllm_operator.render.sources import Sources


def sources(**sections: Any) -> Sources:
    """Sources of a spec."""
    return Sources(model(**sections).spec)


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("org/tiny", "org/tiny"),
        ("hf://org/tiny", "org/tiny"),
        ("/models/tiny", "/models/tiny"),
        ("s3://bucket/tiny/", "s3://bucket/tiny/"),
        ("gs://bucket/tiny", "gs://bucket/tiny"),
        ("pvc://weights", "/mnt/claims/weights"),
        ("pvc://weights/", "/mnt/claims/weights"),
        ("pvc://weights/llama/8b/", "/mnt/claims/weights/llama/8b"),
        ("oci://registry.example.com/llama:8b", "/mnt/images/0"),
    ],
)
def test_vllm_is_told_a_path_or_what_it_finds_by_itself(source: str, place: str) -> None:
    assert sources(model={"source": source}).locate(source) == place


def test_a_claim_that_is_named_twice_is_mounted_once_and_never_written_to() -> None:
    found = sources(
        model={"source": "pvc://weights/llama", "tokenizer": "pvc://weights/tokenizer"},
        lora={"adapters": [{"name": "sql", "source": "pvc://adapters/sql"}, {"name": "b", "source": "org/b"}]},
        engine={"speculativeDecoding": {"numSpeculativeTokens": 1, "model": "pvc://adapters/draft"}},
    )
    assert [volume["persistentVolumeClaim"] for volume in found.volumes()] == [
        {"claimName": "weights", "readOnly": True},
        {"claimName": "adapters", "readOnly": True},
    ]
    assert [(mount["mountPath"], mount["readOnly"]) for mount in found.mounts()] == [
        ("/mnt/claims/weights", True),
        ("/mnt/claims/adapters", True),
    ]


def test_a_claim_that_holds_the_cache_too_is_one_volume() -> None:
    """Two volumes of one claim keep a pod from ever starting."""
    wanted = model(model={"source": "pvc://shared/llama"}, storage={"cache": {"existingClaim": "shared"}})
    pod = template(wanted)["spec"]
    claims = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert claims == [{"name": "cache", "persistentVolumeClaim": {"claimName": "shared"}}]
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["/mnt/claims/shared"] == {"name": "cache", "mountPath": "/mnt/claims/shared", "readOnly": True}
    assert mounts["/home/vllm/.cache"] == {"name": "cache", "mountPath": "/home/vllm/.cache"}


def test_images_are_volumes_of_their_own() -> None:
    found = sources(model={"source": "oci://example.com/a:1", "tokenizer": "oci://example.com/b"})
    assert found.locate("oci://example.com/b") == "/mnt/images/1"
    assert list(found.volumes()) == [
        {"name": "image-0", "image": {"reference": "example.com/a:1", "pullPolicy": "IfNotPresent"}},
        {"name": "image-1", "image": {"reference": "example.com/b", "pullPolicy": "Always"}},
    ]


def test_what_needs_no_volume_gets_none() -> None:
    assert list(sources(model={"source": "s3://bucket/a", "tokenizer": "org/b"}).volumes()) == []


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("vllm/vllm-openai:v0.32.0", "IfNotPresent"),
        ("vllm", "Always"),
        ("vllm:latest", "Always"),
        ("registry.example.com:5000/vllm", "Always"),
        ("registry.example.com:5000/vllm:1", "IfNotPresent"),
        ("vllm@sha256:00", "IfNotPresent"),
        ("vllm:latest@sha256:00", "IfNotPresent"),
        ("vllm/vllm-openai:nightly", "Always"),
        ("vllm/vllm-openai:nightly-aarch64", "Always"),
        ("vllm/vllm-openai:cu130-nightly", "Always"),
        ("vllm/vllm-openai:latest-x86_64", "Always"),
        ("vllm/vllm-openai:nightly-8c0fb9e2b2a1f4f3e5d6c7b8a9081726354453ab", "IfNotPresent"),
        ("vllm/vllm-openai:nightly-20260131", "IfNotPresent"),
        ("vllm/vllm-openai:v0.32.0-latestcuda", "IfNotPresent"),
    ],
)
def test_an_image_that_can_move_is_asked_for_at_every_start(image: str, policy: str) -> None:
    assert pull_policy(image) == policy
