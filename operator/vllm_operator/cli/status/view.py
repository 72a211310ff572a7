"""How a model and its engines are: what the operator has told of them, and what the pods show now. Pure.

What the pods show counts more, since the operator may be down, or may not have come to it yet. Where their managers
could not be asked, the operator's words on the same state of the same pod stand in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import ConditionType
from vllm_operator.cli.output import clean
from vllm_operator.cli.status.progress import Downloaded, Progress, bytes_per_second, progress_of
from vllm_operator.diagnosis.engine_status import EngineStatus
from vllm_operator.diagnosis.engines import reports
from vllm_operator.diagnosis.facts import pod_facts, unbound_claims
from vllm_operator.diagnosis.groups import one_for_each_group
from vllm_operator.diagnosis.signatures import explain
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.cli.status.sources import Sources
    from vllm_operator.diagnosis.engines import EngineReport
    from vllm_operator.diagnosis.signatures import Explanation

SERVING: Final = "Serving"
_UNKNOWN: Final = "Unknown"
_DETAIL: Final = re.compile(r"\((\d[^()]* of [^()]+)\)")
"""How much of a phase is done, in a sentence of the operator."""


@dataclass(frozen=True, slots=True)
class DiagnosisView:
    """A known failure of one engine."""

    engine: str
    id: str
    cause: str
    advice: str
    field: str = ""
    value: str = ""
    since: str = ""
    """When the operator first told it; empty where it has not."""
    excerpt: str = ""
    groups: tuple[tuple[str, str], ...] = ()
    """What was captured of the engine's words, where that is known."""

    @property
    def sentence(self) -> str:
        """What has happened and what to do."""
        return f"{self.cause}: {self.advice}"


@dataclass(frozen=True, slots=True)
class EngineView:
    """One engine."""

    pod: str
    state: str
    """Serving, Starting, Withdrawn or Failing."""
    reason: str = ""
    """The reason of its state, as in the model's conditions; empty where its pod cannot be read."""
    since: str = ""
    phase: str = ""
    detail: str = ""
    """How much of the phase is done, in the manager's words."""
    progress: Progress | None = None
    downloaded: Downloaded | None = None
    """How much of the model is on its disk, while it may be downloading."""
    bytes_per_second: float | None = None
    """How fast it downloads; None where two looks do not show it."""
    node: str = ""
    restarts: int = 0
    sentence: str = ""
    """Why it does not serve; what its diagnosis tells is not told once more."""
    note: str = ""
    """Why its manager has said nothing."""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class DownloadView:
    """One source on its way into the model's claim, as the operator has told it; sizes in bytes."""

    source: str
    revision: str
    state: str
    reason: str
    message: str
    done: int
    total: int
    """0 where it is not known yet."""
    bytes_per_second: int
    seconds_left: int | None


@dataclass(frozen=True, slots=True)
class AdapterView:
    """A LoRA adapter, as the operator has told it."""

    name: str
    state: str
    """Serving, Loading, Failing or Leaving."""
    served: bool
    """Whether clients are told of it."""
    message: str
    """Why it is not served everywhere; empty where it is."""


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model with its engines."""

    namespace: str
    name: str
    ready: str
    """Status of the condition Ready: True, False or Unknown."""
    reason: str
    message: str
    since: str
    stalled: bool
    wanted: int
    existing: int
    serving: int
    updated: int
    rollout: Mapping[str, Any]
    """`status.rollout`; empty where no engine is to be replaced."""
    engines: tuple[EngineView, ...]
    diagnosis: tuple[DiagnosisView, ...]
    symptoms: tuple[DiagnosisView, ...]
    """What slows engines down that were asked."""
    warnings: tuple[str, ...]
    downloads: tuple[DownloadView, ...]
    """What fills the claim before engines start."""
    adapters: tuple[AdapterView, ...]
    notes: tuple[str, ...]
    """What was not read, and where what was read does not fit together."""


def view_of(found: Sources) -> ModelView:
    """How a model is."""
    model = found.model
    engines = _seen(found) if found.pods is not None else tuple(_told_engines(model))
    status, ready = part(model, "status"), condition(model, ConditionType.READY)
    seen = found.pods is not None
    known = _diagnoses(found, engines)
    serving = sum(engine.state == SERVING for engine in engines) if seen else status.get("readyReplicas", 0)
    return ModelView(
        namespace=str(model["metadata"].get("namespace") or ""),
        name=str(model["metadata"]["name"]),
        ready=str(ready.get("status") or _UNKNOWN),
        reason=clean(ready.get("reason") or ""),
        message=clean(ready.get("message") or ""),
        since=clean(ready.get("lastTransitionTime") or ""),
        stalled=condition(model, ConditionType.STALLED).get("status") == "True",
        wanted=part(model, "spec").get("replicas", 1),
        existing=len(engines) if seen else status.get("replicas", 0),
        serving=serving,
        updated=status.get("updatedReplicas", 0),
        rollout={name: clean(value) if isinstance(value, str) else value for name, value in _rollout(model).items()},
        engines=tuple(_without_diagnosis(engine, known) for engine in engines),
        diagnosis=known,
        symptoms=tuple(_symptoms(found)),
        warnings=tuple(clean(text) for text in status.get("warnings") or ()),
        downloads=tuple(map(_download, items(model, "status", "prefetch"))),
        adapters=tuple(map(_adapter, items(model, "status", "adapters"))),
        notes=(*(clean(gap) for gap in found.gaps), *_lag(model, serving)),
    )


def with_rates(view: ModelView, before: ModelView | None) -> ModelView:
    """The view with how fast its engines download, as an earlier look at the same pods shows."""
    earlier = {engine.uid: engine.downloaded for engine in before.engines if engine.uid} if before else {}
    rated = (
        replace(engine, bytes_per_second=bytes_per_second(earlier.get(engine.uid), engine.downloaded))
        for engine in view.engines
    )
    return replace(view, engines=tuple(rated))


def may_grow(view: ModelView) -> bool:
    """Whether a second look may show how fast an engine downloads."""
    return any(engine.downloaded is not None for engine in view.engines)


def condition(model: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition that the operator has told of a model; empty where it has told none."""
    return next((one for one in items(model, "status", "conditions") if one.get("type") == kind), {})


def own_reports(found: Sources) -> tuple[EngineReport, ...]:
    """What the pods show, judged as the operator judges it."""
    claims = unbound_claims({"kind": "PersistentVolumeClaim", **claim} for claim in found.claims)
    seen = reports(found.living, found.findings, unbound_claims=claims, now=found.at)
    return one_for_each_group(seen, found.living)


def _download(told: Mapping[str, Any]) -> DownloadView:
    left = told.get("secondsLeft")
    return DownloadView(
        source=clean(told.get("source") or ""),
        revision=clean(told.get("revision") or ""),
        state=clean(told.get("state") or _UNKNOWN),
        reason=clean(told.get("reason") or ""),
        message=clean(told.get("message") or ""),
        done=int(told.get("bytesDone") or 0),
        total=int(told.get("bytesTotal") or 0),
        bytes_per_second=int(told.get("bytesPerSecond") or 0),
        seconds_left=int(left) if left is not None else None,
    )


def _adapter(told: Mapping[str, Any]) -> AdapterView:
    state, message = clean(told.get("state") or _UNKNOWN), clean(told.get("message") or "")
    return AdapterView(clean(told.get("name") or ""), state, told.get("served") is True, message)


def _rollout(model: Mapping[str, Any]) -> Mapping[str, Any]:
    return part(model, "status", "rollout")


def _seen(found: Sources) -> tuple[EngineView, ...]:
    told = {str(one.get("pod")): one for one in items(found.model, "status", "engines")}
    pods = {str(pod["metadata"]["name"]): pod for pod in found.living}
    engines = [_engine(found, pods[one.pod], one, told.get(one.pod, {})) for one in own_reports(found)]
    return tuple(sorted(engines, key=lambda engine: (engine.state == SERVING, engine.pod)))


def _engine(found: Sources, pod: Mapping[str, Any], seen: EngineReport, told: Mapping[str, Any]) -> EngineView:
    uid, facts = str(pod["metadata"]["uid"]), pod_facts(pod)
    finding, note = found.findings.get(uid), found.unread.get(uid, "")
    detail = finding.phase_detail if isinstance(finding, EngineStatus) and seen.phase else ""
    view = EngineView(
        pod=seen.pod,
        state=seen.state.capitalize(),
        reason=seen.reason.value,
        since=seen.since,
        phase=clean(seen.phase),
        detail=clean(detail),
        progress=progress_of(detail),
        downloaded=found.downloaded.get(uid),
        node=facts.node,
        restarts=facts.engine.restarts,
        sentence=clean(seen.sentence),
        note=clean(note),
        uid=uid,
    )
    same = told.get("state") == view.state and (told.get("since") or "") == view.since
    return _in_the_operators_words(view, told) if note and same else view


def _in_the_operators_words(view: EngineView, told: Mapping[str, Any]) -> EngineView:
    words = _told_engine(told)
    return replace(view, sentence=words.sentence, phase=words.phase, detail=words.detail, progress=words.progress)


def _told_engines(model: Mapping[str, Any]) -> list[EngineView]:
    return [_told_engine(one) for one in items(model, "status", "engines")]


def _told_engine(told: Mapping[str, Any]) -> EngineView:
    sentence = clean(told.get("sentence") or "")
    counted = _DETAIL.search(sentence) if told.get("phase") else None
    detail = counted[1] if counted else ""
    return EngineView(
        pod=clean(told.get("pod") or ""),
        state=clean(told.get("state") or _UNKNOWN),
        since=clean(told.get("since") or ""),
        phase=clean(told.get("phase") or ""),
        detail=detail,
        progress=progress_of(detail),
        sentence=sentence,
    )


def _diagnoses(found: Sources, engines: tuple[EngineView, ...]) -> tuple[DiagnosisView, ...]:
    """What the pods show, and what the operator has told of engines whose managers could not be asked."""
    told = {view.engine: view for view in map(_told_diagnosis, items(found.model, "status", "diagnosis"))}
    if found.pods is None:
        return tuple(told.values())
    own = {one.engine: one for one in map(_own_diagnosis, own_reports(found)) if one is not None}
    unheard = {engine.pod for engine in engines if engine.note and engine.state != SERVING}
    merged = {**{pod: one for pod, one in told.items() if pod in unheard}, **own}
    return tuple(
        replace(one, since=told[pod].since) if pod in told and told[pod].id == one.id else one
        for pod, one in sorted(merged.items())
    )


def _without_diagnosis(engine: EngineView, known: tuple[DiagnosisView, ...]) -> EngineView:
    own = next((one for one in known if one.engine == engine.pod), None)
    return replace(engine, sentence=engine.sentence.replace(f": {own.sentence}", "")) if own else engine


def _symptoms(found: Sources) -> Iterator[DiagnosisView]:
    for pod in found.living:
        for one in found.symptoms.get(str(pod["metadata"]["uid"]), ()):
            known = explain(one.id, dict(one.groups))
            if known is not None:
                yield _diagnosis_view(str(pod["metadata"]["name"]), known)


def _own_diagnosis(seen: EngineReport) -> DiagnosisView | None:
    known = seen.diagnosis
    return _diagnosis_view(seen.pod, known.explanation, known.excerpt) if known else None


def _diagnosis_view(pod: str, known: Explanation, excerpt: str = "") -> DiagnosisView:
    return DiagnosisView(
        engine=pod,
        id=known.id,
        cause=clean(known.cause),
        advice=clean(known.advice),
        field=known.field,
        value=clean(known.value),
        excerpt=clean(excerpt),
        groups=known.groups,
    )


def _told_diagnosis(told: Mapping[str, Any]) -> DiagnosisView:
    def word(name: str) -> str:
        return clean(told.get(name) or "")

    about = (word("engine"), word("id"), word("cause"), word("advice"))
    return DiagnosisView(*about, field=word("field"), value=word("value"), since=word("since"), excerpt=word("excerpt"))


def _lag(model: Mapping[str, Any], serving: int) -> tuple[str, ...]:
    """Where the operator's words are not of now."""
    status, generation = part(model, "status"), model["metadata"].get("generation", 0)
    if not status:
        return ("no operator has written a status of this model yet",)
    if status.get("observedGeneration", 0) < generation:
        return (f"the operator has not followed generation {generation} of the spec yet",)
    told = status.get("readyReplicas", 0)
    if told != serving:
        return (f"the operator's status says that {told} engines serve, and the pods show {serving}",)
    return ()
