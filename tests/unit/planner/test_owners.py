"""Whose an object is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.resources import as_live, desired, resource
from vllm_operator.api.names import DESIRED_HASH, labels
from vllm_operator.api.resource import parse_resource
from vllm_operator.cluster.kinds import CHILDREN, LEADER_WORKER_SET, POD_MONITOR, RESOURCE_CLAIM_TEMPLATE
from vllm_operator.planner.owners import belongs, controlled_by, controlling_model, is_kept_claim, is_orphan
from vllm_operator.render.context import RenderContext

EXAMPLES = Path(__file__).parents[2] / "data/render"
OWNER = parse_resource(resource()).owner_reference


def child(kind: str, *owners: dict[str, Any], instance: str = "qwen", hashed: bool = False) -> dict[str, Any]:
    """An object with those owners and the operator's labels, and where it says so the operator's annotation."""
    annotations = {DESIRED_HASH: "0123456789abcdef"} if hashed else {}
    metadata = {"labels": labels(instance, "engine"), "annotations": annotations, "ownerReferences": list(owners)}
    return {"kind": kind, "metadata": metadata}


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


@pytest.mark.parametrize("kind", ["Deployment", "Secret", "ConfigMap"])
def test_an_orphan_is_told_by_all_of_the_operators_marks_and_by_having_no_controller(kind: str) -> None:
    assert is_orphan("qwen", as_live(child(kind, hashed=True)))
    assert belongs("qwen", as_live(child(kind, hashed=True)))
    assert not belongs("qwen", as_live(child(kind))), "labels are copied"
    assert not belongs("qwen", as_live(child(kind, instance="llama", hashed=True)))
    assert not belongs("qwen", as_live(child(kind, {**OWNER, "kind": "ReplicaSet"}, hashed=True)))
    assert not is_orphan("qwen", as_live(child(kind, OWNER, hashed=True)))


def test_a_copy_under_another_name_is_nobodys_although_it_carries_all_marks() -> None:
    copy = child("ConfigMap", hashed=True)
    copy["metadata"]["name"] = "qwen-client-backup"
    assert not belongs("qwen", as_live(copy))


@pytest.mark.parametrize("name", ["qwen", "7b.chat-" + "x" * 100])
def test_every_child_has_a_name_by_which_it_is_known_again(name: str) -> None:
    kinds = set()
    for path in sorted(EXAMPLES.glob("*.yaml")):
        if ".expected." in path.name:
            continue
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        raw = {**resource(name), "spec": spec}
        for one in desired(raw, RenderContext(pod_monitors=True)):
            kinds.add(one["kind"])
            orphan = {**one, "metadata": {**one["metadata"], "ownerReferences": []}}
            assert belongs(name, as_live(orphan)), one["metadata"]["name"]
    assert kinds == {kind.kind for kind in (*CHILDREN, POD_MONITOR, LEADER_WORKER_SET, RESOURCE_CLAIM_TEMPLATE)}


def test_a_claim_is_kept_and_never_an_orphan() -> None:
    claim = as_live(child("PersistentVolumeClaim", hashed=True))
    assert is_kept_claim("qwen", claim)
    assert not is_orphan("qwen", claim)


def test_a_claim_that_another_controls_is_not_the_models_whatever_its_labels_say() -> None:
    other = {"kind": "StatefulSet", "name": "qwen", "uid": "x", "controller": True}
    assert not belongs("qwen", as_live(child("PersistentVolumeClaim", other)))
    assert controlling_model(as_live(child("PersistentVolumeClaim", other))) is None


def test_the_controlling_model_is_found_by_its_kind() -> None:
    assert controlling_model(as_live(child("Deployment", OWNER))) == "qwen"
    assert controlling_model(as_live({"metadata": {}})) is None
