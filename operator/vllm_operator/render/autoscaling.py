"""What sets the number of engines: a ScaledObject of KEDA, or a HorizontalPodAutoscaler on custom metrics.

Both aim at the scale subresource of the VLLMModel, never at its Deployment: `spec.replicas` has one writer, and the
operator goes on choosing which engines a scale-down takes.

Neither may flap while engines load for minutes. In the time that one takes to load, the engines at most double: what
has been asked for begins to serve before more is. And fewer are kept only if they were enough for that long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.api.spec.autoscaling import LONGEST_POLICY_SECONDS, LONGEST_WINDOW_SECONDS
from vllm_operator.api.spec.engine import DEFAULT_SHUTDOWN_DELAY_SECONDS
from vllm_operator.render.objects import child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec.autoscaling import Autoscaling
    from vllm_operator.render.context import RenderContext

SCALED_OBJECT: Final = "ScaledObject"
AUTOSCALER: Final = "HorizontalPodAutoscaler"

_SHORTEST_SCALE_DOWN_WINDOW_SECONDS: Final = 300
"""Kubernetes's own default."""

_SHORTEST_PAUSE_SECONDS: Final = 60
"""Between two engines that go: the load of the first has to show on the others before the next one does."""

_FAILURES: Final = 3
"""Looks at Prometheus, 30 s from one to the next, that fail before KEDA falls back."""

_NEVER_REACHED: Final = "1000000000"
"""Threshold of what wakes the model: it asks for one engine, however much there is to do; the targets ask for more."""

_LONGEST_POD_PREFIX: Final = 58
"""Of the names that a ReplicaSet gives its pods, which end with five further characters (apiserver, storage/names)."""

_HASH_LENGTH: Final = 10
"""Longest `pod-template-hash`, which stands in the pod's name between those of the Deployment and of the pod."""


@dataclass(frozen=True, slots=True)
class _Signal:
    """One target, as both kinds of autoscaler need it."""

    name: str
    """Of the trigger."""
    custom_metric: str
    """Its name in the custom-metrics API, where a colon would have to be escaped in each rule of an adapter."""
    query: str
    """What Prometheus is asked for: the sum over all engines, with `{}` for the labels by which they are found."""
    threshold: int
    """What one engine is to have, in the unit of the query."""
    quantity: str
    """The same in the unit of the custom metric, as the API server writes it."""


def autoscaler(model: VLLMModel, context: RenderContext) -> tuple[dict[str, Any], ...]:
    """What the spec asks for, of the kind that the cluster can have."""
    scaling = model.spec.autoscaling
    if scaling is None or not context.autoscaler:
        return ()
    if context.autoscaler == SCALED_OBJECT:
        return (_child(model, "keda.sh/v1alpha1", SCALED_OBJECT, _scaled_object(model, scaling, context)),)
    return (_child(model, "autoscaling/v2", AUTOSCALER, _pod_autoscaler(model, scaling, context)),)


def prometheus_address(scaling: Autoscaling, operators: str) -> str:
    """URL of the Prometheus that KEDA asks: that of the spec, or the operator's; empty where neither is set."""
    return scaling.prometheus.server_address or operators


def _child(model: VLLMModel, api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return child(model, api_version=api_version, kind=kind, name=model.instance, component="autoscaler", spec=spec)


def _target(model: VLLMModel) -> dict[str, str]:
    return {"apiVersion": API_VERSION, "kind": KIND, "name": model.name}


def _pod_autoscaler(model: VLLMModel, scaling: Autoscaling, context: RenderContext) -> dict[str, Any]:
    """Averages over the engines, of which Kubernetes itself counts those out that do not serve yet."""
    metrics = [
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": signal.custom_metric},
                "target": {"type": "AverageValue", "averageValue": signal.quantity},
            },
        }
        for signal in _signals(scaling)
    ]
    return {
        "scaleTargetRef": _target(model),
        "minReplicas": scaling.fewest_serving,
        "maxReplicas": scaling.max_replicas,
        "metrics": metrics,
        "behavior": _behavior(model, scaling, context),
    }


def _scaled_object(model: VLLMModel, scaling: Autoscaling, context: RenderContext) -> dict[str, Any]:
    """Sums over the engines, of which KEDA's HorizontalPodAutoscaler makes the number that each has the target."""
    spec: dict[str, Any] = {
        "scaleTargetRef": _target(model),
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "fallback": {
            "failureThreshold": _FAILURES,
            "replicas": scaling.fallback_replicas or scaling.fewest_serving,
            "behavior": "currentReplicasIfHigher",
        },
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(model, scaling, context)}},
        "triggers": list(_triggers(model, scaling, context)),
    }
    if scaling.idle:
        # who asks for a model that sleeps may give up before it has loaded: it is to load all the same. Of a model that
        # has never been active, KEDA takes the last engine at once unless it is told to wait then, too
        seconds = scaling.idle.after_seconds + _load_seconds(scaling, context)
        spec |= {"cooldownPeriod": seconds, "initialCooldownPeriod": seconds}
    return spec


def _triggers(model: VLLMModel, scaling: Autoscaling, context: RenderContext) -> Iterator[dict[str, Any]]:
    engines = _matchers(model, scaling)
    for signal in _signals(scaling):
        yield _trigger(signal.name, signal.query.format(engines), str(signal.threshold), scaling, context)
    if scaling.idle:
        running = f"sum(vllm:num_requests_running{engines}) + sum(vllm:num_requests_waiting{engines})"
        query = f"(sum({scaling.idle.query}) or vector(0)) + ({running} or vector(0))"
        yield _trigger("wanted", query, _NEVER_REACHED, scaling, context)


def _trigger(name: str, query: str, threshold: str, scaling: Autoscaling, context: RenderContext) -> dict[str, Any]:
    """One question to Prometheus. No answer to it is an error, unless there may be no engine that could tell."""
    authentication = scaling.prometheus.authentication
    metadata = {
        "serverAddress": prometheus_address(scaling, context.prometheus_address),
        "query": query,
        "threshold": threshold,
        "ignoreNullValues": "true" if scaling.idle else "false",
    }
    trigger: dict[str, Any] = {"type": "prometheus", "name": name, "metricType": "AverageValue", "metadata": metadata}
    if authentication:
        metadata["authModes"] = ",".join(authentication.modes)
        trigger["authenticationRef"] = {"name": authentication.name}
    return trigger


def _signals(scaling: Autoscaling) -> Iterator[_Signal]:
    """The targets. The ranks of one engine share its requests, and have a cache each, of which the average counts."""
    targets = scaling.wanted_targets
    if targets.waiting_requests:
        count, metric = targets.waiting_requests, "num_requests_waiting"
        yield _Signal("waiting", f"vllm_{metric}", f"sum(vllm:{metric}{{}})", count, str(count))
    if targets.kv_cache_percent:
        percent, metric = targets.kv_cache_percent, "kv_cache_usage_perc"
        query = f"100 * sum(avg by (pod) (vllm:{metric}{{}}))"
        yield _Signal("kv-cache", f"vllm_{metric}", query, percent, _share(percent))
    if targets.running_requests:
        count, metric = targets.running_requests, "num_requests_running"
        yield _Signal("running", f"vllm_{metric}", f"sum(vllm:{metric}{{}})", count, str(count))


def _share(percent: int) -> str:
    """A percentage as the quantity that the API server makes of it."""
    return "1" if percent == 100 else f"{percent * 10}m"  # noqa: PLR2004 # a whole


def _matchers(model: VLLMModel, scaling: Autoscaling) -> str:
    """The labels by which Prometheus finds the metrics of this model's engines, and of no other's."""
    labels = scaling.prometheus.labels
    if labels:
        return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"
    return f'{{namespace="{model.namespace}",pod=~"{_pod_names(model.instance)}"}}'


def _pod_names(instance: str) -> str:
    """Regular expression of the engines' pods: names of models hold letters, digits and hyphens alone."""
    prefix = f"{instance}-"
    if len(prefix) + _HASH_LENGTH + 1 > _LONGEST_POD_PREFIX:  # Kubernetes cuts what stands before the last part
        return f"{prefix[:_LONGEST_POD_PREFIX]}.*"
    return f"{prefix}[a-z0-9]+-[a-z0-9]{{5}}"


def _behavior(model: VLLMModel, scaling: Autoscaling, context: RenderContext) -> dict[str, Any]:
    """How fast the number changes; whole, since the API server counts any other part of it as somebody else's."""
    behavior, load = scaling.behavior, _load_seconds(scaling, context)
    window = behavior.scale_down_window_seconds
    if window is None:
        window = min(max(load, _SHORTEST_SCALE_DOWN_WINDOW_SECONDS), LONGEST_WINDOW_SECONDS)
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": behavior.scale_up_window_seconds,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": load}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": window,
            "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": _drain_seconds(model)}],
        },
    }


def _load_seconds(scaling: Autoscaling, context: RenderContext) -> int:
    return scaling.behavior.load_seconds or context.load_seconds


def _drain_seconds(model: VLLMModel) -> int:
    """How long an engine takes to end, so that one goes after the other."""
    engine = model.spec.engine
    delay = engine.shutdown_delay_seconds
    seconds = (DEFAULT_SHUTDOWN_DELAY_SECONDS if delay is None else delay) + engine.shutdown_timeout_seconds
    return min(max(seconds, _SHORTEST_PAUSE_SECONDS), LONGEST_POLICY_SECONDS)
