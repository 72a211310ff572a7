"""`spec.disruption`, `spec.monitoring` and `spec.gates`: what keeps the engines in service, and who watches them."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.scalars import CountOrPercent, Labels

DEFAULT_STARTUP_BUDGET_SECONDS: Final = 3600
DEFAULT_SCRAPE_SECONDS: Final = 15


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


class Gates(Model):
    """The gates that decide which engines get traffic."""

    startup_budget_seconds: Annotated[int, Field(ge=30, le=86400)] = Field(
        default=DEFAULT_STARTUP_BUDGET_SECONDS,
        description="How long an engine may load before it is restarted: large models take half an hour to download "
        "and compile.",
    )
