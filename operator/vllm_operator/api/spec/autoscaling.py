"""`spec.autoscaling`: how many engines there are, by what they have to do."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.scalars import ATOMIC, ObjectName

DEFAULT_WAITING_REQUESTS: Final = 5
DEFAULT_KV_CACHE_PERCENT: Final = 80
"""At what an engine counts as saturated for llm-d's Workload Variant Autoscaler (queueLengthThreshold 5 and
kvCacheThreshold 0.80, docs/saturation-scaling-config.md) and for the endpoint picker of the Gateway API Inference
Extension (queueDepthThreshold and kvCacheUtilThreshold)."""

DEFAULT_LOAD_SECONDS: Final = 600
"""How long an engine is taken to load before one of the model has been seen to."""

DEFAULT_IDLE_SECONDS: Final = 300
"""KEDA's own cooldownPeriod."""

LONGEST_POLICY_SECONDS: Final = 1800
LONGEST_WINDOW_SECONDS: Final = 3600
"""What a HorizontalPodAutoscaler takes (`MaxPeriodSeconds` and `MaxStabilizationWindowSeconds` in
kubernetes/pkg/apis/autoscaling/validation)."""

_Replicas = Annotated[int, Field(ge=1, le=1000)]
_Requests = Annotated[int, Field(ge=1, le=100000)]
_MetricLabels = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=128, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")],
        Annotated[str, StringConstraints(max_length=256, pattern=r'^[^"\\\n]*$')],
    ],
    Field(max_length=16),
]
_Window = Annotated[int, Field(ge=0, le=LONGEST_WINDOW_SECONDS)]


class Targets(Model):
    """What one engine is to have to do, on average. The target that asks for the most engines counts."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "has(self.waitingRequests) || has(self.kvCachePercent) || has(self.runningRequests)",
                "spec.autoscaling.targets needs one of waitingRequests, kvCachePercent and runningRequests, or leave "
                "it out",
            )
        ),
    )

    waiting_requests: _Requests | None = Field(
        default=None, description="Requests that wait in an engine (vllm:num_requests_waiting)."
    )
    kv_cache_percent: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="How full the KV cache of an engine is (vllm:kv_cache_usage_perc)."
    )
    running_requests: _Requests | None = Field(
        default=None,
        description="Requests that an engine works on (vllm:num_requests_running). It depends on model, GPU and "
        "prompts, so there is no default: measure at which number your latency is still good.",
    )


DEFAULT_TARGETS: Final = Targets(waiting_requests=DEFAULT_WAITING_REQUESTS, kv_cache_percent=DEFAULT_KV_CACHE_PERCENT)


class ScalingBehavior(Model):
    """How fast the number of engines may change."""

    load_seconds: Annotated[int, Field(ge=15, le=LONGEST_POLICY_SECONDS)] | None = Field(
        default=None,
        description="How long an engine takes from its pod to its first completed prompt. In so long the engines at "
        "most double, and a lull that is shorter takes none away. Left out, it is what the quickest of the engines "
        f"that serve took, and before one has served {DEFAULT_LOAD_SECONDS}, or gates.startupBudgetSeconds if that is "
        "less.",
    )
    scale_up_window_seconds: _Window = Field(
        default=0, description="How long more engines have to be asked for before they come."
    )
    scale_down_window_seconds: _Window | None = Field(
        default=None,
        description="How long fewer engines have to be enough before one goes. Default: loadSeconds, and at least "
        "Kubernetes's own 300.",
    )


class PrometheusAuthentication(Model):
    """How KEDA shows Prometheus who it is."""

    name: ObjectName = Field(description="KEDA's TriggerAuthentication in the model's namespace.")
    modes: Annotated[
        list[Literal["basic", "bearer", "custom", "tls"]],
        Field(min_length=1, max_length=4),
    ] = Field(description="What of it is used: KEDA's authModes.", json_schema_extra=ATOMIC)


class Prometheus(Model):
    """The Prometheus that KEDA asks."""

    server_address: Annotated[str, StringConstraints(max_length=1024, pattern=r"^https?://[^\s/]+(/\S*)?$")] | None = (
        Field(
            default=None,
            description="Its URL. Default: the operator's VLLM_OPERATOR_PROMETHEUS_ADDRESS.",
        )
    )
    labels: _MetricLabels | None = Field(
        default=None,
        description="Labels that the metrics of this model's engines have in it, in place of `namespace` and `pod` as "
        "the Prometheus operator sets them. `pod` still has to tell the engines apart.",
    )
    authentication: PrometheusAuthentication | None = Field(
        default=None, description="How KEDA shows it who it is; it need not if not set."
    )


class Idle(Model):
    """When the last engine goes, and what brings one back."""

    query: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        description="PromQL of what is upstream of the engines, such as a gateway's requests for this model: a number "
        "greater than 0 keeps an engine, or brings one back. No metric of vLLM can: where no engine is, none is told.",
    )
    after_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=DEFAULT_IDLE_SECONDS,
        description="How long there has to be nothing to do before the last engine goes, on top of what one takes to "
        "load: KEDA's cooldownPeriod.",
    )


class Autoscaling(Model):
    """How many engines there are, by what they have to do: a ScaledObject of KEDA, or a HorizontalPodAutoscaler."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "self.minReplicas <= self.maxReplicas",
                "spec.autoscaling.minReplicas must not be greater than maxReplicas",
                field_path=".minReplicas",
            ),
            Rule(
                "self.minReplicas > 0 || has(self.idle)",
                "spec.autoscaling.minReplicas 0 needs idle.query, which says when an engine is wanted again: without "
                "engines there are no metrics of vLLM that could",
                field_path=".minReplicas",
            ),
            Rule(
                "!has(self.idle) || self.minReplicas == 0",
                "spec.autoscaling.idle says when the last engine goes, and with minReplicas greater than 0 it stays: "
                "set minReplicas 0, or remove idle",
                field_path=".idle",
            ),
            Rule(
                "!has(self.fallbackReplicas) || self.fallbackReplicas <= self.maxReplicas",
                "spec.autoscaling.fallbackReplicas must not be greater than maxReplicas",
                field_path=".fallbackReplicas",
            ),
        ),
    )

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="Fewest engines. 0 is for KEDA alone, and needs idle."
    )
    max_replicas: _Replicas = Field(description="Most engines.")
    targets: Targets | None = Field(
        default=None,
        description="What one engine is to have to do. Default: waitingRequests "
        f"{DEFAULT_WAITING_REQUESTS} and kvCachePercent {DEFAULT_KV_CACHE_PERCENT}.",
    )
    behavior: ScalingBehavior = Field(
        default_factory=ScalingBehavior, description="How fast the number of engines may change."
    )
    fallback_replicas: _Replicas | None = Field(
        default=None,
        description="With KEDA, fewest engines while Prometheus does not answer or has no metrics of them; those that "
        "there are stay in any case. Default: minReplicas, and at least 1.",
    )
    idle: Idle | None = Field(default=None, description="When the last engine goes, and what brings one back.")
    prometheus: Prometheus = Field(default_factory=Prometheus, description="The Prometheus that KEDA asks.")

    @property
    def wanted_targets(self) -> Targets:
        """The targets, those of the spec or the default ones."""
        return self.targets or DEFAULT_TARGETS

    @property
    def fewest_serving(self) -> int:
        """Fewest engines as long as there is one."""
        return max(self.min_replicas, 1)
