"""Which claims a spec says and which a pod mounts: whatever the field, and rather one too many than one too few."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api.claims import claims_of_pod, claims_of_spec

VOLUME = {"name": "x", "persistentVolumeClaim": {"claimName": "mine"}}
SPECS: dict[str, dict[str, Any]] = {
    "cache": {"storage": {"cache": {"existingClaim": "mine"}}},
    "model": {"model": {"source": "pvc://mine/models/llama"}},
    "whole claim": {"model": {"source": "pvc://mine"}},
    "tokenizer": {"model": {"source": "a/b", "tokenizer": "pvc://mine/tokenizer"}},
    "draft": {"engine": {"speculativeDecoding": {"model": "pvc://mine/draft"}}},
    "adapter": {"lora": {"adapters": [{"name": "a", "source": "pvc://mine/a"}]}},
    "adapters to come": {"lora": {"claims": ["mine"]}},
    "volume": {"pod": {"volumes": [VOLUME]}},
    "patch": {"pod": {"patch": {"spec": {"volumes": [VOLUME]}}}},
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_claim_is_found_in_whatever_field_it_is_named(spec: dict[str, Any]) -> None:
    assert claims_of_spec(spec) == {"mine"}


def test_the_claim_that_the_operator_makes_is_not_named() -> None:
    assert claims_of_spec({"storage": {"cache": {"persistentVolumeClaim": {"size": "1Gi"}}}}) == set()


def test_a_spec_that_makes_no_sense_is_read_all_the_same() -> None:
    assert claims_of_spec(None) == set()
    assert claims_of_spec({"claims": 5, "lora": {"claims": [1, {}]}}) == set()
    assert claims_of_spec({"existingClaim": 5, "storage": ["existingClaim", None, 1]}) == set()
    deep: Any = "pvc://mine"
    for _ in range(5000):
        deep = {"a": [deep]}
    assert claims_of_spec(deep) == {"mine"}


def test_a_pod_mounts_its_claims_until_it_has_ended() -> None:
    pod = {"spec": {"volumes": [VOLUME, {"name": "home", "emptyDir": {}}]}}
    assert claims_of_pod(pod) == {"mine"}
    assert claims_of_pod({**pod, "metadata": {"deletionTimestamp": "now"}, "status": {"phase": "Running"}}) == {"mine"}
    assert claims_of_pod({**pod, "status": {"phase": "Succeeded"}}) == set()
    assert claims_of_pod({"spec": {}}) == set()


@pytest.mark.parametrize("source", [None, {}, {"readOnly": True}, {"claimName": ""}, {"claimName": None}])
def test_a_volume_of_a_pod_that_names_no_claim_mounts_none(source: dict[str, Any] | None) -> None:
    named = {"name": "y", "persistentVolumeClaim": {"claimName": "mine"}}
    assert claims_of_pod({"spec": {"volumes": [{"name": "x", "persistentVolumeClaim": source}, named]}}) == {"mine"}
