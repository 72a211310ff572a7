"""Which engines are marked to go first: never more than may go, and never a busier one before an idler one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.resources import as_desired, as_live, child_of, deployment_status, observation, pod, resource
from vllm_operator.planner.decide import decide
from vllm_operator.planner.deletion_costs import COST, MOST_ASKED, DeletionCost, deletion_costs, to_ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.planner.plan import Plan

OURS = "vllm.echo-roots.io/deletion-cost"
REVISIONS, MARKS = st.sampled_from(["old", "new"]), st.none() | st.just(-1)


def engine(name: str, *, revision: str = "old", ready: bool = True, cost: int | None = None) -> LiveObject:
    """A pod of a revision, with what the operator has had it cost."""
    found = pod(name, ready=ready)
    found["metadata"]["labels"]["pod-template-hash"] = revision
    found["metadata"]["annotations"] = {} if cost is None else {COST: str(cost), OURS: str(cost)}
    return as_live(found, "Pod")


def deployment(replicas: int, *, running: int | None = None, model: str = "a/b", **status: Any) -> dict[str, Any]:
    """A Deployment; as a live one, so many of its engines are there, and all are of the newest template."""
    raw = resource(replicas=replicas, model={"source": model})
    there = replicas if running is None else running
    return {**child_of(raw, "Deployment"), "status": {**deployment_status(there), **status}}


def names(costs: tuple[DeletionCost, ...]) -> dict[str, int | None]:
    """The costs by the names of the pods."""
    return {cost.pod.name: cost.cost for cost in costs}


def work(**requests: float) -> dict[str, float]:
    """Requests by the uids of the pods."""
    return {f"uid-of-{name}": count for name, count in requests.items()}


def marked(wanted: int, *engines: LiveObject, requests: Mapping[str, float], live: Any = None) -> dict[str, int | None]:
    """What is marked when a Deployment of as many replicas as there are engines gets others."""
    return names(deletion_costs(deployment(wanted), live or deployment(len(engines)), engines, requests))


def test_a_scale_down_marks_as_many_engines_as_go_the_idlest_first() -> None:
    engines = (engine("a"), engine("b"), engine("c"), engine("d"))
    assert marked(3, *engines, requests=work(a=7, b=0, c=5, d=9)) == {"b": -1}
    assert marked(2, *engines, requests=work(a=7, b=0, c=5, d=9)) == {"b": -2, "c": -1}
    assert marked(1, *engines, requests=work(a=7, b=0, c=5, d=9)) == {"b": -3, "c": -2, "a": -1}


@pytest.mark.parametrize("wanted", [0, 5])
def test_where_no_engine_goes_or_every_one_nobody_is_asked_and_nothing_is_marked(wanted: int) -> None:
    engines = tuple(map(engine, "abcd"))
    assert marked(wanted, *engines, requests=work(a=1, b=2, c=3, d=4)) == {}
    assert to_ask(deployment(wanted), deployment(4), engines) == ()


def test_engines_that_do_not_serve_go_anyway_and_save_as_many_marks() -> None:
    engines = (engine("a"), engine("b"), engine("c"), engine("d", ready=False))
    assert marked(3, *engines, requests=work(a=7, b=0, c=5)) == {}
    assert marked(2, *engines, requests=work(a=7, b=0, c=5)) == {"b": -1}


def test_equal_work_is_no_reason_to_write() -> None:
    engines = (engine("a"), engine("b", cost=-1))
    assert marked(1, *engines, requests=work(a=0, b=0)) == {}
    assert marked(1, *engines, requests={}) == {}, "no manager has answered"


def test_an_engine_that_does_not_say_how_much_it_has_to_do_counts_as_the_busiest() -> None:
    engines = (engine("a"), engine("b"), engine("c"))
    assert marked(2, *engines, requests=work(b=100)) == {"b": -1}
    assert marked(1, *engines, requests=work(b=100)) == {"b": -1}, "of the others nothing is known"


def test_of_equal_engines_the_marked_one_goes_so_that_a_write_tried_again_marks_nothing_new() -> None:
    engines = (engine("a"), engine("b", cost=-1), engine("c"))
    assert marked(2, *engines, requests=work(a=0, b=0, c=3)) == {}


def test_a_mark_that_no_longer_fits_is_taken_back() -> None:
    engines = (engine("a"), engine("b", cost=-1), engine("c"))
    assert marked(2, *engines, requests=work(a=0, b=4, c=3)) == {"a": -1, "b": None}


def test_a_rollout_marks_all_old_engines_but_one_in_the_order_in_which_they_shall_go() -> None:
    engines = (engine("a"), engine("b"), engine("c"))
    live = deployment(3, model="another/model")
    assert marked(3, *engines, requests=work(a=7, b=0, c=5), live=live) == {"b": -2, "c": -1}


def test_a_template_that_only_loses_a_field_rolls_out_too() -> None:
    engines = (engine("a"), engine("b"))
    live = copy.deepcopy(deployment(2))
    live["metadata"]["annotations"]["vllm.echo-roots.io/desired-hash"] = "another"
    live["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "GONE", "value": "1"})
    assert marked(2, *engines, requests=work(a=7, b=0), live=live) == {"b": -1}


def test_a_repair_of_a_label_and_a_scale_up_ask_nobody() -> None:
    engines = (engine("a"), engine("b"))
    live = copy.deepcopy(deployment(2))
    live["metadata"]["labels"] = {}
    assert to_ask(deployment(2), live, engines) == ()
    assert to_ask(deployment(3), deployment(2), engines) == ()
    assert to_ask(deployment(1), None, engines) == ()


def test_in_a_rollout_each_revision_has_its_own_order() -> None:
    engines = (engine("a"), engine("b"), engine("x", revision="new"), engine("y", revision="new"))
    live = deployment(3, running=4, updatedReplicas=2)
    assert marked(2, *engines, requests=work(a=7, b=2, x=0, y=1), live=live) == {"b": -1, "x": -1}


@pytest.mark.parametrize("annotations", [{COST: "100"}, {COST: "-5", OURS: "-1"}])
def test_costs_that_somebody_else_has_set_are_left_alone(annotations: dict[str, str]) -> None:
    costly = pod("b", ready=True)
    costly["metadata"]["annotations"] = annotations
    engines = (engine("a"), as_live(costly, "Pod"))
    assert to_ask(deployment(1), deployment(2), engines) == ()
    assert marked(1, *engines, requests=work(a=7, b=2)) == {}


def test_a_cost_in_the_template_is_the_users_order() -> None:
    desired = copy.deepcopy(deployment(1))
    desired["spec"]["template"]["metadata"]["annotations"] = {COST: "3"}
    assert to_ask(desired, deployment(2), (engine("a"), engine("b"))) == ()


def test_a_large_fleet_is_asked_within_bounds() -> None:
    engines = tuple(engine(f"e{number:03}") for number in range(500))
    assert len(to_ask(deployment(1), deployment(500), engines)) == MOST_ASKED


@given(
    wanted=st.integers(0, 8),
    found=st.lists(
        st.tuples(
            st.sampled_from(["old", "new"]), st.booleans(), st.none() | st.integers(0, 3), st.none() | st.just(-1)
        ),
        max_size=8,
    ),
    rolls=st.booleans(),
)
def test_no_marked_engine_is_busier_than_one_that_stays_and_enough_stay(
    wanted: int, found: list[tuple[str, bool, int | None, int | None]], *, rolls: bool
) -> None:
    engines = [
        engine(f"e{number}", revision=revision, ready=ready, cost=cost)
        for number, (revision, ready, _, cost) in enumerate(found)
    ]
    requests = {f"uid-of-e{number}": load for number, (_, _, load, _) in enumerate(found) if load is not None}
    live = deployment(len(found), model="another/model" if rolls else "a/b")
    told = names(deletion_costs(deployment(wanted), live, engines, requests))
    after = {one.name: told.get(one.name, int(one.annotations.get(COST, 0))) or 0 for one in engines}
    for revision in ("old", "new"):
        serving = [one for one in engines if one.labels["pod-template-hash"] == revision and found_ready(one)]
        if not any(one.name in told for one in serving):
            continue
        loads = {one.name: requests.get(one.uid, float("inf")) for one in serving}
        for one in serving:
            for other in serving:
                assert not (after[one.name] < after[other.name] and loads[one.name] > loads[other.name])
        assert sum(after[one.name] < 0 for one in serving) < len(serving), "one stays that nothing was said against"


def found_ready(one: LiveObject) -> bool:
    """Whether a pod serves."""
    return bool(one.status["conditions"][-1]["status"] == "True")


def decided(*engines: LiveObject, replicas: int, requests: Mapping[str, float] | None = None) -> Plan:
    """The plan for a model with these engines that gets other replicas."""
    raw = resource(replicas=replicas)
    live = as_desired(resource(replicas=len(engines)), **deployment_status(len(engines)))
    return decide(observation(raw, live, *(one.body for one in engines), requests=requests))


def test_before_engines_go_the_plan_asks_and_then_marks() -> None:
    engines = (engine("a"), engine("b"), engine("c"))
    first = decided(*engines, replicas=2)
    assert [one.name for one in first.to_ask] == ["a", "b", "c"]
    assert first.costs == ()
    second = decided(*engines, replicas=2, requests=work(a=2, b=1, c=2))
    assert (second.to_ask, names(second.costs)) == ((), {"b": -1})
    assert second.costs[0].annotations == {COST: "-1", OURS: "-1"}
    assert [write.desired["kind"] for write in second.writes] == ["Deployment"]


def test_an_unchanged_model_is_neither_asked_nor_marked_whatever_its_engines_do() -> None:
    engines = (engine("a"), engine("b", cost=-1))
    for requests in (None, work(a=0, b=9)):
        plan = decided(*engines, replicas=2, requests=requests)
        assert (plan.to_ask, plan.costs, plan.writes) == ((), (), ())
