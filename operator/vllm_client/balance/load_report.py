"""What engines say of their load with an answer, and what that is worth later.

vLLM adds the header `endpoint-load-metrics` to whole answers of chats and completions where the request asks for it
(Open Request Cost Aggregation, ORCA; vllm/entrypoints/serve/utils/orca_metrics.py). Streams and older versions have
none. Each report costs the engine's server a reading of all its metrics and a line in its log, so that an engine is
asked once in a while, not with each request.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_client.balance.policy import BalancePolicy

REQUEST_HEADER = "endpoint-load-metrics-format"
RESPONSE_HEADER = "endpoint-load-metrics"
FORMAT = "JSON"
LONGEST_REPORT = 4096
"""Characters; what is longer is not read."""
FULL_KV_CACHE_USAGE = 0.8
FULL_WAITING = 5.0
"""An engine with so much of its KV cache in use, or so many waiting requests, counts as full: the thresholds of the
saturation detector in the Gateway API Inference Extension."""
NEWEST_WEIGHT = 0.5
"""The least that a report weighs beside those before it: one alone shows only the moment at which an answer ended."""
HALF_LIFE_SECONDS = 60.0
"""After which a report is worth half. How loaded the engines are changes sooner, but rarely which of them is the most
loaded; in the simulation 60 s gave more hits than 15 s, and loads as even."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What an engine says of itself.

    Attributes:
        kv_cache_usage: Share of its KV cache that its requests hold, from 0 to 1.
        waiting: Requests that it has not begun.
    """

    kv_cache_usage: float
    waiting: float

    @property
    def pressure(self) -> float:
        """How loaded the engine is: 0 when idle, 1 when full, more with a queue."""
        return self.kv_cache_usage / FULL_KV_CACHE_USAGE + self.waiting / FULL_WAITING


@dataclass(frozen=True, slots=True)
class Reported:
    """What one process knows of an engine's load from its answers.

    Attributes:
        answered: Whether it has answered at all, with or without a report.
        pressure: See LoadReport; None where it has never reported.
        at: When it last reported.
        asked_at: When it was last asked to.
    """

    answered: bool = False
    pressure: float | None = None
    at: float = -math.inf
    asked_at: float = -math.inf


NOTHING_KNOWN = Reported()


def read_report(text: str) -> LoadReport | None:
    """The report in a response header; None where it cannot be understood, which is as good as none.

    Args:
        text: `JSON {"named_metrics": {"kv_cache_usage_perc": 0.4, "num_requests_waiting": 2.0}}`. An engine that runs
            with `--disable-log-stats` names no metrics.
    """
    form, _, content = text.partition(" ")
    if form != FORMAT or len(text) > LONGEST_REPORT:
        return None
    try:
        metrics = json.loads(content)["named_metrics"]
        usage, waiting = float(metrics["kv_cache_usage_perc"]), float(metrics["num_requests_waiting"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return LoadReport(usage, waiting) if 0 <= usage <= 1 and 0 <= waiting < math.inf else None


def is_due(known: Reported, now: float, policy: BalancePolicy) -> bool:
    """Whether the next request to the engine asks for a report."""
    return policy.report_seconds is not None and now - max(known.at, known.asked_at) >= policy.report_seconds


def asked(known: Reported, now: float) -> Reported:
    """What is known once a request has asked for a report."""
    return replace(known, asked_at=now)


def answered(known: Reported, header: str | None, now: float) -> Reported:
    """What is known after an answer with this header; None where it has no such header."""
    report = None if header is None else read_report(header)
    if report is None:
        return known if known.answered else replace(known, answered=True)
    pressure = report.pressure
    if known.pressure is not None:
        weight = max(NEWEST_WEIGHT, 1 - worth(known, now))
        pressure = known.pressure + weight * (pressure - known.pressure)
    return replace(known, answered=True, pressure=pressure, at=now)


def worth(known: Reported, now: float) -> float:
    """What is known by an engine's reports is worth so much now, from 1 to 0."""
    return math.pow(0.5, (now - known.at) / HALF_LIFE_SECONDS)
