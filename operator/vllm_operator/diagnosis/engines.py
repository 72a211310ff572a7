"""What is told of each engine of a model. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.diagnosis.capacity import reported_capacity
from vllm_operator.diagnosis.cause import EngineState, Lookup
from vllm_operator.diagnosis.events import timestamp
from vllm_operator.diagnosis.facts import is_dead, is_leaving, pod_facts
from vllm_operator.diagnosis.policies import cause_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from vllm_operator.api.capacity import ReportedCapacity
    from vllm_operator.api.conditions import Reason
    from vllm_operator.diagnosis.engine_status import AdapterReport, EngineStatus
    from vllm_operator.diagnosis.facts import Finding, PodFacts
    from vllm_operator.diagnosis.known import Diagnosis

_MOST_QUOTED: Final = 3
_OF_MANAGERS: Final = frozenset({Lookup.LOADING, Lookup.WITHDRAWN, Lookup.SERVING})
_IPV6: Final = 6


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One engine: its pod, and why it is in its state."""

    pod: str
    state: EngineState
    reason: Reason
    sentence: str = ""
    since: str = ""
    """When its readiness last changed; empty where kubelet has not reported it yet."""
    phase: str = ""
    """How far it has loaded, as its manager names the phase; empty where it serves, and where that is not known."""
    trouble: str = ""
    """What is wrong with its manager; empty where nothing is known."""
    diagnosis: Diagnosis | None = None
    """The known failure that it has, or what slows it down while it serves; None where that is none, or not known."""
    capacity: ReportedCapacity | None = None
    """What it reported of its memory in the life that it is in; None where that is not known, or not yet."""
    adapters: AdapterReport | None = None
    """How far it follows its list of adapters, as its manager says; None where that is not known."""
    unasked: bool = False
    """Whether more will be known of it in a moment: it lost its traffic, and its manager has not been asked yet (it may
    be asleep, for one), or no node takes it, and nobody has looked at the nodes yet."""


@dataclass(frozen=True, slots=True)
class NeededLookup:
    """A pod that does not say itself why it is not ready, or how well it serves."""

    kind: Lookup
    since: datetime
    """Since when it is so."""


def reports(
    pods: Iterable[Mapping[str, Any]],
    findings: Mapping[str, Finding | None] | None = None,
    *,
    unbound_claims: Sequence[str] = (),
    now: datetime | None = None,
    model_spec: Mapping[str, Any] | None = None,
) -> tuple[EngineReport, ...]:
    """One report for each living pod, by name. `findings` are what lookups brought, by the pod's uid.

    Pods on their way out are no engines any more, nor are dead ones: others have taken their place. With the spec of
    their model, sentences name the field that is to be corrected.
    """
    found = findings or {}
    living = sorted(filter(_is_living, pods), key=lambda pod: str(pod["metadata"]["name"]))
    return tuple(
        report(pod, found.get(pod["metadata"]["uid"]), unbound_claims=unbound_claims, now=now, model_spec=model_spec)
        for pod in living
    )


def report(
    pod: Mapping[str, Any],
    finding: Finding | None = None,
    *,
    unbound_claims: Sequence[str] = (),
    now: datetime | None = None,
    model_spec: Mapping[str, Any] | None = None,
) -> EngineReport:
    """Read one pod: the first thing that stands in its way counts. Without `now` nothing takes too long."""
    facts = pod_facts(pod, finding, unbound_claims=unbound_claims, now=now, model_spec=model_spec)
    cause, manager = cause_of(facts), facts.manager
    return EngineReport(
        pod=facts.name,
        state=cause.state,
        reason=cause.reason,
        sentence=cause.sentence,
        since=facts.since,
        phase=manager.phase if manager and cause.state is not EngineState.SERVING else "",
        trouble=manager.trouble if manager and cause.state is not EngineState.SERVING else "",
        diagnosis=cause.diagnosis,
        capacity=_reported(manager, facts),
        adapters=manager.adapters if manager else None,
        unasked=finding is None and _is_asked_soon(cause.lookup, facts),
    )


def _reported(manager: EngineStatus | None, facts: PodFacts) -> ReportedCapacity | None:
    """What the engine that runs has reported at its start, as its manager says."""
    if manager is None or manager.capacity is None:
        return None
    return reported_capacity(manager.capacity, facts.engine.running_since)


def judged_again_at(pods: Iterable[Mapping[str, Any]], now: datetime) -> datetime | None:
    """When some pod will have waited too long for a scheduler or a kubelet; None where none waits for them."""
    ends = (pod_facts(pod).patience_ends_at for pod in pods if _is_living(pod))
    return min((when for when in ends if when is not None and when > now), default=None)


def needed_lookup(pod: Mapping[str, Any]) -> NeededLookup | None:
    """Where more can be said of a pod than it says itself; None where it need not, and where nobody can be asked."""
    facts = pod_facts(pod)
    if not _is_living(pod):
        return None
    kind = cause_of(facts).lookup
    if kind is None or (kind in _OF_MANAGERS and not manager_url(facts)):
        return None
    waits = facts.waits_since
    stamps = {Lookup.LOADING: facts.engine.running_since, Lookup.PLACEMENT: waits, Lookup.QUEUE: waits}
    since = timestamp(stamps.get(kind, facts.since))
    return NeededLookup(kind, since) if since else None


def manager_url(facts: PodFacts) -> str:
    """Where the manager in a pod answers; empty where the pod has no address, or no gate port."""
    return status_url(facts.address, facts.gate_port)


def status_url(address: str, port: int) -> str:
    """Where a program in a pod tells its status; empty where the address is none, or there is no port."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    host = f"[{parsed}]" if parsed.version == _IPV6 else str(parsed)
    return f"http://{host}:{port}/status" if port else ""


def _is_asked_soon(lookup: Lookup | None, facts: PodFacts) -> bool:
    if lookup in (Lookup.PLACEMENT, Lookup.QUEUE):
        return bool(facts.waits_since)
    return lookup is Lookup.WITHDRAWN and bool(manager_url(facts))


def _is_living(pod: Mapping[str, Any]) -> bool:
    return not (is_leaving(pod) or is_dead(pod))


def summary(engines: Iterable[EngineReport], state: EngineState) -> str:
    """The engines in one state, each with its sentence; the first few stand for many."""
    sentences = [f"{engine.pod} {engine.sentence}" for engine in engines if engine.state is state]
    more = len(sentences) - _MOST_QUOTED
    return "; ".join(sentences[:_MOST_QUOTED]) + (f"; and {more} more" if more > 0 else "")
