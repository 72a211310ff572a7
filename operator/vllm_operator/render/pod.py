"""The template of the engines' pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.quantity import MILLI, canonical
from vllm_operator.api.spec.engine import EXIT_MARGIN_SECONDS
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.render import adapters, command, devices, files, manager, storage
from vllm_operator.render.context import NO_CLUSTER, RenderContext
from vllm_operator.render.downloads import mark
from vllm_operator.render.environment import environment
from vllm_operator.render.images import pull_policy
from vllm_operator.render.service import PORT_NAME
from vllm_operator.render.sources import Sources

if TYPE_CHECKING:
    from vllm_operator.api.base import Model
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec import VLLMModelSpec
    from vllm_operator.api.spec.core import SecurityContext
    from vllm_operator.api.spec.pod import Scheduling

CONTAINER_NAME: Final = names.ENGINE_CONTAINER

_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
"""Annotation by which `kubectl logs` and `kubectl exec` find the engine beside sidecars."""

_USER_ID = 2000


def template(model: VLLMModel, context: RenderContext = NO_CLUSTER) -> dict[str, Any]:
    """The pod template, before the user's patch."""
    pod, changed_at = model.spec.pod, context.keys_changed_at
    metadata = {
        "labels": {**(pod.labels or {}), **names.labels(model.instance, "engine")},
        "annotations": {
            _DEFAULT_CONTAINER: CONTAINER_NAME,
            **(pod.annotations or {}),
            **files.pod_annotations(model),
            **({names.PREFETCHED: needed} if (needed := mark(model)) else {}),
            **({names.KEYS_CHANGED_AT: changed_at} if changed_at else {}),
        },
    }
    return {"metadata": metadata, "spec": _spec(model)}


def _spec(model: VLLMModel) -> dict[str, Any]:
    spec, pod = model.spec, model.spec.pod
    sources = Sources(spec)
    own_volumes = [
        *storage.volumes(model),
        *sources.volumes(),
        *files.volumes(model),
        *adapters.volumes(model),
        *manager.volumes(spec),
    ]
    body: dict[str, Any] = {
        "serviceAccountName": pod.service_account_name or names.engines_name(model.instance),
        "automountServiceAccountToken": pod.service_account_name is not None,
        "enableServiceLinks": False,  # a Service named vllm would set VLLM_PORT=tcp://..., and the server dies of it
        "terminationGracePeriodSeconds": pod.termination_grace_period_seconds or shutdown_seconds(spec),
        "securityContext": pod_rights(spec),
        **_placing(spec.scheduling, model.instance),
        "imagePullSecrets": _manifests(pod.image_pull_secrets),
        **({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"} if pod.host_network else {}),
        "initContainers": [
            *map(_pulled, _manifests(pod.init_containers)),
            *({**_pulled(sidecar), "restartPolicy": "Always"} for sidecar in _manifests(pod.sidecars)),
        ],
        "containers": [_container(model, sources)],
        "volumes": [*own_volumes, *_manifests(pod.volumes)],
        "resourceClaims": devices.pod_claims(model),
    }
    return {key: value for key, value in body.items() if value != []}


def _container(model: VLLMModel, sources: Sources) -> dict[str, Any]:
    spec, pod = model.spec, model.spec.pod
    body: dict[str, Any] = {
        "name": CONTAINER_NAME,
        "image": image(spec),
        "command": manager.command(model),
        "args": command.command(spec, manager.unlogged(spec)),
        "env": environment(spec, model.instance),
        "envFrom": _manifests(spec.engine.env_from),
        "ports": [{"name": PORT_NAME, "containerPort": spec.engine.port, "protocol": "TCP"}, manager.port(spec)],
        "resources": _resources(spec),
        "securityContext": container_rights(pod.container_security_context),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **manager.probes(spec),
        "volumeMounts": [
            *storage.mounts(model),
            *sources.mounts(),
            *files.mounts(model),
            *adapters.mounts(model),
            *manager.mounts(spec),
            *_manifests(pod.volume_mounts),
        ],
    }
    if spec.engine.image_pull_policy:
        body["imagePullPolicy"] = spec.engine.image_pull_policy
    return _pulled({key: value for key, value in body.items() if value != []})


def shutdown_seconds(spec: VLLMModelSpec) -> int:
    """How long an engine may take to end: to leave its Services, to finish its requests, and to exit."""
    return manager.leave_seconds(spec) + spec.engine.shutdown_timeout_seconds + EXIT_MARGIN_SECONDS


def _pulled(container: dict[str, Any]) -> dict[str, Any]:
    return container | {"imagePullPolicy": container.get("imagePullPolicy", pull_policy(container["image"]))}


def image(spec: VLLMModelSpec) -> str:
    """Image of the engine."""
    return spec.engine.image or PROFILES[spec.accelerator.profile].image


def pull_policy_of(spec: VLLMModelSpec) -> str:
    """When the engine's image is pulled."""
    return spec.engine.image_pull_policy or pull_policy(image(spec))


def container_rights(context: SecurityContext | None) -> dict[str, Any]:
    """Rights of a container: none that the user has not given."""
    given = context.manifest() if context else {}
    capabilities = {"drop": ["ALL"], **given.get("capabilities", {})}
    rights: dict[str, Any] = {"allowPrivilegeEscalation": False}
    if given.get("privileged") or "CAP_SYS_ADMIN" in capabilities.get("add", []):
        rights = {}  # who has all rights may gain them: the API server refuses the contradiction
    if given.get("runAsUser") == 0:
        rights["runAsNonRoot"] = False  # as for the whole pod
    return {**rights, **given, "capabilities": capabilities}


def pod_rights(spec: VLLMModelSpec) -> dict[str, Any]:
    """Rights of a pod: those of an ordinary user, as far as the spec says nothing else."""
    profile = PROFILES[spec.accelerator.profile]
    rights: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": _USER_ID,
        "runAsGroup": 0,
        "fsGroup": 0,
        "fsGroupChangePolicy": "OnRootMismatch",  # a cache of many files would be gone through at every start
        "seccompProfile": {"type": profile.seccomp},
    }
    if profile.groups:
        rights["supplementalGroups"] = list(profile.groups)
    given = spec.pod.security_context.manifest() if spec.pod.security_context else {}
    if given.get("runAsUser") == 0:
        rights["runAsNonRoot"] = False  # who asks for root means it
    return rights | given


def _placing(scheduling: Scheduling, instance: str) -> dict[str, Any]:
    placing = scheduling.manifest()
    placing.pop("queueName", None)  # of the Deployment's: see render/deployment.py
    for constraint in placing.get("topologySpreadConstraints", []):
        constraint.setdefault("labelSelector", {"matchLabels": names.selector_labels(instance)})
    return placing


def _resources(spec: VLLMModelSpec) -> dict[str, Any]:
    """CPU and memory as the user set them, and the devices: a limit, which becomes a request as well, or claims."""
    limits: dict[str, Any] = {**(spec.resources.limits or {})}
    if spec.device_count:
        limits[spec.device_resource] = spec.device_count
    sections = {"limits": limits, "requests": {**(spec.resources.requests or {})}}
    given: dict[str, Any] = {name: _quantities(section) for name, section in sections.items() if section}
    claims = devices.container_claims(spec)
    return {**given, "claims": claims} if claims else given


def _quantities(section: dict[str, Any]) -> dict[str, str]:
    return {name: canonical(quantity, MILLI) for name, quantity in sorted(section.items())}


def _manifests(parts: list[Any] | None) -> list[dict[str, Any]]:
    typed: list[Model] = parts or []
    return [part.manifest() for part in typed]
