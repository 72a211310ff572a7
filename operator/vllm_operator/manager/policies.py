"""What may speak against an engine: one policy for each thing, with all that there is to know of it. Pure.

A policy observes how long something has been proven, and says after how long it costs the traffic, whether it is proof
or a mere suspicion, and after how long it costs the engine's life. A new cause is a new policy, here and nowhere else.

What is proven acts alone. A suspicion costs the traffic only where enough other engines serve (`fleet.py`), and lives
only one after the other.
"""

from __future__ import annotations

from .activity import COMPUTING_SHARE, STILL_SHARE, core_share, server_share
from .evidence import (
    ALIVE,
    ANSWERS,
    COMPLETED,
    FAILED,
    REFUSED,
    REFUSES,
    SAYS_DEAD,
    SILENT,
    SILENT_WORKER,
    UNANSWERED,
)
from .evidence import GONE as WORKER_GONE
from .memory import Finding, Span
from .windows import capped, frozen_for, longest_window, patient_window, recent, restart_of_the_stalled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .evidence import Canary, Look
    from .memory import Memory, RankMemory
    from .settings import Settings

NEVER = float("-inf")

CANARY_SECONDS = 6.5
"""An engine without work that does not complete a canary for so long hangs. A first prompt after hours of idling takes
6 s, and a canary behind it as long; with the interval of canaries, looks and kubelet's two failures a hung one is out
of the endpoints within 12 s of its last sign of life."""

FROZEN_SECONDS = 60.0
"""Who has work, makes no step and uses no CPU for so long is restarted. No sound engine was reported to do so for more
than some seconds."""

GONE_SECONDS = 30.0
"""A server that nothing listens for, in a process that does not end, is ended after so long."""

GUESSED = "guessed"
"""As UNANSWERED, where nobody can tell that no other request goes before the canary."""

WAITED = (None, UNANSWERED, GUESSED)

UNSEEN_SECONDS = 60.0
"""What was seen of the steps is forgotten when the metrics could not be read for so long."""


class Policy:
    """What all policies answer."""

    name = ""

    def observe(self, before: Memory, now: Memory, look: Look) -> Mapping[str, Finding]:
        """What it finds by this look, by subject: a rank, or the empty name. An empty answer clears what it had found.

        Args:
            before: What was remembered, with its findings.
            now: The same after this look, still without findings.
            look: The look.
        """
        raise NotImplementedError

    def cause(self, memory: Memory, finding: Finding) -> str:  # noqa: ARG002
        """A word for programs."""
        return self.name

    def window(self, memory: Memory, finding: Finding, settings: Settings) -> float:  # noqa: ARG002
        """Seconds after which it costs the traffic."""
        return settings.stall_window

    def proves(self, memory: Memory, finding: Finding) -> bool:  # noqa: ARG002
        """Whether it is proof; a suspicion otherwise."""
        return True

    def restart_after(self, memory: Memory, finding: Finding, settings: Settings) -> float | None:  # noqa: ARG002
        """Seconds after which it costs the engine's life; None: never."""
        return settings.restart_window

    def found(self, memory: Memory, subject: str = "") -> Finding | None:
        """What it had found before."""
        return memory.findings.get(f"{self.name}/{subject}")


class Gone(Policy):
    """Nothing listens on the port any more, or the server says itself that its engine is dead."""

    name = "Gone"

    def observe(self, before: Memory, now: Memory, look: Look) -> Mapping[str, Finding]:  # noqa: ARG002
        """See `Policy`."""
        if look.server not in (REFUSES, SAYS_DEAD):
            return {}
        known = self.found(before)
        since = look.at if known is None else known.span.since
        told = (
            "the server has closed its port, which nobody had asked for"
            if look.server == REFUSES
            else f"the engine is dead: {look.trouble or 'the server says so'}"
        )
        return {"": Finding(Span(since, look.ended_at), told)}

    def window(self, memory: Memory, finding: Finding, settings: Settings) -> float:  # noqa: ARG002
        """At once: this needs no second look."""
        return 0.0

    def restart_after(self, memory: Memory, finding: Finding, settings: Settings) -> float | None:  # noqa: ARG002
        """The process may take a while to end by itself, and may never.

        vLLM 0.32 waits at its end for each request under way, also for one that its dead engine core will never answer.
        """
        return capped(GONE_SECONDS, settings)


class Silent(Policy):
    """The server takes connections and answers nothing.

    One that computes nothing meanwhile hangs: proof. One that does has its event loop blocked, by a huge prompt or
    an image, and goes on afterwards: a suspicion, and one of much patience.
    """

    name = "Silent"

    def observe(self, before: Memory, now: Memory, look: Look) -> Mapping[str, Finding]:  # noqa: ARG002
        """See `Policy`: counted from the last answer."""
        if look.server != SILENT:
            return {}
        known = self.found(before)
        since = _last_look(before, look) if known is None else known.span.since
        return {"": Finding(Span(since, look.ended_at), "the server takes connections and answers nothing")}

    def _computes(self, memory: Memory, finding: Finding) -> bool:
        share = server_share(memory, finding.span.since)
        return share is not None and share >= STILL_SHARE

    def cause(self, memory: Memory, finding: Finding) -> str:
        """See `Policy`."""
        return "ServerBusy" if self._computes(memory, finding) else self.name

    def window(self, memory: Memory, finding: Finding, settings: Settings) -> float:
        """See `Policy`."""
        return longest_window(settings) if self._computes(memory, finding) else settings.stall_window

    def proves(self, memory: Memory, finding: Finding) -> bool:
        """See `Policy`."""
        return not self._computes(memory, finding)

    def restart_after(self, memory: Memory, finding: Finding, settings: Settings) -> float | None:
        """See `Policy`."""
        if self._computes(memory, finding) or recent(memory, memory.server_computed_at):
            return restart_of_the_stalled(memory, settings, computed_at=memory.server_computed_at)
        return capped(FROZEN_SECONDS, settings)


class OneServerSilent(Policy):
    """One of several API servers reads nothing of what its clients send, and computes nothing: theirs wait for ever."""

    name = "OneServerSilent"

    def observe(self, before: Memory, now: Memory, look: Look) -> Mapping[str, Finding]:
        """See `Policy`. Others may answer, and steps be made for them."""
        since = None if look.processes is None else look.processes.unread_since
        if since is None:
            return {}
        known = self.found(before)
        since = max(since, now.watched_since or since) if known is None else known.span.since
        told = "one of the API servers takes connections and answers nothing"
        return {"": Finding(Span(since, max(since, look.at)), told)}

    def cause(self, memory: Memory, finding: Finding) -> str:  # noqa: ARG002
        """See `Policy`."""
        return "Silent"

    def restart_after(self, memory: Memory, finding: Finding, settings: Settings) -> float | None:  # noqa: ARG002
        """See `Policy`."""
        return capped(FROZEN_SECONDS, settings)


class Stalled(Policy):
    """A rank has requests for which a step is due, and makes none: a hang, or one long step."""

    name = "Stalled"

    def observe(self, before: Memory, now: Memory, look: Look) -> Mapping[str, Finding]:
        """See `Policy`: counted from the last step, or from when there was work for one. Time unseen does not count."""
        if look.ranks is None:
            if now.seen_at is None or look.at - now.seen_at > UNSEEN_SECONDS:
                return {}
            kept = _of(before, self.name).items()
            return {name: one for name, one in kept if now.ranks[name].live_at <= one.span.since}
        found = {}
        for name, rank in now.ranks.items():
            if rank.working_since is None or rank.moved_at == now.looked_at:
                continue
            known = self.found(before, name)
            if known is None:
                since = max(rank.moved_at, rank.working_since, now.seen_since or rank.moved_at)
                span = Span(since, max(since, look.at))
            else:
                span = _seen(known.span, now, look)
            told = f"no step with {rank.in_flight:.0f} requests in flight (engine {name})"
            found[name] = Finding(span, told)
        return found

    def window(self, memory: Memory, finding: Finding, settings: Settings) -> float:
        """See `Policy`."""
        return patient_window(memory, finding, settings)

    def proves(self, memory: Memory, finding: Finding) -> bool:  # noqa: ARG002
        """Never: a long step looks the same."""
        return False

    def restart_after(self, memory: Memory, finding: Finding, settings: Settings) -> float | None:  # noqa: ARG002
        """See `Policy`."""
        if frozen_for(memory) >= FROZEN_SECONDS:
            return capped(FROZEN_SECONDS, settings)
        return restart_of_the_stalled(memory, settings, computed_at=memory.computed_at)


class Failing(Policy):
    """An engine without work, or a rank of it, does not complete a canary.

    One that only waits proves nothing where it may wait behind work: of a rank with requests in flight, of a server
    that does not answer at all, or where the metrics do not tell and somebody has a connection. While the cores
    compute it may wait behind a first step, of which nothing tells before its end: then it is a suspicion.
    """

    name = "Failing"

    def observe(self, before: Memory, now: Memory, look: Look) -> Mapping[str, Finding]:
        """See `Policy`: counted from when the canary was sent."""
        found = {}
        subjects = {canary.rank or "" for canary in look.canaries} | set(_of(before, self.name))
        for subject in sorted(subjects):
            finding = self._of_one(subject, before, now, look)
            if finding is not None:
                found[subject] = finding
        return found

    def _of_one(self, subject: str, before: Memory, now: Memory, look: Look) -> Finding | None:
        canaries = [canary for canary in look.canaries if (canary.rank or "") == subject]
        ranks = _ranks_of(subject, now)
        if subject and not ranks:
            return None  # there is no such rank any more
        known = self.found(before, subject)
        alive_at = max(_completed_at(canaries), min((rank.live_at for rank in ranks), default=NEVER))
        moved_at = min((rank.moved_at for rank in ranks), default=NEVER)
        if known is not None and max(alive_at, moved_at if known.detail in WAITED else NEVER) > known.span.since:
            known = None  # any step answers for a canary that only waited, be it its own
        blamed = [
            one for one in canaries if (one.ended_at or look.ended_at) > alive_at and self._blames(one, now, look)
        ]
        if not blamed:
            idle = look.server == ANSWERS and look.ranks is not None and any(rank.in_flight <= 0 for rank in ranks)
            if known is None or not idle:
                return known  # as old as it was: this look proves nothing
            return Finding(_seen(known.span, now, look), known.sentence, known.detail)
        last = blamed[-1]
        outcome = last.outcome or UNANSWERED
        if outcome == UNANSWERED and look.ranks is None and look.connections != 0:
            outcome = GUESSED
        if known is not None:
            return Finding(_seen(known.span, now, look), _told(last, subject), outcome)
        since = max(now.watched_since or NEVER, blamed[0].sent_at)
        if outcome in WAITED:
            since = max(since, now.answering_since or NEVER, moved_at)
        return Finding(Span(since, max(since, look.at)), _told(last, subject), outcome)

    def _blames(self, canary: Canary, now: Memory, look: Look) -> bool:
        """Whether the engine is to blame for a canary."""
        if canary.outcome in (FAILED, REFUSED):
            return True
        if canary.outcome not in (None, UNANSWERED) or look.server != ANSWERS:
            return False
        if look.ranks is None:
            return look.connections == 0 or now.still_since is not None
        return any(rank.in_flight <= 0 for rank in _ranks_of(canary.rank or "", now))

    def _computes(self, memory: Memory, finding: Finding) -> bool:
        share = core_share(memory, finding.span.since)
        return finding.detail in WAITED and share is not None and share >= COMPUTING_SHARE

    def cause(self, memory: Memory, finding: Finding) -> str:  # noqa: ARG002
        """See `Policy`."""
        return "Refused" if finding.detail == REFUSED else self.name

    def window(self, memory: Memory, finding: Finding, settings: Settings) -> float:
        """See `Policy`."""
        if finding.detail not in WAITED:
            return settings.stall_window
        return max(CANARY_SECONDS, patient_window(memory, finding, settings))

    def proves(self, memory: Memory, finding: Finding) -> bool:
        """See `Policy`."""
        return finding.detail != GUESSED and not self._computes(memory, finding)

    def restart_after(self, memory: Memory, finding: Finding, settings: Settings) -> float | None:
        """See `Policy`. An engine that refuses a request answers, and would do so after a restart as well.

        A guess restarts nobody whose metrics can be read at other times: it may sleep. Where they never could
        (`--disable-log-stats`), it has vLLM's own limit for a step.
        """
        if finding.detail == REFUSED or (finding.detail == GUESSED and memory.seen_at is not None):
            return None
        if finding.detail == GUESSED:
            return restart_of_the_stalled(memory, settings, computed_at=memory.looked_at)
        if finding.detail not in WAITED:
            return settings.restart_window
        if frozen_for(memory) >= FROZEN_SECONDS:
            return capped(FROZEN_SECONDS, settings)
        return restart_of_the_stalled(memory, settings, computed_at=memory.computed_at)


class WrongModel(Policy):
    """The server itself says that it does not serve a name that the resource promises, and it could not be loaded."""

    name = "WrongModel"

    def observe(self, before: Memory, now: Memory, look: Look) -> Mapping[str, Finding]:  # noqa: ARG002
        """See `Policy`: names are no matter of progress, only the server's own word counts."""
        known = self.found(before)
        if look.unserved is None:
            return {} if known is None else {"": known}
        if not look.unserved:
            return {}
        span = Span(look.at, look.ended_at) if known is None else known.span.grown(look.ended_at)
        return {"": Finding(span, look.unserved)}

    def restart_after(self, memory: Memory, finding: Finding, settings: Settings) -> float | None:  # noqa: ARG002
        """Never: it serves the other names, and an adapter is loaded again without."""
        return None


class WorkerLost(Policy):
    """Another pod of an engine over several pods does not work: without it no step is made.

    What the worker's own pod says is proof, and acts at once. Silence is none, as long as steps are made all the same:
    a node may be too busy to have its manager answer. When a container ends, the group's controller makes the group
    anew; a leader whose worker was replaced without that, as from a node that was deleted, ends for it.
    """

    name = "WorkerLost"

    def observe(self, before: Memory, now: Memory, look: Look) -> Mapping[str, Finding]:
        """See `Policy`: of silence, counted from the last sign of life of the engine."""
        found = {}
        for worker in look.workers:
            if worker.state == ALIVE:
                continue
            known = self.found(before, str(worker.number))
            since = look.at if known is None or known.detail != worker.state else known.span.since
            if worker.state == SILENT_WORKER:
                since = max([since, *(max(rank.live_at, rank.moved_at) for rank in now.ranks.values())])
            found[str(worker.number)] = Finding(Span(since, max(since, look.ended_at)), worker.sentence, worker.state)
        return found

    def cause(self, memory: Memory, finding: Finding) -> str:  # noqa: ARG002
        """See `Policy`."""
        return f"Worker{finding.detail.capitalize()}"

    def window(self, memory: Memory, finding: Finding, settings: Settings) -> float:  # noqa: ARG002
        """See `Policy`."""
        return settings.stall_window if finding.detail == SILENT_WORKER else 0.0

    def restart_after(self, memory: Memory, finding: Finding, settings: Settings) -> float | None:  # noqa: ARG002
        """See `Policy`. Only the pod that has ended, or another in its place, proves that there is no way back."""
        return capped(GONE_SECONDS, settings) if finding.detail == WORKER_GONE else None


POLICIES: tuple[Policy, ...] = (
    *(Gone(), Silent(), OneServerSilent(), Stalled(), Failing(), WrongModel()),
    WorkerLost(),
)


# --- what the policies share


def _of(memory: Memory, policy: str) -> dict[str, Finding]:
    """What a policy had found, by subject."""
    parts = ((key.partition("/"), finding) for key, finding in memory.findings.items())
    return {subject: finding for (name, _, subject), finding in parts if name == policy}


def _last_look(before: Memory, look: Look) -> float:
    return look.at if before.looked_at is None else before.looked_at


def _seen(span: Span, now: Memory, look: Look) -> Span:
    """The span after another look that proves it; as old as it was, where the time since the last one was not seen."""
    if look.ranks is not None and now.seen_since == now.looked_at:  # the first look that can see again
        return span.moved(max(0.0, look.at - span.until))
    return span.grown(look.at)


def _ranks_of(subject: str, now: Memory) -> list[RankMemory]:
    """The rank of that name, or all where the server was to choose one."""
    if not subject:
        return list(now.ranks.values())
    return [now.ranks[subject]] if subject in now.ranks else []


def _completed_at(canaries: list[Canary]) -> float:
    return max((one.ended_at or NEVER for one in canaries if one.outcome == COMPLETED), default=NEVER)


def _told(canary: Canary, subject: str) -> str:
    where = f" (engine {subject})" if subject else ""
    return f"a canary does not complete{where}{': ' + canary.sentence if canary.sentence else ''}"
