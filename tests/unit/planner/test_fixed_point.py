"""Whatever a valid spec says: once it is carried out, nothing is left to do."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.resources import resource
from tests.support.world import World
from vllm_operator.planner.plan import Plan

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
    assert {key: child["metadata"]["annotations"] for key, child in world.children.items()} == before


@given(specs, st.data())
def test_any_change_that_somebody_makes_to_a_child_is_mended_with_one_write(
    spec: dict[str, Any], data: st.DataObject
) -> None:
    world = World(resource(**spec))
    world.carry_out(world.decide())
    key = data.draw(st.sampled_from(sorted(world.children)))
    child = world.children[key]
    part = child["data"] if key.kind == "ConfigMap" else child["spec"]
    owned = {"ConfigMap": "VLLM_BASE_URL", "Service": "selector", "Deployment": "revisionHistoryLimit"}[key.kind]
    part[owned] = {"changed": "by hand"} if owned == "selector" else "changed by hand"
    (write,) = world.decide().writes
    assert (write.desired["kind"], write.desired["metadata"]["name"], write.ours) == (*key, True)
    world.carry_out(world.decide())
    assert world.decide().writes == ()
