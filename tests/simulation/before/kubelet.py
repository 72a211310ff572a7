"""Kubelet's part before the manager: runs of the gate by exec at its periods, and what comes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.simulation.before import judge, looks
from tests.simulation.before.engine import HEALTH_SECONDS, ProbeError, read_ranks
from tests.simulation.resident import Outcome
from tests.simulation.world import REST, Trouble, Work, World

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

READY_PERIOD: Final = 5.0
LIVE_PERIOD: Final = 10.0
LIVE_FAILURES: Final = 3
LOCK_SECONDS: Final = 4.0
TEXT: Final = """\
vllm:iteration_tokens_total_count{{engine="{name}"}} {told.steps}
vllm:kv_cache_usage_perc{{engine="{name}"}} {told.kv}
vllm:num_requests_running{{engine="{name}"}} {told.running}
vllm:num_requests_waiting{{engine="{name}"}} {waiting}
"""


@dataclass
class Clock:
    """Virtual time; the machine's clock may jump against it."""

    world: World
    time: float = 0.0

    def now(self) -> float:
        """Seconds, as the gate sees them."""
        return self.world.clock(self.time)

    def sleep(self, seconds: float) -> None:
        """Let time pass; a little more than asked, as the real one does."""
        self.time += seconds + 0.01


class Server:
    """The questions of the gate, put to a modelled engine."""

    adapters: tuple[str, ...] = ()

    def __init__(self, world: World, clock: Clock) -> None:
        self.world = world
        self.clock = clock

    def check_names(self, timeout: float) -> None:
        """The names are right."""

    def complete(self, timeout: float, ranks: Sequence[str | None] = (None,)) -> None:
        """A canary for each rank, one beside the other."""
        self._reach(timeout)
        if self.world.dead(self.clock.time):
            raise ProbeError("Failing", "HTTP 500: EngineDeadError")
        began = self.clock.time
        done = max(self.world.complete(began, rank) for rank in ranks)
        if done > began + timeout:
            self._wait_in_vain(timeout)
        self.clock.time = done

    def ranks(self, timeout: float) -> dict[str, judge.Rank]:
        """The metrics."""
        self._reach(timeout)
        trouble = self.world.trouble(self.clock.time)
        if trouble is Trouble.SLOW:
            self._wait_in_vain(timeout)
        self.clock.time += 0.01
        if trouble is Trouble.FAILING:
            raise ProbeError("Failing", "/metrics: HTTP 500")
        if trouble is Trouble.RENAMED:
            raise ProbeError("NoMetrics", "/metrics counts neither steps nor tokens")
        texts = []
        for name in self.world.ranks:
            told = self.world.metrics(name, self.clock.time)
            texts.append(TEXT.format(name=name, told=told, waiting=told.waiting + told.deferred))
        return read_ranks("".join(texts).encode())

    def health(self) -> None:
        """The server's own opinion: good while the engine hangs."""
        self._reach(HEALTH_SECONDS)
        if self.world.dead(self.clock.time):
            raise ProbeError("Busy", "/health: HTTP 503")
        self.clock.time += 0.01

    def callers(self) -> int | None:
        """Connections of others."""
        return self.world.connections(self.clock.time)

    def _reach(self, timeout: float) -> None:
        at = self.clock.time
        if self.world.gone(at):
            raise ProbeError("Loading", "nothing listens on port 8000")
        freed = self.world.blocked_until(at)
        if self.world.server_hung(at) or freed - at >= timeout:
            self._wait_in_vain(timeout)
        self.world.answered_at = self.clock.time = freed
        if self.world.work(freed) is Work.SCALING:
            raise ProbeError("Busy", "HTTP 503: the model is scaling")

    def _wait_in_vain(self, timeout: float) -> None:
        self.clock.time += timeout
        raise ProbeError("Silent", f"no answer within {timeout:.0f} s")


@dataclass
class Worker:
    """One of kubelet's probe workers: its next tick, and its period."""

    mode: str
    period: float
    tick: float

    def after(self, end: float) -> None:
        """The next tick: one that came during the run has waited, further ones are lost."""
        self.tick = max(self.tick + self.period, end if end > self.tick + self.period else 0.0)


class Pod:
    """An engine, the gate of before and kubelet."""

    def __init__(self, world: World, random: Random, name: str) -> None:
        self.world = world
        self.random = random
        self.clock = Clock(world)
        self.server = Server(world, self.clock)
        self.settings = judge.Settings(restart_window=judge.spread(judge.RESTART_WINDOW_SECONDS, name))
        self.state = judge.State(admitted=True, proven_at=self.clock.now())
        self.free_at = 0.0
        self.ready = True
        self.workers = [
            Worker("ready", READY_PERIOD, random.uniform(0, READY_PERIOD)),
            Worker("live", LIVE_PERIOD, random.uniform(0, LIVE_PERIOD)),
        ]
        self.outcome = Outcome()
        self.history: list[tuple[float, bool]] = [(0.0, True)]

    def run(self, until: float) -> Outcome:
        """Run the probes until a moment, or a restart."""
        outcome, failures = self.outcome, 0
        while (worker := min(self.workers, key=lambda one: one.tick)).tick < until:
            verdict = self._run(worker)
            outcome.looks += 1
            passes = verdict.passes(worker.mode)
            now = self.clock.time
            if worker.mode == "ready":
                if not passes and self.ready:
                    outcome.withdrawals.append((now, verdict.cause))
                broken = self.world.fault is None or now >= self.world.fault_at
                if not passes and broken and outcome.out_at is None:
                    outcome.out_at = now
                rests = self.world.work(now) in REST and self.world.work(now - READY_PERIOD) in REST
                outcome.served_at_rest += READY_PERIOD if passes and rests else 0
                self.ready = passes
                self.history.append((now, passes))
                continue
            failures = 0 if passes else failures + 1
            if failures == LIVE_FAILURES:
                outcome.restarted_at = now
                break
        outcome.in_at_end = self.ready
        return outcome

    def _run(self, worker: Worker) -> judge.Verdict:
        """One run: the interpreter's start, the wait for the other one's lock, the look."""
        started = worker.tick + min(self.random.lognormvariate(-2.0, 0.6), 2.0)
        if self.free_at <= started + LOCK_SECONDS:
            self.clock.time = max(started, self.free_at)
            patient, began = worker.mode == "ready", self.world.clock(started)
            self.state = looks.judged(self.server, self.state, self.settings, self.clock, patient=patient, began=began)
            self.state = judge.restored(self.state.as_dict())
            self.free_at = self.clock.time
        else:
            self.clock.time = started + LOCK_SECONDS
        worker.after(self.clock.time)
        return judge.verdict(self.state, self.settings)
