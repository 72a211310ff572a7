"""Whole rollouts, over all orders in which pods are placed, get ready, fail and go, and in which the user edits.

The operator's planner leads a Deployment's controller with the arithmetic of Kubernetes (tests/support/rollouts.py).
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.support import rollouts
from tests.support.rollouts import SERVES, Pod, Wanted, World, at_rest, decision, free
from vllm_operator.render.rollout import Strategy, fewest_available, resting_strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

MOST_STEPS = 60


def judge(before: World, after: World, most: int = 1000) -> None:
    """No engine is taken that serves and is needed; where there is no room, so many stay as spec.rollout says.

    Of those that were wanted while an earlier decision was still on its way, `most` are counted.
    """
    if after.serving >= before.serving:
        return
    wanted = min(before.wanted.replicas, before.numbers.replicas, most)
    known = min(before.serving, before.seen_serving)  # one that got ready since has not been seen by the operator
    if after.serving >= min(wanted, known):
        return
    assert resting_strategy(before.rollout, before.excluded) is not Strategy.SURGE or before.rollout.strategy == "Auto"
    assert after.serving >= min(fewest_available(before.rollout, wanted), known), f"{before}\n->\n{after}"
    if resting_strategy(before.rollout, before.excluded) is Strategy.SURGE and before.numbers.unavailable == 1:
        assert free(before) <= 0, f"an engine went although there was room: {before}\n->\n{after}"


def resting(world: World) -> World:
    """The operator and the controllers, in turn, until none has anything left to do; each step is judged."""
    for _ in range(MOST_STEPS):
        before = world
        for step in rollouts.CONTROLLERS:
            after = step(world)
            judge(world, after)
            world = after
        if before.key == world.key:
            return world
    raise AssertionError(f"it never rests: {world}")


def one_after_the_other(world: World) -> Iterator[World]:
    """What may happen next, where the operator and the controllers are quicker than everything else."""
    yield from map(resting, rollouts.happenings(world))


def in_any_order(world: World) -> Iterator[World]:
    """What may happen next, where every step of everybody may be late."""
    for after in rollouts.unsettled(world):
        judge(world, after, world.fewest)
        yield after
    yield from rollouts.happenings(world)


def ends(start: World, following: Callable[[World], Iterator[World]] = one_after_the_other) -> list[World]:
    """The worlds in which nothing is left to happen; each one that can be reached is visited."""
    reached, waiting, found = {start.key}, [start], []
    while waiting:
        world = waiting.pop()
        successors = list(following(world))
        if not successors:
            found.append(world)
        for one in successors:
            if one.key not in reached:
                reached.add(one.key)
                waiting.append(one)
    return found


def assert_through(found: list[World]) -> None:
    """Every way leads to the engines that are wanted, and the Deployment is as one at rest."""
    assert found
    for world in found:
        assert world.through, world
        assert (world.numbers.replicas, world.numbers.paused) == (world.wanted.replicas, False)
        plain = rollouts.Numbers(0, 0, 1, 0) if not world.excluded else rollouts.Numbers(0, 0, 0, 1)
        if world.rollout.strategy == "Auto" and world.rollout.min_available is None and world.wanted.replicas:
            assert (world.numbers.surge, world.numbers.unavailable) == (plain.surge, plain.unavailable)


SIZES = [(replicas, places) for replicas in (1, 2, 3, 4) for places in (replicas, replicas + 1, replicas + 2)]


@pytest.mark.parametrize(("replicas", "places"), SIZES)
@pytest.mark.parametrize("excluded", ["", "a claim for one node"])
def test_a_sound_revision_gets_through_with_and_without_a_spare_place(
    replicas: int, places: int, excluded: str
) -> None:
    assert_through(ends(at_rest(places, replicas, (Wanted(1, replicas),), excluded=excluded)))


@pytest.mark.parametrize(("replicas", "places"), SIZES)
@pytest.mark.parametrize("excluded", ["", "a claim for one node"])
def test_a_revision_that_fails_holds_nothing_that_the_next_one_needs(replicas: int, places: int, excluded: str) -> None:
    edits = (Wanted(1, replicas, sound=False), Wanted(2, replicas))
    assert_through(ends(at_rest(places, replicas, edits, excluded=excluded)))


@pytest.mark.parametrize(("replicas", "places"), [*SIZES, (4, 2), (4, 3), (3, 1)])
def test_a_first_revision_that_fails_gives_all_its_places_to_the_next_one(replicas: int, places: int) -> None:
    found = ends(at_rest(places, replicas, (Wanted(1, replicas),), sound=False))
    for world in found:
        assert sum(pod == Pod(1, SERVES) for pod in world.pods) == min(places, replicas)
        assert all(pod.template == 1 for pod in world.pods)


@pytest.mark.parametrize(("replicas", "places"), SIZES)
def test_a_revision_that_fails_stops_and_can_be_undone(replicas: int, places: int) -> None:
    stopped = ends(at_rest(places, replicas, (Wanted(1, replicas, sound=False),)))
    for world in stopped:
        assert world.serving >= (replicas if places > replicas else replicas - 1)
        assert sum(pod.template == 1 for pod in world.pods) == 1
    undone = (Wanted(1, replicas, sound=False), Wanted(0, replicas))
    assert_through(ends(at_rest(places, replicas, undone)))


@pytest.mark.parametrize("places", [1, 2, 3, 4])
@pytest.mark.parametrize("edits", list(product((1, 2, 3), (1, 2, 3), (1, 2))))
def test_quick_edits_of_pods_and_replicas_never_take_an_engine_that_is_needed(
    places: int, edits: tuple[int, ...]
) -> None:
    wanted = tuple(Wanted(number, replicas) for number, replicas in enumerate(edits, start=1))
    for world in ends(at_rest(places, 1, wanted)):
        assert world.through or places < wanted[-1].replicas


@pytest.mark.parametrize("strategy", ["Auto", "Surge"])
@pytest.mark.parametrize("edits", [(1, 2), (2, 1), (1, 1), (1, 2, 1)])
def test_nor_where_every_step_of_everybody_may_be_late(strategy: str, edits: tuple[int, ...]) -> None:
    wanted = tuple(Wanted(number, replicas) for number, replicas in enumerate(edits, start=1))
    assert_through(ends(at_rest(6, 1, wanted, strategy=strategy), in_any_order))


@pytest.mark.parametrize(("replicas", "places"), [(1, 1), (1, 2), (2, 2), (2, 3)])
@pytest.mark.parametrize("strategy", ["Auto", "InPlace"])
def test_a_rollout_gets_through_where_every_step_of_everybody_may_be_late(
    replicas: int, places: int, strategy: str
) -> None:
    assert_through(ends(at_rest(places, replicas, (Wanted(1, replicas),), strategy=strategy), in_any_order))


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_surge_waits_for_a_place_and_says_what_would_help(replicas: int) -> None:
    (world,) = ends(at_rest(replicas, replicas, (Wanted(1, replicas),), strategy="Surge"))
    assert world.serving == replicas
    assert "needs room for one engine more" in decision(world).wanting


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_auto_takes_none_where_all_have_to_stay(replicas: int) -> None:
    (world,) = ends(at_rest(replicas, replicas, (Wanted(1, replicas),), minAvailable="100%"))
    assert world.serving == replicas
    assert "lets no engine go" in decision(world).wanting


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_in_place_is_held_where_all_have_to_stay(replicas: int) -> None:
    (world,) = ends(at_rest(replicas + 1, replicas, (Wanted(1, replicas),), strategy="InPlace", minAvailable=replicas))
    assert (world.serving, len(world.pods)) == (replicas, replicas)
    assert world.numbers.paused
    assert "minAvailable" in decision(world).held


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_in_place_takes_as_many_at_once_as_may_go(replicas: int) -> None:
    assert_through(ends(at_rest(replicas, replicas, (Wanted(1, replicas),), strategy="InPlace", minAvailable=1)))


@pytest.mark.parametrize("places", [2, 3])
@pytest.mark.parametrize("excluded", ["", "a claim for one node"])
@pytest.mark.parametrize("edits", [(2, 1), (1, 2), (3, 1), (1, 3, 1), (2, 3, 2)])
def test_replicas_change_in_the_middle_of_a_rollout_in_place(
    places: int, excluded: str, edits: tuple[int, ...]
) -> None:
    wanted = tuple(Wanted(1, replicas) for replicas in edits)
    for world in ends(at_rest(places, 2, wanted, excluded=excluded)):
        assert world.through or places < edits[-1]


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("edits", [(0,), (1,), (-1, 0)])
def test_recreate_gets_through_also_where_replicas_change(replicas: int, edits: tuple[int, ...]) -> None:
    wanted = tuple(Wanted(number, max(replicas + more, 1)) for number, more in enumerate(edits, start=1))
    found = ends(at_rest(replicas + 1, replicas, wanted, strategy="Recreate"))
    assert all(world.through for world in found)


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_a_paused_rollout_changes_no_engine_and_still_follows_replicas(replicas: int) -> None:
    wanted = (Wanted(1, replicas), Wanted(2, replicas + 1))
    for world in ends(at_rest(replicas + 1, replicas, wanted, paused=True)):
        assert world.pods == (Pod(0, SERVES),) * (replicas + 1)


@pytest.mark.parametrize(("replicas", "places"), SIZES)
def test_zero_engines_are_wanted_and_none_stays(replicas: int, places: int) -> None:
    for world in ends(at_rest(places, replicas, (Wanted(1, replicas), Wanted(2, 0)))):
        assert world.pods == ()
