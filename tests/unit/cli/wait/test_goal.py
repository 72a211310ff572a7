"""Whether waiting helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import told_models as told
from vllm_operator.cli.rollout.progress import State
from vllm_operator.cli.wait.goal import Goal, toward

if TYPE_CHECKING:
    from typing import Any

ZERO = told.conditions(
    Ready=("False", "ScaledToZero", "spec.replicas is 0: no engine is wanted"),
    Available=("False", "NoEngineServes", "no engine takes traffic"),
    Reconciling=("False", "AsDesired", ""),
    Stalled=("False", "AsDesired", ""),
)
ONE_OF_TWO = told.conditions(
    Ready=("False", "RevisionFails", "1 of 2 engines serve"),
    Available=("True", "EnginesServe", "at least one engine takes traffic"),
    Reconciling=("False", "RevisionFails", "1 of 2 engines serve"),
    Stalled=("True", "RevisionFails", "1 of 2 engines serve"),
)


@pytest.mark.parametrize(
    ("conditions", "goal", "state"),
    [
        (told.READY, Goal.READY, State.COMPLETE),
        (told.READY, Goal.AVAILABLE, State.COMPLETE),
        (told.LOADING, Goal.READY, State.PROGRESSING),
        (told.LOADING, Goal.AVAILABLE, State.PROGRESSING),
        (told.STALLED, Goal.READY, State.FAILED),
        (told.STALLED, Goal.AVAILABLE, State.FAILED),
        (ZERO, Goal.READY, State.FAILED),
        (ONE_OF_TWO, Goal.READY, State.FAILED),
        (ONE_OF_TWO, Goal.AVAILABLE, State.COMPLETE),
    ],
    ids=[
        "ready",
        "so available",
        "loads",
        "loads yet",
        "stalled",
        "never",
        "no engine wanted",
        "revision",
        "one serves",
    ],
)
def test_the_conditions_say_whether_waiting_helps(conditions: list[dict[str, Any]], goal: Goal, state: State) -> None:
    found = toward(goal, "qwen", told.model(conditions))
    assert found.state is state
    assert (conditions[0]["message"] in found.message) or state is State.COMPLETE


@pytest.mark.parametrize("conditions", [None, told.READY, told.STALLED], ids=["none", "ready", "stalled"])
def test_what_is_told_of_an_earlier_spec_is_no_answer(conditions: list[dict[str, Any]] | None) -> None:
    model = told.model(conditions)
    if conditions is not None:
        model["metadata"]["generation"] = 2
    found = toward(Goal.READY, "qwen", model)
    assert found.state is State.PROGRESSING
    assert "does it run?" in found.message


def test_the_end_of_a_model_can_be_waited_for() -> None:
    model = told.model(told.READY)
    assert toward(Goal.DELETED, "qwen", {}).state is State.COMPLETE
    assert "nobody has asked for it yet" in toward(Goal.DELETED, "qwen", model).message
    model["metadata"].update(deletionTimestamp=told.SINCE, finalizers=["example.com/mine"])
    assert "example.com/mine has to let it go" in toward(Goal.DELETED, "qwen", model).message
