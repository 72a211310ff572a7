"""`spec.scheduling` and `spec.pod`: where the engines' pods run, and what else is in them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.core import (
    Affinity,
    Container,
    LocalObjectReference,
    PodSecurityContext,
    SecurityContext,
    Toleration,
    TopologySpreadConstraint,
    Volume,
    VolumeMount,
)
from vllm_operator.api.spec.scalars import ATOMIC, MAP_BY_NAME, Annotations, Labels, ObjectName

OPERATOR_LABELS: Final = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
)
OPERATOR_VOLUMES: Final = (
    "cache",
    "config",
    "home",
    "manager",
    "manager-state",
    "server-certificate",
    "shm",
    "startup",
    "tmp",
)


class Scheduling(Model):
    """Where the engines' pods run."""

    node_selector: Labels | None = Field(default=None, description="Labels that a node must have.")
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = Field(
        default=None, description="Taints of nodes that the engines accept.", json_schema_extra=ATOMIC
    )
    affinity: Affinity | None = Field(
        default=None, description="Where the engines go, with regard to nodes and to other pods."
    )
    topology_spread_constraints: Annotated[list[TopologySpreadConstraint], Field(max_length=16)] | None = Field(
        default=None, description="How the engines are spread over nodes or zones.", json_schema_extra=ATOMIC
    )
    priority_class_name: ObjectName | None = Field(default=None, description="Priority class of the pods.")
    runtime_class_name: ObjectName | None = Field(
        default=None, description="Runtime class of the pods, such as `nvidia`."
    )
    scheduler_name: ObjectName | None = Field(
        default=None, description="Scheduler of the pods; the cluster's own if not set."
    )
    queue_name: ObjectName | None = Field(
        default=None,
        description="Kueue's LocalQueue of this namespace, which admits each engine once its quota has room. Another "
        "queue is taken once no engine is ready.",
    )


class Pod(Model):
    """What else the engines' pods have."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                f"!has(self.labels) || {list(OPERATOR_LABELS)}.all(key, !(key in self.labels))",
                "spec.pod.labels must not set app.kubernetes.io/name, instance, component, part-of or managed-by: "
                "Services find the engines by them",
                field_path=".labels",
            ),
            Rule(
                f"!has(self.volumes) || self.volumes.all(volume, !({list(OPERATOR_VOLUMES)}.exists(name, name =="
                " volume.name)) && !volume.name.matches('^(claim|image)-[0-9]+$'))",
                f"spec.pod.volumes: {', '.join(OPERATOR_VOLUMES)}, claim-N and image-N are the operator's own volumes",
                field_path=".volumes",
            ),
            Rule(
                "!has(self.serviceAccountName) || !has(self.serviceAccountAnnotations)",
                "spec.pod.serviceAccountAnnotations are for the account that the operator makes: annotate the one of "
                "spec.pod.serviceAccountName yourself",
                field_path=".serviceAccountAnnotations",
            ),
            Rule(
                "!has(self.hostNetwork) || !self.hostNetwork || !has(self.securityContext)"
                " || !has(self.securityContext.sysctls)"
                " || self.securityContext.sysctls.all(one, !one.name.matches('^net[./]'))",
                "spec.pod.hostNetwork: the network's kernel parameters are those of the node then; take net.* out of "
                "spec.pod.securityContext.sysctls",
                field_path=".hostNetwork",
            ),
            *(
                Rule(
                    f"!has(self.{field}) || self.{field}.all(container, container.name != 'vllm')",
                    f"spec.pod.{field}: vllm is the name of the engine's own container",
                    field_path=f".{field}",
                )
                for field in ("initContainers", "sidecars")
            ),
            Rule(
                "!has(self.initContainers) || !has(self.sidecars) || self.initContainers.all(one,"
                " !self.sidecars.exists(other, other.name == one.name))",
                "spec.pod.sidecars: a name is taken by one of spec.pod.initContainers",
                field_path=".sidecars",
            ),
        ),
    )

    labels: Labels | None = Field(default=None, description="Further labels of the pods.")
    annotations: Annotations | None = Field(default=None, description="Annotations of the pods.")
    image_pull_secrets: Annotated[list[LocalObjectReference], Field(max_length=16)] | None = Field(
        default=None,
        description="Secrets with the credentials of the images' registries.",
        json_schema_extra=MAP_BY_NAME,
    )
    service_account_name: ObjectName | None = Field(
        default=None,
        description="Service account of the pods. Default: one that the operator makes, without any rights; its token "
        "is not mounted. The token of an account that is named here is.",
    )
    service_account_annotations: Annotations | None = Field(
        default=None,
        description="Annotations of the service account that the operator makes, such as those by which a cloud gives "
        "it an identity that may read a bucket.",
    )
    security_context: PodSecurityContext | None = Field(default=None, description="Rights of the whole pod.")
    container_security_context: SecurityContext | None = Field(
        default=None, description="Rights of the engine's container."
    )
    host_network: bool | None = Field(
        default=None,
        description="Run the pods in the network of their nodes, as some fast interconnects need. A node then holds "
        "one engine of the model, and each model there needs an engine.port and a gates.port of its own.",
    )
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=86400)] | None = Field(
        default=None,
        description="How long a pod that is told to end may take before it is killed. Default: the sum of "
        "engine.shutdownDelaySeconds, engine.shutdownTimeoutSeconds and 10. Give more to sidecars that end slowly.",
    )
    volumes: Annotated[list[Volume], Field(max_length=64)] | None = Field(
        default=None, description="Further volumes, as in a pod.", json_schema_extra=MAP_BY_NAME
    )
    volume_mounts: Annotated[list[VolumeMount], Field(max_length=64)] | None = Field(
        default=None, description="Where the engine finds them.", json_schema_extra=ATOMIC
    )
    init_containers: Annotated[list[Container], Field(max_length=16)] | None = Field(
        default=None, description="Containers that run before the engine, as in a pod.", json_schema_extra=MAP_BY_NAME
    )
    sidecars: Annotated[list[Container], Field(max_length=16)] | None = Field(
        default=None,
        description="Containers that run beside the engine, as in a pod: started before it, ended after it.",
        json_schema_extra=MAP_BY_NAME,
    )
    patch: (
        Annotated[
            dict[str, Any], Field(max_length=16, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
        ]
        | None
    ) = Field(
        default=None,
        description="Strategic merge patch of the finished pod template (metadata, spec), for what has no field. "
        "The engine's container is called vllm. `args` is its command line, and `command` the manager that starts "
        "it. What the manager and the Services need stays: the command, the probes, the ports http and gate, the "
        "labels; a patch that takes them away is refused, and one that weakens them is told in the status.",
    )
