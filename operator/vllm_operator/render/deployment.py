"""The Deployment of the engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.spec import DEFAULT_IMAGE
from vllm_operator.render import command, gates
from vllm_operator.render.objects import child
from vllm_operator.render.service import PORT_NAME

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec import VLLMModelSpec

CONTAINER_NAME: Final = "vllm"

_LEAVE_SECONDS = 5
"""Pause before SIGTERM, in which the pod leaves the endpoints: a draining server refuses new requests."""

_EXIT_MARGIN_SECONDS = 10

_PROGRESS_MARGIN_SECONDS = 600
"""Time to schedule the pod and pull the image, on top of the engine's own start-up budget."""

_SHARED_MEMORY_LIMIT = "2Gi"
_USER_ID = 2000


def deployment(model: VLLMModel) -> dict[str, Any]:
    """The Deployment. A rollout never takes an engine away before its replacement has completed a prompt."""
    spec = {
        "replicas": model.spec.replicas,
        "progressDeadlineSeconds": gates.STARTUP_BUDGET_SECONDS + _PROGRESS_MARGIN_SECONDS,
        "revisionHistoryLimit": 3,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": names.selector_labels(model.instance)},
        "template": {"metadata": {"labels": names.labels(model.instance, "engine")}, "spec": _pod(model.spec)},
    }
    return child(model, api_version="apps/v1", kind="Deployment", name=model.instance, component="engine", spec=spec)


def _pod(spec: VLLMModelSpec) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service named vllm would set VLLM_PORT=tcp://..., and the server dies of it
        "terminationGracePeriodSeconds": _LEAVE_SECONDS + command.DRAIN_SECONDS + _EXIT_MARGIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER_ID,
            "runAsGroup": 0,
            "fsGroup": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(spec)],
        "volumes": [
            {"name": "home", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _SHARED_MEMORY_LIMIT}},
            *gates.volumes(),
        ],
    }


def _container(spec: VLLMModelSpec) -> dict[str, Any]:
    environment = command.environment(spec.engine)
    return {
        "name": CONTAINER_NAME,
        "image": spec.engine.image or DEFAULT_IMAGE,
        "command": command.command(spec),
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"name": PORT_NAME, "containerPort": spec.engine.port, "protocol": "TCP"}],
        "resources": _resources(spec),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": {"preStop": {"sleep": {"seconds": _LEAVE_SECONDS}}},
        **gates.probes(spec),
        "volumeMounts": [
            {"name": "home", "mountPath": command.HOME},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 # the mount point that torch and NCCL use
            *gates.mounts(),
        ],
    }


def _resources(spec: VLLMModelSpec) -> dict[str, Any]:
    """CPU and memory as the user set them, and the devices as a limit; the API server copies it into the requests."""
    limits: dict[str, Any] = {**(spec.resources.limits or {})}
    if spec.device_count:
        limits[spec.accelerator.resource] = spec.device_count
    sections = {"limits": limits, "requests": {**(spec.resources.requests or {})}}
    return {name: _quantities(section) for name, section in sections.items() if section}


def _quantities(section: dict[str, Any]) -> dict[str, str]:
    return {name: str(quantity) for name, quantity in sorted(section.items())}
