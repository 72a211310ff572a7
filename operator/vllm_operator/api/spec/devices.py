"""`spec.parallelism`, `spec.accelerator` and `spec.resources`: what one engine runs on."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.flag import Flag
from vllm_operator.api.spec.scalars import Quantities, Quantity, ResourceName, Word

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


class Accelerator(Model):
    """The devices of one engine."""

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
