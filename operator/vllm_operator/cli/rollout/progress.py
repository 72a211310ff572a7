"""How far the rollout of a model is: from the model and its Deployment, as they are read at one time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from vllm_operator.api.conditions import ConditionType
from vllm_operator.api.revisions import HANDLED_AT, RESTARTED_AT, Rollback, is_later, latest, restart_of
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """What is to be expected of a rollout."""

    COMPLETE = "Complete"
    """Nothing is left to do."""
    PROGRESSING = "Progressing"
    """It goes on, or waits for something that may come by itself."""
    FAILED = "Failed"
    """It does not go on before somebody acts."""
    TIMED_OUT = "TimedOut"
    """It went on for longer than somebody wanted to wait."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rollout is."""

    state: State
    message: str
    note: str = ""
    """What the user may want to do besides."""


def progress(model: Mapping[str, Any], deployment: Mapping[str, Any]) -> Progress:
    """How far the newest spec of a model has come.

    By the API conventions a status speaks of `observedGeneration`; of restarts and rollbacks, which may be annotations
    alone and change no generation, the Deployment tells whether the operator has seen them.

    Args:
        model: The VLLMModel, read before its Deployment: if it is the older one, the Deployment shows what it misses.
        deployment: Its Deployment; empty where there is none.
    """
    name = model["metadata"]["name"]
    generation = model["metadata"].get("generation", 0)
    stalled = _condition(model, ConditionType.STALLED)
    if part(model, "status").get("observedGeneration", 0) < generation:
        return Progress(State.PROGRESSING, f"the operator has not followed generation {generation} of {name} yet")
    why = _why(stalled) if stalled.get("status") == "True" else ""
    if news := _news(model, deployment):
        return Progress(State.PROGRESSING, f"the operator has not {news} {name} yet" + (f"; {why}" if why else ""))
    if why and _is_seen(deployment):
        return Progress(State.FAILED, f"the rollout of {name} is stalled: {why}")
    if _is_through(model, deployment):
        return Progress(State.COMPLETE, _success(model), _update_note(model))
    return Progress(State.PROGRESSING, _on_its_way(model, deployment))


def is_paused(model: Mapping[str, Any]) -> bool:
    """Whether the user holds the model's rollouts."""
    return bool(part(model, "spec", "rollout").get("paused"))


def restarted_at(model: Mapping[str, Any]) -> str:
    """When a restart was last asked for by the model itself, in RFC 3339; empty where none was."""
    return str(part(model, "metadata", "annotations").get(RESTARTED_AT) or "")


def _news(model: Mapping[str, Any], deployment: Mapping[str, Any]) -> str:
    """What the model asks for and the Deployment does not show yet, nor anything later; empty where there is nothing.

    A later restart may be one of `kubectl rollout restart`.
    """
    if is_paused(model):
        return ""
    handled_at = str(part(deployment, "metadata", "annotations").get(HANDLED_AT) or "")
    handled_at = latest([handled_at, restart_of(part(deployment, "spec", "template"))])
    rollback = Rollback.of(part(model, "metadata", "annotations"))
    if is_later(restarted_at(model), handled_at):
        return "restarted"
    return "rolled back" if rollback and is_later(rollback.at, handled_at) else ""


def _is_seen(deployment: Mapping[str, Any]) -> bool:
    """Whether its controller has read the Deployment as it is now; where there is none, there is nothing to read."""
    generation = part(deployment, "metadata").get("generation", 0)
    return bool(part(deployment, "status").get("observedGeneration", 0) >= generation)


def _is_through(model: Mapping[str, Any], deployment: Mapping[str, Any]) -> bool:
    status = part(deployment, "status")
    alike = _is_seen(deployment) and status.get("replicas", 0) == status.get("updatedReplicas", 0)
    under_way = part(model, "status", "rollout")
    return alike and not under_way and _condition(model, ConditionType.RECONCILING).get("status") == "False"


def _success(model: Mapping[str, Any]) -> str:
    name, ready = model["metadata"]["name"], _condition(model, ConditionType.READY)
    text = f"{name} successfully rolled out"
    return text if ready.get("status") == "True" else f"{text}: {ready.get('message') or ready.get('reason', '')}"


def _update_note(model: Mapping[str, Any]) -> str:
    pending = _condition(model, ConditionType.TEMPLATE_UPDATE_PENDING)
    if pending.get("status") != "True":
        return ""
    command = f"kubectl vllm rollout restart {model['metadata']['name']}"
    return f"a newer pod template of the operator waits ({pending.get('message')}): `{command}` takes it"


def _on_its_way(model: Mapping[str, Any], deployment: Mapping[str, Any]) -> str:
    name, ready = model["metadata"]["name"], _condition(model, ConditionType.READY)
    parts = [_counts(model, deployment), _why(ready) if ready.get("status") != "True" else ""]
    if is_paused(model):
        parts.insert(0, f"it is paused, and goes on after `kubectl vllm rollout resume {name}`")
    return f"waiting for the rollout of {name} to finish: {'; '.join(filter(None, parts))}"


def _counts(model: Mapping[str, Any], deployment: Mapping[str, Any]) -> str:
    told = part(model, "status", "rollout")
    if told:
        updated, wanted = told.get("updated", 0), told.get("wanted", 0)
        how = ": ".join(filter(None, (str(told.get("strategy") or ""), str(told.get("reason") or ""))))
        return f"{updated} of {wanted} engines are updated" + (f" ({how})" if how else "")
    wanted = part(model, "spec").get("replicas", 1)
    seen = _is_seen(deployment)
    updated = part(deployment, "status").get("updatedReplicas", 0) if seen else 0
    return f"{updated} of {wanted} engines are updated" if deployment else "there is no Deployment yet"


def _condition(model: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found = (one for one in items(model, "status", "conditions") if one.get("type") == kind)
    return next(found, {})


def _why(condition: Mapping[str, Any]) -> str:
    return f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
