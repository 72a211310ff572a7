"""A modelled engine: all that could be seen of it at any moment, whoever looks.

An engine has a history that is known beforehand: whiles of work, each with its steps and its CPU; times in which its
event loop is blocked or its metrics cannot be read; and perhaps a fault. Times are seconds of the engine's own life.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

DEATH_SECONDS: Final = (0.5, 4.0)
"""From when a server says that its engine is dead, and when it is gone itself (measured on vLLM 0.32.0)."""

IDLE_CORES, SERVER_IDLE_CORES, SERVER_BUSY_CORES = 0.004, 0.01, 0.3


class Work(StrEnum):
    """What an engine does for a while."""

    IDLE = "idle"
    BUSY = "busy"
    """Many steps, all of the same length."""
    STEP = "in one long step"
    DEFERRED = "requests put off"
    """Their grammar is compiled, or their KV cache is on its way; nothing else is in flight."""
    ASLEEP = "asleep"
    PAUSED = "paused"
    SCALING = "scaling"


REST: Final = (Work.ASLEEP, Work.PAUSED, Work.SCALING)


class Fault(StrEnum):
    """What breaks an engine for good."""

    CORE = "engine core hung"
    WORKER = "one of two workers hung, the other spins"
    RANK = "one of two ranks hung"
    SERVER = "API server hung"
    ONE_SERVER = "one of several API servers hung"
    DEATH = "engine core killed"


class Trouble(StrEnum):
    """What disturbs the looking and not the engine."""

    SLOW = "metrics never come"
    FAILING = "metrics answer 500"
    RENAMED = "metrics have other names"


@dataclass(frozen=True)
class While:
    """A while with the same work."""

    work: Work
    seconds: float
    step_seconds: float = 0.05
    waiting: int = 0
    """Requests that wait for room."""
    prefill: bool = False
    """Whether the steps read a prompt: they move the use of the KV cache and no counter."""
    cores: float = 0.9
    """CPU of cores, workers and compilers, where there is work."""
    compilers: bool = False
    log: str = ""
    """When the log tells of compilation: "first", "last" or never."""
    written: float = 0.0
    """Bytes written in a second."""


@dataclass(frozen=True)
class Metrics:
    """What the metrics say of a rank."""

    steps: float
    kv: float
    running: int
    waiting: int
    deferred: int
    asleep: bool


@dataclass
class World:
    """One engine."""

    random: Random
    whiles: list[While]
    blocks: list[tuple[float, float, float]] = field(default_factory=list)
    """Start and end of times in which the server's event loop is blocked, and the CPU it uses."""
    troubles: list[tuple[float, float, Trouble]] = field(default_factory=list)
    resets: list[float] = field(default_factory=list)
    """When the counters start again from nothing."""
    jumps: list[tuple[float, float]] = field(default_factory=list)
    """When the clock jumps against the engine's life, and by how much: pauses of the machine, and stepped clocks."""
    fault: Fault | None = None
    fault_at: float = math.inf
    completed: dict[str, list[float]] = field(default_factory=lambda: {"0": [], "1": []})
    """When each rank has completed a canary, which is a step."""
    counted_from: float = 0.0
    """Withdrawals before this moment are not counted: the engine still shows how long its steps are."""
    answered_at: float = 0.0
    """When the server last answered anything."""

    def __post_init__(self) -> None:
        """Add up what came before each while."""
        self.starts, self.steps, self.cores, self.bytes = [0.0], [0.0], [0.0], [0.0]
        for one in self.whiles:
            made = 0 if one.prefill else int(one.seconds / one.step_seconds) if one.work is Work.BUSY else 0
            self.starts.append(self.starts[-1] + one.seconds)
            self.steps.append(self.steps[-1] + made + (one.work is Work.STEP))
            self.cores.append(self.cores[-1] + one.seconds * self._cores(one))
            self.bytes.append(self.bytes[-1] + one.seconds * one.written)

    @property
    def end(self) -> float:
        """The end of its history."""
        return self.starts[-1]

    def place(self, at: float) -> int:
        """The number of the while of a moment."""
        return min(max(0, bisect.bisect_right(self.starts, at) - 1), len(self.whiles) - 1)

    def work(self, at: float) -> Work:
        """What it does at a moment."""
        return self.whiles[self.place(at)].work

    def works(self, work: Work) -> list[tuple[float, float]]:
        """Start and end of each while of a kind."""
        return [(self.starts[n], self.starts[n + 1]) for n, one in enumerate(self.whiles) if one.work is work]

    def clock(self, at: float) -> float:
        """What the machine's clock shows."""
        return at + sum(seconds for moment, seconds in self.jumps if moment <= at)

    # --- the server

    def blocked_until(self, at: float) -> float:
        """When the event loop goes on."""
        return next((end for start, end, _ in self.blocks if start <= at < end), at)

    def trouble(self, at: float) -> Trouble | None:
        """What disturbs the looking at a moment."""
        return next((kind for start, end, kind in self.troubles if start <= at < end), None)

    def server_hung(self, at: float) -> bool:
        """Whether it takes connections and answers nothing, for ever."""
        return self.fault is Fault.SERVER and at >= self.fault_at

    def dead(self, at: float) -> bool:
        """Whether the server knows that its engine is dead."""
        return self.fault is Fault.DEATH and at >= self.fault_at + DEATH_SECONDS[0]

    def gone(self, at: float) -> bool:
        """Whether nothing listens any more."""
        return self.fault is Fault.DEATH and at >= self.fault_at + DEATH_SECONDS[1]

    def connections(self, at: float) -> int:
        """Open connections of clients: who waits for an answer holds one."""
        return 0 if self.work(min(at, self.fault_at)) in (Work.IDLE, Work.SCALING) else 3

    # --- the cores

    @property
    def ranks(self) -> tuple[str, ...]:
        """Their names."""
        return ("0", "1") if self.fault is Fault.RANK else ("0",)

    def hangs(self, rank: str | None, at: float) -> bool:
        """Whether a rank makes no steps any more. Left to the server, a prompt goes to one that does."""
        if at < self.fault_at or self.fault is None:
            return False
        return self.fault in (Fault.CORE, Fault.WORKER, Fault.DEATH) or (self.fault is Fault.RANK and rank == "1")

    def metrics(self, rank: str, at: float) -> Metrics:
        """What the metrics say of a rank: as of its last step."""
        if self.hangs(rank, at):
            at = self.fault_at
        place = self.place(at)
        now = self.whiles[place]
        made = int((at - self.starts[place]) / now.step_seconds) if now.work is Work.BUSY else 0
        steps = self.steps[place] + (0 if now.prefill else made) + bisect.bisect_right(self.completed[rank], at)
        steps -= sum(moment <= at for moment in self.resets) * 1_000_000
        kv, running, waiting, deferred = self._gauges(place, made)
        return Metrics(steps, kv, running, waiting, deferred, now.work is Work.ASLEEP)

    def _gauges(self, place: int, made: int) -> tuple[float, int, int, int]:
        """Use of the KV cache; running; waiting for room; put off. A first step tells of itself when it is done."""
        now = self.whiles[place]
        if now.work is Work.STEP or (now.work is Work.BUSY and made == 0):
            before = self.whiles[place - 1] if place else None
            if before is not None and before.work in (Work.STEP, Work.BUSY):
                return (0.5, 8, before.waiting, 0)
            return (0.0, 0, 0, 2 if before is not None and before.work is Work.DEFERRED else 0)
        if now.work is Work.BUSY:
            return ((made % 100 + 1) / 100 if now.prefill else 0.5, 8, now.waiting, 0)
        return (0.0, 0, 0, 2 if now.work is Work.DEFERRED else 0)

    def complete(self, at: float, rank: str | None) -> float:
        """When a canary that is sent now is answered; infinity: never."""
        if self.server_hung(at):
            return math.inf
        begun = self.blocked_until(at)
        done = self._after(begun, begun + self._canary_seconds(begun))
        if self.hangs(rank, done) or self.server_hung(done):
            return math.inf
        bisect.insort(self.completed[rank or "0"], done)
        return self.blocked_until(done)

    def _canary_seconds(self, at: float) -> float:
        now = self.whiles[self.place(at)]
        if now.work is not Work.BUSY:
            return self.random.uniform(0.03, 0.3)
        return self.random.uniform(5, 60) if now.waiting else self.random.uniform(1, 3) * now.step_seconds + 0.05

    def _after(self, begun: float, done: float) -> float:
        """Nothing is completed in the midst of a long step, nor while the engine rests."""
        for place in range(self.place(begun), len(self.whiles)):
            if self.starts[place] <= done and self.whiles[place].work in (*REST, Work.STEP):
                done = max(done, self.starts[place + 1] + self.random.uniform(0.05, 0.3))
        return done

    # --- the processes

    @staticmethod
    def _cores(one: While) -> float:
        return one.cores if one.work in (Work.BUSY, Work.STEP) else IDLE_CORES

    def core_cpu(self, at: float) -> float:
        """CPU seconds of cores and workers."""
        if self.fault in (Fault.CORE, Fault.WORKER, Fault.DEATH) and at > self.fault_at:
            spins = 1.0 if self.fault is Fault.WORKER else 0.0
            return self.core_cpu(self.fault_at) + spins * (at - self.fault_at)
        place = self.place(at)
        return self.cores[place] + (at - self.starts[place]) * self._cores(self.whiles[place])

    def server_cpu(self, at: float) -> float:
        """CPU seconds of the API server."""
        if self.fault in (Fault.SERVER, Fault.DEATH):
            at = min(at, self.fault_at)
        blocked = sum(share * (min(end, at) - start) for start, end, share in self.blocks if start < at)
        return at * SERVER_IDLE_CORES + self.core_cpu(at) * SERVER_BUSY_CORES + blocked

    def written(self, at: float) -> float:
        """Bytes that all processes have written."""
        place = self.place(at)
        return self.bytes[place] + (at - self.starts[place]) * self.whiles[place].written

    def compiles(self, at: float) -> bool:
        """Whether a compiler runs."""
        return self.whiles[self.place(at)].compilers and at < self.fault_at

    def logged_at(self, at: float) -> float | None:
        """When the log last told of compilation."""
        told = [
            self.starts[place] + (0.1 if one.log == "first" else one.seconds - 0.1)
            for place, one in enumerate(self.whiles)
            if one.log and self.starts[place] <= at
        ]
        told = [moment for moment in told if moment <= min(at, self.fault_at)]
        return max(told) if told else None

    def last_sign_of_life(self) -> float:
        """Before its fault: the last step, or answer."""
        if self.fault in (Fault.SERVER, Fault.DEATH, Fault.ONE_SERVER):
            return max(self.answered_at, self.fault_at - 1.5) if self.fault is Fault.SERVER else self.fault_at
        place = self.place(self.fault_at)
        now, found = self.whiles[place], [self.starts[place]]
        if now.work is Work.BUSY:
            found.append(
                self.starts[place] + int((self.fault_at - self.starts[place]) / now.step_seconds) * now.step_seconds
            )
        rank = "1" if self.fault is Fault.RANK else "0"
        found += [moment for moment in self.completed[rank] if moment <= self.fault_at]
        return max(found)
