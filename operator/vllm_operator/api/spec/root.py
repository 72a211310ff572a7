"""The whole `spec`, and what several of its parts must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.access import Auth, Ingress, Network, Service
from vllm_operator.api.spec.arguments import ONE_WORD_RULE, refusal_rule, refused_arguments
from vllm_operator.api.spec.autoscaling import Autoscaling
from vllm_operator.api.spec.catalog import Catalog
from vllm_operator.api.spec.checks import faults, nesting_fault
from vllm_operator.api.spec.devices import Accelerator, Parallelism, Resources
from vllm_operator.api.spec.engine import DEFAULT_SHUTDOWN_DELAY_SECONDS, EXIT_MARGIN_SECONDS, Engine
from vllm_operator.api.spec.estimate import EstimateSource
from vllm_operator.api.spec.lora import RUNTIME_VARIABLE, Adapter, Lora
from vllm_operator.api.spec.model import ModelSource
from vllm_operator.api.spec.operations import Disruption, Gates, Monitoring
from vllm_operator.api.spec.pod import Pod, Scheduling
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.api.spec.rollout import Rollout
from vllm_operator.api.spec.sources import served_name
from vllm_operator.api.spec.storage import Storage
from vllm_operator.errors import InvalidSpec

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

_ONE_NODE: Final = "!has(self.parallelism.nodes) || self.parallelism.nodes == 1"
_DEVICES: Final = (
    "self.parallelism.tensor * self.parallelism.pipeline * self.parallelism.data"
    " / (has(self.parallelism.nodes) ? self.parallelism.nodes : 1)"
)
_PROFILE_RESOURCES: Final = (
    "{" + ", ".join(f"'{name}': '{profile.resource}'" for name, profile in PROFILES.items()) + "}"
)
_RESOURCE: Final = (
    f"(has(self.accelerator.resource) ? self.accelerator.resource : {_PROFILE_RESOURCES}[self.accelerator.profile])"
)

_SHARED_CLAIM: Final = (
    "has(self.accelerator.resourceClaims) && self.accelerator.resourceClaims.exists(one, has(one.resourceClaimName))"
)
_MOST_ENGINES: Final = "(has(self.autoscaling) ? self.autoscaling.maxReplicas : self.replicas)"

_NOT_OVER_NODES: Final = [name for name, profile in PROFILES.items() if not profile.spans_nodes]
_COUNTED_OTHERWISE: Final = [name for name, profile in PROFILES.items() if not profile.counted_as_processes]

_SHUTDOWN_SECONDS: Final = (
    "(has(self.engine.shutdownDelaySeconds) ? self.engine.shutdownDelaySeconds : "
    f"{DEFAULT_SHUTDOWN_DELAY_SECONDS}) + self.engine.shutdownTimeoutSeconds + {EXIT_MARGIN_SECONDS}"
)

_RULES: Final = (
    Rule(
        "!has(self.accelerator.count) || self.accelerator.count == 0 || has(self.accelerator.resource)"
        f" || self.accelerator.profile in {_COUNTED_OTHERWISE} || self.accelerator.count == {_DEVICES}",
        "spec.accelerator.count must equal spec.parallelism.tensor x pipeline x data / nodes (or be 0 for devices that "
        "come another way): leave it out, and it follows. A resource that is counted otherwise is named by "
        "spec.accelerator.resource",
        field_path=".accelerator.count",
    ),
    Rule(
        "self.accelerator.profile != 'cpu' || !has(self.accelerator.count) || self.accelerator.count == 0",
        "spec.accelerator.count: the profile cpu has no devices; leave it out",
        field_path=".accelerator.count",
    ),
    Rule(
        "self.accelerator.profile != 'cpu' || !has(self.accelerator.resource)",
        "spec.accelerator.resource: the profile cpu has no devices; leave it out",
        field_path=".accelerator.resource",
    ),
    Rule(
        "self.accelerator.profile != 'other' || has(self.accelerator.resource) || has(self.accelerator.resourceClaims)"
        " || (has(self.accelerator.count) && self.accelerator.count == 0)",
        "spec.accelerator.resource is needed with the profile other: name the extended resource of the devices, or set "
        "spec.accelerator.resourceClaims, or spec.accelerator.count to 0 where they come another way",
        field_path=".accelerator.resource",
    ),
    Rule(
        f"{_ONE_NODE} || !(self.accelerator.profile in {_NOT_OVER_NODES})",
        "spec.parallelism.nodes: vLLM spreads no engine over nodes by itself with this spec.accelerator.profile; leave "
        "it out",
        field_path=".parallelism.nodes",
    ),
    Rule(
        f"{_ONE_NODE} || !({_SHARED_CLAIM})",
        "spec.accelerator.resourceClaims[].resourceClaimName cannot be set with spec.parallelism.nodes: the pods of a "
        "group would share the devices of one; name a resourceClaimTemplateName or a deviceClassName",
        field_path=".accelerator.resourceClaims",
    ),
    Rule(
        f"!({_SHARED_CLAIM}) || {_MOST_ENGINES} <= 1"
        f" || (has(self.engine.gpuMemoryUtilization)"
        f" && self.engine.gpuMemoryUtilization * double({_MOST_ENGINES}) <= 1.0)",
        "spec.accelerator.resourceClaims[].resourceClaimName: all engines share the devices of that claim, and their "
        "memory has no room for several: name a resourceClaimTemplateName or a deviceClassName, of which each has its "
        "own, or set spec.engine.gpuMemoryUtilization to at most 1 / replicas",
        field_path=".accelerator.resourceClaims",
    ),
    Rule(
        f"{_ONE_NODE} || !has(self.autoscaling)",
        "spec.autoscaling and spec.parallelism.nodes contradict each other: an autoscaler counts pods, and a group has "
        "several; set spec.replicas",
        field_path=".autoscaling",
    ),
    Rule(
        f"{_ONE_NODE} || !has(self.engine.apiServerCount)",
        "spec.engine.apiServerCount cannot be set with spec.parallelism.nodes: vLLM refuses it in the pods of a group "
        "that have no HTTP server; leave it out",
        field_path=".engine.apiServerCount",
    ),
    *(
        Rule(
            f"self.accelerator.profile != '{name}' || has(self.engine.image)",
            f"spec.engine.image is needed with the profile {name}: {profile.no_image}",
            field_path=".engine.image",
        )
        for name, profile in PROFILES.items()
        if profile.no_image
    ),
    *(
        Rule(
            f"!has(self.resources.{section}) || !({_RESOURCE} in self.resources.{section})",
            f"spec.resources.{section} must not name the accelerator: set spec.parallelism, and its count follows",
            field_path=f".resources.{section}",
        )
        for section in ("limits", "requests")
    ),
    Rule(
        "!has(self.engine.env) || self.engine.env.all(variable, variable.name != 'VLLM_API_KEY')",
        "spec.engine.env must not set VLLM_API_KEY: no client would learn the key. Name its Secret in spec.auth.keys",
        field_path=".engine.env",
    ),
    Rule(
        "self.gates.port != self.engine.port",
        "spec.gates.port must differ from spec.engine.port: the manager and the server both listen in the pod",
        field_path=".gates.port",
    ),
    Rule(
        "!has(self.service.targetPort) || self.service.targetPort != self.gates.port",
        "spec.service.targetPort must differ from spec.gates.port: the manager answers there, and no request",
        field_path=".service.targetPort",
    ),
    Rule(
        "!has(self.service.appProtocol) || has(self.service.targetPort)"
        " || (self.service.appProtocol == 'https') == has(self.engine.tls)",
        "spec.service.appProtocol is what a sidecar speaks with clients: set spec.service.targetPort to its port, or "
        "leave it out, and spec.engine.tls says what the server speaks",
        field_path=".service.appProtocol",
    ),
    Rule(
        "!has(self.pod.terminationGracePeriodSeconds)"
        f" || self.pod.terminationGracePeriodSeconds >= {_SHUTDOWN_SECONDS}",
        "spec.pod.terminationGracePeriodSeconds must be at least the sum of spec.engine.shutdownDelaySeconds (5), "
        f"spec.engine.shutdownTimeoutSeconds (30) and {EXIT_MARGIN_SECONDS}: the pod is killed while it still serves",
        field_path=".pod.terminationGracePeriodSeconds",
    ),
    Rule(
        "!has(self.lora) || !has(self.model.runner) || self.model.runner != 'pooling'",
        "spec.lora: adapters are for models that generate, and spec.model.runner is pooling",
        field_path=".lora",
    ),
    Rule(
        "!has(self.lora) || !has(self.lora.adapters) || self.lora.adapters.all(adapter, has(self.model.servedNames)"
        " ? !(adapter.name in self.model.servedNames)"
        " : !(self.model.source in [adapter.name, 'hf://' + adapter.name]))",
        "spec.lora.adapters: a name of the model is no name of an adapter: whoever asks for it gets the model. Give "
        "the adapter another name, or set spec.model.servedNames",
        field_path=".lora.adapters",
    ),
    Rule(
        "!has(self.lora) || !self.lora.runtimeUpdates"
        " || (has(self.engine.apiServerCount) ? self.engine.apiServerCount : self.parallelism.data) == 1",
        "spec.lora.runtimeUpdates needs spec.engine.apiServerCount 1, which is spec.parallelism.data where it is left "
        "out: each API server of vLLM knows its own adapters alone, so it refuses to start with several",
        field_path=".lora.runtimeUpdates",
    ),
    Rule(
        "!has(self.lora) || !self.lora.runtimeUpdates || !has(self.engine.env)"
        f" || self.engine.env.all(variable, variable.name != '{RUNTIME_VARIABLE}')",
        f"spec.engine.env must not set {RUNTIME_VARIABLE} with spec.lora.runtimeUpdates, which sets it",
        field_path=".engine.env",
    ),
    Rule(
        "!has(self.autoscaling) || self.replicas == 1",
        "spec.replicas and spec.autoscaling contradict each other: the autoscaler alone says how many engines there "
        "are; leave spec.replicas out, and set spec.autoscaling.minReplicas",
        field_path=".replicas",
        on_create=True,
    ),
    Rule(
        "has(oldSelf.autoscaling) || !has(self.autoscaling) || self.replicas in [1, oldSelf.replicas]",
        "spec.replicas and spec.autoscaling contradict each other: an edit that adds spec.autoscaling leaves "
        "spec.replicas out, or as it was",
        field_path=".replicas",
    ),
    Rule(
        "!has(self.autoscaling) || !has(oldSelf.autoscaling) || self.replicas in [1, oldSelf.replicas]"
        " || (self.autoscaling.minReplicas <= self.replicas && self.replicas <= self.autoscaling.maxReplicas)",
        "spec.replicas belongs to spec.autoscaling, which keeps it from minReplicas to maxReplicas: change these, or "
        "set spec.suspend to take the engines away",
        field_path=".replicas",
    ),
)


_PREFETCH: Final = "has(self.storage.cache) && has(self.storage.cache.prefetch)"

_PLACES: Final = ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_HUB_OFFLINE"]
"""Variables that would have an engine look elsewhere than where the claim is filled."""

_PREFETCH_RULES: Final = (
    Rule(
        f"!self.model.source.matches('^https?://') || ({_PREFETCH})",
        "spec.model.source: only a Job brings a model from a web server: set spec.storage.cache.prefetch, with a claim "
        "beside it",
        field_path=".model.source",
    ),
    Rule(
        f"!({_PREFETCH}) || !self.model.source.matches('^(pvc|oci|gs)://|^/')",
        "spec.storage.cache.prefetch brings models from the Hugging Face hub, s3:// and https://; leave it out for "
        "this source. A bucket of gs:// is read as s3:// by its XML API: set AWS_ENDPOINT_URL in spec.engine.env",
        field_path=".storage.cache.prefetch",
    ),
    Rule(
        f"!({_PREFETCH}) || !self.model.source.contains('$(')",
        "spec.model.source must not refer to a variable with spec.storage.cache.prefetch: write the source itself",
        field_path=".model.source",
    ),
    Rule(
        f"!({_PREFETCH}) || !has(self.model.downloadDir)",
        "spec.model.downloadDir and spec.storage.cache.prefetch contradict each other: the claim is filled where "
        "engines look by default; leave downloadDir out",
        field_path=".model.downloadDir",
    ),
    Rule(
        f"!({_PREFETCH}) || !has(self.engine.env) || self.engine.env.all(variable, !(variable.name in {_PLACES}))",
        f"spec.engine.env must not set {', '.join(_PLACES)} with spec.storage.cache.prefetch: engines would look "
        "elsewhere than where the claim is filled",
        field_path=".engine.env",
    ),
)


class VLLMModelSpec(Model):
    """The model that is served and the engines that serve it."""

    model_config = ConfigDict(alias_generator=to_camel, json_schema_extra=cel(*_RULES, *_PREFETCH_RULES))

    model: ModelSource = Field(description="Which model is served, and under which names.")
    engine: Engine = Field(default_factory=Engine, description="The vLLM server: its image and arguments.")
    parallelism: Parallelism = Field(
        default_factory=Parallelism, description="How the model is spread over the GPUs of one pod."
    )
    accelerator: Accelerator = Field(default_factory=Accelerator, description="The devices of one engine.")
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Engines that serve the model, each in a pod of its own, or in a group of parallelism.nodes pods. "
        "0 keeps everything but the engines. With autoscaling leave it out: the autoscaler sets it.",
    )
    autoscaling: Autoscaling | None = Field(
        default=None,
        description="Have the number of engines follow what they have to do: a ScaledObject of KEDA, or a "
        "HorizontalPodAutoscaler where the cluster serves custom metrics.",
    )
    suspend: bool = Field(
        default=False,
        description="Take the engines away and keep everything else, whatever replicas says; they come back once this "
        "is false again.",
    )
    resources: Resources = Field(default_factory=Resources, description="CPU and memory of one engine.")
    lora: Lora | None = Field(default=None, description="LoRA adapters that the engines serve beside the model.")
    storage: Storage = Field(default_factory=Storage, description="Volumes of one engine.")
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where the engines' pods run.")
    pod: Pod = Field(default_factory=Pod, description="What else the engines' pods have.")
    service: Service = Field(default_factory=Service, description="The Service that clients call.")
    ingress: Ingress | None = Field(
        default=None,
        description="The way in from outside of the cluster by the name of a host: an Ingress. spec.network, where it "
        "is set, has to let the controller's pods in.",
    )
    auth: Auth | None = Field(
        default=None,
        description="API keys; without them everybody may call who can connect. vLLM asks for them under /v1 and /v2 "
        "only: /metrics, /tokenize, /pooling and others stay open, so set network too.",
    )
    network: Network | None = Field(default=None, description="Who may call the engines: a NetworkPolicy.")
    disruption: Disruption | None = Field(
        default=None, description="How many engines a drain of nodes leaves: a PodDisruptionBudget."
    )
    rollout: Rollout = Field(default_factory=Rollout, description="How engines are replaced when the spec changes.")
    gates: Gates = Field(default_factory=Gates, description="The gates that decide which engines get traffic.")
    monitoring: Monitoring | None = Field(
        default=None, description="Have Prometheus collect the engines' metrics: a PodMonitor."
    )
    catalog: Catalog | None = Field(
        default=None,
        description="What the model is good for, so that applications choose by need: the namespace's ConfigMap "
        "`vllm-catalog`. Edits restart nothing.",
    )
    estimate: EstimateSource | None = Field(
        default=None,
        description="What describes the model, so that the condition `Fits` tells before a pod is made whether it has "
        "room on its GPUs. It stops nothing, and edits restart nothing.",
    )

    @property
    def wanted_replicas(self) -> int:
        """Engines that are to be there now: none while the model is suspended."""
        return 0 if self.suspend else self.replicas

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add to the list of further arguments the rule that is made of the fields of the finished type."""
        schema = handler(core)
        properties = handler.resolve_ref_schema(schema)["properties"]
        engine = handler.resolve_ref_schema({"$ref": properties["engine"]["$ref"]})
        engine["properties"]["extraArgs"] |= cel(refusal_rule(refused_arguments(cls)), ONE_WORD_RULE)
        return schema

    @property
    def served_names(self) -> tuple[str, ...]:
        """Names under which the engines answer, the main one first."""
        return tuple(self.model.served_names or [served_name(self.model.source)])

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """The LoRA adapters that are served, in the order in which they are written."""
        return tuple((self.lora and self.lora.adapters) or ())

    @property
    def updates_adapters(self) -> bool:
        """Whether engines that run are told of other adapters: then none of them is part of the pods."""
        return self.lora is not None and self.lora.runtime_updates

    @property
    def device_count(self) -> int:
        """Devices that a pod of an engine asks for as an extended resource."""
        if self.accelerator.count is not None:
            return self.accelerator.count
        return (
            0
            if self.accelerator.profile == "cpu" or self.accelerator.resource_claims
            else self.parallelism.processes_of_a_pod
        )

    @property
    def device_resource(self) -> str:
        """Extended resource that the devices are."""
        return self.accelerator.resource or PROFILES[self.accelerator.profile].resource


def parse_spec(raw: dict[str, Any]) -> VLLMModelSpec:
    """Read `spec` as it came from the API server, which has checked its schema and its rules.

    Raises:
        InvalidSpec: a field is missing, unknown, out of its bounds, nested too deeply, or wrong in itself.
    """
    deep = nesting_fault(raw)
    if deep:
        raise InvalidSpec([_told(deep.path, deep.message)])
    try:
        spec = VLLMModelSpec.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidSpec(_told(fault["loc"], fault["msg"]) for fault in error.errors()) from None
    found = [_told(fault.path, fault.message) for fault in faults(spec)]
    if found:
        raise InvalidSpec(found)
    return spec


def _told(path: tuple[str | int, ...], message: str) -> str:
    return f"{'.'.join(('spec', *map(str, path)))}: {message}"
