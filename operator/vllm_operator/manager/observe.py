"""What a look adds to what is remembered: progress of each rank, the longest step, answers, sleep, admission. Pure."""

from __future__ import annotations

from dataclasses import replace

from .activity import sampled
from .evidence import ANSWERS, COMPLETED, REFUSES, SAYS_DEAD, SCALING, SILENT
from .memory import LongStep, Memory, RankMemory, SentCanary, shifted
from .policies import POLICIES
from .rests import BACK, RESTS
from .windows import STEP_MEMORY_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .evidence import Canary, Look, RankLook

PAUSE_SECONDS = 5.0
"""Looks further apart than this say nothing of the time between them: the machine or this program stood still."""

LONGEST_LOOK_SECONDS = 15.0
"""So with a look that took longer: all its deadlines together are shorter."""

UNSEEN_SECONDS = 5.0
"""Time without readable metrics that is longer than this is no part of a stall, nor of a step."""

BUCKET_SECONDS = 600.0
"""The longest step is remembered for each ten minutes."""

SHORT_CANARY_SECONDS = 1.0
"""A canary that completed sooner teaches nothing about long steps."""


def without_gap(memory: Memory, look: Look) -> tuple[Memory, Look]:
    """Memory and look as if the last look had been just before, where the time between says nothing of the engine.

    So it is after a suspended machine and a judge that was replaced, and so it is with clocks that step.
    """
    if any(canary.sent_at > look.ended_at for canary in look.canaries):
        look = replace(look, canaries=tuple(_not_after(canary, look.ended_at) for canary in look.canaries))
    if memory.looked_at is None:
        return replace(memory, began_at=look.at, watched_since=look.at), look
    if look.ended_at - look.at > LONGEST_LOOK_SECONDS:
        look = replace(look, at=look.ended_at)
    gap = look.at - memory.looked_at
    if 0 <= gap <= PAUSE_SECONDS:
        return memory, look
    return after_gap(memory, look.at), look


def after_gap(memory: Memory, at: float) -> Memory:
    """Memory as if the last look had been just before that moment: the time between says nothing of the engine."""
    if memory.looked_at is None:
        return memory
    later = shifted(memory, at - memory.looked_at)
    return replace(later, watched_since=at, cpu=(), suspected_since=None, kind_since=memory.kind_since)


def _not_after(canary: Canary, moment: float) -> Canary:
    """A canary that was sent by a clock which has stepped back since."""
    ended_at = None if canary.ended_at is None else min(canary.ended_at, moment)
    return replace(canary, sent_at=min(canary.sent_at, moment), ended_at=ended_at)


def progressed(before: Memory, look: Look) -> Memory:
    """The memory with what the look has seen, but for what follows from it."""
    seen_at, seen_since, ranks = before.seen_at, before.seen_since, before.ranks
    if look.ranks is not None:
        blind = before.seen_at is None or look.at - before.seen_at > UNSEEN_SECONDS
        seen_at, seen_since = look.ended_at, look.ended_at if blind else before.seen_since
        ranks = {name: _rank(before.ranks.get(name), name, rank, look) for name, rank in look.ranks.items()}
    now = replace(
        sampled(before, look),
        looked_at=look.ended_at,
        answering_since=_answering_since(before, look),
        canaries=_canaries(before, look),
        peers=look.peers or before.peers,
        advanced=advances(before, look),
        seen_at=seen_at,
        seen_since=seen_since,
        ranks={name: _proven(rank, name, look, alone=len(ranks) == 1) for name, rank in ranks.items()},
    )
    long_steps = _long_steps(before, now, look)
    return now if long_steps == now.long_steps else replace(now, long_steps=long_steps)


def advances(before: Memory, look: Look) -> bool:
    """Whether every rank has made a step since the look before.

    A counter that fell was reset, and a rank that is new has no past: both count as a step, since neither is a stall.
    """
    return bool(look.ranks) and all(_moved(before.ranks.get(name), rank) for name, rank in (look.ranks or {}).items())


def _moved(known: RankMemory | None, rank: RankLook) -> bool:
    return known is None or (known.steps, known.kv_usage) != (rank.steps, rank.kv_usage)


def _answering_since(before: Memory, look: Look) -> float | None:
    if look.server != ANSWERS:
        return None
    if before.answering_since is not None:
        return before.answering_since
    return look.at if before.looked_at is None else look.ended_at


def _canaries(before: Memory, look: Look) -> dict[str, SentCanary]:
    known = dict(before.canaries)
    for canary in look.canaries:
        known[canary.rank or ""] = SentCanary(canary.sent_at, canary.outcome)
    return known


def _rank(known: RankMemory | None, name: str, rank: RankLook, look: Look) -> RankMemory:
    moved = _moved(known, rank)
    ours = known is not None and rank.in_flight <= 0 and any(one.rank in (None, name) for one in look.canaries)
    working_since = None
    if rank.in_flight > 0:
        working_since = look.ended_at if known is None or known.working_since is None else known.working_since
    return RankMemory(
        steps=rank.steps,
        kv_usage=rank.kv_usage,
        in_flight=rank.in_flight,
        moved_at=look.ended_at if moved or known is None else known.moved_at,
        working_since=working_since,
        live_at=look.ended_at if known is None or (moved and not ours) else known.live_at,
        deferred=rank.deferred,
        asleep=rank.asleep,
    )


def _proven(rank: RankMemory, name: str, look: Look, *, alone: bool) -> RankMemory:
    """The rank with the canaries that it has completed. One that the server gave to any proves a rank that is alone."""
    mine = (name, None) if alone else (name,)
    completed = [one.ended_at for one in look.canaries if one.outcome == COMPLETED and one.rank in mine]
    live_at = max([rank.live_at, *(ended for ended in completed if ended is not None)])
    return rank if live_at == rank.live_at else replace(rank, live_at=live_at)


def _long_steps(before: Memory, now: Memory, look: Look) -> tuple[LongStep, ...]:
    """What is known of long steps, with those that this look saw end.

    A step counts where the rank had work all the time, no kernel was compiled, and nothing was hidden meanwhile. What
    was long because nobody computed is no step: a hang that ends by itself must not make the next one look usual.
    """
    seen = (*_steps_seen(before, now, look), *_canaries_seen(before, now, look))
    longest = 0.0 if before.still_since is not None else max(seen, default=0.0)
    kept = [one for one in now.long_steps if look.at - one.begun_at <= STEP_MEMORY_SECONDS]
    if longest <= 0:
        return tuple(kept)
    if kept and 0 <= look.at - kept[-1].begun_at < BUCKET_SECONDS:
        last = kept.pop()
        return (*kept, LongStep(last.begun_at, max(last.seconds, longest)))
    return (*kept, LongStep(look.at, longest))


def _undisturbed(now: Memory, since: float) -> bool:
    return (now.compiled_at is None or now.compiled_at < since) and (now.watched_since or since) <= since


def _steps_seen(before: Memory, now: Memory, look: Look) -> list[float]:
    found = []
    for name, rank in (look.ranks or {}).items():
        known = before.ranks.get(name)
        if known is None or not _moved(known, rank) or known.working_since is None or rank.steps < known.steps:
            continue  # a counter that fell was reset
        since = known.moved_at
        if known.working_since <= since and (now.seen_since or since) <= since and _undisturbed(now, since):
            found.append(look.at - since)
    return found


def _canaries_seen(before: Memory, now: Memory, look: Look) -> list[float]:
    """A canary of an engine without work takes as long as its first step, of which the metrics do not tell."""
    if any(rank.working_since is not None for rank in (*before.ranks.values(), *now.ranks.values())):
        return []
    found = []
    for canary in look.canaries:
        if canary.outcome != COMPLETED or canary.ended_at is None or now.answering_since is None or not now.admitted:
            continue
        seconds = canary.ended_at - canary.sent_at
        answered = now.answering_since <= canary.sent_at and now.seen_at == now.looked_at
        if seconds >= SHORT_CANARY_SECONDS and answered and _undisturbed(now, canary.sent_at):
            found.append(seconds)
    return found


# --- what follows


def concluded(before: Memory, now: Memory, look: Look) -> Memory:
    """The memory with what follows from the look: admission, sleep, what speaks against the engine."""
    completed = any(one.outcome == COMPLETED for one in look.canaries)
    if not now.admitted:
        admitted = completed and look.unserved == "" and look.server == ANSWERS
        cause, sentence = ("", "") if admitted else _waiting(before, look)
        return replace(now, admitted=admitted, waiting_cause=cause, waiting_sentence=sentence)
    if now.advanced and look.server in (REFUSES, SILENT, SAYS_DEAD):
        look = replace(look, server=ANSWERS)  # it did at least while it was asked for its metrics
    rest = _rest(before, look, completed=completed)
    if rest:
        after = next(after for cause, _, _, after in RESTS if cause == rest)
        return replace(now, rest=rest, proof_ended=after, findings={})
    findings = {
        f"{policy.name}/{subject}": finding
        for policy in POLICIES
        for subject, finding in policy.observe(before, now, look).items()
    }
    ended = "" if completed else now.proof_ended
    if "Gone/" in before.findings and "Gone/" not in findings and not completed:
        ended = BACK
    return replace(now, rest="", proof_ended=ended, findings=findings)


def _rest(before: Memory, look: Look, *, completed: bool) -> str:
    """Why it is to have no traffic though nothing is wrong.

    A rest lasts until a look with metrics does not show it any more, or a canary is completed: that nobody could ask
    does not end it.
    """
    if look.server in (REFUSES, SAYS_DEAD):
        return ""
    shown = next((cause for cause, shows, _, _ in RESTS if shows(look)), "")
    over = look.server == ANSWERS and (look.ranks is not None or completed)
    return shown or ("" if over else before.rest)


WAITING = {
    REFUSES: ("Loading", "nothing listens on the engine's port yet: the model is still loading"),
    SILENT: ("Silent", "the server takes connections and answers nothing"),
    SAYS_DEAD: ("Gone", "the engine is dead: the server says so"),
    SCALING: ("Scaling", "ranks are being added or removed"),
}
"""What is told of a server that cannot complete a first prompt."""


def _waiting(before: Memory, look: Look) -> tuple[str, str]:
    """What stands in the way of the first prompt: a word and a sentence."""
    if look.server in WAITING:
        return WAITING[look.server]
    if look.unserved:
        return "WrongModel", look.unserved
    failed = [one for one in look.canaries if one.ended_at is not None and one.outcome != COMPLETED]
    if failed:
        return _cause_of(failed[-1]), failed[-1].sentence or "the first prompt is not completed"
    if before.waiting_cause in ("", "WrongModel", *(cause for cause, _ in WAITING.values())):
        return "NotProven", "has not completed a prompt yet"
    return before.waiting_cause, before.waiting_sentence


def _cause_of(canary: Canary) -> str:
    return canary.cause or (canary.outcome or "NotProven").capitalize()
