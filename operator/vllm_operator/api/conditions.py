"""Conditions of a VLLMModel: their types, their reasons, and the rule by which their time stamps move."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from vllm_operator.api.base import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MESSAGE_LENGTH: Final = 2048


class ConditionType(StrEnum):
    """Conditions follow the API conventions and kstatus, so that `kubectl wait`, Argo CD and Flux read them rightly."""

    READY = "Ready"
    """All wanted engines serve, with what the spec asks for."""
    AVAILABLE = "Available"
    """At least one engine serves."""
    DEGRADED = "Degraded"
    """Some engines serve, and others do not of a cause that the message tells, with what to do."""
    RECONCILING = "Reconciling"
    """The operator or the cluster is still on the way to what the spec asks for."""
    STALLED = "Stalled"
    """Nothing will change until somebody acts; the message says how."""
    TEMPLATE_UPDATE_PENDING = "TemplateUpdatePending"
    """This version of the operator would render other pods from the same spec; the engines keep theirs until asked."""
    FITS = "Fits"
    """The model has room on its GPUs, as an engine or spec.estimate shows; left out without either. It is a warning."""
    AUTOSCALED = "Autoscaled"
    """An autoscaler sets the number of engines. Only there where spec.autoscaling asks for one."""
    ADAPTERS_LOADED = "AdaptersLoaded"
    """Every engine serves the adapters of spec.lora, and no others of it. Only there with spec.lora.runtimeUpdates."""


class Reason(StrEnum):
    """Why a condition is as it is."""

    ALL_ENGINES_SERVE = "AllEnginesServe"
    """Every wanted engine has completed a prompt and takes traffic."""
    ENGINES_SERVE = "EnginesServe"
    """At least one engine takes traffic."""
    ENGINES_STARTING = "EnginesStarting"
    """Engines start and load their model; they have not completed a prompt yet. The message says how far they are."""
    ENGINES_WITHDRAWN = "EnginesWithdrawn"
    """An engine that served has stopped making progress, and gets no traffic until it completes a prompt again."""
    ASLEEP = "Asleep"
    """Engines that served are asleep, and get no traffic until they are woken and have completed a prompt."""
    PAUSED = "Paused"
    """Engines that served are paused, such as for new weights, and get no traffic until they go on."""
    ENGINES_FAILING = "EnginesFailing"
    """An engine cannot start or does not stay up; the message says what its pod reports."""
    NODE_LOST = "NodeLost"
    """The node of an engine does not answer, so it gets no traffic. Kubernetes replaces it, by default after 5 min."""
    SCHEDULING_GATED = "SchedulingGated"
    """A scheduling gate, such as that of a queue, holds the engines' pods back until its controller admits them."""
    PODS_REFUSED = "PodsRefused"
    """The API server takes in no pod for an engine: a quota, Pod Security or a webhook is against it. Tried again."""
    WRONG_MODEL = "WrongModel"
    """An engine answers, but not under the name that spec.model serves; it gets no traffic."""
    UNAUTHORIZED = "Unauthorized"
    """An engine refuses the API key of its own container, so it cannot be proved; it gets no traffic."""
    COMPLETIONS_FAIL = "CompletionsFail"
    """An engine has loaded its model, but completes no prompt; it gets no traffic. The message holds its answer."""
    GATE_CANNOT_RUN = "GateCannotRun"
    """The engine's manager cannot be started, and so no engine: its image has no python3."""
    ROLLING_OUT = "RollingOut"
    """A changed spec is on its way to the engines."""
    ROLLOUT_WAITS = "RolloutWaits"
    """The next engine of a rollout finds no node, and no old one may go for it, or would help: see the message."""
    ROLLOUT_BLOCKED = "RolloutBlocked"
    """A changed spec cannot reach the engines: spec.rollout lets none go, and none come beside them."""
    ROLLOUT_PAUSED = "RolloutPaused"
    """A changed spec waits: spec.rollout.paused holds it, or somebody holds the Deployment."""
    REVISION_FAILS = "RevisionFails"
    """Engines of the newest spec cannot start or do not stay up. The rollout stops there, and those before go on."""
    SCALING = "Scaling"
    """The number of engines is on its way to spec.replicas, or an engine's number of ranks to what was asked for."""
    SCALED_TO_ZERO = "ScaledToZero"
    """spec.replicas is 0: no engine is wanted, so none serves."""
    SUSPENDED = "Suspended"
    """spec.suspend is true: no engine is wanted until it is false again, so none serves."""
    NO_ENGINE_SERVES = "NoEngineServes"
    """No engine takes traffic."""
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    """The engines did not get ready within their start-up budget."""
    INVALID_SPEC = "InvalidSpec"
    """The spec cannot be followed; the children stay as they are."""
    NAME_TAKEN = "NameTaken"
    """A child's name belongs to an object that the operator did not make; it is left alone."""
    OTHER_OPERATOR = "OtherOperator"
    """A child's name belongs to an object of another release of the operator, which follows the model too, or did."""
    CHILD_REFUSED = "ChildRefused"
    """The API server refuses a child; the message is its own."""
    CHILD_NOT_WRITTEN = "ChildNotWritten"
    """The API server cannot write a child now; the message is its own, and the operator tries again by itself."""
    AUTOSCALER_WORKS = "AutoscalerWorks"
    """An autoscaler follows what the engines have to do; the message names it."""
    AUTOSCALER_MISSING = "AutoscalerMissing"
    """The cluster can have no autoscaler of the model; the message says what it lacks and how to get it."""
    AUTOSCALER_FAILS = "AutoscalerFails"
    """The autoscaler is there and does not scale; the message is its own."""
    AUTOSCALER_PAUSED = "AutoscalerPaused"
    """Somebody has told the autoscaler to leave the number alone; the message says how to take that back."""
    ADAPTERS_SERVE = "AdaptersServe"
    """Every engine that takes traffic serves each adapter of the spec."""
    ADAPTERS_LOADING = "AdaptersLoading"
    """Engines load adapters, or clients are told of one that goes before it is unloaded; the message says which."""
    ADAPTER_FAILS = "AdapterFails"
    """An engine cannot load an adapter, and goes on with the others; the message has vLLM's own words."""
    LEADER_WORKER_SET_MISSING = "LeaderWorkerSetMissing"
    """spec.parallelism.nodes needs LeaderWorkerSets and their controller, and one is missing: see the message."""
    RESOURCE_CLAIMS_MISSING = "ResourceClaimsMissing"
    """spec.accelerator.resourceClaims needs resource.k8s.io/v1, which the cluster does not have: see the message."""
    NEWER_TEMPLATE = "NewerTemplate"
    """Another pod template waits for a change of the spec, or a restart; the message says what differs."""
    ENGINE_STARTED = "EngineStarted"
    """An engine of this spec has started, and reported how much its KV cache holds."""
    ESTIMATED_TO_FIT = "EstimatedToFit"
    """By estimate, weights, what an engine needs besides, and one sequence of the longest length have room."""
    GPU_MEMORY_TOO_SMALL = "GpuMemoryTooSmall"
    """By estimate, the model has no room on its GPUs; the message says by how much, and what would fit."""
    TIGHT = "Tight"
    """By estimate, activations and CUDA graphs decide whether the model has room, which only a start measures."""
    GPU_MEMORY_UNKNOWN = "GpuMemoryUnknown"
    """Nobody says how much memory a GPU has: set spec.accelerator.memory."""
    SIZES_UNKNOWN = "SizesUnknown"
    """The ConfigMap of spec.estimate is missing, or describes no model that can be estimated; the message says why."""
    PREFETCHING = "Prefetching"
    """A Job fills the claim with what the engines need; none of this spec starts before, and those of another go on."""
    PREFETCH_FAILS = "PrefetchFails"
    """That Job cannot go on, such as for a gated model or a full disk; the message says what to do. It tries again."""
    AS_DESIRED = "AsDesired"
    """Nothing is left to do."""


class Condition(Model):
    """One condition in `status.conditions`."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(description="What is observed.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        description="Why, as one word for programs."
    )
    message: Annotated[str, StringConstraints(max_length=MAX_MESSAGE_LENGTH)] = Field(
        description="Why, as a sentence for people."
    )
    observed_generation: Annotated[int, Field(ge=0)] = Field(description="Generation of the spec that was judged.")
    last_transition_time: str = Field(
        description="When `status` last changed.", json_schema_extra={"format": "date-time"}
    )


def by_type(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The conditions of a live object's status, of whatever kind, by their types."""
    return {condition["type"]: condition for condition in status.get("conditions") or ()}
