"""What an engine computes: from two samples of its metrics. Pure.

The metrics are those of vLLM 0.32.0 (vllm/v1/metrics/loggers.py). One that another version does not have, or a counter
that went back, because the engine was started anew in between, leaves its cell empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from vllm_operator.manager.metrics import CACHE_GAUGE, RUNNING_GAUGE, TOKEN_COUNTERS, WAITING_GAUGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROMPT, GENERATED = (name.decode() for name in TOKEN_COUNTERS)
RUNNING, WAITING, CACHE = (name.decode() for name in (RUNNING_GAUGE, WAITING_GAUGE, CACHE_GAUGE))
QUERIES: Final = "vllm:prefix_cache_queries_total"
HITS: Final = "vllm:prefix_cache_hits_total"
NAMES: Final = (PROMPT, GENERATED, RUNNING, WAITING, CACHE, QUERIES, HITS)

Values = dict[str, list[float]]
"""The values of each metric, one of each engine core."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one engine, or several together, computed between two samples, and has to do at the second one."""

    prompt_tokens_per_second: float | None = None
    """Tokens of prompts; None where it is not known, as everywhere here."""
    generated_tokens_per_second: float | None = None
    running: float | None = None
    """Requests that are computed."""
    waiting: float | None = None
    """Requests that wait."""
    kv_cache_usage: float | None = None
    """Share of the KV cache that is used, 0 to 1: of the engine core that uses most, since that one preempts first."""
    prefix_cache_hits: float | None = None
    """Share of the tokens looked up in the prefix cache between the samples that were there; None where none was."""
    prefix_cache_hits_since_start: float | None = None
    """The same since the engine's start."""


class OddMetricsError(ValueError):
    """What an engine says is no metrics."""


def values(text: str) -> Values:
    """The wanted metrics of a text in Prometheus' format.

    Raises:
        OddMetricsError: it is none.
    """
    found: Values = {}
    try:
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                if one.name in NAMES:
                    found.setdefault(one.name, []).append(float(one.value))
    except ValueError as error:
        raise OddMetricsError(str(error)) from None
    return found


def rates(before: Values, after: Values, seconds: float) -> Rates:
    """What happened between two samples that are so many seconds apart."""
    queries, hits = _grown(before, after, QUERIES), _grown(before, after, HITS)
    prompt, generated = _grown(before, after, PROMPT), _grown(before, after, GENERATED)
    return Rates(
        prompt_tokens_per_second=_per(prompt, seconds),
        generated_tokens_per_second=_per(generated, seconds),
        running=_sum(after, RUNNING),
        waiting=_sum(after, WAITING),
        kv_cache_usage=max(after.get(CACHE, ()), default=None),
        prefix_cache_hits=_per(hits, queries),
        prefix_cache_hits_since_start=_per(_sum(after, HITS), _sum(after, QUERIES)),
    )


def together(found: Iterable[Rates]) -> Rates:
    """All engines of a model: tokens and requests are added up; a share is that of one engine alone."""
    known = list(found)
    sums = {name: _total(getattr(one, name) for one in known) for name in _ADDED}
    return Rates(**sums)


_ADDED: Final = ("prompt_tokens_per_second", "generated_tokens_per_second", "running", "waiting")


def _total(found: Iterable[float | None]) -> float | None:
    known = [one for one in found if one is not None]
    return sum(known) if known else None


def _sum(sample: Mapping[str, list[float]], name: str) -> float | None:
    return sum(sample[name]) if name in sample else None


def _grown(before: Values, after: Values, name: str) -> float | None:
    earlier, later = _sum(before, name), _sum(after, name)
    return None if earlier is None or later is None or later < earlier else later - earlier


def _per(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
