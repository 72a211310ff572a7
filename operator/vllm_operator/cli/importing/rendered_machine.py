"""Command lines and Compose files that this operator has rendered, as the pods that they were rendered from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.cli.importing.manifests import Bundle
from vllm_operator.cli.importing.origins import env_from_of, origins_of, places_of, restored, title_of
from vllm_operator.cli.importing.rendered import CERTIFICATE_VOLUME
from vllm_operator.cli.importing.shell import escaped
from vllm_operator.cli.importing.workload import Workload
from vllm_operator.render import amx, files
from vllm_operator.render.environment import CACHE, HOME, KEY_VARIABLE
from vllm_operator.render.manager import INTERPRETER, STATE_FOLDER, STEM
from vllm_operator.render.sources import CLAIMS_FOLDER, IMAGES_FOLDER
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_operator.cli.importing.machine import MachineContainer
    from vllm_operator.cli.importing.origins import Origin

_MARK: Final = ("VLLM_NO_USAGE_STATS", "1")
_NUMBERED: Final = re.compile(r"(.+)-([0-9]+)")
_TEMPLATE: Final = re.compile(r"\S+: \./(\S+)\.jinja must hold key (\S+) of the files of the ConfigMap (\S+)\.")
_SECRET: Final = re.compile(r"the files of the Secret (\S+)")
_CERTIFICATE_NOTE: Final = re.compile(r"\S+: (\S+) must hold the files of the Secret (\S+)\.")
_IMAGE: Final = re.compile(r"the content of the image (\S+?)(?: \(below .*\))?")


def is_rendered_command(comments: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Whether the operator has rendered a command line, as the comments before it tell."""
    return bool(title_of(comments)) and variables.get(_MARK[0]) == _MARK[1]


def command_workload(comments: Sequence[str], arguments: Sequence[str], variables: Mapping[str, str]) -> Workload:
    """The pod of a rendered command line."""
    name, origins = title_of(comments), origins_of(comments)
    given: list[dict[str, Any]] = [{"name": key, "value": escaped(value)} for key, value in variables.items()]
    given += [
        {"name": key, "valueFrom": origin.value_from}
        for key, origin in origins.items()
        if origin.value_from and _is_optional(origin) and key not in variables
    ]
    volumes = [
        {"name": f"image-{path.removeprefix(f'{IMAGES_FOLDER}/')}", "image": {"reference": found[1]}}
        for path, content in places_of(comments).items()
        for found in [_IMAGE.fullmatch(content)]
        if found and path.startswith(f"{IMAGES_FOLDER}/")
    ]
    volumes += [
        {"name": CERTIFICATE_VOLUME, "secret": {"secretName": found[1]}}
        for path, content in places_of(comments).items()
        for found in [_SECRET.fullmatch(content)]
        if found and f"{path}/tls.crt" in arguments
    ]
    if amx.FOLDER in variables.get(amx.PATH_VARIABLE, ""):
        volumes.append({"name": amx.VOLUME, "configMap": {"name": names.MANAGER_CONFIG_MAP}})
    container = {
        "name": names.ENGINE_CONTAINER,
        "command": [*INTERPRETER, STEM, "--"],
        "args": ["vllm", "serve", *arguments],
        "env": _with_key(restored(given, origins), origins, name),
        "envFrom": env_from_of(comments),
    }
    template = {"metadata": {}, "spec": {"containers": [container], "volumes": volumes}}
    return Workload("vllm serve", name=name, template=template, on_a_machine=True)


def places_not_told(comments: Sequence[str], arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Folders and files of the pod that a rendered command line needs and does not bring, each with its content."""
    told = (f"{CLAIMS_FOLDER}/", f"{IMAGES_FOLDER}/", amx.FOLDER)
    for path, content in places_of(comments).items():
        if not path.startswith(told) and f"{path}/tls.crt" not in arguments:
            yield path, content


def _is_optional(origin: Origin) -> bool:
    return any(reference.get("optional") for reference in origin.value_from.values())


def _with_key(env: list[dict[str, Any]], origins: Mapping[str, Origin], name: str) -> list[dict[str, Any]]:
    """The variables, with the key that the operator makes as it stands in a pod."""
    if KEY_VARIABLE not in origins or not origins[KEY_VARIABLE].generated:
        return env
    reference = {"name": names.binding_name(name), "key": KEY_VARIABLE}
    own = {"name": KEY_VARIABLE, "valueFrom": {"secretKeyRef": reference}}
    return [own if one["name"] == KEY_VARIABLE else one for one in env]


def is_rendered_service(service: Mapping[str, Any]) -> bool:
    """Whether the operator has rendered a service of a Compose file."""
    entrypoint = service.get("entrypoint")
    return isinstance(entrypoint, list) and STEM in entrypoint


def engines_of_one_model(services: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of rendered services by the models that they are engines of."""
    found: dict[str, list[str]] = {}
    for name, service in services.items():
        numbered = _NUMBERED.fullmatch(name)
        first = services.get(f"{numbered[1]}-1") if numbered else None
        same = isinstance(first, dict) and first.get("command") == service.get("command")
        found.setdefault(numbered[1] if numbered and same and f"{numbered[1]}-2" in services else name, []).append(name)
    return found


def complete_service(
    container: MachineContainer, service: Mapping[str, Any], configs: Mapping[str, Any], comments: Sequence[str]
) -> Bundle:
    """Give the container of a rendered service the volumes of its pod; and what stands beside that pod."""
    origins = origins_of(comments)
    name = container.name
    container.env = _with_key(restored(container.env, origins), origins, name)
    container.mounts, container.volumes, container.volumes_of_machine = [], [], {}
    for number, volume in enumerate(items(service, "volumes")):
        _add_volume(container, volume, number)
    bundle = Bundle()
    for mount in items(service, "configs"):
        source, target = str(mount.get("source")), str(mount.get("target"))
        if target == f"{amx.FOLDER}/{amx.FILE}":
            container.volumes.append({"name": amx.VOLUME, "configMap": {"name": names.MANAGER_CONFIG_MAP}})
        elif target == f"{files.FOLDER}/{files.TEMPLATE_FILE}":
            config = names.config_name(name)
            container.volumes.append({"name": "config", "configMap": {"name": config}})
            content = part(configs, source).get("content")
            reference = next(
                (found for found in map(_TEMPLATE.fullmatch, comments) if found and found[1] == source), None
            )
            if reference:
                chosen = {"name": reference[3], "items": [{"key": reference[2], "path": files.TEMPLATE_FILE}]}
                container.volumes[-1] = {"name": "config", "configMap": chosen}
            data = {files.TEMPLATE_FILE: content} if content is not None else {}
            bundle.documents.append({"kind": "ConfigMap", "metadata": {"name": config}, "data": data})
    if container.devices is None:
        container.devices = 0
    _add_certificate(container, service, comments)
    return bundle


def _add_certificate(container: MachineContainer, service: Mapping[str, Any], comments: Sequence[str]) -> None:
    """The Secret with the server's certificate, which the notes of the file name."""
    sources = {found[1]: found[2] for found in map(_CERTIFICATE_NOTE.fullmatch, comments) if found}
    for volume in items(service, "volumes"):
        name = sources.get(str(volume.get("source")))
        if name and str(volume.get("source")).endswith(f"-{CERTIFICATE_VOLUME}"):
            target = volume.get("target")
            container.mounts = [one for one in container.mounts if one["mountPath"] != target]
            container.volumes.append({"name": CERTIFICATE_VOLUME, "secret": {"secretName": name}})


def _add_volume(container: MachineContainer, volume: Mapping[str, Any], number: int) -> None:
    """One mount of a rendered service, as a volume of the pod that it was rendered from."""
    kind, source, target = volume.get("type"), volume.get("source"), str(volume.get("target"))
    below = part(volume, "volume").get("subpath") or part(volume, "image").get("subpath")
    if target in {HOME, STATE_FOLDER} or target.startswith(f"{CLAIMS_FOLDER}/"):
        return
    if target == CACHE and (kind, source) == ("volume", names.cache_name(container.name)):
        return
    name = "cache" if target == CACHE else f"volume-{number}"
    if kind == "image":
        name = f"image-{target.removeprefix(f'{IMAGES_FOLDER}/')}" if target.startswith(IMAGES_FOLDER) else name
        body: dict[str, Any] = {"image": {"reference": source}}
    elif kind == "volume" and source:
        body = {"persistentVolumeClaim": {"claimName": source}}
    elif kind == "bind" and str(source).startswith("/"):
        body = {"hostPath": {"path": source}}
    elif kind == "bind":
        body = {}
        container.volumes_of_machine[name] = f"the folder {source} of the machine"
    else:
        body = {"emptyDir": {}}
    container.volumes.append({"name": name, **body})
    mount = {"name": name, "mountPath": target, "subPath": below, "readOnly": bool(volume.get("read_only"))}
    container.mounts.append({key: value for key, value in mount.items() if value})
