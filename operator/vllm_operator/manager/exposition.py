"""The metrics of an engine's gate, in Prometheus' text format. Pure.

Labels hold words of the program alone, never an engine's: each has a small set of values, whatever an engine says.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .status import Status

PREFIX = "vllm_gate_"
GAUGE, COUNTER = "gauge", "counter"


class Family:
    """One metric: its name without the prefix, type, purpose, labels, and the samples of an engine.

    Samples are values by the text of their labels, which is empty where there are none. One that is missing is not
    known: the engine does not say it, or has nothing of the kind.
    """

    __slots__ = ("kind", "labels", "name", "purpose", "samples")

    def __init__(
        self, name: str, kind: str, purpose: str, samples: Callable[[Status], Mapping[str, float]], *labels: str
    ) -> None:
        self.name, self.kind, self.purpose, self.samples, self.labels = name, kind, purpose, samples, labels


def text(status: Status) -> str:
    """The body of /metrics."""
    return "".join(_shown(family, status) for family in FAMILIES)


def _shown(family: Family, status: Status) -> str:
    name = PREFIX + family.name
    head = f"# HELP {name} {family.purpose}\n# TYPE {name} {family.kind}\n"
    lines = (
        f"{name}{{{labels}}} {value}\n" if labels else f"{name} {value}\n"
        for labels, value in family.samples(status).items()
    )
    return head + "".join(lines)


def _verdict(status: Status) -> dict[str, float]:
    return {f'verdict="{_quoted(status.verdict)}",cause="{_quoted(status.cause)}"': 1}


def _by(label: str, table: Mapping[str, float]) -> dict[str, float]:
    return {f'{label}="{_quoted(name)}"': value for name, value in sorted(table.items())}


def _one(value: Any) -> dict[str, float]:
    """A single sample; none where the value is not known."""
    return {} if value is None else {"": value}


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


FAMILIES = (
    Family("judge_up", GAUGE, "Whether a judge watches the engine.", lambda _: {"": 1}),
    Family("ready", GAUGE, "Whether the engine takes traffic.", lambda one: {"": int(one.ready)}),
    Family("verdict", GAUGE, "The judge's verdict and its cause.", _verdict, "verdict", "cause"),
    Family(
        "admitted",
        GAUGE,
        "Whether the engine has completed a prompt since its start.",
        lambda one: {"": int(one.admitted)},
    ),
    Family(
        "restarts_total",
        COUNTER,
        "Starts of the container after its first one, by what ended the engine before.",
        lambda one: _by("cause", one.restarts),
        "cause",
    ),
    Family(
        "load_phase_seconds",
        GAUGE,
        "How long each phase of this start took, or takes up to now.",
        lambda one: _by("phase", {name: round(value, 3) for name, value in one.load_phases.items()}),
        "phase",
    ),
    Family("looks_total", COUNTER, "Looks at the engine.", lambda one: {"": one.counts.looks}),
    Family(
        "look_seconds_total",
        COUNTER,
        "Time that looks took.",
        lambda one: {"": round(one.counts.look_seconds, 3)},
    ),
    Family(
        "canaries_total",
        COUNTER,
        "Canary prompts that ended.",
        lambda one: _by("outcome", one.counts.canaries),
        "outcome",
    ),
    Family(
        "withdrawals_total",
        COUNTER,
        "Times that traffic was withdrawn.",
        lambda one: _by("cause", one.counts.withdrawals),
        "cause",
    ),
    Family("longest_step_seconds", GAUGE, "Longest step of the last hour.", lambda one: _one(one.longest_step)),
    Family(
        "stall_window_seconds",
        GAUGE,
        "Without a step for so long, it is withdrawn.",
        lambda one: {"": one.stall_window},
    ),
    Family("in_flight", GAUGE, "Requests for which a step is due.", lambda one: _one(one.in_flight)),
    Family(
        "adapter_loads_total", COUNTER, "Adapters that were loaded again.", lambda one: {"": one.counts.adapter_loads}
    ),
    Family(
        "judge_restarts_total",
        COUNTER,
        "Judges that failed and were replaced.",
        lambda one: {"": one.counts.judge_restarts},
    ),
    Family(
        "judge_updates_total",
        COUNTER,
        "Judges that gave way to a newer program.",
        lambda one: {"": one.counts.judge_updates},
    ),
    Family("faults_total", COUNTER, "Looks in which the gate itself failed.", lambda one: {"": one.counts.faults}),
)
