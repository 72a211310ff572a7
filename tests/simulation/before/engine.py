"""What the gate of commit 6afbc34 read of an engine: frozen, to compare with."""

from __future__ import annotations

from tests.simulation.before import judge

METRICS_SECONDS = 3.0
"""Deadline of a look at the metrics. All deadlines of a run add up to less than kubelet's, which is a verdict too."""

HEALTH_SECONDS = 1.0
"""Deadline of /health, which costs the server nothing: asked only where the metrics show no step."""

ADMISSION_SECONDS = 9.0
"""Deadline of the first completion: kernels are compiled and caches are cold."""

STEP_COUNTER = b"vllm:iteration_tokens_total_count"
TOKEN_COUNTERS = (b"vllm:prompt_tokens_total", b"vllm:generation_tokens_total")
CACHE_GAUGE = b"vllm:kv_cache_usage_perc"
IN_FLIGHT_GAUGES = (b"vllm:num_requests_running", b"vllm:num_requests_waiting")


class ProbeError(Exception):
    """The engine's answer, or its absence: a word for programs and a sentence for people.

    Causes: Loading (nothing listens), Silent (no answer in time), Unauthorized, WrongModel, NoEndpoint, Busy (a full
    queue turns requests away), Refused (another status 4xx), Failing (status 5xx), Empty, NotVLLM, NoMetrics.
    """

    def __init__(self, cause: str, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause
        self.rank: str | None = None
        """The rank of data parallelism that was asked, where it was not the server that chose."""


def read_ranks(metrics: bytes) -> dict[str, judge.Rank]:
    """The few lines that are needed out of the metrics, some 50 KB of text.

    Raises:
        ProbeError: there is neither a step counter nor one of tokens: another version of vLLM may name them otherwise.
    """
    steps: dict[str, float] = {}
    tokens: dict[str, float] = {}
    cache: dict[str, float] = {}
    in_flight: dict[str, float] = {}
    wanted = {STEP_COUNTER: steps, CACHE_GAUGE: cache}
    wanted.update(dict.fromkeys(TOKEN_COUNTERS, tokens))
    wanted.update(dict.fromkeys(IN_FLIGHT_GAUGES, in_flight))
    for line in metrics.split(b"\n"):
        found = wanted.get(line.partition(b"{")[0].partition(b" ")[0])
        if found is not None:
            name, value = _sample(line)
            found[name] = found.get(name, 0.0) + value
    counted = steps or tokens
    if not counted:
        raise ProbeError("NoMetrics", "/metrics counts neither steps nor tokens")
    return {
        name: judge.Rank([count, cache.get(name, 0.0)], in_flight.get(name, 0.0)) for name, count in counted.items()
    }


def _sample(line: bytes) -> tuple[str, float]:
    """Engine label and value of one line in the Prometheus text format.

    Raises:
        ProbeError: the line has no number.
    """
    labels, _, value = line.rpartition(b" ")
    engine = labels.partition(b'engine="')[2].partition(b'"')[0]
    try:
        return engine.decode("utf-8", "replace") or "0", float(value)
    except ValueError:
        raise ProbeError("NoMetrics", "/metrics is not understood") from None
