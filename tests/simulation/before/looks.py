"""One look at the engine: which questions are put to it, in which order, until enough is known for a verdict.

The clock and the engine are arguments, so that a simulation can look at modelled engines in modelled time.
"""

from __future__ import annotations

from tests.simulation.before import judge
from tests.simulation.before.engine import ADMISSION_SECONDS, METRICS_SECONDS, ProbeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from tests.simulation.before.judge import Evidence, Rank, Settings, State, Verdict

    class Clock(Protocol):
        """Monotonic time."""

        def now(self) -> float:
            """Seconds."""

        def sleep(self, seconds: float) -> None:
            """Let time pass."""

    class Engine(Protocol):
        """What can be asked. All but `callers` raise ProbeError."""

        @property
        def adapters(self) -> tuple[str, ...]:
            """Names beside the model's."""

        def check_names(self, timeout: float) -> None:
            """Check the served names."""

        def complete(self, timeout: float, ranks: Sequence[str | None] = (None,)) -> None:
            """Complete a canary on each of the given ranks of data parallelism, or on any."""

        def ranks(self, timeout: float) -> dict[str, Rank]:
            """Read the metrics."""

        def health(self) -> None:
            """Ask for what the server believes."""

        def callers(self) -> int | None:
            """Count connections."""


GLANCE_SECONDS = 2.0
"""Deadline of a second look at the metrics, after a canary or after some waiting."""

PATIENCE_SECONDS = 4.0
"""A readiness probe waits so long for the end of a window, instead of leaving the verdict to the next run."""

RUN_SECONDS = 13.0
"""All that a run may take: kubelet gives it 15, and counts more as a failure."""

LOADING_SECONDS, REFUSED_SECONDS = 1.0, 3.0
"""When a startup probe asks again: where nothing listens yet, which costs nothing, and where an answer was wrong."""

OUTCOMES = {"Silent": judge.SILENT, "Busy": judge.BUSY}
OUTCOMES.update(dict.fromkeys(("Unauthorized", "NoEndpoint", "Refused"), judge.REFUSED))
"""What a canary's failure means to the judge; other causes are failures of the engine."""


def admit(engine: Engine) -> Verdict:
    """The first proof: the server knows the served name and completes a prompt."""
    try:
        engine.check_names(METRICS_SECONDS)
        engine.complete(ADMISSION_SECONDS)
    except ProbeError as failure:
        loading = " yet: the model is still loading" if failure.cause == "Loading" else ""
        return judge.Verdict(judge.STARTING, failure.cause, f"{failure}{loading}")
    return judge.Verdict(judge.ADMITTED, "Proven", "completed its first prompt")


def awaited(engine: Engine, clock: Clock) -> Verdict:
    """The first proof, or what stands in its way still when the patience of a startup probe is over."""
    began = clock.now()
    while True:
        verdict = admit(engine)
        wait = LOADING_SECONDS if verdict.cause == "Loading" else REFUSED_SECONDS
        if verdict.kind == judge.ADMITTED or clock.now() + wait > began + judge.STARTUP_SECONDS:
            return verdict
        clock.sleep(wait)


def judged(engine: Engine, state: State, settings: Settings, clock: Clock, *, patient: bool, began: float) -> State:
    """The state after a look. Where a window ends soon and this run can wait for it, it looks again then.

    A window that was begun by another run may end before the look: it is waited for at once, since a canary could take
    longer than what is left of it.

    Args:
        engine: What is looked at.
        state: What is remembered of earlier looks.
        settings: Windows of this pod.
        clock: Monotonic time.
        patient: Whether to wait: the readiness probe does, since clients lose requests meanwhile.
        began: When this run began, for its own deadline.
    """
    fresh = judge.fresh(state, clock.now())
    if patient and not fresh and state.canary_failing_since is not None:
        state = _at_the_end_of_its_window(engine, state, settings, clock, began)
        if judge.verdict(state, settings).kind != judge.SERVING and judge.fresh(state, clock.now()):
            return state
    if not fresh:
        state = judge.observe(state, look(engine, state, settings, clock), settings)
    return _at_the_end_of_its_window(engine, state, settings, clock, began) if patient else state


def _at_the_end_of_its_window(engine: Engine, state: State, settings: Settings, clock: Clock, began: float) -> State:
    """The state after a glance at the moment at which a suspicion would cost the traffic, if that comes in this run."""
    wait = judge.seconds_to_withdrawal(state, clock.now(), settings)
    if wait is None or wait > PATIENCE_SECONDS or clock.now() + wait + GLANCE_SECONDS > began + RUN_SECONDS:
        return state
    clock.sleep(wait)
    return judge.observe(state, glance(engine, clock, silent=state.silent_since is not None), settings)


def look(engine: Engine, state: State, settings: Settings, clock: Clock) -> Evidence:
    """Look for progress; of an engine that makes some, or is idle and well, ask for its adapters too, if it has any."""
    evidence = _progress(engine, state, settings, clock)
    if engine.adapters and evidence.ranks is not None and evidence.canary in (None, judge.COMPLETED):
        evidence.unserved = _unserved(engine)
    return evidence


def _unserved(engine: Engine) -> str | None:
    """What the server says of names that it does not serve; that it does not answer says nothing of them."""
    try:
        engine.check_names(GLANCE_SECONDS)
    except ProbeError as failure:
        return str(failure) if failure.cause == "WrongModel" else None
    return ""


def _progress(engine: Engine, state: State, settings: Settings, clock: Clock) -> Evidence:
    """Read the metrics; where they show no step, ask the server's own opinion; where one is due, send a canary."""
    began = clock.now()
    ranks, trouble = _read(engine, METRICS_SECONDS)
    if judge.advanced(state, ranks):
        return judge.Evidence(asked_at=began, now=clock.now(), ranks=ranks)
    opinion = trouble if trouble is not None and trouble.cause == "Loading" else _opinion(engine)
    if opinion is not None and opinion.cause == "Loading":
        said = f"{opinion} any more: the server has ended"
        return judge.Evidence(asked_at=began, now=clock.now(), ranks=ranks, gone=True, said=said)
    if _silent(trouble) and _silent(opinion):
        return judge.Evidence(asked_at=began, now=clock.now(), ranks=None, answered=False)
    says_dead = opinion is not None and opinion.cause == "Busy"
    if says_dead or judge.needs_canary(state, clock.now(), ranks, settings):
        return _with_canary(engine, clock, began, ranks, _targets(state, ranks), says_dead=says_dead)
    return judge.Evidence(asked_at=began, now=clock.now(), ranks=ranks)


def _targets(state: State, ranks: dict[str, Rank] | None) -> Sequence[str | None]:
    """The ranks that are to complete a canary each; None leaves the choice to the server.

    Left to itself, vLLM gives a canary to the rank with the least requests, and a hung one may have many without
    telling of them. Ranks can be chosen where one server has them all, as their names say.
    """
    if ranks is None or len(ranks) == 1 or set(ranks) != {str(number) for number in range(len(ranks))}:
        return [None]
    return judge.idle_ranks(state, ranks) or [None]


def _with_canary(
    engine: Engine,
    clock: Clock,
    began: float,
    ranks: dict[str, Rank] | None,
    targets: Sequence[str | None],
    *,
    says_dead: bool,
) -> Evidence:
    """A look with a canary. What did not come may have waited behind work that came meanwhile: the metrics tell."""
    answered_at = clock.now()
    callers = engine.callers() if ranks is None else 0  # metrics that can be read say that nobody waits
    try:
        engine.complete(judge.CANARY_SECONDS, targets)
    except ProbeError as failure:
        outcome = OUTCOMES.get(failure.cause, judge.FAILED)
        said, rank = str(failure), failure.rank
        gone = failure.cause == "Loading" or (says_dead and outcome == judge.FAILED)
    else:
        return judge.Evidence(asked_at=began, now=clock.now(), ranks=ranks, canary=judge.COMPLETED)
    asked_at, before = began, ranks
    if outcome in (judge.SILENT, judge.BUSY):
        again_at = clock.now()
        again, trouble = _read(engine, GLANCE_SECONDS)
        if _silent(trouble) and _silent(_opinion(engine)):
            return judge.Evidence(asked_at=began, now=clock.now(), ranks=None, answered=False, answered_at=answered_at)
        asked_at, ranks = again_at, again
        callers = _more(callers, engine.callers()) if ranks is None else None
    return judge.Evidence(
        asked_at=asked_at,
        began_at=began,
        now=clock.now(),
        ranks=ranks,
        before=before,
        gone=gone,
        canary=outcome,
        canary_rank=rank,
        callers=callers,
        said=f"the engine is dead: {said}" if gone else said,
    )


def _more(before: int | None, after: int | None) -> int | None:
    """The larger count: who came or went meanwhile may have been served first."""
    return None if before is None or after is None else max(before, after)


def glance(engine: Engine, clock: Clock, *, silent: bool) -> Evidence:
    """Another look at the metrics alone. That they are slow says nothing, unless the server was `silent` already."""
    asked_at = clock.now()
    ranks, trouble = _read(engine, GLANCE_SECONDS)
    gone = trouble is not None and trouble.cause == "Loading"
    said = f"{trouble} any more: the server has ended" if gone else None
    answered = not (silent and _silent(trouble))
    return judge.Evidence(asked_at=asked_at, now=clock.now(), ranks=ranks, answered=answered, gone=gone, said=said)


def _read(engine: Engine, timeout: float) -> tuple[dict[str, Rank] | None, ProbeError | None]:
    try:
        return engine.ranks(timeout), None
    except ProbeError as failure:
        return None, failure


def _opinion(engine: Engine) -> ProbeError | None:
    try:
        engine.health()
    except ProbeError as failure:
        return failure
    return None


def _silent(failure: ProbeError | None) -> bool:
    return failure is not None and failure.cause == "Silent"
