"""The volumes that an engine writes to: its home, its cache, its shared memory; and the cache's claim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.quantity import MILLI, canonical
from vllm_operator.api.spec.storage import ONE_NODE_MODES
from vllm_operator.render.context import NO_CLUSTER
from vllm_operator.render.environment import CACHE, HOME
from vllm_operator.render.objects import child
from vllm_operator.render.sources import CACHE_VOLUME

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec import VLLMModelSpec
    from vllm_operator.api.spec.storage import Storage
    from vllm_operator.render.context import RenderContext

_DEFAULT_MODES: Final = ("ReadWriteOnce",)
_SHARED_MEMORY: Final = "2Gi"
_SHARED_MEMORY_OF_SEVERAL: Final = "8Gi"
"""Engines of several processes exchange tensors through it."""


def claim(model: VLLMModel, context: RenderContext = NO_CLUSTER) -> tuple[dict[str, Any], ...]:
    """The claim of the cache; nothing where the cache is something else.

    A claim that is to be kept, or that another model mounts too, has no owner, so that neither garbage collection nor
    the operator deletes it.
    """
    cache = model.spec.storage.cache
    wanted = cache.persistent_volume_claim if cache else None
    if wanted is None:
        return ()
    spec: dict[str, Any] = {
        "accessModes": list(wanted.access_modes or _DEFAULT_MODES),
        "resources": {"requests": {"storage": canonical(wanted.size, MILLI)}},
    }
    if wanted.storage_class_name:
        spec["storageClassName"] = wanted.storage_class_name
    name = names.cache_name(model.instance)
    body = child(
        model,
        api_version="v1",
        kind="PersistentVolumeClaim",
        name=name,
        component="cache",
        owned=not wanted.keep and name not in context.claims_of_others,
        spec=spec,
    )
    return (body,)


def on_one_node(storage: Storage) -> bool:
    """Whether pods on two nodes cannot use the cache at the same time: a rollout has to replace engines in place."""
    wanted = storage.cache.persistent_volume_claim if storage.cache else None
    return wanted is not None and set(wanted.access_modes or _DEFAULT_MODES) <= ONE_NODE_MODES


def volumes(model: VLLMModel) -> list[dict[str, Any]]:
    """Volumes of the pod that the engine writes to."""
    spec = model.spec
    several = spec.parallelism.world_size > 1
    shared = spec.storage.shared_memory or (_SHARED_MEMORY_OF_SEVERAL if several else _SHARED_MEMORY)
    return [
        {"name": "home", "emptyDir": {}},
        *_cache(model),
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared}},
        *({"name": "tmp", "emptyDir": {}} for _ in _scratch(spec)),
    ]


def mounts(model: VLLMModel) -> list[dict[str, Any]]:
    """Mounts of those volumes in the engine's container."""
    return [
        {"name": "home", "mountPath": HOME},
        *({"name": volume["name"], "mountPath": CACHE} for volume in _cache(model)),
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 # the mount point that torch and NCCL use
        *({"name": "tmp", "mountPath": path} for path in _scratch(model.spec)),
    ]


def _scratch(spec: VLLMModelSpec) -> list[str]:
    """Folder for the sockets of the engine's processes, where the image's own is read-only and the user gives none."""
    rights, folder = spec.pod.container_security_context, "/tmp"  # noqa: S108 # where Python looks for it
    given = [mount.mount_path.rstrip("/") for mount in spec.pod.volume_mounts or []]
    return [folder] if rights and rights.read_only_root_filesystem and folder not in given else []


def _cache(model: VLLMModel) -> list[dict[str, Any]]:
    cache = model.spec.storage.cache
    if cache is None:
        return []
    if cache.host_path:
        source: dict[str, Any] = {"hostPath": {"path": cache.host_path.path, "type": "DirectoryOrCreate"}}
    elif cache.empty_dir:
        source = {"emptyDir": cache.empty_dir.manifest()}
    else:
        name = cache.existing_claim or names.cache_name(model.instance)
        source = {"persistentVolumeClaim": {"claimName": name}}
    return [{"name": CACHE_VOLUME, **source}]
