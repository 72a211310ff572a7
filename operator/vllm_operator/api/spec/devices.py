"""`spec.parallelism`, `spec.accelerator` and `spec.resources`: what one engine runs on."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel, exactly_one
from vllm_operator.api.spec.flag import Flag
from vllm_operator.api.spec.scalars import (
    ATOMIC,
    MAP_BY_NAME,
    DeviceExpression,
    DeviceRequest,
    LabelName,
    ObjectName,
    Quantities,
    Quantity,
    ResourceName,
    Word,
)

Degree = Annotated[int, Field(ge=1, le=64)]


_ONE_NODE: Final = "!has(self.nodes) || self.nodes == 1"


class Parallelism(Model):
    """How the model is spread over the GPUs of one pod, or of a group of pods."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                f"{_ONE_NODE} || self.data > 1 || self.tensor * self.pipeline % self.nodes == 0",
                "spec.parallelism.nodes must divide spec.parallelism.tensor x pipeline: each pod of a group has as "
                "many GPUs as the others",
                field_path=".nodes",
            ),
            Rule(
                f"{_ONE_NODE} || self.data == 1 || self.data % self.nodes == 0"
                " || (self.nodes % self.data == 0 && self.tensor * self.pipeline % (self.nodes / self.data) == 0)",
                "spec.parallelism.nodes must divide spec.parallelism.data, so that each pod of a group has as many "
                "copies of the model as the others; or be a multiple of it that divides tensor x pipeline x data, so "
                "that each copy has as many pods",
                field_path=".nodes",
            ),
            Rule(
                f"{_ONE_NODE} || !has(self.executorBackend) || self.executorBackend == 'mp'",
                "spec.parallelism.executorBackend must be mp with spec.parallelism.nodes: leave it out",
                field_path=".executorBackend",
            ),
            Rule(
                "!has(self.decodeContext) || self.tensor % self.decodeContext == 0",
                "spec.parallelism.decodeContext must divide spec.parallelism.tensor: it reuses the same GPUs",
                field_path=".decodeContext",
            ),
        ),
    )

    tensor: Annotated[Degree, Flag("--tensor-parallel-size", "1", "0.0.1", short=("-tp",))] = Field(
        default=1, description="GPUs that share each layer."
    )
    pipeline: Annotated[Degree, Flag("--pipeline-parallel-size", "1", "0.0.1", short=("-pp",))] = Field(
        default=1, description="Groups of layers, one after the other on GPUs of their own."
    )
    data: Annotated[Degree, Flag("--data-parallel-size", "1", "0.8.3", short=("-dp",))] = Field(
        default=1,
        description="Copies of the model in one engine that share its requests, in one pod or, with nodes, in a group "
        "of pods. For models that are not a mixture of experts, replicas do the same and fail one by one.",
    )
    expert: Annotated[bool | None, Flag("--enable-expert-parallel", "false", "0.8.0", short=("-ep",))] = Field(
        default=None, description="Spread the experts of a mixture of experts over the GPUs, instead of cutting each."
    )
    decode_context: Annotated[Degree | None, Flag("--decode-context-parallel-size", "1", "0.10.2", short=("-dcp",))] = (
        Field(default=None, description="GPUs of a tensor group that share the KV cache of each request.")
    )
    all2all_backend: Annotated[Word | None, Flag("--all2all-backend", "allgather_reducescatter", "0.11.1")] = Field(
        default=None,
        alias="all2allBackend",
        description="How experts exchange tokens, with data and expert, such as `deepep_low_latency`.",
    )
    executor_backend: Annotated[
        Literal["mp", "ray", "uni"] | None, Flag("--distributed-executor-backend", "mp, or uni for one GPU", "0.4.3")
    ] = Field(
        default=None,
        description="What starts an engine's processes: Python (`mp`), Ray, or none but the engine's own (`uni`).",
    )
    nodes: Annotated[
        Annotated[int, Field(ge=1, le=64)] | None, Flag("--nnodes", "1", "0.11.1", short=("-n",), composed=True)
    ] = Field(
        default=None,
        description="Pods that form one engine, each with tensor x pipeline x data / nodes GPUs. From 2 on, a "
        "LeaderWorkerSet in place of the Deployment, which the cluster has to have.",
    )

    @property
    def world_size(self) -> int:
        """Processes of one engine, each on a device of its own."""
        return self.tensor * self.pipeline * self.data

    @property
    def group_size(self) -> int:
        """Pods of one engine."""
        return self.nodes or 1

    @property
    def processes_of_a_pod(self) -> int:
        """Processes of one engine in one of its pods."""
        return self.world_size // self.group_size


Profile = Literal["nvidia", "amd", "gaudi", "tpu", "xpu", "ascend", "neuron", "other", "cpu"]


_CLAIM: Final = "spec.accelerator.resourceClaims[]"


class DeviceClaim(Model):
    """Devices that a driver of Dynamic Resource Allocation hands to each pod of the engines."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            exactly_one(_CLAIM, "deviceClassName", "resourceClaimTemplateName", "resourceClaimName"),
            Rule(
                "has(self.deviceClassName) || !has(self.count)",
                f"{_CLAIM}.count is for deviceClassName: how many devices a claim of yours asks for, it says itself",
                field_path=".count",
            ),
            Rule(
                "has(self.deviceClassName) || !has(self.selectors)",
                f"{_CLAIM}.selectors are for deviceClassName: which devices a claim of yours asks for, it says itself",
                field_path=".selectors",
            ),
            Rule(
                "!has(self.deviceClassName) || !has(self.request)",
                f"{_CLAIM}.request is for a claim of yours: the one that is made of deviceClassName has one request",
                field_path=".request",
            ),
        ),
    )

    name: LabelName = Field(description="Name of the claim in the pod.")
    device_class_name: ObjectName | None = Field(
        default=None,
        description="DeviceClass of the cluster, such as `gpu.nvidia.com`: the operator makes the "
        "ResourceClaimTemplate of it, and each pod gets devices of its own.",
    )
    count: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="Devices of that class for one pod. Default: parallelism.tensor x pipeline x data / nodes.",
    )
    selectors: Annotated[list[DeviceExpression], Field(min_length=1, max_length=8)] | None = Field(
        default=None,
        description="CEL expressions that a device has to meet besides, as in a ResourceClaim, such as "
        "`device.attributes['gpu.nvidia.com'].productName == 'NVIDIA H100 80GB HBM3'`.",
        json_schema_extra=ATOMIC,
    )
    resource_claim_template_name: ObjectName | None = Field(
        default=None,
        description="ResourceClaimTemplate of yours in the same namespace, of which each pod gets a claim of its own.",
    )
    resource_claim_name: ObjectName | None = Field(
        default=None,
        description="ResourceClaim of yours in the same namespace. All engines share its devices, so there may be one, "
        "or as many as engine.gpuMemoryUtilization leaves room for, and a rollout replaces them in place.",
    )
    request: DeviceRequest | None = Field(
        default=None,
        description="The request of the claim whose devices the engine gets. Default: those of all its requests.",
    )


class Accelerator(Model):
    """The devices of one engine."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            *(
                Rule(
                    f"!has(self.resourceClaims) || !has(self.{field})",
                    f"spec.accelerator.{field} and spec.accelerator.resourceClaims contradict each other: devices come "
                    f"by a device plug-in or by a claim; leave {field} out",
                    field_path=f".{field}",
                )
                for field in ("resource", "count")
            ),
            Rule(
                "!has(self.resourceClaims) || self.profile != 'cpu'",
                "spec.accelerator.resourceClaims: the profile cpu has no devices; leave them out",
                field_path=".resourceClaims",
            ),
        ),
    )

    profile: Profile = Field(
        default="nvidia",
        description="Kind of the devices. It gives the image, the resource's name and what the devices need in a pod. "
        "`other` gives nothing: engine.image and resource name both.",
    )
    resource: ResourceName | None = Field(
        default=None,
        description="Extended resource that a device plug-in of the cluster offers. Default: that of the profile, "
        "such as `nvidia.com/gpu`. Intel GPUs with the older driver are `gpu.intel.com/i915`.",
    )
    count: Annotated[int, Field(ge=0, le=64)] | None = Field(
        default=None,
        description="Devices of one engine. Default: parallelism.tensor x pipeline x data; anything else is refused, "
        "but for 0 (devices that come another way than by an extended resource), and where they are counted otherwise: "
        "with the profiles tpu, neuron and other, and where resource names one, such as whole cards of several "
        "devices.",
    )
    resource_claims: Annotated[list[DeviceClaim], Field(min_length=1, max_length=8)] | None = Field(
        default=None,
        description="Devices by Dynamic Resource Allocation (resource.k8s.io/v1, Kubernetes 1.34 and newer) in place "
        "of a device plug-in's resource. The profile still gives the image and what the devices need in a pod.",
        json_schema_extra=MAP_BY_NAME,
    )
    memory: Quantity | None = Field(
        default=None,
        description="Memory of one device, such as `80Gi`. It places nothing; estimates are made with it. Default: "
        "that of the product in scheduling.nodeSelector, where it is a common card.",
    )


class Resources(Model):
    """CPU and memory of one engine, as in a pod. The accelerator is not named here: the operator adds it."""

    requests: Quantities | None = Field(
        default=None,
        description='What a node must have free for the engine. A fraction is a text, `"0.5"`, or `500m`.',
    )
    limits: Quantities | None = Field(
        default=None,
        description='What the engine may use at most. A fraction is a text, `"0.5"`, or `500m`.',
    )
