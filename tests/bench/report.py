"""The table for people and the document for programs. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from tests.bench.figures import verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.bench.figures import Figures, Measured
    from tests.bench.options import ControllerManager, Options

NOISY_SHARE: Final = 0.1
"""From here on the times of a run are not to be trusted; counts are."""

_KEYS = (
    "ratio_to_bare_writes",
    "children_per_resource",
    "writes_per_resource",
    "idle_writes",
    "restart_writes",
    "deployment_p50_ms",
    "deployment_p95_ms",
    "reconcile_p50_ms",
    "reconcile_p99_ms",
    "operator_cpu_ms_per_resource",
    "operator_rss_mib",
)
"""What stands at the top of the JSON: the first cluster of the run, by default the one without controller manager."""

_ROWS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("bare writes, all stand after", lambda found: f"{found.bare_seconds:.2f} s"),
    ("operator, all stand after", lambda found: f"{found.operator_seconds:.2f} s"),
    ("  until its last write", lambda found: f"{found.settled_seconds:.2f} s"),
    ("ratio to bare writes", lambda found: f"{found.ratio_to_bare_writes:.2f}"),
    ("  lowest and highest pair", lambda found: f"{found.ratio_min:.2f} - {found.ratio_max:.2f}"),
    ("  the same in CPU of all parts", lambda found: f"{found.cpu_ratio_to_bare_writes:.2f}"),
    ("children per resource", lambda found: f"{found.children_per_resource}"),
    ("writes per resource", lambda found: f"{found.writes_per_resource:.2f}"),
    ("  shared, per namespace", lambda found: f"{found.shared_writes_per_namespace:.0f}"),
    ("  refused by the API server", lambda found: f"{found.failed_writes}"),
    ("one resource to its Deployment p50", lambda found: f"{found.deployment_p50_ms:.1f} ms"),
    ("  p95", lambda found: f"{found.deployment_p95_ms:.1f} ms"),
    ("  bare writes one by one, p50", lambda found: f"{found.bare_deployment_p50_ms:.1f} ms"),
    ("  p95", lambda found: f"{found.bare_deployment_p95_ms:.1f} ms"),
    ("  ratio of the two p50", lambda found: f"{found.deployment_ratio_to_bare_writes:.2f}"),
    ("idle writes", lambda found: f"{found.idle_writes}"),
    ("  renewals of the Lease, per minute", lambda found: f"{found.idle_renewals_per_minute:.0f}"),
    ("restart writes", lambda found: f"{found.restart_writes}"),
    ("  stopped after", lambda found: f"{found.restart_stop_seconds:.2f} s"),
    ("  ready after", lambda found: f"{found.restart_ready_seconds:.2f} s"),
    ("reconcile p50", lambda found: f"{found.reconcile_p50_ms:.1f} ms"),
    ("reconcile p99", lambda found: f"{found.reconcile_p99_ms:.1f} ms"),
    ("looks per resource", lambda found: f"{found.reconciles_per_resource:.1f}"),
    ("operator CPU per resource", lambda found: f"{found.operator_cpu_ms_per_resource:.1f} ms"),
    ("  by /proc", lambda found: f"{found.operator_proc_cpu_ms_per_resource:.1f} ms"),
    ("  idle, per second", lambda found: f"{found.operator_idle_cpu_ms_per_second:.1f} ms"),
    ("operator RSS", lambda found: f"{found.operator_rss_mib:.1f} MiB"),
    ("  at its peak", lambda found: f"{found.operator_peak_rss_mib:.1f} MiB"),
    ("control plane CPU per resource", lambda found: f"{found.control_plane_cpu_ms_per_resource:.1f} ms"),
    ("  with bare writes", lambda found: f"{found.bare_control_plane_cpu_ms_per_resource:.1f} ms"),
    ("others' share of the machine", lambda found: f"{found.others_share:.0%}"),
)


def table(options: Options, found: Mapping[ControllerManager, Figures]) -> str:
    """The figures, one column for each cluster."""
    columns = [f"controller manager {mode}" for mode in found]
    width = max(len(column) for column in columns)
    lines = [
        f"{options.resources} resources, {options.concurrency} writers, median of {options.repetitions} pairs",
        "",
        " " * 34 + "".join(f"  {column:>{width}}" for column in columns),
    ]
    for title, text in _ROWS:
        lines.append(f"{title:34}" + "".join(f"  {text(figures):>{width}}" for figures in found.values()))
    lines.append("")
    for mode, figures in found.items():
        for resource, count in figures.writes_by_resource.items():
            lines.append(f"writes per resource with controller manager {mode}: {count:.2f} {resource}")
    if any(figures.others_share > NOISY_SHARE for figures in found.values()):
        lines.append("others worked on this machine meanwhile: repeat the run when it is quiet")
    return "\n".join(lines)


def goals(found: Mapping[ControllerManager, Figures]) -> tuple[str, bool]:
    """A line for each goal, and whether all were reached."""
    judged = [(mode, verdict) for mode, figures in found.items() for verdict in verdicts(figures, mode)]
    lines = [
        f"{'ok    ' if verdict.reached else 'MISSED'}  controller manager {mode:3}: {verdict.text}"
        for mode, verdict in judged
    ]
    return "\n".join(lines), all(verdict.reached for _, verdict in judged)


def document(
    options: Options,
    machine: Mapping[str, Any],
    measured: Mapping[ControllerManager, Measured],
    found: Mapping[ControllerManager, Figures],
) -> dict[str, Any]:
    """Everything, for programs."""
    first = asdict(next(iter(found.values())))
    settings = {**asdict(options), "operator_source": str(options.operator_source or "installed")}
    del settings["output"]
    return {
        **{key: first[key] for key in _KEYS},
        "settings": {**settings, **machine},
        "figures": {f"controller_manager_{mode}": asdict(figures) for mode, figures in found.items()},
        "measurements": {f"controller_manager_{mode}": _plain(one) for mode, one in measured.items()},
    }


def _plain(measured: Measured) -> dict[str, Any]:
    plain = asdict(measured)
    plain["pairs"] = [{"bare": bare, "operated": operated} for bare, operated in plain["pairs"]]
    for pair in plain["pairs"]:
        looks = pair["operated"]["reconciles"]
        pair["operated"]["reconciles"] = {str(bound): count for bound, count in looks.items()}
    return plain
