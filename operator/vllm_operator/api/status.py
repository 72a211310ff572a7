"""`status` of a VLLMModel: what the operator saw, in words that `kubectl get` and `kubectl wait` understand."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from vllm_operator.api.base import Model
from vllm_operator.api.conditions import Condition

MAX_WARNINGS: Final = 16
MAX_WARNING_LENGTH: Final = 1024


class Binding(Model):
    """Where an application finds the connection data, as a Provisioned Service of the Service Binding Specification."""

    name: Annotated[str, StringConstraints(max_length=253)] = Field(
        description="Secret with the connection data and the API key, where there is one: an application in this "
        "namespace names it in `envFrom`, or is bound to it by a ServiceBinding."
    )
    config_map: Annotated[str, StringConstraints(max_length=253)] = Field(
        description="ConfigMap with the connection data alone, for `envFrom` too."
    )


class VLLMModelStatus(Model):
    """What the operator last saw."""

    observed_generation: Annotated[int, Field(ge=0)] = Field(description="Generation of the spec that was judged.")
    replicas: Annotated[int, Field(ge=0)] = Field(description="Engines that exist, ready or not.")
    ready_replicas: Annotated[int, Field(ge=0)] = Field(description="Engines that take traffic.")
    selector: Annotated[str, StringConstraints(max_length=1024)] = Field(
        description="Label selector of the engines' pods, for autoscalers."
    )
    url: Annotated[str, StringConstraints(max_length=1024)] = Field(
        description="Base URL of the OpenAI-compatible API inside the cluster."
    )
    binding: Binding = Field(description="Where an application finds the connection data.")
    warnings: (
        Annotated[
            list[Annotated[str, StringConstraints(max_length=MAX_WARNING_LENGTH)]], Field(max_length=MAX_WARNINGS)
        ]
        | None
    ) = Field(
        default=None,
        description="What does not stop the engines and should be known all the same; left out where there is nothing.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        description="Ready, Available, Reconciling and Stalled.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
