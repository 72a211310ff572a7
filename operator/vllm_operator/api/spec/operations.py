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
DEFAULT_LONGEST_STALL_SECONDS: Final = 60
DEFAULT_RESTART_SECONDS: Final = 180
"""The windows of the manager, which has them as well: a test holds them together."""

DEFAULT_GATE_PORT: Final = 8480

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
                f"!has(self.longestStallWindowSeconds) || self.longestStallWindowSeconds >= {_STALL_WINDOW}",
                "spec.gates.longestStallWindowSeconds must not be shorter than stallWindowSeconds",
                field_path=".longestStallWindowSeconds",
            ),
        ),
    )

    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=DEFAULT_GATE_PORT,
        description="Port on which the manager, process 1 of the engine's container, answers kubelet's probes, the "
        "operator, the model's other engines (/status) and Prometheus (/metrics). On the node's own network "
        "(hostNetwork) each model needs a number of its own, as of spec.engine.port.",
    )
    startup_budget_seconds: Annotated[int, Field(ge=30, le=86400)] = Field(
        default=DEFAULT_STARTUP_BUDGET_SECONDS,
        description="How long an engine may load before it is ended and started anew: large models take half an hour "
        "to download and compile.",
    )
    canary: Literal["IfIdle", "Never"] = Field(
        default="IfIdle",
        description="Whether an engine without work has to complete a prompt of one letter now and then. Without it, "
        "an engine that hangs while idle is found by its users: its metrics look the same (measured: 0 requests "
        "running, even with one outstanding). The first prompt, which admits an engine, is completed in any case.",
    )
    canary_interval_seconds: Annotated[int, Field(ge=1, le=300)] | None = Field(
        default=None,
        description=f"How long an engine without work is believed ({DEFAULT_CANARY_SECONDS}). Then it gets a canary, "
        "which takes 38 ms of a small engine on two cores; an engine at work gets none. Each second more is one more "
        "until an idle engine that hangs leaves the Service.",
    )
    stall_window_seconds: Annotated[int, Field(ge=5, le=3600)] | None = Field(
        default=None,
        description=f"Without a step for so long, an engine with work loses its traffic ({DEFAULT_STALL_SECONDS}), if "
        "its steps are short. The window follows what the engine is seen to do: it is twice the longest step of the "
        "last hour and a second more, within stallWindowSeconds and longestStallWindowSeconds. So a hung engine leaves "
        "within 12 s where steps are short, and one that reads long prompts on slow hardware stays. Silence alone "
        "never takes more than half of a model's ready engines, nor the last one.",
    )
    longest_stall_window_seconds: Annotated[int, Field(ge=5, le=3600)] | None = Field(
        default=None,
        description=f"So far the stall window follows the longest step ({DEFAULT_LONGEST_STALL_SECONDS}, or "
        "stallWindowSeconds where that is longer). It is also the window while kernels are compiled, or while the "
        "server's own process is busy and does not answer.",
    )
    restart_window_seconds: Annotated[int, Field(ge=10, le=7200)] | None = Field(
        default=None,
        description=f"Without a step for so long, an engine is ended and started anew ({DEFAULT_RESTART_SECONDS}); "
        "each pod adds up to a quarter of its own, and engines of one model restart one at a time. One whose processes "
        "use no processor time at all is frozen, and restarted after 60 s, or after this window if it is shorter. One "
        "that is seen to compute, to compile or to write is not restarted before vLLM's own limit for a step (300 s, "
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS) is over, or this window if it is longer. An engine that sleeps, is paused "
        "or scales is never restarted.",
    )
    restart: Literal["IfHung", "Never"] = Field(
        default="IfHung", description="Whether an engine that hangs is restarted, or only loses its traffic."
    )
    probe: Annotated[list[ProbeWord], Field(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="Command that the manager runs in the engine's container in place of a prompt of its own: before "
        "the engine gets traffic, and as its canary, where a model serves something that the manager cannot ask for. "
        "Exit code 0 passes. It has 15 s, whatever the windows.",
        json_schema_extra=ATOMIC,
    )
