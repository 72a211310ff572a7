"""The history of a model: what of a spec shapes pods, and what a revision remembers of it."""

from __future__ import annotations

import copy
from typing import Any, Final

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from tests.support.resources import SOURCE, resource
from tests.support.specs import edits, leaf_paths, specs
from vllm_operator.api import revisions
from vllm_operator.api.names import KEYS_CHANGED_AT
from vllm_operator.api.resource import parse_resource
from vllm_operator.api.revisions import RESTARTED_AT
from vllm_operator.api.spec import root
from vllm_operator.render.promises import finished_template

SPEC: Final = {"model": {"source": SOURCE}, "engine": {"maxModelLen": 4096}}
TEMPLATE: Final = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "vllm"}]}}

CLAIM: Final = "storage.cache.persistentVolumeClaim"

ONLY_COMPARED: Final = frozenset({"parallelism.nodes", "accelerator.memory", "scheduling.queueName"})
"""Fields that shape nothing, in parts that shape pods: an edit of them makes a revision, and no other pods. Generated
specs have one pod an engine."""


def body(data: Any, number: int = 1, name: str = "qwen-0123456789", **annotations: str) -> dict[str, Any]:
    """A ControllerRevision as kubectl prints it."""
    metadata = {"name": name, "creationTimestamp": "2026-11-26T06:00:00Z", "annotations": annotations}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "revision": number,
        "data": data,
    }


def pods(spec: dict[str, Any]) -> dict[str, Any]:
    """The pod template of a spec."""
    return finished_template(parse_resource(resource(**spec)))


@pytest.mark.parametrize("path", leaf_paths())
def test_a_field_that_reaches_the_pods_makes_another_revision_and_one_that_does_not_makes_none(path: str) -> None:
    changes = [(before, after, pods(before) != pods(after)) for before, after in edits(path)]
    for before, after, changed in changes:
        if changed:
            assert not revisions.same_pods(before, after)
        elif path.startswith(CLAIM) or (path not in ONLY_COMPARED and not any(change for *_, change in changes)):
            assert revisions.same_pods(before, after)


@given(specs())
@settings(max_examples=50, derandomize=True, deadline=None)
def test_a_spec_asks_for_the_same_pods_as_itself_however_it_is_written_down(spec: dict[str, Any]) -> None:
    written = parse_resource(resource(**spec)).spec.manifest()
    whole = {**resource(**spec)["spec"]}
    assert revisions.same_pods(whole, written)
    assert revisions.same_pods(revisions.pod_spec(whole), whole)
    assert revisions.same_pods(revisions.pod_spec(whole), revisions.pod_spec(written))


def test_replicas_and_what_surrounds_the_pods_are_no_part_of_a_revision() -> None:
    around: dict[str, Any] = {
        "replicas": 3,
        "rollout": {"paused": True},
        "catalog": {"weight": 1},
        "service": {"port": 80},
        "monitoring": {},
        "disruption": {"minAvailable": 1},
        "network": {"allowFrom": []},
    }
    assert revisions.pod_spec({**SPEC, **around}) == SPEC
    assert revisions.same_pods(SPEC, {**SPEC, **around})


def test_a_claim_that_grows_replaces_no_engine() -> None:
    small, large = (
        {**SPEC, "storage": {"cache": {"persistentVolumeClaim": {"size": size}}}} for size in ("1Gi", "2Gi")
    )
    assert revisions.same_pods(small, large)
    assert not revisions.same_pods(small, SPEC)


def test_a_default_that_a_new_version_writes_into_the_spec_is_no_change() -> None:
    defaulted = {**SPEC, "gates": {"port": 8480, "canary": "IfIdle"}, "storage": {}, "parallelism": {"tensor": 1}}
    assert revisions.same_pods(SPEC, defaulted)
    assert not revisions.same_pods(SPEC, {**SPEC, "parallelism": {"tensor": 2}})


def test_a_field_that_this_version_does_not_know_is_no_change() -> None:
    newer = {**SPEC, "engine": {"maxModelLen": 4096, "warp": 9}, "pipelines": [{"a": 1}]}
    assert revisions.same_pods(SPEC, newer)
    assert not revisions.same_pods(SPEC, {**newer, "engine": {"warp": 9}})


def test_a_stored_spec_that_this_version_refuses_equals_itself_alone() -> None:
    refused = {**SPEC, "engine": {"maxModelLen": -1}}
    with pytest.raises(ValidationError):
        root.VLLMModelSpec.model_validate(refused)
    assert revisions.same_pods(refused, copy.deepcopy(refused))
    assert not revisions.same_pods(refused, SPEC)
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"a": deep}
    assert not revisions.same_pods({**SPEC, "pod": {"patch": deep}}, SPEC)


def test_a_digest_is_found_once_for_each_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {**SPEC, "engine": {"maxModelLen": 4097}}
    first = revisions.pod_digest(spec)
    monkeypatch.setattr(revisions, "_normal", lambda _: pytest.fail("it was read once more"))
    assert revisions.pod_digest(copy.deepcopy(spec)) == first


def test_what_a_revision_was_made_of_is_read_back() -> None:
    config = {"chat-template.jinja": "{{ messages }}", "other": "text"}
    spec = {**SPEC, "model": {"source": SOURCE, "chatTemplate": {"inline": "{{ messages }}"}}, "replicas": 2}
    marked = revisions.marked(TEMPLATE, {RESTARTED_AT: "2026-11-26T06:00:00Z", KEYS_CHANGED_AT: "x"})
    data = revisions.data_of(spec, marked, config)
    assert str(data).count("{{ messages }}") == 1
    annotations = {revisions.CHANGE_CAUSE: "longer", RESTARTED_AT: "2026-11-26T06:00:00Z"}
    (found,) = revisions.revisions_of([body(data, 4, **annotations)])
    assert (found.number, found.cause, found.restarted_at) == (4, "longer", "2026-11-26T06:00:00Z")
    assert found.created_at == "2026-11-26T06:00:00Z"
    assert (found.spec, found.template, found.config) == (revisions.pod_spec(spec), TEMPLATE, config)


def test_the_name_of_a_revision_is_made_of_its_data() -> None:
    data = revisions.data_of(SPEC, TEMPLATE, {})
    name = revisions.revision_name("qwen", data)
    assert revisions.is_revision_name("qwen", name)
    assert revisions.revision_name("qwen", revisions.data_of({**SPEC, "replicas": 2}, TEMPLATE, {})) == name
    assert revisions.revision_name("qwen", revisions.data_of(SPEC, {"spec": {}}, {})) != name
    assert not revisions.is_revision_name("qwen", "qwen-client")
    assert not revisions.is_revision_name("qwen", f"{name}0")


def test_the_greatest_number_comes_first_and_what_holds_no_revision_is_left_out() -> None:
    data = revisions.data_of(SPEC, TEMPLATE, {})
    broken: list[Any] = [
        None,
        "text",
        {},
        {"spec": {}},
        {"spec": SPEC, "template": {"spec": None}},
    ]
    objects = [body(data, 2, "a"), body(data, 10, "b"), *map(body, broken), {**body(data), "kind": "ConfigMap"}]
    assert [found.name for found in revisions.revisions_of(objects)] == ["b", "a"]


def test_an_undo_brings_back_the_pods_and_leaves_everything_else() -> None:
    claim = {"cache": {"persistentVolumeClaim": {"size": "2Gi"}}}
    now = {
        "model": {"source": "new"},
        "lora": {"adapters": []},
        "replicas": 5,
        "storage": claim,
        "pod": {"serviceAccountAnnotations": {"a": "b"}, "labels": {"c": "d"}},
    }
    earlier = {"model": {"source": "old"}, "storage": {"cache": {"persistentVolumeClaim": {"size": "1Gi"}}}}
    assert revisions.restored(now, earlier) == {
        "model": {"source": "old"},
        "replicas": 5,
        "storage": claim,
        "pod": {"serviceAccountAnnotations": {"a": "b"}},
    }
    named = {**earlier, "pod": {"serviceAccountName": "mine"}}
    assert revisions.restored(now, named)["pod"] == {"serviceAccountName": "mine"}
    assert revisions.restored({"replicas": 5}, earlier) == {**earlier, "replicas": 5}


def lora(*names: str, **fields: Any) -> dict[str, Any]:
    """A spec with adapters that engines are told of while they run."""
    adapters = [{"name": name, "source": f"org/{name}"} for name in names]
    return {"model": {"source": "org/base"}, "lora": {"runtimeUpdates": True, "adapters": adapters, **fields}}


def test_adapters_of_which_engines_are_told_while_they_run_shape_no_pod_and_an_undo_leaves_them() -> None:
    assert revisions.same_pods(lora("sql"), lora("sql", "legal"))
    assert revisions.same_pods(lora("sql"), {**lora(), "lora": {"runtimeUpdates": True}})
    assert "adapters" not in revisions.pod_spec(lora("sql"))["lora"]
    for other in ({"maxRank": 64}, {"claims": ["a"]}, {"maxLoras": 2}, {"runtimeUpdates": False}):
        assert not revisions.same_pods(lora("sql"), lora("sql", **other))
    static = {**lora(), "lora": {"adapters": lora("sql")["lora"]["adapters"]}}
    assert not revisions.same_pods(static, {**static, "lora": {"adapters": lora("legal")["lora"]["adapters"]}})
    earlier = revisions.pod_spec(lora("old", maxRank=64))
    assert revisions.restored(lora("sql"), earlier) == lora("sql", maxRank=64)
    assert revisions.restored(lora("sql"), static) == static


@given(specs(), specs())
@settings(max_examples=50, derandomize=True, deadline=None)
def test_whatever_is_undone_asks_for_the_earlier_pods(now: dict[str, Any], earlier: dict[str, Any]) -> None:
    found = revisions.restored(resource(**now)["spec"], revisions.pod_spec(resource(**earlier)["spec"]))
    assert revisions.same_pods(found, resource(**earlier)["spec"])


def test_the_latest_restart_counts_in_whatever_zone_and_what_is_no_time_counts_for_nothing() -> None:
    morning, noon = "2026-11-26T06:00:00Z", "2026-11-26T08:00:00+01:00"
    assert revisions.latest([morning, "", noon, "soon"]) == noon
    assert revisions.latest(["soon", "2026-11-26T06:00:00"]) == ""
    assert revisions.is_later(noon, morning)
    assert revisions.is_later(morning, "")
    assert not revisions.is_later(morning, "2026-11-26T07:00:00+01:00")
    assert not revisions.is_later("soon", "")
    assert revisions.is_time(morning)
    assert not revisions.is_time("2026-11-26T06:00:00")


def test_marks_are_laid_over_a_template_and_taken_off_again() -> None:
    marked = revisions.marked(TEMPLATE, {RESTARTED_AT: "2026-11-26T06:00:00Z", KEYS_CHANGED_AT: ""})
    assert marked["metadata"]["annotations"] == {RESTARTED_AT: "2026-11-26T06:00:00Z"}
    assert revisions.restart_of(marked) == "2026-11-26T06:00:00Z"
    assert revisions.restart_of(TEMPLATE) == ""
    assert revisions.unmarked(marked) == TEMPLATE
