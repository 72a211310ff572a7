"""From measurements to figures and verdicts. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.bench.options import ControllerManager

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.bench.machine import Used

MAX_RATIO: Final = 1.3
WANTED_RATIO: Final = 1.1
DEPLOYMENT_GOAL_MS: Final = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """One phase of bare writes."""

    seconds: float
    """From the first request to the answer of the last write, by the API server's clock."""
    writes: int
    control_plane_cpu_seconds: float
    used: Used


@dataclass(frozen=True, slots=True, kw_only=True)
class Operated:
    """One phase of the operator at work."""

    seconds: float
    """From the first resource's request until all children and statuses stand, by the API server's clock."""
    settled_seconds: float
    """The same until its last write: with the controller manager statuses follow the Deployments."""
    writes: Mapping[str, int]
    """The operator's, by resource, without what all models of a namespace share."""
    shared_writes: int
    """Those of the manager, once per namespace, and of the catalogue, at most once a second."""
    failed_writes: int
    """Refused ones among them all; they count too."""
    unattributed_writes: int
    """What the API server's metrics count beyond the audit log: 0 when both witnesses agree."""
    cpu_seconds: float
    proc_cpu_seconds: float
    control_plane_cpu_seconds: float
    rss_mib: float
    peak_rss_mib: float
    reconciles: Mapping[float, float]
    """Looks by upper bound of their bucket in seconds, cumulative."""
    failures: int
    used: Used


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """What the operator did while there was nothing to do."""

    idle_writes: int
    idle_renewals: int
    """Renewals of the Lease meanwhile: one in each retry period."""
    idle_cpu_seconds: float
    restart_writes: int
    stop_seconds: float
    start_seconds: float
    """From the start of the process to /readyz."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Singles:
    """Models that were made one at a time: from the answer to each one's create call until its Deployment stood."""

    bare_seconds: Sequence[float]
    """With the same writes one after the other, made by the harness."""
    operated_seconds: Sequence[float]
    """By the operator, which had nothing else to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that was measured on one cluster."""

    resources: int
    children: int
    pairs: Sequence[tuple[Bare, Operated]]
    still: Still
    singles: Singles


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one cluster: medians over the repetitions unless said otherwise."""

    ratio_to_bare_writes: float
    ratio_min: float
    ratio_max: float
    bare_seconds: float
    operator_seconds: float
    settled_seconds: float
    children_per_resource: int
    writes_per_resource: float
    writes_by_resource: Mapping[str, float]
    """Per resource, the mean over all repetitions."""
    shared_writes_per_namespace: float
    failed_writes: int
    reconcile_failures: int
    unattributed_writes: int
    deployment_p50_ms: float
    """From the answer to one resource's create call until its Deployment stands; the operator is idle otherwise."""
    deployment_p95_ms: float
    bare_deployment_p50_ms: float
    bare_deployment_p95_ms: float
    deployment_ratio_to_bare_writes: float
    """Of the two medians."""
    idle_writes: int
    idle_renewals_per_minute: float
    """Of the Lease; they are no part of the idle writes."""
    restart_writes: int
    restart_stop_seconds: float
    restart_ready_seconds: float
    reconcile_p50_ms: float
    """Quantiles over the looks of all repetitions."""
    reconcile_p99_ms: float
    reconciles_per_resource: float
    operator_cpu_ms_per_resource: float
    operator_proc_cpu_ms_per_resource: float
    operator_idle_cpu_ms_per_second: float
    operator_rss_mib: float
    operator_peak_rss_mib: float
    control_plane_cpu_ms_per_resource: float
    bare_control_plane_cpu_ms_per_resource: float
    cpu_ratio_to_bare_writes: float
    """CPU of cluster, harness and operator together: what the ratio of times comes to on a machine with no core idle,
    and far less moved by what others do there."""
    others_share: float
    """Share of the machine that other processes used, the highest of all phases."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, and whether it was reached."""

    text: str
    reached: bool


def figures(measured: Measured, idle_seconds: float) -> Figures:
    """Condense the measurements of one cluster."""
    pairs, still, number = measured.pairs, measured.still, measured.resources
    operated = [phase for _, phase in pairs]
    ratios = [phase.seconds / bare.seconds for bare, phase in pairs]
    cpu_ratios = [phase.used.own_seconds / bare.used.own_seconds for bare, phase in pairs]
    looks = _sum(phase.reconciles for phase in operated)
    singles = measured.singles
    deployment_p50, bare_deployment_p50 = (
        percentile(seconds, 0.5) for seconds in (singles.operated_seconds, singles.bare_seconds)
    )

    def per_resource(seconds: Sequence[float]) -> float:
        return statistics.median(seconds) * 1000 / number

    return Figures(
        ratio_to_bare_writes=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        bare_seconds=statistics.median(bare.seconds for bare, _ in pairs),
        operator_seconds=statistics.median(phase.seconds for phase in operated),
        settled_seconds=statistics.median(phase.settled_seconds for phase in operated),
        children_per_resource=measured.children,
        writes_per_resource=statistics.median(sum(phase.writes.values()) / number for phase in operated),
        writes_by_resource=_by_resource(operated, number),
        shared_writes_per_namespace=statistics.median(phase.shared_writes for phase in operated),
        failed_writes=sum(phase.failed_writes for phase in operated),
        reconcile_failures=sum(phase.failures for phase in operated),
        unattributed_writes=sum(phase.unattributed_writes for phase in operated),
        deployment_p50_ms=deployment_p50 * 1000,
        deployment_p95_ms=percentile(singles.operated_seconds, 0.95) * 1000,
        bare_deployment_p50_ms=bare_deployment_p50 * 1000,
        bare_deployment_p95_ms=percentile(singles.bare_seconds, 0.95) * 1000,
        deployment_ratio_to_bare_writes=deployment_p50 / bare_deployment_p50,
        idle_writes=still.idle_writes,
        idle_renewals_per_minute=still.idle_renewals * 60 / idle_seconds,
        restart_writes=still.restart_writes,
        restart_stop_seconds=still.stop_seconds,
        restart_ready_seconds=still.start_seconds,
        reconcile_p50_ms=quantile(looks, 0.5) * 1000,
        reconcile_p99_ms=quantile(looks, 0.99) * 1000,
        reconciles_per_resource=max(looks.values(), default=0.0) / number / len(pairs),
        operator_cpu_ms_per_resource=per_resource([phase.cpu_seconds for phase in operated]),
        operator_proc_cpu_ms_per_resource=per_resource([phase.proc_cpu_seconds for phase in operated]),
        operator_idle_cpu_ms_per_second=still.idle_cpu_seconds * 1000 / idle_seconds,
        operator_rss_mib=statistics.median(phase.rss_mib for phase in operated),
        operator_peak_rss_mib=max(phase.peak_rss_mib for phase in operated),
        control_plane_cpu_ms_per_resource=per_resource([phase.control_plane_cpu_seconds for phase in operated]),
        bare_control_plane_cpu_ms_per_resource=per_resource([bare.control_plane_cpu_seconds for bare, _ in pairs]),
        cpu_ratio_to_bare_writes=statistics.median(cpu_ratios),
        others_share=max(phase.used.others_share for pair in pairs for phase in pair),
    )


def verdicts(found: Figures, mode: ControllerManager) -> list[Verdict]:
    """Hold the figures against the goals.

    With the controller manager the Deployments' statuses move, and the resources' statuses follow them: the number of
    writes is no goal there. Nor is a single Deployment's time, as others write at the same moment.
    """
    ratio = found.ratio_to_bare_writes
    wanted = "reached" if ratio <= WANTED_RATIO else "not reached"
    goals = [
        Verdict(
            f"time to {ratio:.2f}x of the bare writes, at most {MAX_RATIO}x ({WANTED_RATIO}x is wanted: {wanted})",
            ratio <= MAX_RATIO,
        ),
        Verdict(f"{found.idle_writes} idle writes, 0 allowed", found.idle_writes == 0),
        Verdict(f"{found.restart_writes} writes of a restart, 0 allowed", found.restart_writes == 0),
    ]
    if mode is ControllerManager.OFF:
        most = found.children_per_resource + 1
        text = f"{found.writes_per_resource:.2f} writes per resource, children + 1 = {most} allowed"
        goals.insert(1, Verdict(text, found.writes_per_resource <= most))
        text = f"one resource to its Deployment in {found.deployment_p50_ms:.1f} ms (p50)"
        reached = found.deployment_p50_ms < DEPLOYMENT_GOAL_MS
        goals.append(Verdict(f"{text}, less than {DEPLOYMENT_GOAL_MS:.0f} ms is the goal", reached))
    return goals


def quantile(cumulative: Mapping[float, float], share: float) -> float:
    """A quantile of a Prometheus histogram, interpolated within its bucket; 0 when nothing was observed."""
    buckets = sorted(cumulative.items())
    if not buckets or not buckets[-1][1]:
        return 0.0
    rank = share * buckets[-1][1]
    below, count_below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound == float("inf"):
                return below
            return below + (bound - below) * (rank - count_below) / (count - count_below)
        below, count_below = bound, count
    return below


def percentile(values: Sequence[float], share: float) -> float:
    """A quantile of single values, interpolated between the two beside it.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a percentile of no values")
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def difference(after: Mapping[float, float], before: Mapping[float, float]) -> dict[float, float]:
    """What a histogram has taken in between two readings."""
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def _sum(histograms: Iterable[Mapping[float, float]]) -> dict[float, float]:
    total: Counter[float] = Counter()
    for histogram in histograms:
        total.update(histogram)
    return dict(total)


def _by_resource(phases: Sequence[Operated], number: int) -> dict[str, float]:
    total: Counter[str] = Counter()
    for phase in phases:
        total.update(phase.writes)
    return {resource: count / number / len(phases) for resource, count in sorted(total.items())}
