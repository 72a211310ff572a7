"""Does this engine take traffic? Pure: evidence and earlier state in, verdict, new state and a sentence out.

Progress is any change of what only a step of the engine changes, for each rank of data parallelism: the number of
steps that made tokens, and the share of the KV cache in use, since steps that read a long prompt make no token and move
no counter. vLLM's own /health answers 200 while the engine hangs, so it is not asked. An engine that has work and makes
no step is suspected; one that makes steps is not, however slowly it answers. An engine without work proves its life
with a canary: a completion of one token, or whatever a pooling model does with a prompt of one letter. All times are
seconds of the machine's monotonic clock.
"""

from __future__ import annotations

CANARY_INTERVAL_SECONDS = 5.0
"""How long an engine without work is believed before it has to complete a canary."""

STALL_WINDOW_SECONDS = 10.0
"""How long an engine may be suspected before it loses its traffic."""

RESTART_WINDOW_SECONDS = 60.0
"""How long it may be suspected before it is restarted. A restart costs minutes, so it waits for the hope to be gone."""


class Rank:
    """What the metrics say of one engine core."""

    __slots__ = ("in_flight", "marks")

    def __init__(self, marks: list[float], in_flight: float) -> None:
        self.marks = marks
        """Numbers that only a step changes."""
        self.in_flight = in_flight


class State:
    """What is remembered from one look to the next, for one life of the engine's container."""

    __slots__ = ("admitted", "canary_failing_since", "marks", "proven_at", "stalled_since")

    def __init__(
        self,
        *,
        admitted: bool = False,
        marks: dict[str, list[float]] | None = None,
        stalled_since: dict[str, float] | None = None,
        canary_failing_since: float | None = None,
        proven_at: float | None = None,
    ) -> None:
        self.admitted = admitted
        self.marks = marks or {}
        self.stalled_since = stalled_since or {}
        self.canary_failing_since = canary_failing_since
        self.proven_at = proven_at

    def as_dict(self) -> dict[str, object]:
        """The state as it is written to its file."""
        return {name: getattr(self, name) for name in self.__slots__}


class Evidence:
    """One look at the engine. `ranks` is None where the metrics could not be read, or were not understood."""

    __slots__ = ("canary_error", "canary_ran", "now", "ranks")

    def __init__(
        self,
        *,
        now: float,
        ranks: dict[str, Rank] | None,
        canary_ran: bool = False,
        canary_error: str | None = None,
    ) -> None:
        self.now = now
        self.ranks = ranks
        self.canary_ran = canary_ran
        self.canary_error = canary_error


class Verdict:
    """Whether the engine passes, and why, for people."""

    __slots__ = ("passes", "sentence")

    def __init__(self, *, passes: bool, sentence: str) -> None:
        self.passes = passes
        self.sentence = sentence


def advanced(state: State, ranks: dict[str, Rank] | None) -> bool:
    """Whether every rank has made a step since the last look.

    A counter that fell was reset, and a rank that is new has no past: both count as a step, since neither is a stall.
    """
    return bool(ranks) and all(rank.marks != state.marks.get(name) for name, rank in (ranks or {}).items())


def needs_canary(state: State, now: float, ranks: dict[str, Rank] | None) -> bool:
    """Whether only a completion can tell if the engine lives.

    A rank with work is judged by its steps; there a canary would only wait in the queue. A rank without work has to
    complete one now and then, also beside busy siblings. A failed one proves nothing: the next is due at once.
    """
    if advanced(state, ranks):
        return False
    if ranks and all(rank.in_flight > 0 or rank.marks != state.marks.get(name) for name, rank in ranks.items()):
        return False
    return state.proven_at is None or now - state.proven_at >= CANARY_INTERVAL_SECONDS


def observe(state: State, evidence: Evidence) -> State:
    """The state after one look."""
    ranks, now = evidence.ranks, evidence.now
    proven = (evidence.canary_ran and evidence.canary_error is None) or advanced(state, ranks)
    if proven:
        canary_failing_since = None
    elif evidence.canary_ran and state.canary_failing_since is None:
        canary_failing_since = now
    else:
        canary_failing_since = state.canary_failing_since
    return State(
        admitted=state.admitted,
        marks=state.marks if ranks is None else {name: rank.marks for name, rank in ranks.items()},
        stalled_since=state.stalled_since if ranks is None and not proven else _stalls(state, ranks or {}, now),
        canary_failing_since=canary_failing_since,
        proven_at=now if proven else state.proven_at,
    )


def _stalls(state: State, ranks: dict[str, Rank], now: float) -> dict[str, float]:
    """Ranks that have work and have not made a step, with the time since when."""
    return {
        name: state.stalled_since.get(name, now)
        for name, rank in ranks.items()
        if rank.in_flight > 0 and rank.marks == state.marks.get(name)
    }


def ready(state: State, evidence: Evidence) -> Verdict:
    """Whether the engine takes traffic. `state` is the one after this look."""
    if not state.admitted:
        return Verdict(passes=False, sentence="has not completed a prompt yet")
    return _progress(state, evidence, STALL_WINDOW_SECONDS)


def live(state: State, evidence: Evidence) -> Verdict:
    """Whether the engine's container goes on. `state` is the one after this look."""
    return _progress(state, evidence, RESTART_WINDOW_SECONDS)


def _progress(state: State, evidence: Evidence, window: float) -> Verdict:
    """The ordered chain: suspicion from work without steps, then from canaries, then no suspicion at all."""
    if state.stalled_since:
        name, since = min(state.stalled_since.items(), key=lambda item: item[1])
        age = evidence.now - since
        in_flight = evidence.ranks[name].in_flight if evidence.ranks and name in evidence.ranks else 0
        why = f"no progress for {age:.0f} s with {in_flight:.0f} requests in flight (engine {name})"
        return Verdict(passes=age < window, sentence=why)
    if state.canary_failing_since is not None:
        age = evidence.now - state.canary_failing_since
        return Verdict(passes=age < window, sentence=f"no completion for {age:.0f} s: {evidence.canary_error}")
    return Verdict(passes=True, sentence="makes progress, or completed its last prompt")
