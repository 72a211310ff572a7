"""What is waited for, and whether waiting helps: from the conditions of a model. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import ConditionType
from vllm_operator.cli.output import clean
from vllm_operator.cli.rollout.objects import shown
from vllm_operator.cli.rollout.progress import Progress, State
from vllm_operator.cli.status.view import condition
from vllm_operator.render.untyped import part, words

if TYPE_CHECKING:
    from collections.abc import Mapping


class Goal(StrEnum):
    """What is waited for."""

    READY = "ready"
    """All wanted engines serve, with what the spec asks for."""
    AVAILABLE = "available"
    """At least one engine serves."""
    DELETED = "deleted"
    """There is no such model any more."""


_CONDITIONS: Final = {Goal.READY: ConditionType.READY, Goal.AVAILABLE: ConditionType.AVAILABLE}


def toward(goal: Goal, name: str, model: Mapping[str, Any]) -> Progress:
    """Whether the goal is reached, may be, or is not before somebody acts.

    Args:
        goal: What is waited for.
        name: The model's.
        model: The model as it is; empty where there is none.
    """
    if goal is Goal.DELETED:
        return _deleted(name, model)
    generation = model["metadata"].get("generation", 0)
    if part(model, "status").get("observedGeneration", -1) < generation:
        text = f"the operator has not followed generation {generation} of {name} yet: does it run?"
        return Progress(State.PROGRESSING, text)
    wanted, ready = condition(model, _CONDITIONS[goal]), condition(model, ConditionType.READY)
    if wanted.get("status") == "True":
        return Progress(State.COMPLETE, f"{shown(name)} is {goal}: {clean(wanted.get('message') or '')}")
    if _is_final(model):
        return Progress(
            State.FAILED, f"{shown(name)} is not {goal}, and will not be before somebody acts: {_why(ready)}"
        )
    return Progress(State.PROGRESSING, f"waiting for {shown(name)} to be {goal}: {_why(ready)}")


def _deleted(name: str, model: Mapping[str, Any]) -> Progress:
    if not model:
        return Progress(State.COMPLETE, f"{shown(name)} is deleted")
    if "deletionTimestamp" not in model["metadata"]:
        return Progress(State.PROGRESSING, f"waiting for {shown(name)} to be deleted: nobody has asked for it yet")
    held = ", ".join(words(model["metadata"], "finalizers")) or "the garbage collector"
    return Progress(State.PROGRESSING, f"waiting for {shown(name)} to be deleted: {held} has to let it go")


def _is_final(model: Mapping[str, Any]) -> bool:
    """Whether somebody has to act, or nothing is on its way: no engine is wanted, or a paused rollout stands."""
    stalled, moving = condition(model, ConditionType.STALLED), condition(model, ConditionType.RECONCILING)
    return stalled.get("status") == "True" or moving.get("status") == "False"


def _why(condition: Mapping[str, Any]) -> str:
    return clean(f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": "))
