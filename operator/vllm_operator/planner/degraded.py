"""The condition Degraded: some engines serve, and others do not, of a cause that is known. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.api.conditions import Reason
from vllm_operator.diagnosis.cause import EngineState

if TYPE_CHECKING:
    from vllm_operator.diagnosis.engines import EngineReport
    from vllm_operator.diagnosis.fleet import Fleet, Outcome

_ASKED_FOR: Final = frozenset({Reason.ASLEEP, Reason.PAUSED, Reason.SCALING})
"""Reasons of engines that take no traffic because somebody wants it so."""


def degraded(seen: Fleet, outcome: Outcome) -> tuple[str, Reason, str]:
    """Status, reason and message of the condition.

    The message is one line that a person can act on: how many serve, and of one engine what has happened and what to
    do. A model of which no engine serves is more than degraded, and says so.
    """
    if outcome.ready or outcome.settled:
        return "False", Reason.AS_DESIRED, ""
    if not seen.serving:
        return "False", Reason.NO_ENGINE_SERVES, "no engine serves at all: Ready says why"
    faulty = sorted(filter(_is_faulty, seen.engines), key=lambda one: (one.state is not EngineState.FAILING, one.pod))
    if faulty:
        first, more = faulty[0], len(faulty) - 1
        others = f"; and {more} more" if more else ""
        return "True", first.reason, f"{seen.count}; {first.pod} {_cause(first)}{others}"
    if seen.caught_up and seen.refusal:
        return "True", Reason.PODS_REFUSED, f"{seen.count}; {seen.refusal}"
    if seen.caught_up and seen.deadline_exceeded:
        return "True", Reason.PROGRESS_DEADLINE_EXCEEDED, outcome.message
    return "False", Reason.AS_DESIRED, ""


def _is_faulty(engine: EngineReport) -> bool:
    return engine.state in (EngineState.FAILING, EngineState.WITHDRAWN) and engine.reason not in _ASKED_FOR


def _cause(engine: EngineReport) -> str:
    """What has happened and what to do, where that is known; else the engine's sentence, which quotes others."""
    known = engine.diagnosis
    return f"does not serve: {known.sentence}" if known and known.is_cause else engine.sentence
