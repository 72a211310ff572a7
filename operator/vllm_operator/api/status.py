"""`status` of a VLLMModel: what the operator saw, in words that `kubectl get` and `kubectl wait` understand."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from vllm_operator.api.base import Model
from vllm_operator.api.capacity import Capacity, ReportedCapacity
from vllm_operator.api.conditions import Condition

MAX_WARNINGS: Final = 16
MAX_WARNING_LENGTH: Final = 1024
MAX_ENGINES: Final = 32
MAX_ADAPTERS: Final = 128
"""Those of the spec, and as many that leave."""
MAX_PREFETCHED: Final = 68
"""The model, its tokenizer, the one that guesses, and as many adapters as there may be."""
MAX_PHASE_LENGTH: Final = 64
MAX_SENTENCE_LENGTH: Final = 1024
MAX_DIAGNOSES: Final = 16
MAX_FIELD_LENGTH: Final = 256
MAX_EXCERPT_LENGTH: Final = 512
MAX_VERSION_LENGTH: Final = 32
UNKNOWN_VERSION: Final = "Unknown"


class Binding(Model):
    """Where an application finds the connection data, as a Provisioned Service of the Service Binding Specification."""

    name: Annotated[str, StringConstraints(max_length=253)] = Field(
        description="Secret with the connection data and the API key, where there is one: an application in this "
        "namespace names it in `envFrom`, or is bound to it by a ServiceBinding."
    )
    config_map: Annotated[str, StringConstraints(max_length=253)] = Field(
        description="ConfigMap with the connection data alone, for `envFrom` too."
    )


class EngineState(StrEnum):
    """How far an engine is."""

    SERVING = "Serving"
    STARTING = "Starting"
    WITHDRAWN = "Withdrawn"
    FAILING = "Failing"


class Engine(Model):
    """One engine."""

    pod: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(description="Name of its pod.")
    state: EngineState = Field(
        description="Serving: it takes traffic. Starting: it waits, is set up or loads its model. Withdrawn: it "
        "served, and takes no traffic now. Failing: it cannot start, does not stay up, or cannot be admitted."
    )
    phase: Annotated[str, StringConstraints(max_length=MAX_PHASE_LENGTH)] | None = Field(
        default=None,
        description="How far it has loaded, as its manager says: Starting, Downloading, LoadingWeights, Compiling, "
        "KVCache, CapturingGraphs, Warmup or Ready. Left out where it serves, or nothing is known.",
    )
    since: str | None = Field(
        default=None,
        description="When it last became ready, or ceased to be; left out where kubelet has not reported it.",
        json_schema_extra={"format": "date-time"},
    )
    sentence: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_LENGTH)] | None = Field(
        default=None, description="Why it does not serve; left out where it does."
    )
    capacity: ReportedCapacity | None = Field(
        default=None,
        description="What it reported of its memory when it started; left out where that is not known, or not yet.",
    )


class AdapterState(StrEnum):
    """How far an adapter is."""

    SERVING = "Serving"
    LOADING = "Loading"
    FAILING = "Failing"
    LEAVING = "Leaving"


class Adapter(Model):
    """One LoRA adapter."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="Name under which clients ask for it."
    )
    state: AdapterState = Field(
        description="Serving: every engine that takes traffic serves it as the spec has it. Loading: not each one does "
        "yet. Failing: one cannot. Leaving: it is no longer in the spec, and is unloaded once clients have been told."
    )
    served: bool = Field(
        description="Whether clients may ask for it: every engine that takes traffic has an adapter of that name, and "
        "it is to stay. Then the catalogue and the client's ConfigMap name it."
    )
    engines: Annotated[int, Field(ge=0)] = Field(description="Engines that take traffic and serve it.")
    since: str = Field(
        description="When it came into its state, as the operator saw it.", json_schema_extra={"format": "date-time"}
    )
    message: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_LENGTH)] | None = Field(
        default=None, description="Why it is not served everywhere, in vLLM's own words; left out where it is."
    )


class Diagnosis(Model):
    """A known failure of one engine."""

    engine: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(description="Name of its pod.")
    id: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="The failure, as one word for programs: one of docs/troubleshooting.md."
    )
    cause: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_LENGTH)] = Field(description="What has happened.")
    advice: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_LENGTH)] = Field(description="What to do.")
    field: Annotated[str, StringConstraints(max_length=MAX_FIELD_LENGTH)] | None = Field(
        default=None, description="The field of this resource to change first; left out where the remedy is none."
    )
    value: Annotated[str, StringConstraints(max_length=MAX_FIELD_LENGTH)] | None = Field(
        default=None, description="A value to try there; left out where none is known."
    )
    since: str = Field(
        description="When this failure of this engine was first told.", json_schema_extra={"format": "date-time"}
    )
    excerpt: Annotated[str, StringConstraints(max_length=MAX_EXCERPT_LENGTH)] | None = Field(
        default=None, description="The line that shows it, without keys, tokens and passwords."
    )


class RolloutProgress(Model):
    """How far a changed spec has reached the engines."""

    strategy: Literal["Surge", "InPlace", "Recreate"] = Field(
        description="How engines are replaced now; Auto has become one of these."
    )
    reason: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_LENGTH)] = Field(
        description="Why by this strategy, and what the rollout waits for where somebody has to act."
    )
    revision: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="Name of the ControllerRevision that the engines are brought to."
    )
    updated: Annotated[int, Field(ge=0)] = Field(description="Engines of the newest template, ready or not.")
    wanted: Annotated[int, Field(ge=0)] = Field(description="Engines that are to be of it.")


class PrefetchState(StrEnum):
    """How far a download is."""

    PENDING = "Pending"
    LISTING = "Listing"
    VERIFYING = "Verifying"
    DOWNLOADING = "Downloading"
    WAITING = "Waiting"
    COMPLETE = "Complete"


class Prefetched(Model):
    """One source that the claim is to hold before engines start."""

    job: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(description="Name of its Job.")
    source: Annotated[str, StringConstraints(max_length=1024)] = Field(
        description="The id on the hub, or the URL, that is downloaded."
    )
    revision: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="Branch, tag or commit of the hub; left out for other sources."
    )
    commit: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="The commit that the revision was when it was asked for; left out where not known."
    )
    state: PrefetchState = Field(
        description="Pending: its pod does not run. Listing: it asks what there is. Verifying: it reads what lies "
        "there already. Downloading: it brings the rest. Waiting: it cannot go on, and tries again. Complete: all is "
        "there, with the sizes and hashes that were told."
    )
    reason: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None,
        description="Why it does not go on, as one word for programs, such as Gated, RateLimited, DiskFull, "
        "WrongRevision or Corrupt; left out where it does.",
    )
    message: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_LENGTH)] | None = Field(
        default=None, description="The same as a sentence, with what to do."
    )
    bytes_done: Annotated[int, Field(ge=0)] = Field(default=0, description="Bytes that are in the claim.")
    bytes_total: Annotated[int, Field(ge=0)] = Field(default=0, description="Bytes of all its files; 0: not known yet.")
    bytes_per_second: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How fast it downloads, over the last half minute; left out where it does not."
    )
    seconds_left: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How long the rest takes at this rate; left out where that is not known."
    )


class VLLMModelStatus(Model):
    """What the operator last saw."""

    observed_generation: Annotated[int, Field(ge=0)] = Field(description="Generation of the spec that was judged.")
    replicas: Annotated[int, Field(ge=0)] = Field(description="Engines that exist, ready or not.")
    ready_replicas: Annotated[int, Field(ge=0)] = Field(description="Engines that take traffic.")
    updated_replicas: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Engines of the newest template, ready or not."
    )
    selector: Annotated[str, StringConstraints(max_length=1024)] = Field(
        description="Label selector of the engines' pods, for autoscalers."
    )
    url: Annotated[str, StringConstraints(max_length=1024)] = Field(
        description="Base URL of the OpenAI-compatible API inside the cluster."
    )
    operator: Annotated[str, StringConstraints(max_length=63)] | None = Field(
        default=None,
        description="Name of the operator's release that follows the model; left out for the default one.",
    )
    vllm_version: Annotated[str, StringConstraints(max_length=MAX_VERSION_LENGTH)] | None = Field(
        default=None,
        description="Version of vLLM that the engines' arguments are made for; Unknown where neither "
        "spec.engine.version nor the image's tag tells it: then nothing is refused for the version's sake. Left out "
        "where the spec cannot be followed.",
    )
    binding: Binding = Field(description="Where an application finds the connection data.")
    rollout: RolloutProgress | None = Field(
        default=None, description="How far a changed spec has come; left out where no engine is to be replaced."
    )
    prefetch: Annotated[list[Prefetched], Field(max_length=MAX_PREFETCHED)] | None = Field(
        default=None,
        description="How far the claim is filled, with spec.storage.cache.prefetch; left out without it.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["job"]},
    )
    engines: Annotated[list[Engine], Field(max_length=MAX_ENGINES)] | None = Field(
        default=None,
        description="The engines, those first that do not serve; left out where there are none. Of more than "
        f"{MAX_ENGINES} the others are not listed: the numbers above count them.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["pod"]},
    )
    adapters: Annotated[list[Adapter], Field(max_length=MAX_ADAPTERS)] | None = Field(
        default=None,
        description="The LoRA adapters of spec.lora, and those on their way out; left out where there are none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    estimate: Capacity | None = Field(
        default=None,
        description="What an engine is expected to have, by spec.estimate; engines[].capacity is what they reported. "
        "Left out where spec.estimate is not set, or does not tell.",
    )
    diagnosis: Annotated[list[Diagnosis], Field(max_length=MAX_DIAGNOSES)] | None = Field(
        default=None,
        description="Known failures of engines that do not serve, and what slows down those that do or has them refuse "
        "requests: one of each engine; left out where there are none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["engine"]},
    )
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
        description="Ready, Available, Degraded, Reconciling, Stalled and TemplateUpdatePending; Fits where it is "
        "known, Autoscaled with spec.autoscaling, and AdaptersLoaded with spec.lora.runtimeUpdates.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
