"""`spec.replicas` of an autoscaled model is the autoscaler's: what edits and hands make of it is seen and told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.resources import as_desired, as_live, resource
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.spec.autoscaling import Autoscaling
from vllm_operator.planner.replicas import (
    LAST_APPLIED,
    ReplicasWriter,
    entries_of,
    is_in_the_manifest,
    replicas_to_keep,
    told_of_writer,
    writer_of,
)

DEPLOYMENT = ObjectKey("Deployment", "qwen")
EDIT, SCALER = ("kubectl-edit", "Update", ""), ("kube-controller-manager", "Update", "scale")
HAND, FLUX = ("kubectl", "Update", "scale"), ("flux", "Apply", "")
"""Managers of the field: name, operation and subresource."""


def entry(manager: str, operation: str = "Update", subresource: str = "", field: str = "f:replicas") -> dict[str, Any]:
    """One of `managedFields`."""
    found = {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {field: {}}}}
    return {**found, **({"subresource": subresource} if subresource else {})}


def managed(*entries: dict[str, Any]) -> dict[str, Any]:
    """A model whose fields are these managers'."""
    raw = resource()
    return {**raw, "metadata": {**raw["metadata"], "managedFields": list(entries)}}


def test_who_has_written_the_number_is_who_holds_the_field() -> None:
    assert writer_of(managed(entry(*EDIT), entry("other", field="f:engine"))) == ReplicasWriter(
        "kubectl-edit", scaled=False
    )
    assert writer_of(managed(entry(*SCALER))) == ReplicasWriter("kube-controller-manager", scaled=True)
    assert writer_of(managed(entry("other", field="f:engine"))) is None
    assert writer_of(resource()) is None


def test_a_manifest_that_holds_the_number_of_the_autoscaler_is_named_beside_it() -> None:
    both = managed(entry(*FLUX), entry(*SCALER))
    assert writer_of(both) == ReplicasWriter("kube-controller-manager", scaled=True, applier="flux")


def test_what_is_kept_of_all_that_is_managed_says_as_much() -> None:
    whole = managed({**entry(*FLUX), "time": "now"}, entry(*SCALER), entry("other", field="f:engine"))
    whole["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:engine"] = {"f:seed": {}}
    assert entries_of(whole) == [entry(*FLUX), entry(*SCALER)]
    assert writer_of(managed(*entries_of(whole))) == writer_of(whole)


def kept(
    replicas: int | None = None,
    there: int | None = None,
    writer: tuple[str, str, str] | None = EDIT,
    *,
    suspend: bool = False,
    observed: int | None = 1,
    followed: bool = True,
    warned: str = "",
    **scaling: int,
) -> int | None:
    """What is put back where an edit that nobody has looked at made a number of what was there."""
    spec: dict[str, Any] = {"suspend": suspend, **({} if replicas is None else {"replicas": replicas})}
    raw = resource(generation=2, **spec)
    raw["metadata"]["managedFields"] = [entry(*writer)] if writer else []
    if observed is not None:
        raw["status"] = {"observedGeneration": observed, "conditions": [{"type": "Autoscaled"}] if followed else []}
        raw["status"] |= {"warnings": [warned]} if warned else {}
    children = {}
    if there is not None:
        deployment = as_desired(resource())[DEPLOYMENT]
        deployment["spec"]["replicas"] = there
        children = {DEPLOYMENT: as_live(deployment)}
    asked = Autoscaling.model_validate({"maxReplicas": 6, **scaling})
    return replicas_to_keep(as_live(raw, "VLLMModel"), asked, children)


@pytest.mark.parametrize("writer", [EDIT, FLUX])
def test_a_number_that_came_with_an_edit_is_not_followed(writer: tuple[str, str, str]) -> None:
    assert kept(1, there=3, writer=writer) == 3
    assert kept(None, there=3, writer=writer) == 3
    assert kept(5, there=3, writer=writer) == 3
    assert kept(3, there=3, writer=writer) is None


@pytest.mark.parametrize("writer", [EDIT, FLUX, None])
def test_the_edit_that_brings_the_autoscaler_keeps_the_number_that_was_there(
    writer: tuple[str, str, str] | None,
) -> None:
    assert kept(1, there=3, writer=writer, followed=False) == 3
    assert kept(3, there=3, writer=writer, followed=False) is None
    assert kept(1, there=3, writer=SCALER, followed=False) is None


def test_a_number_without_an_owner_came_through_the_scale_subresource_once_there_is_an_autoscaler() -> None:
    assert kept(3, there=1, writer=None) is None


@pytest.mark.parametrize("writer", [SCALER, HAND])
def test_a_number_that_came_through_the_scale_subresource_is_followed(writer: tuple[str, str, str]) -> None:
    assert kept(1, there=3, writer=writer) is None


def test_a_number_that_was_told_was_followed_so_that_a_hand_on_the_deployment_is_not_taken_for_it() -> None:
    assert kept(1, there=3, observed=2) is None
    assert kept(1, there=3, observed=None) == 3


def test_the_edit_that_takes_the_number_out_of_a_manifest_as_it_was_told_to_keeps_what_was_there() -> None:
    told = told_of_writer(managed(entry(*FLUX)))
    assert kept(1, there=3, writer=None, warned=told) == 3
    assert kept(1, there=3, writer=None, warned="something else") is None


def test_what_is_kept_is_within_the_bounds_and_a_new_model_begins_with_the_fewest() -> None:
    assert kept(1, there=9) == 6
    assert kept(1, there=1, minReplicas=2) == 2
    assert kept(1, minReplicas=2) == 2
    assert kept(1) is None
    assert kept(0, there=0) == 1


def test_a_suspended_model_keeps_what_it_is_told() -> None:
    assert kept(2, there=0, suspend=True) is None


def applied(**spec: Any) -> dict[str, Any]:
    """A model with the note that client-side apply leaves."""
    raw = resource()
    raw["metadata"]["annotations"] = {LAST_APPLIED: json.dumps({"spec": spec})}
    return raw


def test_a_manifest_is_read_from_the_note_of_kubectl_whatever_else_stands_there() -> None:
    assert is_in_the_manifest(applied(replicas=3))
    assert not is_in_the_manifest(applied(engine={}))
    for note in ("", "{", "[1]", "null", "[" * 100_000, 7):
        raw = resource()
        raw["metadata"]["annotations"] = {LAST_APPLIED: note}
        assert not is_in_the_manifest(raw)


def test_who_owns_the_number_is_told_to_those_who_set_it() -> None:
    hand = told_of_writer(managed(entry(*HAND)))
    assert hand.startswith("spec.replicas was set by hand (kubectl), and spec.autoscaling owns it")
    assert "spec.suspend" in hand
    for holders in ([FLUX], [FLUX, SCALER], [SCALER, FLUX]):
        told = told_of_writer(managed(*(entry(*one) for one in holders)))
        assert told.startswith("the manifest of flux sets spec.replicas")
    client_side = told_of_writer(applied(replicas=3))
    assert client_side.startswith("the manifest of kubectl apply sets spec.replicas")
    for quiet in ([], [SCALER], [EDIT]):
        assert told_of_writer(managed(*(entry(*one) for one in quiet))) == ""
