"""The LoRA adapters of a model: the list that its engines are told, the names that clients are, and their status. Pure.

With spec.lora.runtimeUpdates an edit reaches engines that run, in this order:

    a new name    on the list -> each engine loads it -> every serving engine has it -> clients are told
    a gone name   clients are told -> the catalogue has lost it, and LEAVING_SECONDS are over -> off the list, unloaded

A name is told to clients (`served`) only while every engine that takes traffic has it. Of one whose manager has not
been asked since it was admitted, that is known all the same: what is told to clients is required at its gate. Without
runtimeUpdates adapters are there from the start of an engine, so a name is told once every engine is of the newest
spec, and from then on as long as the spec has it.

An engine that comes gets no traffic without what is told to clients (`required` on the list), so that a name never
meets an engine that lacks it; but where an engine that serves cannot load it from where it is now, all may go without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.conditions import Reason
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.status import MAX_ADAPTERS, MAX_SENTENCE_LENGTH, Adapter, AdapterState
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.known import diagnosed
from vllm_operator.planner.engines import engines, pod_bodies
from vllm_operator.planner.plan import PodMark
from vllm_operator.render.adapters import SEEN, AdapterList, Listed, is_mounted, of_spec, read_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.diagnosis.engines import EngineReport
    from vllm_operator.planner.plan import Observation

LEAVING_SECONDS: Final = 90
"""Between the moment at which clients are told that a name goes and its unloading: kubelet brings a mounted catalogue
up to date every 60 to 90 s (its sync period of a minute, with half of it as jitter)."""

_LOOK_AGAIN_AFTER: Final = timedelta(seconds=2)
_MOST_NAMED: Final = 3
_REPLACED: Final = "without spec.lora.runtimeUpdates the engines are replaced for it: it is served once all of them are"


@dataclass(frozen=True, slots=True)
class Adapters:
    """What is to be done and told."""

    listed: AdapterList | None
    """The list for the engines; None where adapters are part of the pods."""
    told: tuple[Adapter, ...]
    """One for each adapter of the spec, and each that goes."""
    serving: int = 0
    """Engines that take traffic."""
    behind: int = 0
    """Those of them that follow an earlier list."""


NONE: Final = Adapters(None, ())


def adapters_of(
    model: VLLMModel, observation: Observation, reports: Sequence[EngineReport], *, complete: bool
) -> Adapters:
    """What is to be done and told of the adapters of a model.

    Args:
        model: The model.
        observation: What was seen of it.
        reports: What is known of its engines.
        complete: Whether all its engines are of the newest spec, and serve.
    """
    before = {one.name: one for one in told_before(observation.raw.get("status") or {})}
    serving = [engine for engine in reports if engine.state is EngineState.SERVING]
    if not model.spec.updates_adapters:
        found = _static(model, before, len(serving), complete=complete)
        return replace(NONE, told=tuple(_timed(found, before, observation.now)), serving=len(serving))
    wanted = of_spec(model.spec)
    leaving = [*_leaving(wanted, observation, serving, before)][: MAX_ADAPTERS - len(wanted.adapters)]
    still = tuple(_still_listed(leaving, live_list(observation)))
    version = AdapterList((*wanted.adapters, *still)).version
    told = [_entry(one, reports, serving, before, version) for one in wanted.adapters]
    entries = tuple(_timed((*told, *leaving), before, observation.now))
    refused = {one.name for one in wanted.adapters if any(_failure(engine, one.name, version) for engine in serving)}
    required = {one.name for one in told if one.served} - refused
    listed = tuple(replace(one, required=one.name in required) for one in wanted.adapters)
    behind = sum(engine.adapters is not None and engine.adapters.version != version for engine in serving)
    return Adapters(AdapterList((*listed, *still)), entries, len(serving), behind)


def seen_adapters(model: VLLMModel, observation: Observation, *, complete: bool = False) -> Adapters:
    """The same with what is known of the engines; nothing where the spec has no spec.lora."""
    if model.spec.lora is None:
        return NONE
    return adapters_of(model, observation, engines(observation), complete=complete)


def told_before(status: Mapping[str, Any]) -> list[Adapter]:
    """What a status says of adapters; what is odd in it is passed over."""
    found = []
    for one in status.get("adapters") or ():
        try:
            found.append(Adapter.model_validate(one, by_alias=True, by_name=False))
        except ValueError:
            continue
    return found


def live_list(observation: Observation) -> AdapterList:
    """The list as it is there; an empty one where there is none."""
    live = _live(observation)
    return read_list(live.body) if live else AdapterList()


def is_read(child: LiveObject, observation: Observation) -> bool:
    """Whether an object is the list, and a pod of an earlier template mounts it still."""
    return child.key == _key(observation.raw["metadata"]["name"]) and is_mounted(pod_bodies(observation), child.name)


def version_of(observation: Observation) -> str:
    """Version of the list that is there; empty where there is none."""
    return live_version(observation.children, observation.raw["metadata"]["name"])


def look_again_at(observation: Observation) -> datetime | None:
    """When a name may have left the catalogue, of which no watch tells the model; None where none is to leave."""
    return observation.now + _LOOK_AGAIN_AFTER if version_of(observation) and may_leave(observation) else None


def live_version(children: Mapping[ObjectKey, LiveObject], name: str) -> str:
    """Version of the list that is there for the managers of a model's engines; empty where there is none."""
    live = children.get(_key(name))
    return read_list(live.body).version if live else ""


def may_leave(observation: Observation) -> bool:
    """Whether it depends on the namespace's catalogue what is to be done: a name that was told to clients goes."""
    wanted = {one.get("name") for one in (_spec_lora(observation).get("adapters") or ())}
    told = {str(one.get("name")) for one in (observation.raw.get("status") or {}).get("adapters") or ()}
    return bool(told - wanted)


def condition(model: VLLMModel, found: Adapters) -> tuple[str, Reason, str] | None:
    """The condition AdaptersLoaded; None where adapters are part of the pods."""
    if found.listed is None:
        return None
    places = {one.name: f"spec.lora.adapters[{number}]" for number, one in enumerate(model.spec.adapters)}
    failing = [one for one in found.told if one.state is AdapterState.FAILING]
    if failing:
        told = (f"{places.get(one.name, one.name)} ({one.name}): {one.message}" for one in failing)
        return "False", Reason.ADAPTER_FAILS, _listing(told)
    loading = [one for one in found.told if one.state is AdapterState.LOADING]
    if loading and not found.serving:
        return "False", Reason.ADAPTERS_LOADING, "no engine serves"
    moving = [one for one in found.told if one.state in (AdapterState.LOADING, AdapterState.LEAVING)]
    if moving:
        told = (f"{places.get(one.name, 'off the spec')} ({one.name}): {one.message}" for one in moving)
        return "False", Reason.ADAPTERS_LOADING, _listing(told)
    if found.behind:
        told_of = f"{found.behind} of {found.serving} engines have not unloaded yet what has gone"
        return "False", Reason.ADAPTERS_LOADING, told_of
    return "True", Reason.ADAPTERS_SERVE, f"adapters: {len(found.told)}"


def to_call(observation: Observation) -> tuple[PodMark, ...]:
    """Pods whose kubelet is to be called for the list that is there: their managers follow another one."""
    version = version_of(observation)
    if not version:
        return ()
    reports = {engine.pod: engine.adapters for engine in engines(observation)}
    behind = {pod for pod, report in reports.items() if report is not None and report.version != version}
    return tuple(
        PodMark(pod, {SEEN: version})
        for pod in observation.pods
        if pod.name in behind and not pod.leaving and pod.annotations.get(SEEN) != version
    )


def _entry(
    wanted: Listed,
    reports: Iterable[EngineReport],
    serving: list[EngineReport],
    before: Mapping[str, Adapter],
    version: str,
) -> Adapter:
    """What is told of an adapter of the spec. What failed by an earlier list than that of this version is over."""
    known = before.get(wanted.name)
    was_served = known is not None and known.served
    having = [engine for engine in serving if _has(engine, wanted.name, was_served=was_served)]
    right = [engine for engine in having if engine.adapters is None or _path(engine, wanted.name) in ("", wanted.path)]
    failed = ((engine.pod, _failure(engine, wanted.name, version)) for engine in reports)
    failing = [(pod, words) for pod, words in failed if words]
    served = bool(serving) and len(having) == len(serving)
    state = AdapterState.SERVING if served and len(right) == len(serving) else AdapterState.LOADING
    message: str | None = None
    if failing:
        state, message = AdapterState.FAILING, _why(failing, len(right), len(serving))
    elif state is AdapterState.LOADING:
        message = f"{len(right)} of {len(serving)} engines serve it"
        silent = sum(engine.adapters is None for engine in serving)
        if silent and not was_served:
            message += f"; the managers of {silent} do not say"
    return _told(wanted.name, state, served=served, engines=len(having), message=message)


def _why(failing: list[tuple[str, str]], right: int, serving: int) -> str:
    """Which engine cannot, in its own words, and what to do where that is known."""
    pod, words = failing[0]
    known = diagnosed(None, [words])
    more = f"; and {len(failing) - 1} more engines" if len(failing) > 1 else ""
    advice = f": {known.sentence}" if known else ""
    return f"{pod}: {words}{advice}{more}; {right} of {serving} engines serve it"


def _leaving(
    wanted: AdapterList, observation: Observation, serving: list[EngineReport], before: Mapping[str, Adapter]
) -> Iterable[Adapter]:
    """What is told of names that the spec no longer has, and that clients have been told."""
    names_wanted = {one.name for one in wanted.adapters}
    for one in live_list(observation).adapters:
        known = before.get(one.name)
        listed = one.name in observation.catalogued
        if one.name in names_wanted or known is None or not (listed or _is_told(known)):
            continue
        over = known.state is AdapterState.LEAVING and _age(known, observation.now) >= LEAVING_SECONDS
        if over and not listed:
            continue
        having = sum(_has(engine, one.name, was_served=True) for engine in serving)
        message = "clients are told that it goes; then it is unloaded"
        yield _told(one.name, AdapterState.LEAVING, served=False, engines=having, message=message)


def _is_told(known: Adapter) -> bool:
    """Whether clients have been told of an adapter, and may not have heard yet that it goes."""
    return known.served or known.state is AdapterState.LEAVING


def _age(known: Adapter, now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(known.since)).total_seconds()
    except (ValueError, TypeError):
        return LEAVING_SECONDS


def _still_listed(leaving: Iterable[Adapter], live: AdapterList) -> Iterable[Listed]:
    """What stays on the list although the spec no longer has it."""
    kept = {one.name for one in leaving}
    return (replace(one, required=False) for one in live.adapters if one.name in kept)


def _static(model: VLLMModel, before: Mapping[str, Adapter], serving: int, *, complete: bool) -> Iterable[Adapter]:
    for one in model.spec.adapters:
        known = before.get(one.name)
        served = serving > 0 and (complete or (known is not None and known.served))
        state = AdapterState.SERVING if served else AdapterState.LOADING
        message = None if served else _REPLACED
        yield _told(one.name, state, served=served, engines=serving if served else 0, message=message)


def _told(name: str, state: AdapterState, *, served: bool, engines: int, message: str | None) -> Adapter:
    text = message[:MAX_SENTENCE_LENGTH] if message else None
    return Adapter(name=name, state=state, served=served, engines=engines, since="", message=text)


def _timed(entries: Iterable[Adapter], before: Mapping[str, Adapter], now: datetime) -> Iterable[Adapter]:
    """The entries, each with the time at which it came into its state."""
    for one in entries:
        known = before.get(one.name)
        since = known.since if known is not None and known.state is one.state else f"{now:%Y-%m-%dT%H:%M:%SZ}"
        yield one.model_copy(update={"since": since})


def _has(engine: EngineReport, name: str, *, was_served: bool) -> bool:
    return was_served if engine.adapters is None else engine.adapters.serves(name)


def _path(engine: EngineReport, name: str) -> str:
    return dict(engine.adapters.served).get(name, "") if engine.adapters else ""


def _failure(engine: EngineReport, name: str, version: str) -> str:
    report = engine.adapters
    return dict(report.failed).get(name, "") if report is not None and report.version == version else ""


def _listing(told: Iterable[str]) -> str:
    found = list(told)
    more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return "; ".join(found[:_MOST_NAMED]) + more


def _live(observation: Observation) -> LiveObject | None:
    return observation.children.get(_key(observation.raw["metadata"]["name"]))


def _key(name: str) -> ObjectKey:
    return ObjectKey("ConfigMap", names.adapters_name(names.instance_name(name)))


def _spec_lora(observation: Observation) -> Mapping[str, Any]:
    found = (observation.raw.get("spec") or {}).get("lora")
    return found if isinstance(found, dict) else {}
