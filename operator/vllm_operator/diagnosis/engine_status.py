"""What the manager of one engine answers to `GET /status`, as far as it is told. Pure.

The manager runs in the user's pod and may be of another version than the operator: every field may be missing or of
another kind, every text is bounded, and nothing in it is more than words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from vllm_operator.api.capacity import MOST_TOKENS, Capacity, memory_text
from vllm_operator.diagnosis.cause import quoted
from vllm_operator.diagnosis.known import Recognized, recognized

_MOVING: Final = (
    re.compile(r" for \d+(?:\.\d+)? ?s\b"),
    re.compile(r"\b\d+ (?=requests?\b)"),
    re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z "),
    re.compile(r" \(fault \d+[^)]*\)"),
)
"""Ages, counts and times that move from look to look: told, the status would change by itself."""

_LONGEST_WORD: Final = 64
_MOST_LINES: Final = 40
_MOST_GIB: Final = 2.0**20
_MOST_SYMPTOMS: Final = 16
_MOST_ADAPTERS: Final = 128
"""More than a list has: those that are on their way out are served still."""
_LONGEST_NAME: Final = 253
_LONGEST_PATH: Final = 2048


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """How far an engine follows the list of adapters that it is told of while it runs."""

    version: str
    """Of the list that its manager has read; empty where it has read none yet."""
    served: tuple[tuple[str, str], ...] = ()
    """Name and path of each adapter that the engine serves; an empty path: vLLM does not say."""
    failed: tuple[tuple[str, str], ...] = ()
    """Name of each that it cannot be brought to, and why in its own words."""

    def serves(self, name: str) -> bool:
        """Whether clients get an answer by that name."""
        return any(served == name for served, _ in self.served)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One answer of a manager."""

    verdict: str
    """starting, serving, withdrawn, restart or leaving, in the words of the manager."""
    cause: str = ""
    """Why, as one word for programs: Loading, WrongModel, Stalled, Asleep, and so on."""
    sentence: str = ""
    """Why, for people."""
    ready: bool = False
    """Whether the manager would have its engine take traffic."""
    phase: str = ""
    """How far the engine has loaded: Downloading, LoadingWeights, and so on; empty where it is not said."""
    phase_detail: str = ""
    """How much of the phase is done, such as "3 of 8 shards"."""
    phase_since: str = ""
    """When the phase began, as the API server writes times."""
    trouble: str = ""
    """What is wrong with the manager itself."""
    recognized: Recognized | None = None
    """The known failure that it has found in the log."""
    symptoms: tuple[str, ...] = ()
    """Ids of what slows the engine down, and of known failures that it serves with. Their numbers, which move, are not
    read."""
    adapters: AdapterReport | None = None
    """How far it follows its list of adapters; None where it has none, or says nothing of it."""
    excerpt: tuple[str, ...] = field(default=(), compare=False)
    """Lines of the log that tell of the failure."""
    capacity: Capacity | None = None
    """What the engine has reported of its memory at its start; None where that is not said."""
    requests: float | None = field(default=None, compare=False)
    """Requests that the engine has, whether a step is due for them or not; None where it does not say. It moves from
    look to look, and two answers that differ in it alone say the same."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """What came instead of an answer of a manager."""

    sentence: str
    """A clause for people that stands by itself."""


def engine_status(document: object) -> EngineStatus | None:
    """Read an answer; None where it is not a manager's. Fields that are unknown, missing or odd are passed over."""
    if not isinstance(document, Mapping) or not _word(document.get("verdict")):
        return None
    phase = document.get("phase")
    phase = phase if isinstance(phase, Mapping) else {}
    return EngineStatus(
        verdict=_word(document.get("verdict")),
        cause=_word(document.get("cause")),
        sentence=_text(document.get("sentence")),
        ready=document.get("ready") is True,
        phase=_word(phase.get("name")),
        phase_detail=_word(phase.get("detail")),
        phase_since=_moment(phase.get("since")),
        trouble=_text(document.get("trouble")),
        recognized=recognized(document.get("diagnosis")),
        symptoms=_symptoms(document.get("symptoms")),
        adapters=_adapters(document.get("adapters")),
        excerpt=_excerpt(document.get("excerpt")),
        capacity=capacity_of(document.get("capacity")),
        requests=_requests(document),
    )


def capacity_of(figures: object) -> Capacity | None:
    """What the figures of a manager say; None where they say nothing of memory."""
    given = figures if isinstance(figures, Mapping) else {}
    weights, kv_cache = (_figure(given.get(name), _MOST_GIB) for name in ("weights_gib", "kv_cache_gib"))
    tokens, length = (_figure(given.get(name), MOST_TOKENS) for name in ("kv_cache_tokens", "max_model_len"))
    concurrency = _figure(given.get("max_concurrency"), MOST_TOKENS)
    if all(found is None for found in (weights, kv_cache, tokens)):
        return None
    return Capacity(
        weights=None if weights is None else memory_text(weights),
        kv_cache=None if kv_cache is None else memory_text(kv_cache),
        kv_cache_tokens=None if tokens is None else int(tokens),
        max_model_len=None if length is None else int(length),
        max_concurrency=None if concurrency is None else f"{concurrency:.2f}",
    )


def _figure(value: Any, most: float) -> float | None:
    """A number that is none of the odd ones."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
    return value if known else None


def _symptoms(value: Any) -> tuple[str, ...]:
    """Their ids, in an order that does not move."""
    found = map(recognized, value[:_MOST_SYMPTOMS]) if isinstance(value, list) else ()
    return tuple(sorted({one.id for one in found if one is not None}))


def _adapters(value: Any) -> AdapterReport | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("version"), str):
        return None
    return AdapterReport(
        version=_word(value["version"]),
        served=_texts(value.get("served"), _LONGEST_PATH),
        failed=tuple((name, _text(text)) for name, text in _texts(value.get("failed"), _LONGEST_PATH)),
    )


def _texts(value: Any, longest: int) -> tuple[tuple[str, str], ...]:
    """Pairs of texts, by name."""
    pairs = value.items() if isinstance(value, Mapping) else ()
    found = sorted((str(name)[:_LONGEST_NAME], text[:longest]) for name, text in pairs if isinstance(text, str))
    return tuple(found[:_MOST_ADAPTERS])


def _excerpt(value: Any) -> tuple[str, ...]:
    """The lines of an excerpt, each as it may be quoted."""
    return tuple(map(quoted, value.splitlines()[:_MOST_LINES])) if isinstance(value, str) else ()


def _requests(document: Mapping[str, Any]) -> float | None:
    """What is in flight, and what the scheduler has put off, which `in_flight` does not count."""
    ranks = document.get("ranks")
    found = list(ranks.values()) if isinstance(ranks, Mapping) else []
    counts = [document.get("in_flight"), *(rank.get("deferred", 0) for rank in found if isinstance(rank, Mapping))]
    known = all(isinstance(count, (int, float)) and not isinstance(count, bool) and count >= 0 for count in counts)
    total = float(sum(counts)) if known else math.inf
    return total if math.isfinite(total) else None


def _text(value: Any) -> str:
    """A text without what moves in it."""
    text = quoted(value) if isinstance(value, str) else ""
    for pattern in _MOVING:
        text = pattern.sub("", text)
    return text


def _word(value: Any) -> str:
    """A short text as it is: how much of a phase is done may move, since the phase does."""
    return quoted(value)[:_LONGEST_WORD] if isinstance(value, str) else ""


def _moment(value: Any) -> str:
    """A time stamp in the API server's form; empty where it is none, or says no time zone."""
    try:
        when = datetime.fromisoformat(value)
        return "" if when.tzinfo is None else f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (TypeError, ValueError, OverflowError):
        return ""
