"""Volumes and files of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.places import mounts
from vllm_operator.render import amx, files, manager
from vllm_operator.render.environment import CACHE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.cli.engine import Engine
    from vllm_operator.cli.places import Place


_AMX_CONFIG: Final = "vllm-startup"
_PROGRAM_CONFIG: Final = "vllm-manager-"
"""What the names of the manager's files begin with."""


def escaped(text: str) -> str:
    """The text as Compose takes it without looking for variables in it."""
    return text.replace("$", "$$")


def user_of(engine: Engine) -> str:
    """The image's own user, since volumes belong to root; another where the spec names one."""
    pod, container = engine.model.spec.pod.security_context, engine.model.spec.pod.container_security_context
    user = next((one.run_as_user for one in (container, pod) if one and one.run_as_user is not None), None)
    group = next((one.run_as_group for one in (container, pod) if one and one.run_as_group is not None), 0)
    return "" if user is None else f"{user}:{group}"


def mounts_of(engine: Engine) -> Iterator[dict[str, Any]]:
    """What the service mounts. Downloads are kept also where the spec names no cache: here nobody else does."""
    found = [place for place in mounts(engine) if mount_of(place, engine)]
    yield from (mount_of(place, engine) for place in found)
    if not any(place.path == CACHE for place in found):
        yield {"type": "volume", "source": _cache_name(engine), "target": CACHE}


def mount_of(place: Place, engine: Engine) -> dict[str, Any]:
    """One mount of the service; nothing for what Compose has other words for, or root needs not."""
    if place.volume["name"] in {"shm", "config", amx.VOLUME} or (
        place.volume["name"] == "home" and not user_of(engine)
    ):
        return {}
    read_only = {"read_only": True} if place.mount.get("readOnly") else {}
    return {**_mounted(place, engine), "target": escaped(place.path), **read_only}


def _mounted(place: Place, engine: Engine) -> dict[str, Any]:
    below, details = place.mount.get("subPath", ""), place.details
    if place.kind == "persistentVolumeClaim" or place.volume["name"] == "cache":
        if place.kind == "hostPath":
            return _bind(str(details["path"]), below, create=True)
        options = {"volume": {"subpath": escaped(below)}} if below else {}
        return {"type": "volume", "source": _volume_name(place, engine), **options}
    if place.kind == "image":
        options = {"image": {"subpath": escaped(below)}} if below else {}
        return {"type": "image", "source": escaped(str(details["reference"])), **options}
    if place.kind == "emptyDir":
        return {"type": "tmpfs"} if place.volume["name"] == "home" else {"type": "volume"}
    if place.kind == "hostPath":
        return _bind(str(details["path"]), below, create=False)
    return _bind(f"./{engine.model.instance}-{place.volume['name']}", below, create=False)


def _bind(source: str, below: str, *, create: bool) -> dict[str, Any]:
    path = "/".join(part for part in (source.rstrip("/") or "/", below.strip("/")) if part)
    return {"type": "bind", "source": escaped(path), "bind": {"create_host_path": create}}


def _volume_name(place: Place, engine: Engine) -> str:
    """Volumes of the model's own cache are named after it; those that are there already, after their claim."""
    return str(place.details.get("claimName", "")) if is_there_already(place, engine) else _cache_name(engine)


def _cache_name(engine: Engine) -> str:
    return f"{engine.model.instance}-cache"


def is_there_already(place: Place, engine: Engine) -> bool:
    """Whether it is a claim that somebody has filled, not one that the operator makes."""
    given = engine.model.spec.storage.cache
    own = place.volume["name"] == "cache" and not (given and given.existing_claim)
    return place.kind == "persistentVolumeClaim" and not own


def volumes_of(engine: Engine) -> Iterator[tuple[str, dict[str, Any]]]:
    """The named volumes that the service mounts; Compose makes those that need not be there."""
    there = {_volume_name(place, engine) for place in mounts(engine) if is_there_already(place, engine)}
    for mount in mounts_of(engine):
        if mount["type"] == "volume" and "source" in mount:
            yield mount["source"], {"name": mount["source"], **({"external": True} if mount["source"] in there else {})}


def configs_of(engine: Engine) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files that stand in the spec, that we bring along, or that somebody has to put beside the Compose file."""
    if amx.wanted(engine.model.spec):
        yield _AMX_CONFIG, {"content": escaped(amx.source())}
    template = engine.model.spec.model.chat_template
    if template and template.inline:
        yield config_name(engine), {"content": escaped(template.inline)}
    elif template and template.config_map_key_ref:
        yield config_name(engine), {"file": f"./{config_name(engine)}.jinja"}


def program_configs(program: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The manager's files, which all services mount."""
    return {f"{_PROGRAM_CONFIG}{name}": {"content": escaped(text)} for name, text in program.items()}


def program_mounts(program: Iterable[str]) -> list[dict[str, str]]:
    """Mounts of the manager's files, by their names."""
    return [{"source": f"{_PROGRAM_CONFIG}{name}", "target": f"{manager.PROGRAM_FOLDER}/{name}"} for name in program]


def config_name(engine: Engine) -> str:
    """Name of the chat template's file."""
    return f"{engine.model.instance}-chat-template"


def config_mounts(engine: Engine) -> list[dict[str, Any]]:
    """Mounts of the files in the service of the engine."""
    own = {_AMX_CONFIG: f"{amx.FOLDER}/{amx.FILE}"}
    template = f"{files.FOLDER}/{files.TEMPLATE_FILE}"
    return [{"source": name, "target": own.get(name, template)} for name, _ in configs_of(engine)]
