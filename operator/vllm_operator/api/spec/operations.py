"""`spec.disruption`, `spec.monitoring` and `spec.gates`: what keeps the engines in service, and who watches them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.scalars import ATOMIC, CountOrPercent, Labels

DEFAULT_STARTUP_BUDGET_SECONDS: Final = 3600
DEFAULT_SCRAPE_SECONDS: Final = 15
DEFAULT_CANARY_SECONDS: Final = 2
DEFAULT_STALL_SECONDS: Final = 6
DEFAULT_RESTART_SECONDS: Final = 180
"""The windows of the gate program, which has them as well: a test holds them together."""

ProbeWord = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class Disruption(Model):
    """How many engines a drain of nodes leaves: a PodDisruptionBudget."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "has(self.minAvailable) != has(self.maxUnavailable)",
                "spec.disruption takes exactly one of minAvailable and maxUnavailable",
            )
        ),
    )

    min_available: CountOrPercent | None = Field(default=None, description="Fewest engines that stay.")
    max_unavailable: CountOrPercent | None = Field(default=None, description="Most engines that may go at a time.")


class Monitoring(Model):
    """Have Prometheus collect the engines' metrics: a PodMonitor, where the cluster has that resource."""

    interval_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=DEFAULT_SCRAPE_SECONDS, description="How often the metrics are collected."
    )
    labels: Labels | None = Field(
        default=None, description="Labels of the PodMonitor, such as those by which a Prometheus chooses it."
    )


_RESTART_WINDOW: Final = f"(has(self.restartWindowSeconds) ? self.restartWindowSeconds : {DEFAULT_RESTART_SECONDS})"
_STALL_WINDOW: Final = f"(has(self.stallWindowSeconds) ? self.stallWindowSeconds : {DEFAULT_STALL_SECONDS})"
_CANARY_INTERVAL: Final = f"(has(self.canaryIntervalSeconds) ? self.canaryIntervalSeconds : {DEFAULT_CANARY_SECONDS})"
_WINDOWS: Final = ("canaryIntervalSeconds", "stallWindowSeconds", "restartWindowSeconds")


class Gates(Model):
    """The gates that decide which engines get traffic."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                f"self.restart == 'Never' || {_RESTART_WINDOW} > {_STALL_WINDOW}",
                "spec.gates.restartWindowSeconds must be longer than stallWindowSeconds: an engine loses its traffic "
                "before it loses its life",
            ),
            Rule(
                f"self.canary == 'Never' || {_CANARY_INTERVAL} <= {_STALL_WINDOW}",
                "spec.gates.canaryIntervalSeconds must not be longer than stallWindowSeconds: the window ends with a "
                "canary",
            ),
            Rule(
                "self.canary != 'Never' || !has(self.canaryIntervalSeconds)",
                "spec.gates.canaryIntervalSeconds says nothing where spec.gates.canary is Never: remove one of them",
            ),
            Rule(
                "self.restart != 'Never' || !has(self.restartWindowSeconds)",
                "spec.gates.restartWindowSeconds says nothing where spec.gates.restart is Never: remove one of them",
            ),
            Rule(
                f"!has(self.probe) || !({' || '.join(f'has(self.{name})' for name in _WINDOWS)})",
                "spec.gates.probe replaces the program that has the windows: remove probe, or every window",
            ),
        ),
    )

    startup_budget_seconds: Annotated[int, Field(ge=30, le=86400)] = Field(
        default=DEFAULT_STARTUP_BUDGET_SECONDS,
        description="How long an engine may load before it is restarted: large models take half an hour to download "
        "and compile.",
    )
    canary: Literal["IfIdle", "Never"] = Field(
        default="IfIdle",
        description="Whether an engine without work has to complete a prompt of one letter now and then. Without it, "
        "an engine that hangs while idle is found by its users: its metrics look the same (measured: 0 requests "
        "running, even with one outstanding). The first prompt, which admits an engine, is completed in any case.",
    )
    canary_interval_seconds: Annotated[int, Field(ge=1, le=300)] | None = Field(
        default=None,
        description=f"How long an engine without work is believed ({DEFAULT_CANARY_SECONDS}). Kubelet asks every 5 s, "
        "so each of its looks at an idle engine sends a canary, which takes 38 ms of a small engine on two cores; an "
        "engine at work gets none. Each second more is one more until an idle engine that hangs leaves the Service.",
    )
    stall_window_seconds: Annotated[int, Field(ge=5, le=3600)] | None = Field(
        default=None,
        description=f"Without a step of the engine for so long, it loses its traffic ({DEFAULT_STALL_SECONDS}): the "
        "longest window with which a hung engine leaves within 12 s, its last step, kubelet's period of 5 s and the "
        "EndpointSlice included. Must be longer than the longest single step: a chunk of a long prompt on slow "
        "hardware. A saturated engine was measured to make 2840 steps in 3 s while its own canary waited in the queue.",
    )
    restart_window_seconds: Annotated[int, Field(ge=10, le=7200)] | None = Field(
        default=None,
        description=f"Without a step for so long, the liveness probe fails ({DEFAULT_RESTART_SECONDS}); each pod adds "
        "up to a quarter of its own, so that a fleet does not restart at once. Kubelet restarts the container at the "
        "third failure, 20 s later, and gives the hung process 10 s to end: 210 to 255 s after the last step. Sound "
        "engines were reported to compile kernels for 30 to 70 s within one step, and vLLM gives a step 300 s; a "
        "restart costs minutes with a large model. An engine that sleeps or is paused is not restarted.",
    )
    restart: Literal["IfHung", "Never"] = Field(
        default="IfHung", description="Whether an engine that hangs is restarted, or only loses its traffic."
    )
    probe: Annotated[list[ProbeWord], Field(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="Command that kubelet runs in the engine's container as startup, readiness and liveness probe, "
        "instead of the gate program: a way out for images without python3 3.9. Exit code 0 passes. It has 15 s, and "
        "everything that is promised of the gates is then its own affair.",
        json_schema_extra=ATOMIC,
    )
