"""Kubelet's part: runs of the gate at its periods, and what comes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.simulation.engine import STEPLESS, Clock, Fault, ModelEngine, Phase, Trouble, Work
from vllm_operator.gates import judge, looks
from vllm_operator.gates.memory import LOCK_SECONDS

READY_PERIOD: Final = 5.0
LIVE_PERIOD: Final = 10.0
LIVE_FAILURES: Final = 3
HOUR: Final = 3600.0
ODD: Final = (Work.ASLEEP, Work.COMPILING)
"""Works during which a sound engine may lose its traffic."""


@dataclass
class Outcome:
    """What became of one engine. Times are those of verdicts; None where it never came to one."""

    runs: int = 0
    withdrawn_at: float | None = None
    restarted_at: float | None = None
    withdrawals: list[tuple[Work, str]] = field(default_factory=list)
    """What the engine did each time that the readiness probe began to fail, and its sentence."""
    served_asleep: int = 0
    """Looks of the readiness probe at a sleeping engine that passed, but for the first one of each sleep."""
    live_failures: int = 0


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
    """An engine, its gate and kubelet."""

    def __init__(self, engine: ModelEngine, random: Random, name: str) -> None:
        self.engine = engine
        self.random = random
        self.clock = engine.clock
        self.settings = judge.Settings(restart_window=judge.spread(judge.RESTART_WINDOW_SECONDS, name))
        self.state = judge.State(admitted=True, proven_at=self.clock.now())
        self.free_at = 0.0
        self.workers = [
            Worker("ready", READY_PERIOD, random.uniform(0, READY_PERIOD)),
            Worker("live", LIVE_PERIOD, random.uniform(0, LIVE_PERIOD)),
        ]

    def watch(self, until: float, *, pauses: list[tuple[float, float]], steps: list[tuple[float, float]]) -> Outcome:
        """Run the probes until a moment, or a restart.

        Args:
            until: The end.
            pauses: Start and end of times in which kubelet runs nothing.
            steps: When the gate's clock jumps, and by how much.
        """
        outcome, failures, was_ready, slept, steps = Outcome(), 0, True, False, list(steps)
        while (worker := min(self.workers, key=lambda one: one.tick)).tick < until:
            worker.tick = max([worker.tick, *(end for start, end in pauses if start <= worker.tick < end)])
            while steps and steps[0][0] <= worker.tick:
                self.clock.offset += steps.pop(0)[1]
            began = self.engine.work(worker.tick).work
            verdict = self._run(worker)
            outcome.runs += 1
            passes = verdict.passes(worker.mode)
            if worker.mode == "ready":
                now = self.engine.work(self.clock.time).work
                work = began if began in ODD else now
                if not passes and was_ready:
                    outcome.withdrawals.append((work, verdict.sentence))
                    outcome.withdrawn_at = outcome.withdrawn_at or self.clock.time
                outcome.served_asleep += passes and slept and now is Work.ASLEEP
                was_ready, slept = passes, now is Work.ASLEEP
                continue
            failures = 0 if passes else failures + 1
            outcome.live_failures += not passes
            if failures == LIVE_FAILURES:
                outcome.restarted_at = self.clock.time
                break
        return outcome

    def _run(self, worker: Worker) -> judge.Verdict:
        """One run: the interpreter's start, the wait for the other one's lock, the look."""
        started = worker.tick + min(self.random.lognormvariate(-2.0, 0.6), 2.0)
        if self.free_at <= started + LOCK_SECONDS:
            self.clock.time = max(started, self.free_at)
            patient, began = worker.mode == "ready", started + self.clock.offset
            self.state = looks.judged(self.engine, self.state, self.settings, self.clock, patient=patient, began=began)
            self.state = judge.restored(self.state.as_dict())
            self.free_at = self.clock.time
        else:
            self.clock.time = started + LOCK_SECONDS
        worker.after(self.clock.time)
        return judge.verdict(self.state, self.settings)


def history(random: Random, seconds: float) -> list[Phase]:
    """Work of an engine: whiles of a few seconds to half an hour, steps of milliseconds to seconds."""
    phases: list[Phase] = []
    at, steps = 0.0, 0
    while at < seconds:
        for work in random.choice(EPISODES):
            duration, step_seconds = _while(random, work)
            phases.append(Phase(at, work, step_seconds, steps))
            steps += 1 + (0 if work in STEPLESS else int(duration / step_seconds))
            at += duration
    return phases


EPISODES: Final = (
    *((work,) for work in Work),
    (Work.IDLE, Work.DEFERRED, Work.BUSY),  # a prompt with a schema comes to an idle engine
    (Work.IDLE, Work.ASLEEP, Work.IDLE),
    (Work.BUSY, Work.COMPILING, Work.BUSY),
)
"""What an engine does next."""


def _while(random: Random, work: Work) -> tuple[float, float]:
    """Seconds that a work goes on, and seconds of each of its steps."""
    if work is Work.COMPILING:
        seconds = random.uniform(30.0, 70.0)
        return seconds, seconds
    longest = [5.0, 60.0, 1800.0] if work is Work.DEFERRED else [20.0, 120.0, 1800.0]
    duration = random.choice(longest) * random.uniform(0.1, 1.0)
    return duration, random.uniform(0.5, 5.0) if work is Work.PREFILL else random.choice([0.02, 0.2, 1.0, 4.0])


def troubles(random: Random, seconds: float) -> list[tuple[float, float, Trouble]]:
    """A disturbance every few minutes: outages of the metrics last for minutes, a blocked server for seconds."""
    found = []
    at = random.uniform(0, 300)
    while at < seconds:
        kind = random.choice(list(Trouble))
        duration = random.uniform(0.5, 3.5) if kind is Trouble.BLOCKED else random.uniform(5, 400)
        found.append((at, at + duration, kind))
        at += duration + random.uniform(30, 600)
    return found


def moments(random: Random, seconds: float, every: float) -> list[float]:
    """Moments some of which come each so often."""
    count = int(seconds / every * random.uniform(0.5, 1.5))
    return sorted(random.uniform(0, seconds) for _ in range(count))


def sound_engine(seed: int, seconds: float) -> Outcome:
    """An engine that nothing is wrong with, whatever happens around it."""
    random = Random(f"sound {seed}")  # noqa: S311 # repeatable on purpose
    engine = ModelEngine(Clock(), random, history(random, seconds), troubles(random, seconds))
    engine.development = any(phase.work is Work.ASLEEP for phase in engine.phases)
    engine.resets = moments(random, seconds, 2 * HOUR)
    pauses = [(start, start + random.uniform(10, 120)) for start in moments(random, seconds, HOUR)]
    steps = [(at, random.choice([-1, 1]) * random.uniform(1, 5000)) for at in moments(random, seconds, 2 * HOUR)]
    return Pod(engine, random, f"pod-{seed}").watch(seconds, pauses=pauses, steps=steps)


def broken_engine(seed: int, fault: Fault, work: Work) -> tuple[float, float | None, float | None]:
    """An engine that breaks after a minute or two: the moment, and seconds until its withdrawal and its restart."""
    random = Random(f"{fault} {work} {seed}")  # noqa: S311
    at = random.uniform(60, 120)
    engine = ModelEngine(Clock(), random, [Phase(0.0, work, random.choice([0.02, 0.2, 1.0]), 0)])
    engine.fault, engine.fault_at = fault, at
    outcome = Pod(engine, random, f"pod-{seed}").watch(at + 300, pauses=[], steps=[])
    return at, _later(outcome.withdrawn_at, at), _later(outcome.restarted_at, at)


def _later(moment: float | None, at: float) -> float | None:
    return None if moment is None else moment - at


def quantile(values: list[float], share: float) -> float:
    """The value that a share of the others does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
