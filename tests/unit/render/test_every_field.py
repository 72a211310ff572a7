"""No field is silently ignored: whichever of them is edited, what the cluster shall hold changes."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings

from tests.support.catalogs import catalog
from tests.support.resources import resource
from tests.support.specs import edits, leaf_paths, specs
from vllm_operator.api import names
from vllm_operator.api.resource import parse_resource
from vllm_operator.render.children import children
from vllm_operator.render.context import RenderContext

SURROUNDINGS: Final = RenderContext(api_key="secret", pod_monitors=True, autoscaler="ScaledObject")

WITHOUT_EFFECT: Final = {
    "parallelism.nodes": "generated specs have one pod an engine: see test_groups.py",
    "rollout.minAvailable": "the planner reads it",
    "rollout.surgeTimeoutSeconds": "the planner reads it",
    "rollout.paused": "the planner reads it",
    "rollout.templateUpdates": "the planner reads it",
    "rollout.revisionHistoryLimit": "the planner reads it",
    "accelerator.memory": "estimates are made with it; it places nothing",
    "estimate.configMapRef.name": "estimates are made with it; the operator reads it",
}

CATALOG: Final = "catalog."
"""Fields that applications read, and no engine."""


def rendered(spec: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The children of a spec."""
    return children(parse_resource(resource(**spec)), SURROUNDINGS)


def shown(spec: dict[str, Any]) -> dict[str, Any]:
    """The catalogue of a namespace that has this one model."""
    return catalog("team", [resource(**spec)])


@pytest.mark.parametrize("path", leaf_paths())
def test_an_edit_of_any_field_changes_the_children_or_the_catalogue(path: str) -> None:
    pairs = edits(path)
    assert pairs
    changed = any(rendered(before) != rendered(after) for before, after in pairs)
    told = any(shown(before) != shown(after) for before, after in pairs)
    assert (changed or told) == (path not in WITHOUT_EFFECT)
    assert changed == (path not in WITHOUT_EFFECT and not path.startswith(CATALOG))


@given(specs(), specs())
@settings(max_examples=50, derandomize=True, deadline=None)
def test_an_edit_of_the_catalogue_touches_no_child_and_so_rolls_no_engine(
    spec: dict[str, Any], other: dict[str, Any]
) -> None:
    edited = {name: part for name, part in spec.items() if name != "catalog"}
    if "catalog" in other:
        edited["catalog"] = other["catalog"]
    assert rendered(edited) == rendered(spec)


def test_fields_without_effect_are_fields() -> None:
    assert WITHOUT_EFFECT.keys() <= set(leaf_paths())
    assert any(path.startswith(CATALOG) for path in leaf_paths())


@given(specs())
@settings(max_examples=100, derandomize=True, deadline=None)
def test_whatever_is_set_all_children_are_the_models_and_have_names_of_their_own(spec: dict[str, Any]) -> None:
    found = rendered(spec)
    assert found == rendered(spec)
    assert len({(child["kind"], child["metadata"]["name"]) for child in found}) == len(found)
    for child in found:
        labels = child["metadata"]["labels"]
        assert labels.get(names.INSTANCE, labels.get(names.KEPT_FOR)) == "qwen"
        assert labels[names.MANAGED_BY] == names.MANAGER
        assert child["metadata"]["annotations"][names.DESIRED_HASH]
        kept = child["kind"] == "PersistentVolumeClaim" and "ownerReferences" not in child["metadata"]
        assert kept or child["metadata"]["ownerReferences"][0]["uid"] == "uid-of-qwen"


@given(specs())
@settings(max_examples=100, derandomize=True, deadline=None)
def test_whatever_is_set_a_pod_has_all_volumes_that_it_mounts_each_once(spec: dict[str, Any]) -> None:
    (pod,) = [child["spec"]["template"]["spec"] for child in rendered(spec) if child["kind"] == "Deployment"]
    volumes = [volume["name"] for volume in pod["volumes"]]
    (engine,) = pod["containers"]
    mounts = engine["volumeMounts"]
    assert len(set(volumes)) == len(volumes)
    assert {mount["name"] for mount in mounts} <= set(volumes)
    assert len({mount["mountPath"] for mount in mounts}) == len(mounts)
