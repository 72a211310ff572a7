"""What a manager says its engine has reported of its memory, and whether that is still to be asked for. Pure.

An engine that serves is asked once at most: what it reported at its start does not change. Mostly that is known before,
as the manager was asked while the engine loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.capacity import MOST_TOKENS, ReportedCapacity, memory_text, reported_by_pod
from vllm_operator.diagnosis.facts import pod_facts

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_GIB: Final = 2.0**20


def reported_capacity(figures: object, started_at: str) -> ReportedCapacity | None:
    """What the engine that was started then has reported; None where its manager says nothing of it."""
    given = figures if isinstance(figures, Mapping) else {}
    weights, kv_cache = (_figure(given.get(name), _MOST_GIB) for name in ("weights_gib", "kv_cache_gib"))
    tokens, length = (_figure(given.get(name), MOST_TOKENS) for name in ("kv_cache_tokens", "max_model_len"))
    concurrency = _figure(given.get("max_concurrency"), MOST_TOKENS)
    if not started_at or all(found is None for found in (weights, kv_cache, tokens)):
        return None
    return ReportedCapacity(
        weights=None if weights is None else memory_text(weights),
        kv_cache=None if kv_cache is None else memory_text(kv_cache),
        kv_cache_tokens=None if tokens is None else int(tokens),
        max_model_len=None if length is None else int(length),
        max_concurrency=None if concurrency is None else f"{concurrency:.2f}",
        started_at=started_at,
    )


def told_capacities(status: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> dict[str, ReportedCapacity]:
    """What a status tells of engines, by their pods' names, as far as they have reported it in the life they are in."""
    told = reported_by_pod(status)
    found = (pod_facts(pod) for pod in pods if pod["metadata"]["name"] in told)
    return {one.name: told[one.name] for one in found if told[one.name].started_at == one.engine.running_since}


def reporting_pods(status: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of the pods of which a status tells all that their engines have reported in the life that they are in."""
    return frozenset(name for name, capacity in told_capacities(status, pods).items() if capacity.is_whole)


def _figure(value: Any, most: float) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return value if 0 <= value <= most else None
