"""The few lines of the server's metrics that say whether its engine cores work. Pure.

The metrics of vLLM are 50 KB of text; the lines are found by the names at their beginnings, without looking at others.
"""

from __future__ import annotations

import math

from .evidence import RankLook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_COUNTER = b"vllm:iteration_tokens_total_count"
TOKEN_COUNTERS = (b"vllm:prompt_tokens_total", b"vllm:generation_tokens_total")
CACHE_GAUGE = b"vllm:kv_cache_usage_perc"
RUNNING_GAUGE, WAITING_GAUGE = b"vllm:num_requests_running", b"vllm:num_requests_waiting"
DEFERRED_GAUGE, DEFERRED_LABEL = b"vllm:num_requests_waiting_by_reason", b'reason="deferred"'
"""Waiting requests that wait for something else than room: a grammar, a KV cache, more input."""
SLEEP_GAUGE, AWAKE_LABEL = b"vllm:engine_sleep_state", b'sleep_state="awake"'
"""0 from the moment at which the engine sleeps, at whatever level, until all of it is awake."""

NAMES = (STEP_COUNTER, *TOKEN_COUNTERS, CACHE_GAUGE, RUNNING_GAUGE, WAITING_GAUGE, DEFERRED_GAUGE, SLEEP_GAUGE)

ENGINE_LABEL = (b'{engine="', b',engine="')


class UncountedError(ValueError):
    """The text counts neither steps nor tokens."""


def read_ranks(text: bytes) -> dict[str, RankLook]:
    """What the metrics say of each engine core, by its name (a number, mostly).

    Raises:
        UncountedError: there is neither a step counter nor one of tokens. Another version of vLLM may name them
            otherwise, and a server without statistics (--disable-log-stats) has none.
    """
    text = b"\n" + text
    counted = _by_rank(text, STEP_COUNTER)
    if not counted:
        for name in TOKEN_COUNTERS:
            for rank, value in _by_rank(text, name).items():
                counted[rank] = counted.get(rank, 0.0) + value
    if not counted:
        raise UncountedError
    cache, running, waiting = (_by_rank(text, name) for name in (CACHE_GAUGE, RUNNING_GAUGE, WAITING_GAUGE))
    deferred, awake = _by_rank(text, DEFERRED_GAUGE, DEFERRED_LABEL), _by_rank(text, SLEEP_GAUGE, AWAKE_LABEL)
    return {
        rank: RankLook(
            steps=count,
            kv_usage=cache.get(rank, 0.0),
            running=running.get(rank, 0.0),
            waiting=max(0.0, waiting.get(rank, 0.0) - deferred.get(rank, 0.0)),
            deferred=deferred.get(rank, 0.0),
            asleep=awake.get(rank) == 0.0,
        )
        for rank, count in counted.items()
    }


def in_order(ranks: dict[str, RankLook]) -> tuple[str, ...]:
    """The names of the ranks in the order in which the server numbers them."""
    return tuple(sorted(ranks, key=lambda name: (len(name), name)))


def _by_rank(text: bytes, name: bytes, label: bytes = b"") -> dict[str, float]:
    """The values of a metric by rank; several of one rank are added up. Lines without a number are left out."""
    found: dict[str, float] = {}
    for labels, number in _lines(text, name):
        if label in labels:
            try:
                value = float(number)
            except ValueError:
                continue
            if math.isfinite(value):
                rank = _rank(labels)
                found[rank] = found.get(rank, 0.0) + value
    return found


def _lines(text: bytes, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Labels and value of each line of a metric."""
    sought = b"\n" + name
    at = text.find(sought)
    while at >= 0:
        begin = at + len(sought)
        end = text.find(b"\n", begin)
        line = text[begin : end if end >= 0 else len(text)]
        if line[:1] in (b"{", b" "):  # or the name goes on
            labels, _, value = line.rstrip().rpartition(b" ")
            yield labels, value
        at = text.find(sought, begin)


def _rank(labels: bytes) -> str:
    for label in ENGINE_LABEL:
        _, found, rest = labels.partition(label)
        if found:
            return rest.partition(b'"')[0].decode("utf-8", "replace") or "0"
    return "0"
