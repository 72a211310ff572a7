"""What there is to ask Prometheus for: the series of the operator, of gates and of vLLM, and their labels."""

from __future__ import annotations

from typing import Final

from tests.support.engine import Statistics
from tools.metrics_reference import gate_metrics, operator_metrics, series

SCRAPED: Final = frozenset({"namespace", "pod", "job"})
"""Labels that each series has from the job that reads it; docs/monitoring.md says that every job has to give them."""
PLACED: Final = SCRAPED | {"container", "endpoint", "instance"}
"""The same, with those that the PodMonitors' jobs give besides, and which nothing asks for."""
OF_VLLM: Final = frozenset({"engine", "model_name"})


def labels() -> dict[str, set[str]]:
    """The labels of each series, but for those that a job gives it; those of vLLM as the stub has them."""
    rows = (*operator_metrics(), *gate_metrics())
    found = {name: {*row.labels} for row in rows for name in series(row)}
    for name, own in found.items():
        own.update({"le"} if name.endswith("_bucket") else ())
    statistics = Statistics()
    for name, _, extra, _ in (*statistics.gauges(), *statistics.counters(), *statistics.histograms()):
        found.setdefault(f"vllm:{name}", {*OF_VLLM}).update(extra)
    return found


def unknown_series(samples: list[dict[str, str]]) -> set[str]:
    """What Prometheus has read, and is not among them.

    Args:
        samples: The labels of each series, its name too.
    """
    there = labels()
    found = set()
    for sample in samples:
        name, given = sample["__name__"], {*sample} - {"__name__"}
        unknown = given - there.get(name, set()) - PLACED
        if name not in there or unknown:
            found.add(f"{name} {sorted(unknown)}")
    return found
