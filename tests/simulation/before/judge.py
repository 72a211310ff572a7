"""Does this engine take traffic? Pure: evidence and earlier state in, new state, verdict and a sentence out.

Progress is any change of what only a step of the engine changes, for each rank of data parallelism: the number of
steps that made tokens (or the number of tokens, where vLLM counts no steps), and the share of the KV cache in use,
since steps that read a long prompt make no token and move no counter. vLLM's own /health answers 200 while the engine
hangs, so its yes counts for nothing.

Only proof evicts. These are the proofs, and the state remembers since when each of them has held:

    gone      nothing listens on the port any more, or the server itself says that its engine is dead
    silent    the server accepts connections and answers none of them, /health included
    stalled   a rank has work and makes no step
    failing   an engine without work does not complete a canary: a prompt of one letter
    unserved  the server itself says that it does not serve a name that the resource promises (a LoRA adapter)

A stall is counted from the last proof of life and not from the first look that found none, so that the age of the last
canary and the window do not add up. It grows only with looks that prove it: a look that proves nothing (metrics that
cannot be read while others wait for answers, say) neither clears a suspicion nor makes it older.

All times are seconds of a monotonic clock. Python 3.9 and newer, no imports: kubelet runs this every few seconds.
"""

from __future__ import annotations

CANARY_INTERVAL_SECONDS = 2.0
"""How long an engine without work is believed. Below the readiness probe's period, so that each of its runs asks."""

STALL_WINDOW_SECONDS = 6.0
"""Without a step for so long, the engine loses its traffic."""

RESTART_WINDOW_SECONDS = 35.0
"""Without a step for so long, the liveness probe fails. Kubelet waits for the third failure, 20 s later, to restart."""

RESTART_JITTER = 0.25
"""By how much of itself the restart window of a pod may be longer, so that a fleet does not restart at once."""

PAUSE_SECONDS = 20.0
"""Looks further apart than this (kubelet was down, the machine was suspended) say nothing of the time between them."""

CANARY_SECONDS = 4.0
"""Deadline of a canary, a hundred times what an idle engine takes. It is part of the stall window, not added to it."""

HEAD_START_SECONDS = 4.5
"""How much of the time before a look is held against the engine though nobody asked it anything then."""

SILENT_HEAD_START_SECONDS = 1.0
"""The same for a canary that is not answered in time: it may wait for a first step, of which nothing tells before its
end. So a first step may take 5 s, and what hangs just after a look is still out before the 12th second."""

READY_PERIOD_SECONDS = 5.0
"""How often kubelet asks whether the engine is ready: so much later than the interval a canary may be sent."""

STARTUP_SECONDS = 25.0
"""How long a startup probe goes on asking before it fails. Each failure is an Event, of which kubelet writes 25 for a
pod and then one in five minutes: what is told of an engine that has loaded must not drown in "still loading"."""

FRESH_SECONDS = 0.5
"""Readiness and liveness probe that run side by side do not ask twice."""

STARTING, ADMITTED, SERVING, WITHDRAWN, RESTART = "starting", "admitted", "serving", "withdrawn", "restart"
"""Verdicts: no proof yet; the first proof; goes on; loses its traffic; loses its life."""

ENDED = "ended by its gate"
"""How the last words of a container begin that could not serve, or could no longer."""

COMPLETED, SILENT, BUSY, REFUSED, FAILED = "completed", "silent", "busy", "refused", "failed"
"""Outcomes of a canary: done; no answer in time; turned away by a full queue; the request was refused (status 4xx),
which no restart mends; anything else."""


class Settings:
    """Windows of one pod, in seconds; None means never."""

    __slots__ = ("canary_interval", "restart_window", "stall_window")

    def __init__(
        self,
        *,
        canary_interval: float | None = CANARY_INTERVAL_SECONDS,
        stall_window: float = STALL_WINDOW_SECONDS,
        restart_window: float | None = RESTART_WINDOW_SECONDS,
    ) -> None:
        self.canary_interval = canary_interval
        self.stall_window = stall_window
        self.restart_window = restart_window


class Rank:
    """What the metrics say of one engine core."""

    __slots__ = ("in_flight", "marks")

    def __init__(self, marks: list[float], in_flight: float) -> None:
        self.marks = marks
        """Numbers that only a step changes."""
        self.in_flight = in_flight


class State:
    """What is remembered from one look to the next, for one life of the engine's container."""

    __slots__ = (
        "admitted",
        "canary_failing_since",
        "canary_outcome",
        "canary_stepped",
        "failing_until",
        "gone_since",
        "looked_at",
        "marks",
        "proven_at",
        "said",
        "silent_since",
        "stalled_since",
        "stalled_until",
        "unserved",
        "unserved_since",
        "unserved_until",
    )

    def __init__(
        self,
        *,
        admitted: bool = False,
        marks: dict[str, list[float]] | None = None,
        stalled_since: dict[str, float] | None = None,
        canary_failing_since: float | None = None,
        canary_outcome: str | None = None,
        gone_since: float | None = None,
        silent_since: float | None = None,
        stalled_until: float | None = None,
        failing_until: float | None = None,
        proven_at: float | None = None,
        looked_at: float | None = None,
        said: str | None = None,
        unserved: str | None = None,
        unserved_since: float | None = None,
        unserved_until: float | None = None,
        canary_stepped: bool = False,
    ) -> None:
        self.admitted = admitted
        self.marks = marks or {}
        self.stalled_since = stalled_since or {}
        self.canary_failing_since = canary_failing_since
        self.canary_outcome = canary_outcome
        self.gone_since = gone_since
        self.silent_since = silent_since
        self.stalled_until = stalled_until
        self.failing_until = failing_until
        """The last look that proved it: looks that prove nothing do not make a suspicion older."""
        self.proven_at = proven_at
        """When the engine last made progress, or completed a prompt."""
        self.looked_at = looked_at
        self.said = said
        """What is to be told of the suspicion."""
        self.unserved = unserved
        """The sentence of the names that are missing."""
        self.unserved_since = unserved_since
        self.unserved_until = unserved_until
        self.canary_stepped = canary_stepped
        """Whether a canary completed after the marks were read: a step that proves nothing of the time since then."""

    def as_dict(self) -> dict[str, object]:
        """The state as it is written to its file."""
        return {name: getattr(self, name) for name in self.__slots__}


MOMENTS = (
    "canary_failing_since",
    "failing_until",
    "gone_since",
    "looked_at",
    "proven_at",
    "silent_since",
    "stalled_until",
    "unserved_since",
    "unserved_until",
)
"""Fields of the state that are times; those in stalled_since are as well."""


def restored(stored: dict[str, object]) -> State:
    """The state out of its file, whichever version of this program has written it.

    What is not known is ignored, and what has another form counts as not remembered. Neither evicts: a suspicion that
    is forgotten is proven again.
    """
    values: dict[str, object] = {name: stored.get(name) is True for name in ("admitted", "canary_stepped")}
    for name in MOMENTS:
        values[name] = stored.get(name) if _number(stored.get(name)) else None
    for name in ("canary_outcome", "said", "unserved"):
        values[name] = stored.get(name) if isinstance(stored.get(name), str) else None
    values["stalled_since"] = {key: since for key, since in _items(stored, "stalled_since") if _number(since)}
    values["marks"] = {key: marks for key, marks in _items(stored, "marks") if isinstance(marks, list)}
    return State(**values)  # type: ignore[arg-type]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value - value == 0  # neither inf nor nan


def _items(stored: dict[str, object], name: str) -> list[tuple[str, object]]:
    found = stored.get(name)
    return list(found.items()) if isinstance(found, dict) else []


class Evidence:
    """One look at the engine."""

    __slots__ = (
        "answered",
        "answered_at",
        "asked_at",
        "before",
        "began_at",
        "callers",
        "canary",
        "canary_rank",
        "gone",
        "now",
        "ranks",
        "said",
        "unserved",
    )

    def __init__(
        self,
        *,
        asked_at: float,
        now: float,
        ranks: dict[str, Rank] | None,
        answered: bool = True,
        gone: bool = False,
        canary: str | None = None,
        callers: int | None = None,
        said: str | None = None,
        began_at: float | None = None,
        answered_at: float | None = None,
        unserved: str | None = None,
        before: dict[str, Rank] | None = None,
        canary_rank: str | None = None,
    ) -> None:
        self.began_at = asked_at if began_at is None else began_at
        """When the look began."""
        self.asked_at = asked_at
        """When the metrics of this look were asked for: until then at least, nothing had moved."""
        self.now = now
        """When the look ended."""
        self.ranks = ranks
        """None where the metrics could not be read, or were not understood."""
        self.answered = answered
        """Whether the server answers anything at all, be it an error."""
        self.answered_at = answered_at
        """When it last did in this look, where it does no longer."""
        self.gone = gone
        self.canary = canary
        """Outcome of the canary, where one was sent."""
        self.callers = callers
        """Connections of others to the server, where the metrics do not say whether it has work; None: not known."""
        self.said = said
        """The sentence of what went wrong."""
        self.unserved = unserved
        """The sentence of names that are missing; empty where all are served, None where nobody asked or was told."""
        self.before = before
        """The metrics before the canary, where they were read again after it."""
        self.canary_rank = canary_rank
        """The rank that was to complete the canary; None where the server chose one."""


class Verdict:
    """What becomes of the engine, and why: a word for programs, a sentence for people."""

    __slots__ = ("cause", "kind", "sentence")

    def __init__(self, kind: str, cause: str, sentence: str) -> None:
        self.kind = kind
        self.cause = cause
        self.sentence = sentence

    def passes(self, mode: str) -> bool:
        """Whether a probe (startup, ready or live) passes on it."""
        if mode == "live":
            return self.kind != RESTART
        return self.kind in (ADMITTED, SERVING)


def fresh(state: State, now: float) -> bool:
    """Whether the last look is so young that another one would see the same: this run has waited for that one's end."""
    return state.looked_at is not None and 0 <= now - state.looked_at < FRESH_SECONDS


def advanced(state: State, ranks: dict[str, Rank] | None) -> bool:
    """Whether every rank has made a step since the last look.

    A counter that fell was reset, and a rank that is new has no past: both count as a step, since neither is a stall.
    """
    return bool(ranks) and all(_moved(state, name, rank) for name, rank in (ranks or {}).items())


def _moved(state: State, name: str, rank: Rank) -> bool:
    """Whether a rank has made a step that was not only the one of our last canary."""
    return rank.marks != state.marks.get(name) and not (state.canary_stepped and rank.in_flight <= 0)


def idle_ranks(state: State, ranks: dict[str, Rank]) -> list[str]:
    """Names of the ranks that have neither work nor made a step, so that only a canary can tell if they live."""
    return [name for name, rank in ranks.items() if rank.in_flight <= 0 and not _moved(state, name, rank)]


def needs_canary(state: State, now: float, ranks: dict[str, Rank] | None, settings: Settings) -> bool:
    """Whether a canary is due.

    A rank with work is judged by its steps; there a canary would only wait in the queue. A rank without work has to
    complete one now and then, also beside busy siblings. A failed one proves little: the next is due almost at once.
    """
    if settings.canary_interval is None or advanced(state, ranks):
        return False
    if ranks and not idle_ranks(state, ranks):
        return False
    if state.canary_failing_since is not None or state.proven_at is None:
        return True
    return not 0 <= now - state.proven_at < settings.canary_interval


def _canary_since(state: State, evidence: Evidence, settings: Settings) -> float:
    """Since when a canary that fails now has been failing: since the last proof, if looks have come as they should."""
    if state.canary_failing_since is not None:
        return state.canary_failing_since
    asked_at = evidence.began_at
    if evidence.canary == SILENT:
        return max(asked_at - SILENT_HEAD_START_SECONDS, state.proven_at or 0.0)
    regular = READY_PERIOD_SECONDS + 1 + (settings.canary_interval or 0.0)
    if state.proven_at is None or asked_at - state.proven_at > regular:
        return asked_at - HEAD_START_SECONDS
    return state.proven_at


def observe(state: State, evidence: Evidence, settings: Settings) -> State:
    """The state after one look."""
    state = _without_pause(state, evidence)
    moved = advanced(state, evidence.ranks)
    proven = moved or evidence.canary == COMPLETED
    base = evidence.began_at if state.looked_at is None else state.looked_at
    after = State(
        admitted=state.admitted,
        marks=_marks(state, evidence.ranks),
        stalled_since=_stalls(state, evidence, base, proven=proven),
        gone_since=_since(state.gone_since, evidence.began_at) if evidence.gone else None,
        silent_since=None if evidence.answered or evidence.gone else _silent_since(state, evidence, base),
        stalled_until=state.stalled_until if evidence.ranks is None else evidence.asked_at,
        proven_at=evidence.now if proven else state.proven_at,
        looked_at=evidence.now,
        said=evidence.said or (None if proven else state.said),
        canary_stepped=evidence.canary == COMPLETED or (evidence.ranks is None and state.canary_stepped),
    )
    if not proven:
        _remember_canary(after, state, evidence, settings)
    _remember_names(after, state, evidence, base)
    return after


def _without_pause(state: State, evidence: Evidence) -> State:
    """The state as if the last look had been just now, where the time between the looks says nothing of the engine.

    So it is after a suspended machine, and so it is with clocks that step, forward or back.
    """
    gap = 0.0 if state.looked_at is None else evidence.began_at - state.looked_at
    if 0 <= gap <= PAUSE_SECONDS:
        return state
    shifted = restored(state.as_dict())
    for name in MOMENTS:
        moment = getattr(state, name)
        setattr(shifted, name, None if moment is None else moment + gap)
    shifted.stalled_since = {rank: since + gap for rank, since in state.stalled_since.items()}
    return shifted


def _marks(state: State, ranks: dict[str, Rank] | None) -> dict[str, list[float]]:
    return state.marks if ranks is None else {name: rank.marks for name, rank in ranks.items()}


def _since(known: float | None, base: float) -> float:
    return base if known is None else known


def _silent_since(state: State, evidence: Evidence, base: float) -> float:
    if evidence.answered_at is not None:
        return evidence.answered_at
    return _since(state.silent_since, max(base, evidence.began_at - HEAD_START_SECONDS))


def _stalls(state: State, evidence: Evidence, base: float, *, proven: bool) -> dict[str, float]:
    """Ranks that have work and have not made a step, with the time of the last look before that."""
    if evidence.ranks is None:
        return {} if proven else state.stalled_since
    return {
        name: state.stalled_since.get(name, base)
        for name, rank in evidence.ranks.items()
        if rank.in_flight > 0 and rank.marks == state.marks.get(name)
    }


def _remember_canary(after: State, state: State, evidence: Evidence, settings: Settings) -> None:
    """What stays in the state while no canary completes."""
    after.canary_failing_since = state.canary_failing_since
    after.canary_outcome = state.canary_outcome
    after.failing_until = state.failing_until
    if evidence.canary is not None and _blames(state, evidence):
        after.canary_failing_since = _canary_since(state, evidence, settings)
        after.canary_outcome = evidence.canary
        after.failing_until = evidence.now if evidence.ranks is None else evidence.asked_at
    elif after.canary_failing_since is not None and evidence.ranks is not None:
        after.failing_until = evidence.asked_at  # there still has been no step


def _remember_names(after: State, state: State, evidence: Evidence, base: float) -> None:
    """Names are no matter of progress: only the server's own word says that they are missing, or there again."""
    if evidence.unserved is None:
        after.unserved = state.unserved
        after.unserved_since, after.unserved_until = state.unserved_since, state.unserved_until
    elif evidence.unserved:
        after.unserved = evidence.unserved
        after.unserved_since, after.unserved_until = _since(state.unserved_since, base), evidence.now


def _blames(state: State, evidence: Evidence) -> bool:
    """Whether the engine is to blame for a canary that did not complete: it had no work that would go first."""
    if evidence.canary in (FAILED, REFUSED):
        return True
    if evidence.ranks is None:
        return evidence.callers == 0
    before = state.marks if evidence.before is None else _marks(state, evidence.before)
    asked = [evidence.canary_rank] if evidence.canary_rank in evidence.ranks else evidence.ranks
    return any(evidence.ranks[name].in_flight <= 0 and evidence.ranks[name].marks == before.get(name) for name in asked)


def verdict(state: State, settings: Settings) -> Verdict:
    """What becomes of the engine, out of the state after the last look: the first policy that has something to say."""
    for policy in CHAIN:
        found = policy(state, settings)
        if found is not None:
            return found
    return Verdict(SERVING, "Progress", "makes progress, or completed its last prompt")


def _hopeless(state: State, settings: Settings) -> Verdict | None:
    """Restart what has been proven not to work for the restart window, admitted or not."""
    found = [one for one in _suspicions(state) if one.cause != "Refused"]
    # an engine that refuses a request answers, and would do so after a restart as well
    if not found or settings.restart_window is None:
        return None
    oldest = max(found, key=_by_age)
    return Verdict(RESTART, oldest.cause, oldest.sentence) if oldest.age >= settings.restart_window else None


def _unproven(state: State, settings: Settings) -> Verdict | None:  # noqa: ARG001 # all policies look alike
    """Give no traffic to a container that has not completed a prompt in this life."""
    return None if state.admitted else Verdict(STARTING, "NotProven", "has not completed a prompt yet")


def _dead(state: State, settings: Settings) -> Verdict | None:  # noqa: ARG001
    """Withdraw at once what says itself that it is dead, or does not listen any more."""
    return None if state.gone_since is None else Verdict(WITHDRAWN, "Gone", str(state.said))


def _suspected(state: State, settings: Settings) -> Verdict | None:
    """Withdraw what has been proven not to work for the stall window; until then say what is suspected."""
    found = _suspicions(state)
    if not found:
        return None
    oldest = max(found, key=_by_age)
    return Verdict(WITHDRAWN if oldest.age >= settings.stall_window else SERVING, oldest.cause, oldest.sentence)


CHAIN = (
    _hopeless,  # a restart is the strongest verdict, and has the longest window
    _unproven,  # no traffic before the first proof, whatever else is seen
    _dead,  # the only proof that needs no window
    _suspected,  # everything else waits for its window
)


class Suspicion:
    """Something that speaks against an engine, and for how long it is proven."""

    __slots__ = ("age", "cause", "sentence")

    def __init__(self, age: float, cause: str, sentence: str) -> None:
        self.age = age
        self.cause = cause
        self.sentence = sentence


def _by_age(suspicion: Suspicion) -> float:
    return suspicion.age


def _suspicions(state: State) -> list[Suspicion]:
    """All that speaks against the engine after the last look."""
    found = []
    if state.gone_since is not None:
        found.append(Suspicion(_age(state.gone_since, state.looked_at), "Gone", str(state.said)))
    if state.silent_since is not None:
        age = _age(state.silent_since, state.looked_at)
        told = f"no answer for {age:.0f} s: the server takes connections and answers nothing"
        found.append(Suspicion(age, "Silent", told))
    for name, since in state.stalled_since.items():
        age = _age(since, state.stalled_until)
        told = f"no progress for {age:.0f} s with requests in flight (engine {name})"
        found.append(Suspicion(age, "Stalled", told))
    if state.canary_failing_since is not None:
        age = _age(state.canary_failing_since, state.failing_until)
        cause = "Refused" if state.canary_outcome == REFUSED else "Failing"
        found.append(Suspicion(age, cause, f"no completion for {age:.0f} s: {state.said}"))
    if state.unserved_since is not None:
        age = _age(state.unserved_since, state.unserved_until)
        found.append(Suspicion(age, "WrongModel", f"{state.unserved} for {age:.0f} s"))
    return found


def _age(since: float, until: float | None) -> float:
    return 0.0 if until is None else max(0.0, until - since)


def seconds_to_withdrawal(state: State, now: float, settings: Settings) -> float | None:
    """How long until what is suspected costs the traffic; None where nothing is, or where it has.

    Names that are missing are left to the next run: the metrics, which a run looks at while it waits, do not tell.
    """
    found = [one for one in _suspicions(state) if one.cause != "WrongModel"]
    if not found or state.gone_since is not None:
        return None
    oldest = max(found, key=_by_age).age
    if oldest >= settings.stall_window or state.looked_at is None:
        return None
    return max(0.0, settings.stall_window - oldest - (now - state.looked_at))


def spread(window: float, name: str) -> float:
    """The restart window of a pod of that name: longer than the common one by up to a quarter, always by the same."""
    number = 2166136261
    for byte in name.encode():
        number = ((number ^ byte) * 16777619) % 2**32  # FNV-1a: short, and an import costs more
    return window * (1 + RESTART_JITTER * number / 2**32)
