"""From desired and live objects to the changes that are due, for models and for what namespaces share. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import groups
from vllm_operator.api.conditions import Reason
from vllm_operator.api.live import key_of
from vllm_operator.api.names import INSTANCE, OPERATOR_LABEL, SHARED, client_name, release_of
from vllm_operator.planner import attempts, reasons
from vllm_operator.planner.attempts import Outcome, Problem
from vllm_operator.planner.compare import holds
from vllm_operator.planner.plan import Deletion, Wave, Write
from vllm_operator.render.objects import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from vllm_operator.api.live import LiveObject, ObjectKey
    from vllm_operator.planner.attempts import Attempt, Attempts

_WAVES: Final = {
    "Deployment": Wave.ENGINES,
    groups.KIND: Wave.ENGINES,
    "Ingress": Wave.REST,
    "NetworkPolicy": Wave.REST,
    "PodDisruptionBudget": Wave.REST,
    "PodMonitor": Wave.REST,
    "ScaledObject": Wave.REST,
    "HorizontalPodAutoscaler": Wave.REST,
}
"""What is not here is needed by pods, or has a name that somebody else's object may have."""

_DOES_NOT_STICK: Final = (
    "what the operator writes does not stick: find the webhook, policy or controller that changes it, and exempt this "
    "object; it is written again at longer and longer intervals"
)


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything in which the live objects are not as desired, and what came of it before."""

    writes: tuple[Write, ...]
    deletions: tuple[Deletion, ...]
    attempts: Attempts
    releases: tuple[LiveObject, ...] = ()
    """Claims to hand over."""

    @property
    def problems(self) -> list[Problem]:
        """What did not go through when it was last tried, and is still wanted."""
        found = [self._attempt(write) for write in self.writes]
        found += [self.attempts.get(deletion.live.key) for deletion in self.deletions]
        found += [self._release(live) for live in self.releases]
        return [attempt.problem for attempt in found if attempt is not None and attempt.problem is not None]

    @property
    def fights(self) -> list[str]:
        """Writes that went through and do not last, in words for the status."""
        return [
            f"{attempt.message or told_of(key_of(write.desired), write.reason)}: {_DOES_NOT_STICK}"
            for write in self.writes
            if (attempt := self._attempt(write)) and attempt.problem is None and attempt.due_at
        ]

    @property
    def name_taken(self) -> bool:
        """Whether a name was found to be somebody else's: half a model beside that object helps nobody."""
        return any(problem.reason in (Reason.NAME_TAKEN, Reason.OTHER_OPERATOR) for problem in self.problems)

    @property
    def of_another_release(self) -> Problem | None:
        """The first name that was found to be another release's."""
        return next((problem for problem in self.problems if problem.reason is Reason.OTHER_OPERATOR), None)

    def due(self, now: datetime) -> tuple[tuple[Write, ...], tuple[Deletion, ...]]:
        """What to write and to delete now. Nothing is deleted while a write waits: it may still refer to it."""
        writes = tuple(write for write in self.writes if _is_due(write, self._attempt(write), now))
        waiting = len(writes) < len(self.writes)
        if waiting and self.name_taken:
            return (), ()
        deletions = tuple(one for one in self.deletions if attempts.is_due(self.attempts.get(one.live.key), "", now))
        return writes, () if waiting else deletions

    def due_releases(self, now: datetime) -> tuple[LiveObject, ...]:
        """What to hand over now."""
        return tuple(live for live in self.releases if attempts.is_due(self._release(live), "", now))

    def next_due(self, now: datetime) -> datetime | None:
        """When something that waits is due; None where nothing waits."""
        return attempts.next_due(self._attempts(), now)

    def _attempts(self) -> Iterator[Attempt]:
        found = [self._attempt(write) for write in self.writes]
        found += [self.attempts.get(deletion.live.key) for deletion in self.deletions]
        found += [self._release(live) for live in self.releases]
        return (attempt for attempt in found if attempt is not None)

    def _release(self, live: LiveObject) -> Attempt | None:
        """The last attempt to hand an object over; what came of writing it says nothing of that."""
        attempt = self.attempts.get(live.key)
        return attempt if attempt and not attempt.desired_hash else None

    def _attempt(self, write: Write) -> Attempt | None:
        """The last write of what is desired now; what was desired before says nothing of it."""
        attempt = self.attempts.get(key_of(write.desired))
        return attempt if attempt and attempt.desired_hash == _hash(write) else None


def writes(desired: Sequence[Mapping[str, Any]], live: Mapping[ObjectKey, LiveObject]) -> tuple[Write, ...]:
    """A write for each object that is not as desired."""
    pairs = ((child, live.get(key_of(child))) for child in desired)
    return tuple(_write(child, found) for child, found in pairs if not _settled(found, child))


def name_taken(key: ObjectKey) -> Problem:
    """A child's name belongs to somebody else."""
    shared = key.name.endswith(SHARED)
    advice = "delete or rename it" if shared else "delete or rename it, or give the VLLMModel another name"
    return Problem(Reason.NAME_TAKEN, f"{key.kind} {key.name} exists and is not the operator's: {advice}")


def of_another_release(live: LiveObject, release: str) -> Problem:
    """A child's name belongs to another release of the operator than this one."""
    made_by, here = (f"the operator {name!r}" if name else "the default operator" for name in _releases(live, release))
    label = f"{OPERATOR_LABEL}={release}" if release else f"{OPERATOR_LABEL}-"
    return Problem(
        Reason.OTHER_OPERATOR,
        f"{live.kind} {live.name} belongs to {made_by}, and {here} leaves it alone: have only one of them select this "
        f"VLLMModel, or hand its children over with `kubectl label ... {label}` (docs/scope.md)",
    )


def _releases(live: LiveObject, release: str) -> tuple[str, str]:
    return release_of(live.labels), release


def told_of(key: ObjectKey, words: str) -> str:
    """Words about a child, for the status."""
    return f"{key.kind} {key.name}: {words}"


def attempt_of(write: Write, now: datetime, outcome: Outcome, message: str = "") -> Attempt:
    """What came of a write."""
    return attempts.Attempt(_hash(write), now, outcome, message, step=write.step)


def deletion_attempt(now: datetime, outcome: Outcome, message: str = "") -> Attempt:
    """What came of a deletion."""
    return attempts.Attempt("", now, outcome, message)


def _write(desired: Mapping[str, Any], live: LiveObject | None) -> Write:
    reason = reasons.reason(live.body if live else None, desired)
    return Write(desired, ours=live is not None, reason=reason, wave=_wave(desired, live))


def _wave(desired: Mapping[str, Any], live: LiveObject | None) -> Wave:
    if live is None and _is_first(key_of(desired), desired["metadata"].get("labels", {})):
        return Wave.FIRST
    return _WAVES.get(desired["kind"], Wave.NEEDED)


def _is_first(key: ObjectKey, labels: Mapping[str, str]) -> bool:
    """Whether a child is the one that is made before all others: every model has it."""
    return key.kind == "ConfigMap" and key.name == client_name(labels.get(INSTANCE, ""))


def _settled(live: LiveObject | None, desired: Mapping[str, Any]) -> bool:
    """Whether there is nothing to write now: it is as desired, or on its way out and made anew when it is gone."""
    return live is not None and (live.leaving or holds(live.body, desired))


def _is_due(write: Write, attempt: Attempt | None, now: datetime) -> bool:
    follows = write.step and attempt is not None and attempt.outcome is Outcome.APPLIED
    return follows or attempts.is_due(attempt, _hash(write), now)


def _hash(write: Write) -> str:
    return write.counted_by or hash_of(write.desired)
