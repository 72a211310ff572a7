"""Does this engine take traffic, and does it live on? Pure: what looks have seen in, a verdict with a sentence out.

Progress is any change of what only a step of the engine changes, for each rank of data parallelism: the number of
steps, and the share of the KV cache in use, since steps that read a long prompt make no token and move no counter.
vLLM's own /health answers 200 while the engine hangs, so its yes counts for nothing.

    observe(memory, look, settings)   what is remembered after a look (`observe.py`, `memory.py`)
    verdict(memory, settings)         what becomes of the engine
    due_canaries(...)                 which ranks are to complete a canary now

What may speak against an engine stands in `policies.py`, how long that is borne in `windows.py`, what the other engines
allow in `fleet.py`, what the CPU time of the processes says in `activity.py`. Uncertainty never evicts: what is not
seen neither clears a finding nor makes it older. All times are seconds of the machine's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from . import fleet
from .evidence import ANSWERS
from .memory import Finding, Memory, Span, restored
from .observe import concluded, progressed, without_gap
from .policies import POLICIES
from .rests import RESTS
from .windows import longest_step, stall_window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .evidence import Look
    from .policies import Policy
    from .settings import Settings

__all__ = [
    "LEAVING",
    "RESTART",
    "SERVING",
    "STARTING",
    "WITHDRAWN",
    "Finding",
    "Memory",
    "Span",
    "Verdict",
    "due_canaries",
    "longest_step",
    "observe",
    "restored",
    "spread",
    "stall_window",
    "suspects",
    "verdict",
    "wants_peers",
]

STARTING, SERVING, WITHDRAWN, RESTART, LEAVING = "starting", "serving", "withdrawn", "restart", "leaving"
"""Kinds of verdicts: no prompt completed yet; takes traffic; loses its traffic; loses its life; was asked to end, which
the program knows and not the judge."""

RESTART_JITTER = 0.25
"""By how much of itself the restart window of a pod may be longer, so that a fleet does not restart at once."""

CANARY_LEAD_SECONDS = 0.5
"""So much before its time a canary is sent, rather than one look after it."""

ADMISSION_RETRY_SECONDS = 3.0
"""After a first prompt that failed, the next one is tried so much later."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of the engine, and why."""

    kind: str
    cause: str
    """A word for programs."""
    sentence: str
    """For people, without durations that move."""
    since: float
    """Since when it has been of this kind."""


@dataclass(frozen=True)
class _Case:
    """A finding, and what its policy says of it."""

    policy: Policy
    finding: Finding
    cause: str
    window: float
    proves: bool
    restart_after: float | None

    @property
    def overdue(self) -> bool:
        return self.finding.span.seconds >= self.window

    @property
    def announced(self) -> bool:
        """Whether the other engines should know of it, some time before it costs the traffic."""
        return self.finding.span.seconds >= max(1.0, self.window - fleet.ANNOUNCED_SECONDS)


def observe(memory: Memory, look: Look, settings: Settings) -> Memory:
    """The memory after one more look."""
    before, look = without_gap(memory, look)
    now = concluded(before, progressed(before, look), look)
    cases = _cases(now, settings)
    suspected_since = None
    if any(one.announced for one in cases):
        suspected_since = look.ended_at if before.suspected_since is None else before.suspected_since
    if suspected_since != now.suspected_since:
        now = replace(now, suspected_since=suspected_since)
    kind = _decided(now, cases, settings)[0]
    left_since = None
    if kind in (WITHDRAWN, RESTART) and any(one.overdue and not one.proves for one in cases):
        left_since = look.ended_at if before.left_since is None else before.left_since
    kind_since = before.kind_since if kind == before.kind and before.kind_since is not None else look.ended_at
    return replace(now, left_since=left_since, kind=kind, kind_since=kind_since)


def verdict(memory: Memory, settings: Settings) -> Verdict:
    """What becomes of the engine, as of the last look."""
    kind, cause, sentence = _decided(memory, _cases(memory, settings), settings)
    same = kind == memory.kind and memory.kind_since is not None
    since = memory.kind_since if same else memory.looked_at
    return Verdict(kind, cause, sentence, since or 0.0)


def _cases(memory: Memory, settings: Settings) -> list[_Case]:
    """All that speaks against the engine, the oldest first."""
    found = []
    for key, finding in memory.findings.items():
        name = key.partition("/")[0]
        for policy in POLICIES:
            if policy.name == name:
                cause, window = policy.cause(memory, finding), policy.window(memory, finding, settings)
                proves, restart_after = policy.proves(memory, finding), policy.restart_after(memory, finding, settings)
                found.append(_Case(policy, finding, cause, window, proves, restart_after))
    return sorted(found, key=lambda case: -case.finding.span.seconds)


def _decided(memory: Memory, cases: list[_Case], settings: Settings) -> tuple[str, str, str]:
    """Kind, cause and sentence: the first in the chain that has something to say."""
    for link in CHAIN:
        found = link(memory, cases, settings)
        if found is not None:
            return found
    return SERVING, "Progress", "makes progress, or completed its last prompt"


def _starting(memory: Memory, cases: list[_Case], settings: Settings) -> tuple[str, str, str] | None:  # noqa: ARG001
    """Give no traffic to what has not completed a prompt in this life, and end it when its startup budget is spent."""
    if memory.admitted:
        return None
    cause = memory.waiting_cause or "NotProven"
    sentence = memory.waiting_sentence or "has not completed a prompt yet"
    took = (memory.looked_at or 0.0) - (memory.began_at or 0.0)
    if took >= settings.startup_budget:
        budget = f"did not complete a prompt within its startup budget of {settings.startup_budget:.0f} s"
        return RESTART, "StartupBudget", f"{budget}: {sentence}"
    return STARTING, cause, sentence


def _hopeless(memory: Memory, cases: list[_Case], settings: Settings) -> tuple[str, str, str] | None:  # noqa: ARG001
    """End what has been found not to work for as long as its policy grants; for a suspicion when it is its turn."""
    for case in cases:
        seconds = case.finding.span.seconds
        if case.restart_after is None or seconds < case.restart_after:
            continue
        if case.proves or seconds >= case.restart_after + fleet.TURN_SECONDS or fleet.may_restart(memory):
            return RESTART, case.cause, case.finding.sentence
    return None


def _resting(memory: Memory, cases: list[_Case], settings: Settings) -> tuple[str, str, str] | None:  # noqa: ARG001
    """Give no traffic to what sleeps, is paused or scaled."""
    return next(((WITHDRAWN, cause, told) for cause, _, told, _ in RESTS if cause == memory.rest), None)


def _proven(memory: Memory, cases: list[_Case], settings: Settings) -> tuple[str, str, str] | None:  # noqa: ARG001
    """Withdraw what is proven not to work."""
    found = (case for case in cases if case.proves and case.overdue)
    return next(((WITHDRAWN, case.cause, case.finding.sentence) for case in found), None)


def _unproven(memory: Memory, cases: list[_Case], settings: Settings) -> tuple[str, str, str] | None:  # noqa: ARG001
    """Give no traffic to what has not completed a prompt since it rested, or ended."""
    if not memory.proof_ended:
        return None
    return WITHDRAWN, "NotProven", "; ".join([memory.proof_ended, *(case.finding.sentence for case in cases[:1])])


def _suspected(memory: Memory, cases: list[_Case], settings: Settings) -> tuple[str, str, str] | None:  # noqa: ARG001
    """Withdraw what is suspected, if enough others serve."""
    for case in cases:
        if case.overdue and fleet.may_leave(memory):
            return WITHDRAWN, case.cause, case.finding.sentence
        if case.overdue:
            return SERVING, case.cause, f"{case.finding.sentence}; it stays, for want of enough others that serve"
    return None


CHAIN = (
    _starting,  # no traffic before the first proof, whatever else is seen
    _hopeless,  # a restart is the strongest verdict, and has the longest windows
    _resting,  # nothing speaks against these
    _proven,  # acts alone
    _unproven,  # as before the first proof, but the engine has started
    _suspected,  # depends on the others
)


def suspects(memory: Memory) -> bool:
    """Whether the other engines are to know that this one is suspected, whatever comes of it."""
    return memory.suspected_since is not None


def wants_peers(memory: Memory, settings: Settings) -> bool:
    """Whether the next look should ask DNS and the other managers."""
    if not settings.service:
        return False
    if memory.peers is None or memory.looked_at is None or suspects(memory) or memory.left_since is not None:
        return True
    return not 0 <= memory.looked_at - memory.peers.at < fleet.REFRESH_SECONDS


def due_canaries(memory: Memory, look: Look, settings: Settings) -> tuple[str | None, ...]:
    """The ranks that are to complete a canary each, after a look that `memory` has observed; None is any of them.

    A rank with work is judged by its steps; there a canary would only wait in the queue. A rank without work has to
    complete one now and then, also beside busy siblings: left to itself, vLLM gives a canary to the rank with the least
    requests, and a hung one may have many without telling of them.
    """
    waiting = {canary.rank for canary in look.canaries if canary.ended_at is None}
    if look.server != ANSWERS or None in waiting or any(shows(look) for _, shows, _, _ in RESTS):
        return ()
    if not memory.admitted or memory.proof_ended:
        pause = 0.0 if memory.admitted else ADMISSION_RETRY_SECONDS
        return () if waiting or not _elapsed(memory, "", pause) else (None,)
    interval = settings.canary_interval
    if interval is None:
        return ()
    names = list(memory.ranks)
    if look.ranks is None:
        return (None,) if not waiting and _elapsed(memory, "", interval - CANARY_LEAD_SECONDS) else ()
    idle = [name for name in names if _idle(memory, name, interval - CANARY_LEAD_SECONDS) and name not in waiting]
    if len(names) == 1:
        return (None,) if idle else ()
    return tuple(idle)


def _idle(memory: Memory, name: str, seconds: float) -> bool:
    """Whether a rank has neither work nor given a sign of life for so long, and was not asked for one."""
    rank = memory.ranks[name]
    if rank.in_flight > 0 or (memory.looked_at or 0.0) - rank.live_at < seconds:
        return False
    return _elapsed(memory, "" if len(memory.ranks) == 1 else name, seconds)


def _elapsed(memory: Memory, subject: str, seconds: float) -> bool:
    """Whether the last canary to a rank was sent so long ago, or failed: a failed one proves little."""
    last = memory.canaries.get(subject)
    if last is None:
        return True
    return (memory.looked_at or 0.0) - last.sent_at >= seconds


def spread(window: float, pod_name: str) -> float:
    """The restart window of a pod of that name: longer than the common one by up to a quarter, always by the same."""
    number = 2166136261
    for byte in pod_name.encode():
        number = ((number ^ byte) * 16777619) % 2**32  # FNV-1a
    return window * (1 + RESTART_JITTER * number / 2**32)
