"""`spec` of a VLLMModel, the single source of the schema, its bounds, its rules and what `kubectl explain` says."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel

DEFAULT_IMAGE: Final = "vllm/vllm-openai:v0.32.0"
DEFAULT_PORT: Final = 8000
DEFAULT_ACCELERATOR: Final = "nvidia.com/gpu"

_QUANTITY_PATTERN = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]+))?$"
_LENGTH_PATTERN = r"^([1-9][0-9]*[kKmMgG]?|auto)$"
_QUALIFIED_NAME_PATTERN = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"


def _matches(pattern: str) -> AfterValidator:
    """Check text against the pattern of the schema; numbers are checked by their own bounds."""

    def check(value: int | str) -> int | str:
        if isinstance(value, str) and not re.search(pattern, value):
            raise ValueError(f"{value!r} does not match {pattern}")
        return value

    return AfterValidator(check)


Quantity = Annotated[
    int | str,
    _matches(_QUANTITY_PATTERN),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _QUANTITY_PATTERN,
            "maxLength": 64,
        }
    ),
]
"""A Kubernetes quantity, such as `500m`, `16Gi` or `4`."""

TokenCount = Annotated[
    Annotated[int, Field(ge=1)] | str,
    _matches(_LENGTH_PATTERN),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 1,
            "pattern": _LENGTH_PATTERN,
            "maxLength": 16,
        }
    ),
]
"""A number of tokens as vLLM reads it: `32768`, `32k`, or `auto` for as many as fit into the memory."""

ServedName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[^\s-]\S*$")]
Argument = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
ResourceName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=_QUALIFIED_NAME_PATTERN)]


class ModelSource(Model):
    """Which model is served, and under which names."""

    source: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\s-]\S*$")] = Field(
        description="The model: an id on the Hugging Face hub such as `Qwen/Qwen2.5-0.5B-Instruct`, or the absolute "
        "path of a folder in the engine's image."
    )
    revision: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[^\s-]\S*$")] | None = Field(
        default=None,
        description="Branch, tag or commit of the model. Pin a commit so that every replica serves the same weights.",
    )
    served_names: Annotated[list[ServedName], Field(min_length=1, max_length=16)] | None = Field(
        default=None,
        description="Names under which clients ask for the model; the first one is also the label of its metrics and "
        "what the binding tells clients. Default: the source.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    trust_remote_code: bool | None = Field(
        default=None, description="Run Python code that comes with the model. Only for models whose authors you trust."
    )


class EnvVar(Model):
    """An environment variable of the engine."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")] = (
        Field(description="Name of the variable.")
    )
    value: Annotated[str, StringConstraints(max_length=32768)] = Field(
        default="", description="Value of the variable; `$(NAME)` refers to a variable defined before it."
    )


class Engine(Model):
    """The vLLM server: its image and arguments. What is not set is left to vLLM's own default."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^\S+$")] | None = Field(
        default=None,
        description=f"Container image of vLLM, with `vllm` and `python3` on its path. Default: `{DEFAULT_IMAGE}`.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=DEFAULT_PORT,
        description="Port on which the server listens in its pod. The Service always listens on 8000.",
    )
    max_model_len: TokenCount | None = Field(
        default=None,
        description="Longest context, prompt and answer together, in tokens: a number, `32k` (32,000), `32K` (32,768), "
        "or `auto` for what fits into the memory (--max-model-len).",
    )
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=16777216)] | None = Field(
        default=None, description="Most tokens that one step of the engine processes (--max-num-batched-tokens)."
    )
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Share of each GPU's memory that the engine may use, up to 1 (--gpu-memory-utilization).",
    )
    cpu_offload_gb: Annotated[float, Field(ge=0, le=65536)] | None = Field(
        default=None,
        alias="cpuOffloadGB",
        description="GiB of weights per GPU that are kept in the host's memory instead (--cpu-offload-gb).",
    )
    block_size: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="Tokens in one block of the KV cache (--block-size)."
    )
    debug: bool | None = Field(
        default=None,
        description="Log in detail: VLLM_LOGGING_LEVEL=DEBUG, and a line for each request (--enable-log-requests).",
    )
    extra_args: Annotated[list[Argument], Field(max_length=128)] | None = Field(
        default=None,
        description="Further arguments of `vllm serve`, one list item for each word, after all others.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    env: Annotated[list[EnvVar], Field(max_length=128)] | None = Field(
        default=None,
        description="Further environment variables of the engine.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class Parallelism(Model):
    """How the model is spread over the GPUs of one pod."""

    tensor: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="GPUs that share each layer (--tensor-parallel-size)."
    )
    pipeline: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Groups of layers, one after the other on GPUs of their own (--pipeline-parallel-size)."
    )


class Accelerator(Model):
    """The devices of one engine."""

    resource: ResourceName = Field(
        default=DEFAULT_ACCELERATOR, description="Extended resource that a device plug-in of the cluster offers."
    )
    count: Annotated[int, Field(ge=0, le=64)] | None = Field(
        default=None,
        description="Devices of one engine. Default: parallelism.tensor x parallelism.pipeline; anything else is "
        "refused, but for 0: an engine that runs on the CPU.",
    )


class Resources(Model):
    """CPU and memory of one engine, as in a pod. The accelerator is not named here: the operator adds it."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = Field(
        default=None, description="What a node must have free for the engine."
    )
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] | None = Field(
        default=None, description="What the engine may use at most."
    )


_RULES: Final = (
    Rule(
        "!has(self.accelerator.count) || self.accelerator.count == 0"
        " || self.accelerator.count == self.parallelism.tensor * self.parallelism.pipeline",
        "spec.accelerator.count must equal spec.parallelism.tensor x spec.parallelism.pipeline (or be 0 for an engine "
        "on the CPU): leave it out, and it follows",
    ),
    Rule(
        "!has(self.resources.limits) || !(self.accelerator.resource in self.resources.limits)",
        "spec.resources.limits must not name the accelerator: set spec.parallelism, and its count follows",
    ),
    Rule(
        "!has(self.resources.requests) || !(self.accelerator.resource in self.resources.requests)",
        "spec.resources.requests must not name the accelerator: set spec.parallelism, and its count follows",
    ),
)


class VLLMModelSpec(Model):
    """The model that is served and the engines that serve it."""

    model_config = ConfigDict(alias_generator=to_camel, json_schema_extra=cel(*_RULES))

    model: ModelSource = Field(description="Which model is served, and under which names.")
    engine: Engine = Field(default_factory=Engine, description="The vLLM server: its image and arguments.")
    parallelism: Parallelism = Field(
        default_factory=Parallelism, description="How the model is spread over the GPUs of one pod."
    )
    accelerator: Accelerator = Field(default_factory=Accelerator, description="The devices of one engine.")
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Engines that serve the model, each in a pod of its own. 0 keeps everything but the engines.",
    )
    resources: Resources = Field(default_factory=Resources, description="CPU and memory of one engine.")

    @property
    def served_names(self) -> tuple[str, ...]:
        """Names under which the engines answer, the main one first."""
        return tuple(self.model.served_names or [self.model.source])

    @property
    def device_count(self) -> int:
        """Devices that one engine asks for."""
        if self.accelerator.count is not None:
            return self.accelerator.count
        return self.parallelism.tensor * self.parallelism.pipeline


def parse_spec(raw: dict[str, Any]) -> VLLMModelSpec:
    """Read `spec` as it came from the API server.

    Raises:
        pydantic.ValidationError: a field is missing, unknown or out of its bounds.
    """
    return VLLMModelSpec.model_validate(raw)
