"""Whatever a valid spec says: once it is carried out, nothing is left to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.resources import resource
from tests.support.world import World
from vllm_operator.planner.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

words = st.text("abcxyz-_.0189", min_size=1, max_size=8).map(lambda text: f"w{text}")
quantities = st.builds(
    lambda number, suffix: f"{number}{suffix}",
    st.sampled_from([0, 1, 4, 1024, 1536, 0.5, 0.25]),
    st.sampled_from(["", "m", "Mi", "Gi", "k", "e2"]),
)
env = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("ABCDE")}, optional={"value": st.text(max_size=4)}),
    max_size=3,
    unique_by=lambda variable: str(variable["name"]),
)
engines = st.fixed_dictionaries(
    {},
    optional={
        "image": words,
        "port": st.integers(1, 65535),
        "maxModelLen": st.sampled_from([1, 4096, "32k", "auto"]),
        "maxNumBatchedTokens": st.integers(1, 16777216),
        "gpuMemoryUtilization": st.floats(0.01, 1),
        "cpuOffloadGB": st.floats(0, 100),
        "blockSize": st.integers(1, 1024),
        "debug": st.booleans(),
        "extraArgs": st.lists(words, max_size=3),
        "env": env,
    },
)
parts: dict[str, st.SearchStrategy[Any]] = {
    "storage": st.sampled_from(
        [
            {"cache": {"emptyDir": {}}},
            {"cache": {"persistentVolumeClaim": {"size": "1Ti"}}},
            {"cache": {"persistentVolumeClaim": {"size": "200Gi", "keep": True}}},
        ]
    ),
    "network": st.sampled_from([{"allowFrom": []}, {"allowFrom": [{"podSelector": {"matchLabels": {"app": "a"}}}]}]),
    "ingress": st.sampled_from([{"host": "a.example.com"}, {"host": "b.example.com", "tls": {}}]),
    "disruption": st.sampled_from([{"minAvailable": 1}, {"maxUnavailable": "50%"}]),
    "monitoring": st.sampled_from([{}, {"labels": {"release": "prometheus"}}]),
    "auth": st.just({"generate": True}),
    "pod": st.just({"serviceAccountName": "mine"}),
    "service": st.fixed_dictionaries({}, optional={"type": st.just("NodePort"), "port": st.integers(1, 65535)}),
}
"""Sections of which each makes or changes children of its own."""

specs = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {"source": words}, optional={"servedNames": st.lists(words, min_size=1, max_size=3)}
        )
    },
    optional={
        "engine": engines,
        "parallelism": st.fixed_dictionaries({}, optional={"tensor": st.integers(1, 8), "pipeline": st.integers(1, 4)}),
        "accelerator": st.fixed_dictionaries({}, optional={"resource": st.just("amd.com/gpu"), "count": st.just(0)}),
        **parts,
        "replicas": st.integers(0, 5),
        "resources": st.fixed_dictionaries(
            {},
            optional={
                name: st.dictionaries(st.sampled_from(["cpu", "memory", "ephemeral-storage"]), quantities, max_size=3)
                for name in ("requests", "limits")
            },
        ),
    },
)


BY_HAND: dict[str, tuple[tuple[str, ...], Any]] = {
    "ConfigMap": (("data", "VLLM_BASE_URL"), "changed"),
    "Secret": (("data", "uri"), "Y2hhbmdlZA=="),
    "ServiceAccount": (("automountServiceAccountToken",), True),
    "PersistentVolumeClaim": (("spec", "accessModes"), ["ReadWriteMany"]),
    "Service": (("spec", "selector"), {"changed": "by hand"}),
    "NetworkPolicy": (("spec", "ingress"), [{}]),
    "Ingress": (("spec", "rules"), [{"host": "changed.example.com"}]),
    "PodDisruptionBudget": (("spec", "selector"), {"matchLabels": {"changed": "by hand"}}),
    "Deployment": (("spec", "revisionHistoryLimit"), 99),
    "PodMonitor": (("spec", "podMetricsEndpoints"), []),
    "ControllerRevision": (("metadata", "labels", "app.kubernetes.io/component"), "changed"),
}
"""A field of each kind of child, and what somebody makes of it."""


def kept(child: Mapping[str, Any]) -> bool:
    """Whether it outlives what asked for it: a claim its model, what is remembered of keys and of specs these."""
    remembered = child["kind"] == "ControllerRevision" or child["metadata"]["name"] == "qwen-key-record"
    return "ownerReferences" not in child["metadata"] or remembered


@given(specs)
def test_what_was_carried_out_is_not_done_again(spec: dict[str, Any]) -> None:
    world = World(resource(**spec))
    world.carry_out(world.decide())
    assert world.decide().writes == ()
    world.settle()
    world.carry_out(world.decide())
    assert world.decide() == Plan()
    wanted = spec.get("replicas", 1)
    assert world.raw["status"]["readyReplicas"] == wanted
    assert world.raw["status"]["conditions"][0]["status"] == str(wanted > 0)


@given(specs)
def test_the_same_observation_gives_the_same_plan(spec: dict[str, Any]) -> None:
    world = World(resource(**spec))
    assert world.decide() == world.decide()


@given(specs, specs)
def test_an_edit_settles_too_and_undoing_it_writes_what_was_there(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assume(first != second)
    world = World(resource(**first))
    world.carry_out(world.decide())
    before = {key: child["metadata"]["annotations"] for key, child in world.children.items()}
    for spec in (second, first):
        world.raw["spec"] = spec
        world.raw["metadata"]["generation"] += 1
        world.carry_out(world.decide())
        assert world.decide().writes == ()
        world.settle()  # a key stays in the binding as long as an engine of before may ask for it
        world.carry_out(world.decide())
        assert world.decide().writes == ()
    after = {key: child["metadata"]["annotations"] for key, child in world.children.items() if not kept(child)}
    assert after == {key: annotations for key, annotations in before.items() if key in after}
    assert all(key in after or kept(world.children[key]) for key in before)


@given(specs, specs)
def test_what_a_changed_spec_no_longer_asks_for_is_gone_but_for_a_claim_that_is_to_be_kept(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    edited, fresh = World(resource(**first)), World(resource(**second))
    edited.carry_out(edited.decide())
    edited.raw = {**edited.raw, "spec": second}
    for world in (edited, fresh):
        world.carry_out(world.decide())
        world.settle()
        world.carry_out(world.decide())
        assert world.decide().deletions == ()
    left = {key for key, child in edited.children.items() if not kept(child)}
    assert left == {key for key, child in fresh.children.items() if not kept(child)}


@given(specs, st.data())
def test_any_change_that_somebody_makes_to_a_child_is_mended_with_one_write(
    spec: dict[str, Any], data: st.DataObject
) -> None:
    world = World(resource(**spec))
    world.carry_out(world.decide())
    key = data.draw(st.sampled_from(sorted(world.children)))
    child = world.children[key]
    path, value = BY_HAND[key.kind] if key.name != "qwen-key-record" else (("data", "digests"), "Y2hhbmdlZA==")
    for name in path[:-1]:
        child = child[name]
    child[path[-1]] = value
    (write,) = world.decide().writes
    assert (write.desired["kind"], write.desired["metadata"]["name"], write.ours) == (*key, True)
    world.carry_out(world.decide())
    assert world.decide().writes == ()
