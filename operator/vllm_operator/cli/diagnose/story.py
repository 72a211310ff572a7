"""The whole story of a model: what is told of it, what its pods show, and what to do. Pure."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import meta
from vllm_operator.api.conditions import ConditionType, Reason
from vllm_operator.cli.diagnose.texts import text, texts
from vllm_operator.cli.output import clean
from vllm_operator.cli.rules import schema
from vllm_operator.cli.status.sources import DEPLOYMENT
from vllm_operator.cli.status.view import SERVING, condition, own_reports, view_of
from vllm_operator.diagnosis import fleet
from vllm_operator.diagnosis.ended import ended_pods, story
from vllm_operator.diagnosis.signatures import ENGLISH, Language, explain, table
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.cli.status.sources import Sources
    from vllm_operator.cli.status.view import DiagnosisView, ModelView
    from vllm_operator.diagnosis.fleet import Outcome

_MOST_EVENTS: Final = 6
_NO_STATUS, _BEHIND = "NoStatus", "Behind"


@dataclass(frozen=True, slots=True)
class ConditionView:
    """One condition, as the operator has told it."""

    type: str
    status: str
    reason: str
    since: str
    message: str


@dataclass(frozen=True, slots=True)
class EventView:
    """One Event about the model."""

    at: str
    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to do."""

    text: str
    id: str
    """The known failure that it mends, or the reason of a condition."""
    field: str = ""
    value: str = ""
    command: str = ""
    """What sets the field to the value; empty where no single command does."""
    engines: tuple[str, ...] = ()
    """The pods that it is for; empty where it is for the model as a whole."""


@dataclass(frozen=True, slots=True)
class Story:
    """All that is said of one model."""

    language: Language
    verdict: str
    """How it is, as one sentence."""
    view: ModelView
    seen_now: str
    """What the pods show, where the operator's words are not of now; else empty."""
    conditions: tuple[ConditionView, ...]
    ended: str
    """What happened to pods that are over, and that nothing that serves has replaced; else empty."""
    events: tuple[EventView, ...]
    remedies: tuple[Remedy, ...]


def story_of(found: Sources, events: Iterable[Mapping[str, Any]], language: Language = ENGLISH) -> Story:
    """The story of a model, out of what kubectl has read."""
    english = view_of(found)
    view = replace(
        english,
        diagnosis=tuple(localized(known, language) for known in english.diagnosis),
        symptoms=tuple(localized(known, language) for known in english.symptoms),
        notes=(*english.notes, *_no_deployment(found)),
    )
    seen = _outcome(found)
    lags = not _is_told(found.model) or (seen is not None and seen.ready != (view.ready == "True"))
    return Story(
        language=language,
        verdict=_verdict(found.model, view, language),
        view=view,
        seen_now=_seen_now(seen, language) if lags and seen is not None else "",
        conditions=tuple(map(_condition_view, items(found.model, "status", "conditions"))),
        ended=clean(story(ended_pods(found.pods or ()))),
        events=_events(events),
        remedies=tuple(_remedies(found.model, view, seen if lags else None, language)),
    )


def localized(known: DiagnosisView, language: Language) -> DiagnosisView:
    """A known failure in another language; as it is where what its text needs is not known."""
    if language == ENGLISH:
        return known
    match = table().match(known.excerpt)
    captured = match.groups if match and match.id == known.id else {}
    found = explain(known.id, dict(known.groups) or captured, language)
    if found is None:
        return known
    return replace(known, cause=clean(found.cause), advice=clean(found.advice), value=clean(found.value))


def patch_command(name: str, namespace: str, field: str, value: str) -> str:
    """The command that sets a field to a value; empty where the field takes more than one plain value."""
    node: Mapping[str, Any] = schema()
    for step in field.split("."):
        node = part(node, "properties", step)
    typed = _typed(node, value) if value else None
    if typed is None:
        return ""
    patch: Any = typed
    for step in reversed(field.split(".")):
        patch = {step: patch}
    place = ["--namespace", namespace] if namespace else []
    words = ["kubectl", "patch", meta.SINGULAR, name, *place, "--type", "merge", "--patch", json.dumps(patch)]
    return shlex.join(words)


def _typed(node: Mapping[str, Any], value: str) -> int | float | bool | str | None:
    """The value as the field's type has it; None where it has none such."""
    kind = "int-or-string" if node.get("x-kubernetes-int-or-string") else node.get("type")
    try:
        if kind == "integer" or (kind == "int-or-string" and value.isdecimal()):
            return int(value)
        if kind == "number":
            return float(value)
    except ValueError:
        return None
    if kind == "boolean":
        return {"true": True, "false": False}.get(value)
    return value if kind in ("string", "int-or-string") else None


def _is_told(model: Mapping[str, Any]) -> bool:
    """Whether the operator has followed the spec as it is now."""
    return bool(part(model, "status").get("observedGeneration", -1) >= model["metadata"].get("generation", 0))


def _verdict(model: Mapping[str, Any], view: ModelView, language: Language) -> str:
    if not part(model, "status"):
        name = "unseen"
    elif view.ready == "True":
        name = "ready"
    elif view.stalled:
        name = "stalled"
    elif condition(model, ConditionType.RECONCILING).get("status") == "False":
        name = "settled"
    else:
        name = "waiting"
    return text("sentences", name, language, name=view.name, namespace=view.namespace)


def _outcome(found: Sources) -> Outcome | None:
    """What the operator would make of Deployment and pods; None where they cannot be read."""
    if found.pods is None or found.deployment is None:
        return None
    ended = ended_pods(found.pods)
    wanted = part(found.model, "spec").get("replicas", 1)
    return fleet.judge(fleet.observed(wanted, found.deployment, own_reports(found), pending=False, ended=ended))


def _seen_now(seen: Outcome, language: Language) -> str:
    return text("sentences", "seen_now", language, reason=seen.reason.value, message=clean(seen.message))


def _no_deployment(found: Sources) -> tuple[str, ...]:
    unread = any(gap.startswith(DEPLOYMENT) for gap in found.gaps)
    return () if found.deployment is not None or unread else ("there is no Deployment",)


def _condition_view(told: Mapping[str, Any]) -> ConditionView:
    names = ("type", "status", "reason", "lastTransitionTime", "message")
    return ConditionView(*(clean(told.get(name) or "") for name in names))


def _events(events: Iterable[Mapping[str, Any]]) -> tuple[EventView, ...]:
    """The newest ones, the oldest of them first."""
    found = sorted(map(_event_view, events), key=lambda one: one.at)
    return tuple(found[-_MOST_EVENTS:])


def _event_view(event: Mapping[str, Any]) -> EventView:
    series = part(event, "series").get("lastObservedTime")
    times = (series, event.get("lastTimestamp"), event.get("eventTime"))
    at = next((str(one) for one in times if one), "")
    return EventView(clean(at), *(clean(event.get(name) or "") for name in ("type", "reason", "message")))


def _remedies(model: Mapping[str, Any], view: ModelView, seen: Outcome | None, language: Language) -> Iterator[Remedy]:
    """What to do, each once: what is known of single engines first, then what the reasons ask for."""
    yield from _known_remedies(view)
    reasons: dict[str, list[str]] = {}
    known = {one.engine for one in view.diagnosis}
    for engine in view.engines:
        if engine.state != SERVING and engine.pod not in known and engine.reason:
            reasons.setdefault(engine.reason, []).append(engine.pod)
    for reason in _reasons_of_the_model(model, view, seen):
        if not (reason == Reason.ENGINES_FAILING and known):
            reasons.setdefault(reason, [])
    for reason, pods in reasons.items():
        if reason in texts()["advice"]:
            yield Remedy(text("advice", reason, language, name=view.name), reason, engines=tuple(pods))


def _reasons_of_the_model(model: Mapping[str, Any], view: ModelView, seen: Outcome | None) -> Iterator[str]:
    if not part(model, "status"):
        yield _NO_STATUS
    elif not _is_told(model):
        yield _BEHIND
    elif view.ready != "True":
        yield view.reason
    if seen is not None and not seen.ready:
        yield seen.reason.value


def _known_remedies(view: ModelView) -> Iterator[Remedy]:
    """What mends the known failures of engines, and what slows them down, each once."""
    alike: dict[tuple[str, str, str, str], list[str]] = {}
    for known in (*view.diagnosis, *view.symptoms):
        alike.setdefault((known.id, known.advice, known.field, known.value), []).append(known.engine)
    for (name, advice, field, value), pods in alike.items():
        command = patch_command(view.name, view.namespace, field, value) if field else ""
        yield Remedy(advice, name, field, value, command, tuple(pods))
