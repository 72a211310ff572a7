"""`status` of a VLLMModel: what the operator saw, in words that `kubectl get` and `kubectl wait` understand."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from vllm_operator.api.base import Model
from vllm_operator.api.conditions import Condition


class Binding(Model):
    """Where an application finds the connection data."""

    name: Annotated[str, StringConstraints(max_length=253)] = Field(
        description="ConfigMap that an application in this namespace names in `envFrom`."
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
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        description="Ready, Available, Reconciling and Stalled.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
