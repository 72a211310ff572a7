"""What a pod's claims say of why no node takes it."""

from __future__ import annotations

from typing import Any

from vllm_operator.diagnosis.outside import SCHEDULING, diagnose
from vllm_operator.diagnosis.volumes import ClaimSeen, cause_of_claims, claim_seen, place_of


def claim(name: str = "qwen-cache", phase: str = "Pending") -> dict[str, Any]:
    """A claim as the API server has it."""
    return {"metadata": {"name": name}, "status": {"phase": phase}}


def event(reason: str, message: str, at: str = "2026-11-22T11:00:00Z") -> dict[str, Any]:
    """An Event about it."""
    return {"reason": reason, "message": message, "lastTimestamp": at}


def volume(key: str, *values: str) -> dict[str, Any]:
    """A PersistentVolume that can be reached from some nodes."""
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}
    return {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}}


def sentence(*claims: ClaimSeen) -> str:
    """What is told of these."""
    cause = cause_of_claims(claims)
    found = diagnose(SCHEDULING, "", seen=cause) if cause else None
    return found.sentence if found else ""


def test_a_claim_without_a_volume_is_told_with_what_its_controller_says() -> None:
    failed = event("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found', "2026-11-22T11:05:00Z")
    waits = event("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    told = sentence(claim_seen(claim(), [failed, waits]))
    assert told.startswith(
        'claim qwen-cache has no volume: storageclass.storage.k8s.io "fast" not found: name a StorageClass that exists'
    )
    assert sentence(claim_seen(claim(), [waits])).startswith("claim qwen-cache has no volume: name a StorageClass")


def test_of_several_events_the_newest_is_told() -> None:
    events = [
        event("FailedBinding", "no persistent volumes available for this claim and no storage class is set"),
        event("ProvisioningFailed", "quota of the storage is used up", "2026-11-22T11:05:00Z"),
    ]
    assert "quota of the storage" in claim_seen(claim(), events).said


def test_a_volume_of_one_zone_is_told_with_the_zone() -> None:
    bound = claim_seen(claim("models", "Bound"), volume=volume("topology.kubernetes.io/zone", "eu-1a"))
    assert sentence(bound).startswith("the volume of claim models can be reached from zone eu-1a alone, where no node")
    assert place_of(volume("kubernetes.io/hostname", "gpu-3")) == "node gpu-3"
    assert place_of(volume("csi.example.com/rack", "r1")) == ""
    assert place_of({}) == ""


def test_claims_that_are_well_explain_nothing() -> None:
    assert cause_of_claims([claim_seen(claim(phase="Bound"))]) is None
    assert cause_of_claims([]) is None
