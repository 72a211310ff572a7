"""Whose an object is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import as_live, resource
from vllm_operator.api.names import labels
from vllm_operator.api.resource import parse_resource
from vllm_operator.planner.owners import belongs, controlled_by, controlling_model

OWNER = parse_resource(resource()).owner_reference


def child(kind: str, *owners: dict[str, Any], instance: str = "qwen") -> dict[str, Any]:
    """An object with those owners and the operator's labels."""
    return {"kind": kind, "metadata": {"labels": labels(instance, "engine"), "ownerReferences": list(owners)}}


@pytest.mark.parametrize("kind", ["Deployment", "PersistentVolumeClaim"])
def test_a_controlled_object_is_its_models_whatever_else_owns_it(kind: str) -> None:
    beside = {"kind": "Other", "name": "llama", "uid": "x"}
    assert belongs("qwen", as_live(child(kind, beside, OWNER)))
    assert not belongs("llama", as_live(child(kind, beside, OWNER)))
    assert controlled_by("uid-of-qwen", as_live(child(kind, beside, OWNER)))
    assert not controlled_by("uid-of-another", as_live(child(kind, beside, OWNER)))


def test_a_child_without_an_owner_is_nobodys_but_for_a_claim_that_says_whose_it_is() -> None:
    assert not belongs("qwen", as_live(child("Deployment")))
    assert belongs("qwen", as_live(child("PersistentVolumeClaim")))
    assert not belongs("qwen", as_live(child("PersistentVolumeClaim", instance="llama")))
    assert not belongs("qwen", as_live({"kind": "PersistentVolumeClaim", "metadata": {}}))
    assert not controlled_by("uid-of-qwen", as_live(child("PersistentVolumeClaim")))


def test_a_claim_that_another_controls_is_not_the_models_whatever_its_labels_say() -> None:
    other = {"kind": "StatefulSet", "name": "qwen", "uid": "x", "controller": True}
    assert not belongs("qwen", as_live(child("PersistentVolumeClaim", other)))
    assert controlling_model(as_live(child("PersistentVolumeClaim", other))) is None


def test_the_controlling_model_is_found_by_its_kind() -> None:
    assert controlling_model(as_live(child("Deployment", OWNER))) == "qwen"
    assert controlling_model(as_live({"metadata": {}})) is None
