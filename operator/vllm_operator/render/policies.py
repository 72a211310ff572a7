"""What surrounds the engines: their account, who may call them, how many a drain leaves, who reads their metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.render import groups, manager
from vllm_operator.render.objects import child
from vllm_operator.render.service import PORT_NAME

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec.operations import Disruption
    from vllm_operator.render.context import RenderContext

_NAMESPACE: Final = "kubernetes.io/metadata.name"
"""Label that the API server gives each namespace: its name."""


def service_account(model: VLLMModel) -> tuple[dict[str, Any], ...]:
    """An account without any rights, unless the user names one."""
    pod = model.spec.pod
    if pod.service_account_name:
        return ()
    name = names.engines_name(model.instance)
    body = child(
        model,
        api_version="v1",
        kind="ServiceAccount",
        name=name,
        component="engine",
        annotations=pod.service_account_annotations,
        automountServiceAccountToken=False,
    )
    return (body,)


def network_policy(model: VLLMModel, context: RenderContext) -> tuple[dict[str, Any], ...]:
    """Who may call the engines; and their managers, beside the model's other engines and the operator.

    kubelet needs no leave: a node always reaches its own pods.
    """
    network = model.spec.network
    if network is None:
        return ()
    peers = [peer.manifest() for peer in network.allow_from]
    engines = {"matchLabels": names.selector_labels(model.instance)}
    operator = {
        "namespaceSelector": {"matchLabels": {_NAMESPACE: context.operator_namespace}},
        "podSelector": {"matchLabels": names.operator_pod_labels(context.release)},
    }
    gate = {
        "from": [{"podSelector": engines}, operator],
        "ports": [{"port": manager.PORT_NAME, "protocol": "TCP"}],
    }
    grouped = model.spec.parallelism.group_size > 1  # its pods talk on ports that the libraries choose
    spec = {
        "podSelector": engines,
        "policyTypes": ["Ingress"],
        "ingress": [
            *([{"from": peers}] if peers else []),  # a rule without peers would let everybody in
            gate,
            *([{"from": [{"podSelector": engines}]}] if grouped else []),
        ],
    }
    return (_policy(model, "networking.k8s.io/v1", "NetworkPolicy", spec),)


def disruption_budget(model: VLLMModel) -> tuple[dict[str, Any], ...]:
    """How many engines a drain of nodes leaves. An engine that does not serve anyway never blocks one."""
    disruption = model.spec.disruption
    if disruption is None:
        return ()
    spec = {
        **(disruption.manifest() if model.spec.parallelism.group_size == 1 else _of_groups(disruption, model)),
        "selector": {"matchLabels": names.selector_labels(model.instance)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return (_policy(model, "policy/v1", "PodDisruptionBudget", spec),)


def _of_groups(disruption: Disruption, model: VLLMModel) -> dict[str, Any]:
    """The budget in pods of which each costs its whole group: as many may go as groups may.

    Once one has gone, its group is not ready, and counts as gone until it has been made anew.
    """
    replicas = model.spec.wanted_replicas
    given = disruption.min_available if disruption.max_unavailable is None else disruption.max_unavailable
    share = isinstance(given, str) and given.endswith("%")
    count = math.ceil(int(str(given).rstrip("%")) * replicas / 100) if share else int(given or 0)
    return {"maxUnavailable": count if disruption.max_unavailable is not None else max(replicas - count, 0)}


def pod_monitor(model: VLLMModel, context: RenderContext) -> tuple[dict[str, Any], ...]:
    """Who reads the metrics of the engines and of their managers, where the cluster knows the resource."""
    monitoring = model.spec.monitoring
    if monitoring is None or not context.pod_monitors:
        return ()
    collected = {"path": "/metrics", "interval": f"{monitoring.interval_seconds}s"}
    # Prometheus asks each pod by its address, which no certificate names
    secure = {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}} if model.spec.engine.tls else {}
    spec = {
        "selector": {"matchLabels": {**names.selector_labels(model.instance), **groups.leader_labels(model.spec)}},
        "podMetricsEndpoints": [
            {"port": PORT_NAME, **collected, **secure},
            {"port": manager.PORT_NAME, **collected},
        ],
    }
    return (_policy(model, "monitoring.coreos.com/v1", "PodMonitor", spec, labels=monitoring.labels),)


def _policy(
    model: VLLMModel, api_version: str, kind: str, spec: dict[str, Any], *, labels: dict[str, str] | None = None
) -> dict[str, Any]:
    name = model.instance
    return child(model, api_version=api_version, kind=kind, name=name, component="engine", labels=labels, spec=spec)
