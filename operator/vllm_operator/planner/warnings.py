"""What does not stop the engines and should be known all the same: settings that switch a promise off. Pure.

Each check reads one model and says one sentence: the field, what it switches off, and the way out. A sentence holds
nothing that moves by itself, such as an age, since each new text is a write of the status. What is never sensible is
refused instead, by a rule of the schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.api.spec import versions
from vllm_operator.api.vllm_releases import arguments_of, first_with
from vllm_operator.fit.accelerator import slice_of
from vllm_operator.planner.budgets import share
from vllm_operator.planner.policies import closing
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.diagnosis.engines import EngineReport
    from vllm_operator.planner.api_keys import Standing
    from vllm_operator.planner.budgets import Budget
    from vllm_operator.planner.policies import Policy

MOST_TROUBLES: Final = 3
"""Engines whose managers' troubles are told one by one: most often they have one cause."""

MOST_NAMES: Final = 3
"""Objects that one sentence names."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged: a model and what is around it."""

    model: VLLMModel
    deployment: Mapping[str, Any]
    """The Deployment as it is wanted, with the user's patch of the pods."""
    keys: Standing
    pod_monitors: bool
    """Whether the API server serves PodMonitor."""
    autoscalers: tuple[str, ...] = ()
    """Kind and name of each autoscaler that sets the replicas of the Deployment itself."""
    budgets: tuple[Budget, ...] = ()
    """PodDisruptionBudgets of others that may select the engines, by name."""
    policies: tuple[Policy, ...] = ()
    """NetworkPolicies of others that may select the engines, by name."""
    excluded: str = ""
    """What keeps two engines from being there at the same time; empty where nothing does."""
    restart_warning: str = ""
    """What is wrong with the restart that the model's annotation asks for; empty where nothing is."""
    pending_template: str = ""
    """In what the pod template differs that waits for the user; empty where none waits."""

    @property
    def pod(self) -> Mapping[str, Any]:
        """Spec of the engines' pods."""
        found: Mapping[str, Any] = self.deployment["spec"]["template"]["spec"]
        return found

    @property
    def others_budgets(self) -> list[Budget]:
        """The PodDisruptionBudgets of others that select the engines."""
        return [budget for budget in self.budgets if budget.selects(self.labels)]

    @property
    def labels(self) -> Mapping[str, Any]:
        """Labels of the engines' pods."""
        found: Mapping[str, Any] = self.deployment["spec"]["template"]["metadata"]["labels"]
        return found

    @property
    def ports(self) -> list[tuple[int, str]]:
        """The port of the pods that clients reach, with each name that it has in a container."""
        spec = self.model.spec
        number = spec.service.target_port or spec.engine.port
        containers = [*self.pod["containers"], *(self.pod.get("initContainers") or ())]
        found = [port for one in containers for port in one.get("ports") or () if port["containerPort"] == number]
        return [(number, ""), *((number, port.get("name", "")) for port in found)]

    @property
    def container(self) -> Mapping[str, Any]:
        """The engine's container."""
        found: Mapping[str, Any] = next(one for one in self.pod["containers"] if one["name"] == CONTAINER_NAME)
        return found


def warnings(subject: Subject) -> list[str]:
    """Everything that there is to tell, what cuts clients off first."""
    told = (check(subject) for check in CHECKS)
    return [sentence for sentence in told if sentence]


def gate_troubles(engines: Iterable[EngineReport]) -> list[str]:
    """What is wrong with managers themselves: their engines are judged as before, or go on as they were."""
    told = [f"{one.pod}: its manager is in trouble: {one.trouble}" for one in engines if one.trouble]
    more = len(told) - MOST_TROUBLES
    return told[:MOST_TROUBLES] + ([f"and the managers of {more} more engines"] if more > 0 else [])


def keys_unreadable(subject: Subject) -> str | None:
    """Keys that clients or engines do not get."""
    return "; ".join(subject.keys.problems) or None


def keys_differ(subject: Subject) -> str | None:
    """Engines and clients that have different keys for a while."""
    return subject.keys.sentence or None


def second_scaler(subject: Subject) -> str | None:
    """An autoscaler that fights with the operator: engines are made and killed again and again."""
    if not subject.autoscalers:
        return None
    return (
        f"{', '.join(subject.autoscalers)} scales Deployment {subject.model.instance}, and the operator sets it back "
        f"to spec.replicas each time: let its target be {KIND} {subject.model.name} ({API_VERSION}), which has a scale "
        "subresource"
    )


def restart_unread(subject: Subject) -> str | None:
    """A restart that the user asked for in words that are no time."""
    return subject.restart_warning or None


def nobody_allowed(subject: Subject) -> str | None:
    """A NetworkPolicy that shuts all clients out."""
    network = subject.model.spec.network
    if network is None or network.allow_from:
        return None
    return "spec.network.allowFrom is empty, so nobody may call the engines: name who may"


def closed_by_others(subject: Subject) -> str | None:
    """NetworkPolicies of others that keep every client from the engines, which are ready all the same."""
    if subject.model.spec.network is not None or subject.pod.get("hostNetwork"):
        return None
    names = closing(subject.policies, subject.labels, subject.ports)
    if not names:
        return None
    return (
        f"{_listed('NetworkPolicy', names)} of somebody else selects the engines, and no policy lets anybody reach "
        "their port: where the network plug-in applies policies, clients wait in vain for engines that are ready; name "
        "the clients in spec.network.allowFrom, which adds to it"
    )


def heard_by_nobody(subject: Subject) -> str | None:
    """A server that listens where no Service reaches it."""
    spec = subject.model.spec
    if spec.engine.host != "127.0.0.1" or spec.pod.sidecars or len(subject.pod["containers"]) > 1:
        return None
    return (
        "spec.engine.host is 127.0.0.1, and the pod has no sidecar that could hand requests on: clients reach no "
        "engine; leave it out, or add one to spec.pod.sidecars"
    )


def outside_shut_out(subject: Subject) -> str | None:
    """A Service for clients outside of the cluster whom the NetworkPolicy does not know."""
    spec = subject.model.spec
    if spec.service.type == "ClusterIP" or spec.network is None or not spec.network.allow_from:
        return None
    if any(peer.ip_block for peer in spec.network.allow_from):
        return None
    return (
        f"spec.network lets pods in, and clients of a Service of type {spec.service.type} come from addresses outside: "
        "name these by an ipBlock in spec.network.allowFrom"
    )


def policy_without_effect(subject: Subject) -> str | None:
    """A NetworkPolicy of pods that it is not applied to."""
    if subject.model.spec.network is None or not subject.pod.get("hostNetwork"):
        return None
    return (
        "spec.network guards nothing: a NetworkPolicy is not applied to pods in the network of their node, which "
        "spec.pod.patch asks for; leave hostNetwork out, or guard the port on the nodes"
    )


def open_to_all(subject: Subject) -> str | None:
    """A Service that reaches beyond the cluster without a key and without a policy."""
    spec = subject.model.spec
    if spec.service.type == "ClusterIP" or spec.auth or spec.network:
        return None
    return (
        f"spec.service.type is {spec.service.type} without spec.auth and spec.network: everybody who reaches that "
        "address may use the engines"
    )


def open_by_ingress(subject: Subject) -> str | None:
    """An Ingress without a key: a NetworkPolicy sees the controller alone, and not who is behind it."""
    spec = subject.model.spec
    if spec.ingress is None or spec.auth:
        return None
    return (
        f"spec.ingress without spec.auth: everybody who reaches {spec.ingress.host} may use the engines, unless the "
        "Ingress controller asks who calls"
    )


_RERANKER: Final = re.compile(r"rerank|cross-?encoder", re.IGNORECASE)


def reranker_unnamed(subject: Subject) -> str | None:
    """A reranker by its name, of which the spec does not say whether it scores or writes text."""
    model = subject.model.spec.model
    if model.runner in {"generate", "pooling"} or model.convert in {"embed", "classify"}:
        return None
    if not _RERANKER.search(model.source):
        return None
    return (
        "spec.model.source sounds like a reranker, and spec.model.runner does not say what it does, so that the "
        "catalogue takes it for one that writes text: set it to pooling, or to generate where that is right"
    )


def prometheus_shut_out(subject: Subject) -> str | None:
    """Metrics that are asked for and cannot be read through the NetworkPolicy."""
    spec = subject.model.spec
    if spec.monitoring is None or spec.network is None:
        return None
    if any(peer.namespace_selector or peer.ip_block for peer in spec.network.allow_from):
        return None
    return (
        "spec.network lets in nobody from another namespace, so a Prometheus there reads no metrics although "
        "spec.monitoring asks for it: name it by a namespaceSelector in spec.network.allowFrom"
    )


def no_pod_monitor(subject: Subject) -> str | None:
    """Metrics that are asked for where nobody would collect them."""
    if subject.model.spec.monitoring is None or subject.pod_monitors:
        return None
    return (
        "spec.monitoring: this cluster has no PodMonitor (monitoring.coreos.com/v1): metrics are not collected until "
        "the Prometheus operator is installed"
    )


_SECRET_NAME: Final = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY|CREDENTIALS)$")
_REFERENCE: Final = re.compile(r"\$\([^)]*\)")


def secrets_in_the_clear(subject: Subject) -> str | None:
    """Tokens and keys as plain values, which everybody reads who may read pods."""
    shown = [
        one["name"]
        for one in subject.container.get("env", [])
        if _SECRET_NAME.search(one["name"]) and one.get("value") and not _REFERENCE.fullmatch(one["value"])
    ]
    if not shown:
        return None
    hub = " (HF_TOKEN: by spec.model.tokenSecret)" if "HF_TOKEN" in shown else ""
    return (
        f"the engine's environment shows {', '.join(shown)} to everybody who may read pods: take it out of a Secret by "
        f"valueFrom.secretKeyRef{hub}"
    )


_SECRET_FLAGS: Final = frozenset({"--api-key", "--hf-token"})


def secrets_on_the_command_line(subject: Subject) -> str | None:
    """A key that a patch puts where everybody reads it who sees the processes of the node."""
    words = [*subject.container.get("command", []), *subject.container.get("args", [])]
    flags = sorted({word.partition("=")[0].replace("_", "-") for word in words} & _SECRET_FLAGS)
    if not flags:
        return None
    return (
        f"spec.pod.patch puts {', '.join(flags)} on the engine's command line, where everybody reads it who may read "
        "pods or sees the node's processes: set spec.auth, and spec.model.tokenSecret"
    )


def open_switches(subject: Subject) -> str | None:
    """Endpoints that put an engine to sleep, open to whoever can connect."""
    values = {one["name"]: one.get("value", "") for one in subject.container.get("env", [])}
    if values.get("VLLM_SERVER_DEV_MODE", "") in ("", "0"):
        return None
    return (
        "VLLM_SERVER_DEV_MODE opens endpoints that pause an engine or put it to sleep to everybody who can connect, "
        "whatever spec.auth says: leave it out, or guard them by spec.network"
    )


def adapters_open_to_all(subject: Subject) -> str | None:
    """Endpoints that load any adapter, open to whoever can connect."""
    spec = subject.model.spec
    if not spec.updates_adapters or spec.auth or spec.network:
        return None
    return (
        "spec.lora.runtimeUpdates without spec.auth and spec.network: everybody who can connect may have the engines "
        "load any adapter from the hub, or any folder that they see: set one of these"
    )


def drains_blocked(subject: Subject) -> str | None:
    """A PodDisruptionBudget that lets no engine go, so that no node of them can ever be drained."""
    disruption, replicas = subject.model.spec.disruption, subject.model.spec.wanted_replicas
    if disruption is None or not replicas:
        return None
    if disruption.min_available is not None:
        field, value = "minAvailable", disruption.min_available
        blocked = share(value, replicas) >= replicas
    else:
        field, value = "maxUnavailable", disruption.max_unavailable or 0
        blocked = share(value, replicas) == 0
    if not blocked:
        return None
    return (
        f"spec.disruption.{field} {value} of {replicas} engines lets none of them go: a drain of their nodes waits for "
        "ever; set maxUnavailable 1, or raise spec.replicas"
    )


def drains_blocked_by_others(subject: Subject) -> str | None:
    """Somebody else's PodDisruptionBudget that lets no engine go."""
    replicas = subject.model.spec.wanted_replicas
    if not replicas:
        return None
    reasons = ((budget.name, budget.why_never(replicas)) for budget in subject.others_budgets)
    stuck = [f"{name} ({reason})" for name, reason in reasons if reason]
    if not stuck:
        return None
    return (
        f"{_listed('PodDisruptionBudget', stuck)} of somebody else lets no engine go: a drain of their nodes waits for "
        "ever; have its owner set maxUnavailable 1 or exempt these pods, or raise spec.replicas"
    )


def budgets_together(subject: Subject) -> str | None:
    """Several PodDisruptionBudgets for one pod: the API server answers each eviction with 500."""
    spec = subject.model.spec
    names = [budget.name for budget in subject.others_budgets]
    own = [] if spec.disruption is None else [f"{subject.model.instance} (spec.disruption)"]
    if not spec.wanted_replicas or len(own) + len(names) <= 1:
        return None
    return (
        f"{_listed('PodDisruptionBudget', [*own, *names])} select the same engines: the API server evicts no pod that "
        "has more than one, so a drain of their nodes fails; keep one of them"
    )


def _listed(kind: str, names: list[str]) -> str:
    """The first few of what a sentence is about, and how many more there are."""
    more = len(names) - MOST_NAMES
    return f"{kind} {', '.join(names[:MOST_NAMES])}" + (f" and {more} more" if more > 0 else "")


def taken_away_by_rollouts(subject: Subject) -> str | None:
    """A rollout that has to end the only engine before it starts the next one."""
    if not subject.excluded or subject.model.spec.rollout.strategy != "Auto" or subject.model.spec.replicas != 1:
        return None
    return (
        "two engines cannot be there at the same time (a cache for one node, or what they take of a node), so each "
        "change takes the model away until the new one has loaded: choose a cache with accessModes ReadWriteMany, or "
        "more replicas"
    )


def one_place_for_all(subject: Subject) -> str | None:
    """A cache that keeps all engines on one node, or all but one from starting."""
    spec = subject.model.spec
    claim = spec.storage.cache.persistent_volume_claim if spec.storage.cache else None
    if claim is None or spec.replicas < 2 or "ReadWriteMany" in (claim.access_modes or ()):  # noqa: PLR2004 # several
        return None
    if claim.access_modes == ["ReadWriteOncePod"]:
        effect = "one pod alone may use it, so no other engine can start"
    else:
        effect = "all engines have to run on one node, and are lost with it"
    return f"spec.storage.cache.persistentVolumeClaim.accessModes: {effect}: choose ReadWriteMany"


def cache_of_the_node(subject: Subject) -> str | None:
    """A folder of the node that the engine's user may be unable to write, and that each node has for itself."""
    cache = subject.model.spec.storage.cache
    rights = {**(subject.pod.get("securityContext") or {}), **(subject.container.get("securityContext") or {})}
    user = rights.get("runAsUser")
    if cache is None or cache.host_path is None or user == 0:
        return None
    return (
        f"spec.storage.cache.hostPath: kubelet makes a missing folder for root alone, and the engine is user {user}: "
        "make it on each node and give it to that user, or its downloads fail"
    )


_SHUTDOWN_TIMEOUT: Final = "--shutdown-timeout"


def cut_off_at_the_end(subject: Subject) -> str | None:
    """An engine that aborts its requests when it is told to end."""
    spec = subject.model.spec
    version = versions.version_of(spec)
    if spec.engine.shutdown_timeout_seconds and version and _SHUTDOWN_TIMEOUT not in arguments_of(version):
        return (
            f"vLLM {version} has no {_SHUTDOWN_TIMEOUT}: each rollout, drain and scaling down may abort the requests "
            f"in flight, whatever spec.engine.shutdownTimeoutSeconds says; {first_with(_SHUTDOWN_TIMEOUT)} has it"
        )
    if spec.engine.shutdown_timeout_seconds:
        return None
    return (
        "spec.engine.shutdownTimeoutSeconds is 0: each rollout, drain and scaling down aborts the requests in flight; "
        "leave it out with vLLM 0.18.0 and newer"
    )


def arguments_of_another_version(subject: Subject) -> str | None:
    """What the engines' version of vLLM does not know, and most likely ends at."""
    return ". ".join(subject.model.version_warnings) or None


def prompt_replaced(subject: Subject) -> str | None:
    """A command of the user in place of the manager's own prompts."""
    if not subject.model.spec.gates.probe:
        return None
    return (
        "spec.gates.probe stands for a completed prompt: whether an engine gets traffic, and whether one without work "
        "is well, is up to this command; remove it where the model serves prompts"
    )


def idle_hangs_unseen(subject: Subject) -> str | None:
    """A manager that does not try an idle engine."""
    if subject.model.spec.gates.canary != "Never":
        return None
    return "spec.gates.canary is Never: an engine that hangs without work keeps its traffic until its users find it"


def never_restarted(subject: Subject) -> str | None:
    """A manager that leaves an engine that hangs as it is."""
    if subject.model.spec.gates.restart != "Never":
        return None
    return "spec.gates.restart is Never: an engine that hangs loses its traffic, and stays so until you delete its pod"


def spread_over_slices(subject: Subject) -> str | None:
    """GPUs cut into slices, over which one copy of the model is spread: no slice reaches the memory of another one."""
    spec, parallelism = subject.model.spec, subject.model.spec.parallelism
    found = slice_of(spec)
    if found is None or parallelism.tensor * parallelism.pipeline == 1:
        return None
    return (
        f"spec.parallelism: engines are spread over several slices of GPUs ({found.name}), which have no way to each "
        "other's memory: NCCL refuses them or takes the way through the host, slowly, since August 2026 "
        "(NVIDIA/nccl#1716); set tensor and pipeline to 1 and ask for a larger slice, or for whole GPUs"
    )


CHECKS: Final[tuple[Callable[[Subject], str | None], ...]] = (
    keys_unreadable,
    keys_differ,
    second_scaler,
    restart_unread,
    nobody_allowed,
    closed_by_others,
    heard_by_nobody,
    outside_shut_out,
    policy_without_effect,
    spread_over_slices,
    open_to_all,
    open_by_ingress,
    secrets_on_the_command_line,
    secrets_in_the_clear,
    open_switches,
    adapters_open_to_all,
    arguments_of_another_version,
    prompt_replaced,
    idle_hangs_unseen,
    never_restarted,
    one_place_for_all,
    taken_away_by_rollouts,
    drains_blocked,
    drains_blocked_by_others,
    budgets_together,
    cut_off_at_the_end,
    cache_of_the_node,
    prometheus_shut_out,
    no_pod_monitor,
    reranker_unnamed,
)
"""In the order in which they are told: the status holds the first few."""
