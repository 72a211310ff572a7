"""A modelled engine: what it would answer to each question of the gate at any moment."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vllm_operator.gates.engine import HEALTH_SECONDS, PAUSED_SECONDS, ProbeError, read_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from vllm_operator.gates.judge import Rank

DEATH_SECONDS = 4.0
"""How long a server answers after its engine's death (measured on vLLM 0.32.0)."""


class Work(StrEnum):
    """What an engine has to do for a while."""

    IDLE = "idle"
    BUSY = "busy"
    SATURATED = "saturated"
    PREFILL = "long prefill"
    DEFERRED = "requests put off"
    """Their grammar is compiled, or their KV cache is on its way; nothing else is in flight."""
    COMPILING = "one step, kernels compiled in it"
    ASLEEP = "asleep"


STEPLESS: Final = frozenset({Work.IDLE, Work.PREFILL, Work.DEFERRED, Work.COMPILING, Work.ASLEEP})
"""Works in which no step makes a token."""


class Fault(StrEnum):
    """What breaks it for good."""

    CORE = "engine core hung"
    RANK = "one of two ranks hung"
    SERVER = "API server hung"
    DEATH = "engine core killed"


class Trouble(StrEnum):
    """What disturbs the looking and not the engine."""

    SLOW = "metrics never come"
    FAILING = "metrics answer 500"
    RENAMED = "metrics have other names"
    BLOCKED = "nothing answers for some seconds"


@dataclass(frozen=True)
class Phase:
    """A while with the same work. Counters go on from where the phase before left them."""

    start: float
    work: Work
    step_seconds: float
    steps: int
    """Steps before this phase."""


@dataclass
class Clock:
    """Virtual time; the gate's own clock may have been stepped against it."""

    time: float = 0.0
    offset: float = 0.0

    def now(self) -> float:
        """Seconds, as the gate sees them."""
        return self.time + self.offset

    def sleep(self, seconds: float) -> None:
        """Let time pass; a little more than asked, as the real one does."""
        self.time += seconds + 0.01


@dataclass
class ModelEngine:
    """An engine with a history that is known beforehand. Times are those of the world, not the gate's."""

    clock: Clock
    random: Random
    phases: list[Phase]
    troubles: list[tuple[float, float, Trouble]] = field(default_factory=list)
    """Start, end and kind; in order, one at a time."""
    resets: list[float] = field(default_factory=list)
    """When the counters start again from nothing."""
    development: bool = False
    fault: Fault | None = None
    fault_at: float = math.inf
    completed: dict[str, list[float]] = field(default_factory=lambda: {"0": [], "1": []})
    """When each rank has completed a canary, which is a step."""

    def work(self, at: float) -> Phase:
        """The phase of a moment."""
        return self.phases[max(0, bisect.bisect_right(self.phases, at, key=lambda phase: phase.start) - 1)]

    def trouble(self, at: float) -> Trouble | None:
        """What disturbs the looking at a moment."""
        place = bisect.bisect_right(self.troubles, at, key=lambda trouble: trouble[0]) - 1
        return self.troubles[place][2] if place >= 0 and at < self.troubles[place][1] else None

    # --- the questions of the gate

    @property
    def adapters(self) -> tuple[str, ...]:
        """None beside the model."""
        return ()

    def check_names(self, timeout: float) -> None:
        """The names are right."""

    def complete(self, timeout: float, ranks: Sequence[str | None] = (None,)) -> None:
        """A canary: quick where there is no work, late where there is, never where the engine hangs.

        Where the choice is the server's, it is a rank that works.
        """
        self._reach(timeout)
        began = self.clock.time
        if self.fault is Fault.DEATH and began >= self.fault_at:
            raise ProbeError("Failing", "HTTP 500: EngineDeadError")
        needs = self._canary_seconds(began)
        faults = (Fault.CORE, Fault.SERVER, Fault.RANK) if "1" in ranks else (Fault.CORE, Fault.SERVER)
        hung = self.fault in faults and began + needs >= self.fault_at
        for rank in ranks:
            if needs <= timeout and not (hung and rank in (None, "1")):
                self.completed[rank or "0"].append(began + needs)
        if hung or needs > timeout:
            self._wait_in_vain(timeout)
        self.clock.time += needs

    def _canary_seconds(self, at: float) -> float:
        """How long a canary takes. What is put off stands in nobody's way; a sleeper answers only when it is awake."""
        work = self.work(at).work
        if work in (Work.ASLEEP, Work.COMPILING):
            after = bisect.bisect_right(self.phases, at, key=lambda phase: phase.start)
            end = self.phases[after].start if after < len(self.phases) else math.inf
            return end - at + self.random.uniform(0.03, 2.0)
        return self.random.uniform(0.03, 2.0) if work in (Work.IDLE, Work.DEFERRED) else self.random.uniform(0.5, 30.0)

    def ranks(self, timeout: float) -> dict[str, Rank]:
        """The metrics: as of the last step of each core."""
        self._reach(timeout)
        at = self.clock.time
        trouble = self.trouble(at)
        if trouble is Trouble.SLOW:
            self._wait_in_vain(timeout)
        self._take(timeout, 0.3 if self.work(at).work is Work.SATURATED else 0.02)
        if trouble is Trouble.FAILING:
            raise ProbeError("Failing", "/metrics: HTTP 500")
        if trouble is Trouble.RENAMED:
            raise ProbeError("NoMetrics", "/metrics counts neither steps nor tokens")
        stuck = min(at, self.fault_at)
        if self.fault is Fault.RANK:
            return read_ranks(self._metrics(at, "0") + self._metrics(stuck, "1"))
        return read_ranks(self._metrics(stuck if self.fault in (Fault.CORE, Fault.DEATH) else at, "0"))

    def health(self) -> None:
        """The server's own opinion: good while the engine hangs."""
        self._reach(HEALTH_SECONDS)
        if self.fault is Fault.DEATH and self.clock.time >= self.fault_at:
            raise ProbeError("Busy", "/health: HTTP 503")
        self._take(HEALTH_SECONDS, 0.02)

    def paused(self) -> bool | None:
        """Whether it sleeps; told in the development mode alone, without which nobody can put it to sleep."""
        if not self.development:
            return None
        try:
            self._reach(PAUSED_SECONDS)
            self._take(PAUSED_SECONDS, 0.02)
        except ProbeError:
            return None
        return self.work(self.clock.time).work is Work.ASLEEP

    def callers(self) -> int | None:
        """Requests hold their connections; who waits for a hung engine does so too."""
        return 0 if self.work(min(self.clock.time, self.fault_at)).work in (Work.IDLE, Work.ASLEEP) else 3

    # --- how long answers take

    def _reach(self, timeout: float) -> None:
        """Connect; a server that is hung or blocked takes the connection and does not answer."""
        at = self.clock.time
        if self.fault is Fault.DEATH and at >= self.fault_at + DEATH_SECONDS:
            raise ProbeError("Loading", "nothing listens on port 8000")
        if self.fault is Fault.SERVER and at >= self.fault_at:
            self._wait_in_vain(timeout)
        if self.trouble(at) is Trouble.BLOCKED:
            end = next(end for start, end, _ in self.troubles if start <= at < end)
            self._take(timeout, end - at, exact=True)

    def _take(self, timeout: float, seconds: float, *, exact: bool = False) -> None:
        needs = seconds if exact else self.random.uniform(0.002, 2 * seconds)
        if needs >= timeout:
            self._wait_in_vain(timeout)
        self.clock.time += needs

    def _wait_in_vain(self, timeout: float) -> None:
        self.clock.time += timeout
        raise ProbeError("Silent", f"no answer within {timeout:.0f} s")

    def _metrics(self, at: float, name: str) -> bytes:
        """What the server tells of a rank at a moment, as vLLM writes it."""
        phase = self.work(at)
        made = int((at - phase.start) / phase.step_seconds)
        before = self.work(math.nextafter(phase.start, 0.0))
        if made == 0 and before.work is Work.IDLE and phase.work not in (Work.DEFERRED, Work.ASLEEP):
            phase = before  # the first step tells of itself only when it is done
        steps = phase.steps + bisect.bisect_right(self.completed[name], at)
        steps -= sum(moment <= at for moment in self.resets) * 1_000_000
        cache, running, capacity, deferred = 0.0, 0, 0, 0
        if phase.work is Work.PREFILL:
            cache, running = (made % 100 + 1) / 100, 1
        elif phase.work is Work.DEFERRED:
            deferred = 2
        elif phase.work not in STEPLESS or phase.work is Work.COMPILING:
            cache, running = 0.5, 8
            capacity = 200 if phase.work is Work.SATURATED else 0
            steps += 0 if phase.work is Work.COMPILING else made
        return TEXT.format(
            name=name,
            steps=steps,
            cache=cache,
            running=running,
            waiting=capacity + deferred,
            capacity=capacity,
            deferred=deferred,
            awake=int(phase.work is not Work.ASLEEP),
        ).encode()


TEXT: Final = """\
vllm:iteration_tokens_total_count{{engine="{name}"}} {steps}
vllm:kv_cache_usage_perc{{engine="{name}"}} {cache}
vllm:num_requests_running{{engine="{name}"}} {running}
vllm:num_requests_waiting{{engine="{name}"}} {waiting}
vllm:num_requests_waiting_by_reason{{engine="{name}",reason="capacity"}} {capacity}
vllm:num_requests_waiting_by_reason{{engine="{name}",reason="deferred"}} {deferred}
vllm:engine_sleep_state{{engine="{name}",sleep_state="awake"}} {awake}
"""
