"""Every value of the chart: its type, its default, and what it is for.

A value may be null, as Helm has it for "not set"; only what a template cannot do without may not.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from vllm_operator.api.base import Model
from vllm_operator.api.spec.core import Affinity, EnvVarSource, LocalObjectReference, NetworkPolicyPeer, Toleration
from vllm_operator.api.spec.scalars import Annotations, LabelKey, LabelName, Labels, Quantities
from vllm_operator.settings import LOG_FORMATS, LOG_LEVELS, PREFIX, Settings

NEEDED: Final = "x-needed"
"""Marks a value that templates cannot do without, besides groups and switches."""

MAY_BE_MISSING: Final = "x-may-be-missing"
"""Marks a group that they can do without."""

_OPTIONS: Final = {option.name: option for option in dataclasses.fields(Settings)}

SET_BY_THE_CHART: Final = tuple(
    f"{PREFIX}{name.upper()}"
    for name in (
        "namespace",
        "pod",
        "log_level",
        "log_format",
        "prometheus_address",
        "name",
        "namespaces",
        "model_selector",
        "lease_name",
        "listen_port",
    )
)
"""Variables that have a value of their own here, or that a role or a probe depends on."""

LABELS_OF_THE_CHART: Final = ("app.kubernetes.io/name", "app.kubernetes.io/part-of")
"""Labels of the pods that the Deployment, its budget and what watches it select by."""


def _option(name: str) -> Any:
    """Text as the operator takes it for an option."""
    return Annotated[str, StringConstraints(pattern=f"^{_OPTIONS[name].metadata['pattern'].pattern}$")]


def _other_than(names: tuple[str, ...]) -> WithJsonSchema:
    """The name of a variable that is none of these."""
    schema = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.-]*$", "maxLength": 253, "not": {"enum": [*names]}}
    return WithJsonSchema(schema)


def _each_once(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise ValueError("each only once")
    return values


class Image(Model):
    """Image of the operator."""

    repository: Annotated[str, StringConstraints(min_length=1, pattern=r"^([^\s:@/]+(:[0-9]+)?/)?[^\s:@]+$")] = Field(
        default="vllm-operator",
        description="Image of the operator (operator/Dockerfile), without tag and digest",
        json_schema_extra={NEEDED: True},
    )
    tag: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$")] = Field(
        default="",
        description="Its tag, as text (`--set-string` where it is a number); the chart's appVersion where it is empty",
    )
    digest: Annotated[str, StringConstraints(pattern="^(sha256:[a-f0-9]{64})?$")] = Field(
        default="", description="Its digest, such as sha256:0123..., which counts instead of the tag"
    )
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="When nodes fetch it"
    )


class Rbac(Model):
    """Rights of the operator."""

    create: bool = Field(
        default=True,
        description="Make the operator's role and bind it. Without, somebody else does, as for namespaces that do not "
        "exist yet",
    )


class Budget(Model):
    """What keeps drains from taking all replicas at once."""

    enabled: bool = Field(default=True, description="Have a drain take one replica at a time")


class Reach(Model):
    """Who reaches the operator's port."""

    enabled: bool = Field(
        default=False,
        description="Make a NetworkPolicy: beside kubelet, whose probes come through every policy, nobody but those of "
        "allowFrom reaches the operator's port, with its metrics. What the operator itself may reach, it does not say",
    )
    allow_from: Annotated[list[NetworkPolicyPeer], Field(max_length=32)] = Field(
        default=[],
        description="Who may, as in a NetworkPolicy: of a Prometheus in the namespace monitoring "
        "[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]",
    )


class PodUser(Model):
    """Who the operator's processes are. The rest of the restricted standard is not to be changed."""

    run_as_user: Annotated[int, Field(ge=1, le=2147483647)] = Field(
        default=1000, description="User id of the operator; null leaves it to the cluster, as OpenShift wants it"
    )
    run_as_group: Annotated[int, Field(ge=1, le=2147483647)] = Field(
        default=1000, description="Its group id; null leaves it to the cluster"
    )


class Resources(Model):
    """CPU and memory."""

    requests: Quantities = Field(
        default={"cpu": "50m", "memory": "128Mi"}, description="What a node must have free for each replica"
    )
    limits: Quantities = Field(default={"memory": "512Mi"}, description="What a replica may use at most")


class Variable(Model):
    """An environment variable, as in a pod."""

    name: Annotated[str, _other_than(SET_BY_THE_CHART)]
    value: Annotated[str, StringConstraints(max_length=32768)] | None = None
    value_from: EnvVarSource | None = None


class Definitions(Model):
    """The CustomResourceDefinition."""

    enabled: bool = Field(
        default=True, description="Install and upgrade the CustomResourceDefinition with the chart; once in a cluster"
    )
    keep: bool = Field(
        default=True,
        description="Leave it, and so every VLLMModel, in place when the chart is uninstalled. Without, "
        "`helm uninstall` deletes all models of the cluster, and their engines",
    )


class Trial(Model):
    """What `helm test` does."""

    enabled: bool = Field(
        default=True, description="Have `helm test` serve a model and complete a prompt (docs/install.md)"
    )
    spec: dict[str, Any] = Field(
        default={"model": {"source": "Qwen/Qwen2.5-0.5B-Instruct"}},
        description="Spec of that VLLMModel. It is in the release's namespace, or in the first one of `namespaces`",
        json_schema_extra={NEEDED: True},
    )
    labels: Labels = Field(default={}, description="Labels of that VLLMModel, where modelSelector asks for some")
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        default="The sky is", description="What it has to complete", json_schema_extra={NEEDED: True}
    )
    timeout_seconds: Annotated[int, Field(ge=10, le=86400)] = Field(
        default=1800,
        description="How long the model may take until it has completed it; give `helm test --timeout` more",
        json_schema_extra={NEEDED: True},
    )


class PodMonitor(Model):
    """What collects metrics where there is a Prometheus operator."""

    enabled: bool = Field(
        default=False,
        description="Have a Prometheus operator collect the metrics of the operator and of the engines' gates. "
        "docs/monitoring.md",
    )
    interval: Annotated[str, StringConstraints(pattern="^([0-9]+(ms|s|m|h))+$")] = Field(
        default="30s", description="How often Prometheus reads each pod", json_schema_extra={NEEDED: True}
    )
    labels: Labels = Field(default={}, description="Labels by which a Prometheus selects its PodMonitors")


class PrometheusRule(Model):
    """Alerts."""

    enabled: bool = Field(default=False, description="Make a PrometheusRule of the alerts in files/alerts.yaml")
    labels: Labels = Field(default={}, description="Labels by which a Prometheus selects its rules")
    runbook_base: Annotated[str, StringConstraints(pattern="^(https?://[^\\s]*/)?$")] = Field(
        default="",
        description="URL that stands before docs/runbooks/NAME.md in the alerts' runbook_url, with a slash at its end",
    )


class Dashboards(Model):
    """What Grafana shows."""

    enabled: bool = Field(default=False, description="Make a ConfigMap of each Grafana dashboard in files/dashboards")
    labels: Labels = Field(
        default={"grafana_dashboard": "1"}, description="Labels by which Grafana's sidecar finds them"
    )


class Monitoring(Model):
    """What watches the operator and the engines."""

    pod_monitor: PodMonitor = Field(default_factory=PodMonitor)
    prometheus_rule: PrometheusRule = Field(default_factory=PrometheusRule)
    dashboards: Dashboards = Field(default_factory=Dashboards)


class Values(Model):
    """Every value, in the order of values.yaml."""

    image: Image = Field(default_factory=Image)
    image_pull_secrets: list[LocalObjectReference] = Field(
        default=[], description="Secrets with the credentials of the image's registry, such as [{name: registry}]"
    )
    namespaces: Annotated[list[LabelName], AfterValidator(_each_once)] = Field(
        default=[],
        description="Namespaces to follow, where it is not the whole cluster: the operator gets a Role in each of "
        "them, and no rights elsewhere. docs/scope.md",
        json_schema_extra={"uniqueItems": True},
    )
    name: _option("name") = Field(  # type: ignore[valid-type] # made of the operator's own option
        default="",
        description="Name of this operator, where there are several beside each other; empty: the default one. It "
        "never changes",
    )
    model_selector: Annotated[str, StringConstraints(pattern=r"^[-A-Za-z0-9_./!=,() ]*$")] = Field(
        default="",
        description="Label selector of the VLLMModels to follow; empty: all that are not labelled for another operator",
    )
    rbac: Rbac = Field(default_factory=Rbac)
    user_roles: bool = Field(
        default=True,
        description="Let the cluster's own roles view, edit and admin hold rights on VLLMModels; once in a cluster",
    )
    replicas: Annotated[int, Field(ge=0, le=100)] = Field(
        default=2,
        description="Operators that run: one works, the others stand by and take over within seconds. null leaves the "
        "number to somebody else",
    )
    pod_disruption_budget: Budget = Field(default_factory=Budget)
    log_level: Literal[LOG_LEVELS] = Field(  # type: ignore[valid-type] # the operator's own
        default="INFO", description=", ".join(LOG_LEVELS[:-1]) + f" or {LOG_LEVELS[-1]}"
    )
    log_format: Literal[LOG_FORMATS] = Field(  # type: ignore[valid-type] # the operator's own
        default="TEXT",
        description="TEXT, or JSON: a document a line, with object, model and reason of each write. docs/monitoring.md",
    )
    prometheus_address: _option("prometheus_address") = Field(  # type: ignore[valid-type] # as above
        default="",
        description="URL of the Prometheus that KEDA asks about models with spec.autoscaling, such as "
        "http://prometheus.monitoring:9090; empty: each model names its own. docs/autoscaling.md",
    )
    extra_env: list[Variable] = Field(
        default=[],
        description="Further environment variables of the operator, as in a pod, such as [{name: "
        'VLLM_OPERATOR_WORKERS, value: "32"}]. What has a value of its own here is refused',
    )
    network_policy: Reach = Field(default_factory=Reach)
    resources: Resources = Field(default_factory=Resources, json_schema_extra={MAY_BE_MISSING: True})
    pod_labels: Labels = Field(
        default={},
        description="Further labels of the operator's pods. They select nothing",
        json_schema_extra={"properties": dict.fromkeys(LABELS_OF_THE_CHART, False)},
    )
    pod_annotations: Annotations = Field(default={}, description="Annotations of the operator's pods")
    pod_security_context: PodUser = Field(default_factory=PodUser, json_schema_extra={MAY_BE_MISSING: True})
    priority_class_name: Annotated[
        str, StringConstraints(max_length=253, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")
    ] = Field(default="", description="Priority class of the operator's pods, such as system-cluster-critical")
    node_selector: Labels = Field(default={}, description="Labels that a node must have")
    tolerations: list[Toleration] = Field(default=[], description="Taints of nodes that the operator accepts")
    affinity: Affinity = Field(
        default=Affinity(),
        description="Where the operator goes, with regard to nodes and to other pods. To keep replicas apart, take "
        "topologySpread: a required anti-affinity needs a node to spare for each upgrade",
    )
    topology_spread: dict[LabelKey, Literal["ScheduleAnyway", "DoNotSchedule"]] = Field(
        default={"kubernetes.io/hostname": "ScheduleAnyway"},
        description="Labels of nodes over whose values replicas are spread evenly, and what happens where that cannot "
        "be; null takes one away",
    )
    crds: Definitions = Field(default_factory=Definitions)
    metrics: Monitoring = Field(default_factory=Monitoring)
    test: Trial = Field(default_factory=Trial)
