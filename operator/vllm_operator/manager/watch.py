"""The watch over one engine: each look gathers evidence, has it judged, and publishes what is to be told.

A part of the gate that fails is the gate's own fault and never the engine's: it is told, and a look with such a fault
makes no verdict worse.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace

from . import capacity, judge
from .engine import EngineError
from .errands import Canaries, Errand
from .evidence import ANSWERS, LogLook, Look
from .names import ServedNames
from .observe import after_gap
from .signatures import PHASES
from .status import LEAVING, SERVING, WITHDRAWN, Status, increased, restored_counts
from .throttling import Throttling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .engine import Engine, Sample
    from .evidence import WorkerLook
    from .group import Workers
    from .log import Log
    from .matching import Diagnosis
    from .peers import Peers
    from .processes import Processes
    from .settings import Settings
    from .timeline import TimeLine

SAMPLE_SECONDS = 3.0
"""Deadline of one sample: a server that answers nothing by then is silent."""
CANARY_SECONDS = 60.0
"""Deadline of a canary. The judge does not wait for it; the first ones may compile kernels for long."""
NAMES_PAUSE_SECONDS, ADMITTED_NAMES_PAUSE_SECONDS = 1.0, 5.0
"""Between two questions for the served names, before and after admission."""
NAMES_YOUTH_SECONDS = 10.0
CHAT_SECONDS = 60.0
"""Deadline of the one chat that is asked for."""
CHAT_PAUSE_SECONDS, LONGEST_CHAT_PAUSE_SECONDS = 10.0, 300.0
"""From one chat that a busy engine did not answer to the next: the first pause, which doubles, and the longest one. A
server without a chat template refuses a chat before its engine has it, so the first answer comes soon."""
MOST_DOUBLINGS = 5
MOST_TIMES = 16
OVERDUE_SECONDS = 5.0
"""An engine that is still there so long after it was given up could not be ended by the stem."""
PEERS_PAUSE_SECONDS = 1.0
PEERS_YOUTH_SECONDS = 5.0
WORKERS_PAUSE_SECONDS = 0.5
WORKERS_YOUTH_SECONDS = 5.0
BESIDE_SECONDS = 0.5
"""A look waits so long for what is asked beside it; what comes later is part of the next one."""
EARLIER_TROUBLE_SECONDS = 60.0
"""How long a judge tells what befell those before it: one that has lived longer has overcome it. Their number stays in
/metrics, and what each of them died of in the container's log."""
TROUBLE_LENGTH = 1000
WORKER_GONE = "WorkerGone"
"""Cause of an engine that has requests and can finish none."""
SAMPLE, JUDGE = "sample", "judge"
READY_PHASE, FIRST_PHASE = "Ready", "Starting"


def time_of_day(moment: float) -> str:
    """RFC 3339, UTC, of a moment of the monotonic clock."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - (time.monotonic() - moment)))


class Times:
    """Times of day of moments, each worked out once: clocks are corrected, and what is told must not move by itself."""

    def __init__(self, stored: object) -> None:
        self._known: dict[float, str] = {}
        for moment, text in _pairs(stored):
            if isinstance(moment, (int, float)) and isinstance(text, str):
                self._known[moment] = text

    def of(self, moment: float) -> str:
        """RFC 3339, UTC."""
        if moment not in self._known:
            if len(self._known) >= MOST_TIMES:
                self._known.pop(next(iter(self._known)))
            self._known[moment] = time_of_day(moment)
        return self._known[moment]

    def as_list(self) -> list[list[object]]:
        """For the next judge."""
        return [list(pair) for pair in self._known.items()]


def _pairs(stored: object) -> list[list[object]]:
    found = stored if isinstance(stored, list) else []
    return [pair for pair in found if isinstance(pair, list) and len(pair) == 2]  # noqa: PLR2004 # moment and text


def chat_pause(unanswered: int) -> float:
    """Seconds from the last chat to the next one, after so many that were not answered."""
    doublings = min(max(unanswered - 1, 0), MOST_DOUBLINGS)
    return min(CHAT_PAUSE_SECONDS * (1 << doublings), LONGEST_CHAT_PAUSE_SECONDS)


@dataclass
class Parts:
    """What a watch looks with. The log is fed by another thread, which it allows."""

    engine: Engine
    processes: Processes
    log: Log
    peers: Peers
    timeline: TimeLine
    workers: Workers | None = None
    """The other pods of an engine over several, for its leader."""
    restarts: Mapping[str, int] = field(default_factory=dict)
    """Of the pod's container, by cause."""


@dataclass(frozen=True)
class Pod:
    """What stays the same about this engine."""

    name: str
    program: str
    """Digest of the judge's files."""
    born_at: float
    """When the engine was started, on the monotonic clock."""
    loads_adapters: bool = False
    """Whether the server loads adapters at run time (VLLM_ALLOW_RUNTIME_LORA_UPDATING)."""
    trouble: str = ""
    """What the stem tells of earlier judges, which is told for a while."""


@dataclass(frozen=True)
class Published:
    """What one look has left for the threads that answer and report."""

    status: Status
    memory: Mapping[str, object]
    """For the next judge."""
    looked_at: float


def _restored_phase(stored: object, born_at: float) -> tuple[str, str, float]:
    """The phase that the judge before had seen; the first one where there is none to be understood."""
    if isinstance(stored, list) and [type(part) for part in stored] in ([str, str, float], [str, str, int]):
        name, detail, since = stored
        return name, detail, since
    return FIRST_PHASE, "", born_at


def _restored_load_phases(stored: object) -> dict[str, float]:
    """Seconds by phase, as the judge before had measured them; what is not understood is left out."""
    given = stored if isinstance(stored, dict) else {}
    known = {name: given.get(name) for name in PHASES}
    return {name: seconds for name, seconds in known.items() if isinstance(seconds, (int, float)) and seconds >= 0}


def _restored_text(stored: object) -> str | None:
    return stored if isinstance(stored, str) else None


def _restored_names(stored: object) -> tuple[str, ...]:
    return tuple(name for name in stored if isinstance(name, str)) if isinstance(stored, list) else ()


def _last_key(timeline: TimeLine) -> tuple[str, str, str]:
    """What the last entry of this life was about, so that a judge that follows another does not repeat it."""
    last = timeline.last
    return (last.verdict, "", "") if last is not None else ("", "", "")


class Watch:
    """One engine's looks, its memory and what follows from it.

    Args:
        settings: What the operator tells.
        parts: What it looks with.
        pod: What stays the same.
        stored: What the judge before has handed on; empty for the first one.
        changed: Called when there is something new to tell.
    """

    _leaving_since: str | None = None
    _end: str | None = None
    _ended_at: float | None = None
    _look: Look | None = None
    _unanswered_chats = 0
    _passed_over = False
    """Whether the last look says nothing of the engine, since it was loading an adapter."""

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        pod: Pod,
        stored: Mapping[str, Any],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        restart = settings.restart_window
        if restart is not None:
            settings = replace(settings, restart_window=judge.spread(restart, pod.name))
        self._settings, self._parts, self._pod, self._changed = settings, parts, pod, changed
        self._began = time.monotonic()
        self._faults: dict[str, str] = {}
        """Of the gate's own parts in the last look, by part."""
        self._fault_kinds: set[tuple[str, str]] = set()
        """Those that were written to the log."""
        self._others: dict[str, str] = {}
        """What else is to be told of the gate, by topic."""
        self._counts = restored_counts(stored.get("counts"))
        self._loads_before = self._counts.adapter_loads
        self._times = Times(stored.get("times"))
        self._phase = _restored_phase(stored.get("phase"), pod.born_at)
        self._load_phases = _restored_load_phases(stored.get("load_phases"))
        """Seconds of the phases of this start that are over."""
        self._capacity = capacity.restored(stored.get("capacity"))
        self._canaries = Canaries(parts.engine)
        ours = _restored_names(stored.get("adapters"))
        self._names = ServedNames(parts.engine, settings, may_load=pod.loads_adapters, ours=ours)
        self._asked_names = Errand("served names", lambda: self._names.ask(admitted=self._memory.admitted))
        self._asked_chat = Errand("chat", self._chat_refusal)
        self._chat = _restored_text(stored.get("chat"))
        """Why chats are refused; empty: they are not; None: that has not been found out yet."""
        self._peers = Errand("peers", lambda: parts.peers.look(time.monotonic()))
        self._workers = Errand("workers", lambda: parts.workers and parts.workers.look())
        self._throttling = Throttling()
        self._memory = self._restored(stored)
        self._started = self._memory.admitted
        """Whether all is known that the start has reported."""
        self._verdict = self._first_verdict()
        self._restarting = parts.timeline.ended_for_a_fault()
        self._told = _last_key(parts.timeline)
        self.published = self._publication()

    def _restored(self, stored: Mapping[str, Any]) -> judge.Memory:
        given = stored.get("judge")
        if given is None:
            return judge.Memory()
        found = self._attempt(JUDGE, lambda: judge.restored(given))
        # a memory that cannot be read must not cost the traffic of an engine that has it
        return found if found is not None else replace(judge.Memory(), admitted=stored.get("admitted") is True)

    def _first_verdict(self) -> judge.Verdict:
        found: judge.Verdict | None = self._attempt(JUDGE, lambda: judge.verdict(self._memory, self._settings))
        if found is not None:
            return found
        kind = judge.SERVING if self._memory.admitted else judge.STARTING
        return judge.Verdict(kind, "NoVerdict", "the gate has not looked at the engine yet", time.monotonic())

    # ------------------------------------------------------------------------------------------- what others ask

    @property
    def status(self) -> Status:
        """What is to be told now: an engine that is asked to end is out at once, whatever was seen of it."""
        status = self.published.status
        if self._leaving_since is None:
            return status
        sentence = "leaving: the engine was asked to end"
        return replace(status, verdict=LEAVING, cause="Leaving", sentence=sentence, since=self._leaving_since)

    @property
    def faults(self) -> Mapping[str, str]:
        """Of the gate's own parts in the last look."""
        return self._faults

    def report(self) -> dict[str, object]:
        """One heartbeat for the stem, and all that the next judge needs."""
        published = self.published
        ranks = {name: rank.steps for name, rank in (published.status.ranks or {}).items()}
        looked = time_of_day(published.looked_at)
        return {**self.status.report(), "memory": published.memory, "ranks": ranks, "looked_at": looked}

    @property
    def leaving(self) -> bool:
        """Whether the engine was asked to end."""
        return self._leaving_since is not None

    def leave(self) -> None:
        """The engine is asked to end: from now on it takes no traffic, and nothing is done to it."""
        if self._leaving_since is not None:
            return
        now = time.monotonic()
        self._leaving_since = time_of_day(now)
        entry = (self._leaving_since, LEAVING, "Leaving", self.status.sentence)
        self._attempt("time line", lambda: self._parts.timeline.add(*entry))
        self._changed()

    def tell(self, topic: str, trouble: str) -> None:
        """Have trouble of the gate's own told from the next look on; an empty one ends it."""
        self._others[topic] = trouble

    # -------------------------------------------------------------------------------------------------- one look

    def look(self) -> str | None:
        """Look once. Why the engine is to be ended now; None: it is not."""
        began = time.monotonic()
        self._faults.clear()
        loading = self._names.loading
        sample = self._attempt(SAMPLE, lambda: self._parts.engine.sample(SAMPLE_SECONDS))
        look = self._gathered(began, sample) if sample is not None else None
        loading = (loading or self._names.loading) and look is not None and look.server == ANSWERS
        if look is not None and not self._passes_over(look, loading=loading) and self._observed(look):
            self._look = look
            self._send_canaries(look)
            self._attempt("chat", lambda: self._ask_chat(began))
        self._heed(began)
        self._attempt("time line", self._note_transition)
        self._count(time.monotonic() - began)
        self.published = self._publication()
        self._changed()
        return self._end if self._leaving_since is None else None

    def _count(self, seconds: float) -> None:
        counts = self._counts
        self._counts = replace(
            counts,
            looks=counts.looks + 1,
            look_seconds=counts.look_seconds + seconds,
            faults=counts.faults + (1 if self._faults else 0),
            adapter_loads=self._loads_before + self._names.loaded,
        )

    def _attempt(self, part: str, work: Callable[[], Any]) -> Any:
        """Do a part's work; None where the part itself fails, which is the gate's fault."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001 # whatever is wrong with the gate must not end the watch
            self._faults[part] = f"{part}: {error!r}"
            kind = (part, type(error).__name__)
            if kind not in self._fault_kinds:
                self._fault_kinds.add(kind)
                sys.stderr.write(f"vllm-manager: the gate itself failed in {self._faults[part]}\n")
            return None

    def _gathered(self, began: float, sample: Sample) -> Look:
        now = time.monotonic()
        return Look(
            at=began,
            server=sample.server,
            ranks=sample.ranks,
            paused=bool(sample.paused),
            canaries=self._canaries.seen(),
            unserved=self._unserved(now, sample.server),
            processes=self._attempt("processes", lambda: self._parts.processes.look(now)),
            log=self._attempt("log", self._parts.log.look) or LogLook(),
            connections=sample.connections,
            peers=self._attempt("peers", lambda: self._peers_look(now)),
            workers=self._attempt("workers", lambda: self._workers_look(now)) or (),
            trouble=sample.trouble,
            ended_at=time.monotonic(),
        )

    def _peers_look(self, now: float) -> Any:
        if not judge.wants_peers(self._memory, self._settings):
            return None
        self._peers.run(now, PEERS_PAUSE_SECONDS)
        return self._peers.found(now, youth=PEERS_YOUTH_SECONDS, wait=BESIDE_SECONDS)

    def _passes_over(self, look: Look, *, loading: bool) -> bool:
        """Whether a look says nothing of the engine: while it loads an adapter for us it makes no step.

        With the first look that says something, that time is over as if it had not been.
        """
        if self._passed_over and not loading:
            self._memory = self._attempt(JUDGE, lambda: after_gap(self._memory, look.at)) or self._memory
        self._passed_over = loading
        return loading

    def _workers_look(self, now: float) -> tuple[WorkerLook, ...]:
        """What the workers' managers say, asked beside each look once the engine is admitted."""
        if self._parts.workers is None or not self._memory.admitted:
            return ()
        self._workers.run(now, WORKERS_PAUSE_SECONDS)
        return self._workers.found(now, youth=WORKERS_YOUTH_SECONDS, wait=BESIDE_SECONDS) or ()

    def _observed(self, look: Look) -> bool:
        """Have the look judged; whether it counts."""
        memory = self._attempt(JUDGE, lambda: judge.observe(self._memory, look, self._settings))
        verdict = None if memory is None else self._attempt(JUDGE, lambda: judge.verdict(memory, self._settings))
        if verdict is None or (self._faults and verdict.kind in (judge.WITHDRAWN, judge.RESTART)):
            return False
        if verdict.kind == judge.WITHDRAWN and self._verdict.kind == judge.SERVING:
            withdrawals = increased(self._counts.withdrawals, verdict.cause)
            self._counts = replace(self._counts, withdrawals=withdrawals)
        for outcome in (canary.outcome for canary in look.canaries):
            if outcome is not None:
                self._counts = replace(self._counts, canaries=increased(self._counts.canaries, outcome))
        self._canaries.noted(look.canaries)
        self._memory = memory
        if self._end is None:  # what was given up is not taken back
            self._verdict = verdict
        return True

    def _send_canaries(self, look: Look) -> None:
        if self._leaving_since is not None:
            return
        for rank in self._attempt(JUDGE, lambda: judge.due_canaries(self._memory, look, self._settings)) or ():
            self._canaries.send(rank, CANARY_SECONDS)

    def _heed(self, now: float) -> None:
        """Give the engine up where that is the verdict. It is not taken back: the stem ends the engine."""
        if self._verdict.kind == judge.RESTART and self._end is None and self._leaving_since is None:
            self._end, self._ended_at = self._verdict.sentence, now

    def _unserved(self, now: float, server: str) -> str | None:
        """The sentence of names that are missing; None where nobody has asked lately."""
        admitted = self._memory.admitted
        may_change = self._settings.adapters or self._settings.adapters_file
        if server != ANSWERS or self._leaving_since is not None or (admitted and not may_change):
            return None
        self._asked_names.run(now, ADMITTED_NAMES_PAUSE_SECONDS if admitted else NAMES_PAUSE_SECONDS)
        wait = 0.0 if admitted else BESIDE_SECONDS
        found: str | None = self._asked_names.found(now, youth=NAMES_YOUTH_SECONDS, wait=wait)
        return found

    def _ask_chat(self, now: float) -> None:
        """Find out, once after admission, whether chats are taken.

        That a model has no chat template shows nowhere else: the engine serves, and logs nothing of what it refuses.
        """
        if self._chat is not None or self._leaving_since is not None or self._verdict.kind != judge.SERVING:
            return
        if self._parts.engine.completes_texts:
            self._asked_chat.run(now, chat_pause(self._unanswered_chats))
            self._chat = self._asked_chat.found(now, youth=LONGEST_CHAT_PAUSE_SECONDS)

    def _chat_refusal(self) -> str | None:
        try:
            return self._parts.engine.chat_refusal(CHAT_SECONDS)
        except EngineError:
            self._unanswered_chats += 1
            return None

    # ---------------------------------------------------------------------------------------------- what is told

    def _note_transition(self) -> None:
        """Add to the time line what has become different: the verdict, and while it starts its cause and its phase."""
        if self._memory.admitted:
            self._restarting = False
        verdict, (phase, detail, _) = self._verdict, self._current_phase()
        starting = verdict.kind == judge.STARTING
        key = (verdict.kind, verdict.cause, phase) if starting else (verdict.kind, "", "")
        if key == self._told or self._leaving_since is not None:
            return
        new_phase = starting and self._told[0] == verdict.kind and self._told[2] != phase
        words = f"{phase} ({detail})" if detail else phase
        sentence = f"load phase {words}; {verdict.sentence}" if new_phase else verdict.sentence
        self._told = key
        self._parts.timeline.add(time_of_day(time.monotonic()), verdict.kind, verdict.cause, sentence)

    def _current_phase(self) -> tuple[str, str, float]:
        """Name, detail and since when. An earlier judge may have seen in the log what this one has not."""
        name, _, since = self._phase
        if self._memory.admitted:
            found = (READY_PHASE, "", since if name == READY_PHASE else time.monotonic())
        else:
            found = self._attempt("log", self._log_phase) or self._phase
            if found[0] == FIRST_PHASE != name:
                found = self._phase
            elif found[0] == name:
                found = (name, found[1], since)
        if found[0] != name:
            self._load_phases[name] = max(0.0, found[2] - since)
        self._phase = found
        return found

    def _phase_seconds(self) -> dict[str, float]:
        """How long each phase of this start took, or takes up to now."""
        name, _, since = self._phase
        if name == READY_PHASE:
            return dict(self._load_phases)
        return {**self._load_phases, name: max(0.0, time.monotonic() - since)}

    def _current_capacity(self) -> capacity.Capacity:
        """What the start has reported, to this judge and to those before it; the look that admits reads it last."""
        if not self._started:
            found = self._attempt("log", lambda: self._parts.log.capacity)
            self._capacity = capacity.together(self._capacity, found or capacity.Capacity())
            self._started = self._memory.admitted
        return self._capacity

    def _log_phase(self) -> tuple[str, str, float]:
        phase = self._parts.log.phase
        return phase.name, phase.detail, phase.since

    def _publication(self) -> Published:
        status = self._attempt("status", self._made_status) or self.published.status
        stored: dict[str, object] = {"admitted": self._memory.admitted, "phase": list(self._phase)}
        stored["capacity"], stored["load_phases"] = self._capacity.as_dict(), dict(self._load_phases)
        stored["counts"], stored["times"] = self._counts.as_dict(), self._times.as_list()
        stored["adapters"] = list(self._names.ours)
        stored["judge"], stored["chat"] = self._attempt(JUDGE, self._memory.as_dict), self._chat
        return Published(status, stored, time.monotonic())

    def _made_status(self) -> Status:
        verdict, memory, settings = self._verdict, self._memory, self._settings
        phase, detail, phase_since = self._current_phase()
        ranks = self._look.ranks if self._look is not None else None
        troubled = verdict.kind in (judge.WITHDRAWN, judge.RESTART) or not memory.admitted
        return Status(
            pod=self._pod.name,
            verdict=verdict.kind,
            cause=verdict.cause,
            sentence=verdict.sentence,
            since=self._times.of(max(verdict.since, self._pod.born_at)),
            phase=phase,
            phase_detail=detail,
            phase_since=self._times.of(phase_since),
            admitted=memory.admitted,
            stall_window=judge.stall_window(memory, settings),
            program=self._pod.program,
            serving=memory.admitted and verdict.kind in (SERVING, WITHDRAWN) and verdict.cause != WORKER_GONE,
            overdue=self._ended_at is not None and time.monotonic() - self._ended_at > OVERDUE_SECONDS,
            suspected=judge.suspects(memory),
            restarting=self._restarting,
            in_flight=None if ranks is None else sum(rank.in_flight for rank in ranks.values()),
            longest_step=judge.longest_step(memory),
            ranks=ranks,
            timeline=self._parts.timeline.entries,
            excerpt=self._attempt("log", self._parts.log.excerpt) or "" if troubled else "",
            diagnosis=self._recognized(lambda: self._parts.log.diagnosis(self._troubled_at())) if troubled else None,
            symptoms=tuple(self._recognized(self._symptoms) or ()),
            capacity=self._current_capacity(),
            adapters=self._names.told,
            trouble=self._trouble(),
            counts=self._counts,
            restarts=self._parts.restarts,
            load_phases=self._phase_seconds(),
        )

    def _symptoms(self) -> list[Diagnosis]:
        """What slows an engine down that serves, and what it refuses to everybody."""
        now = time.monotonic()
        refused = self._parts.log.recognized(self._chat) if self._chat else None
        return [*self._parts.log.symptoms(now), *self._throttling.symptoms(now), *([refused] if refused else ())]

    def _troubled_at(self) -> float:
        """When what is to be explained began: an engine that hangs does so for what was before that."""
        return self._verdict.since if self._memory.admitted and self._verdict.since else time.monotonic()

    def _recognized(self, work: Callable[[], Any]) -> Any:
        """What a known failure is; None where that fails, which is trouble to be told and nothing to judge by."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001 # what explains an engine must not decide about it
            self._others["signatures"] = f"failures are not recognized: {error!r}"
            return None

    def _trouble(self) -> str:
        # other threads add to both
        told = (*tuple(self._faults.values()), *tuple(self._others.values()))
        earlier = self._pod.trouble if time.monotonic() - self._began < EARLIER_TROUBLE_SECONDS else ""
        parts = [earlier, *told, self._parts.timeline.trouble]
        parts += [self._canaries.trouble, self._names.trouble, self._asked_names.trouble, self._peers.trouble]
        parts += [self._workers.trouble]
        return "; ".join(part for part in parts if part)[:TROUBLE_LENGTH]
