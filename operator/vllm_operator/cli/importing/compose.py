"""The services of a Compose file that serve models."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.importing.compose_secrets import read_secrets
from vllm_operator.cli.importing.docker import add_env_file, tmpfs_size
from vllm_operator.cli.importing.draft import NotImportableError
from vllm_operator.cli.importing.machine import MachineContainer, add_port, size_quantity
from vllm_operator.cli.importing.secrets import is_secret
from vllm_operator.cli.importing.shell import mark, shown, variables_in
from vllm_operator.cli.importing.workload import fit_name, texts
from vllm_operator.render.untyped import part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cli.importing.draft import Draft

_VARIABLE: Final = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<operator>:?[-?+])(?P<operand>(?:[^{}]|\{[^{}]*\})*))?\})"
)
_SECONDS: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_IRRELEVANT: Final = frozenset(
    {
        *("container_name", "restart", "depends_on", "logging", "labels", "networks", "hostname", "expose", "platform"),
        *("stdin_open", "tty", "init", "profiles", "healthcheck", "stop_signal", "annotations", "attach", "develop"),
        *("image", "entrypoint", "command", "environment", "env_file", "volumes", "ports", "deploy", "gpus", "runtime"),
        *("shm_size", "ipc", "network_mode", "devices", "cap_add", "cap_drop", "security_opt", "user", "privileged"),
        *("ulimits", "mem_limit", "mem_reservation", "cpus", "scale", "stop_grace_period", "tmpfs", "working_dir"),
        *(
            "read_only",
            "pull_policy",
            "build",
            "configs",
            "secrets",
            "extra_hosts",
            "group_add",
            "pid",
            "device_cgroup_rules",
            "dns",
        ),
        *("mem_swappiness", "memswap_limit", "oom_score_adj", "userns_mode", "links", "pids_limit"),
    }
)
_PULL_POLICIES: Final = {
    "always": "Always",
    "missing": "IfNotPresent",
    "if_not_present": "IfNotPresent",
    "never": "Never",
}


def interpolated(value: Any, known: Mapping[str, str], *, rendered: bool = False) -> Any:
    """A part of a Compose file with its variables filled in, or marked where nobody has filled them in.

    A secret whose default is empty counts as not filled in, as any variable does in a file that the operator rendered.
    """
    if isinstance(value, dict):
        return {key: interpolated(item, known, rendered=rendered) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, known, rendered=rendered) for item in value]
    if not isinstance(value, str):
        return value
    return _VARIABLE.sub(lambda found: _filled(found, known, rendered=rendered), value)


def _filled(found: re.Match[str], known: Mapping[str, str], *, rendered: bool) -> str:
    if found["dollar"]:
        return "$"
    name, operator = found["plain"] or found["name"], found["operator"] or ""
    value = known.get(name)
    if operator.endswith("+"):
        is_set = bool(value) if operator.startswith(":") else value is not None
        return str(interpolated(found["operand"], known)) if is_set else ""
    if value is not None and (value or not operator.startswith(":")):
        return value
    if operator.endswith("-") and (found["operand"] or not (rendered or is_secret(name))):
        return str(interpolated(found["operand"], known))
    return mark(name)


def conditional(value: Any, known: Mapping[str, str]) -> list[str]:
    """Variables on which parts of a service depend, in the form `${NAME:+TEXT}`, and that nobody has filled in."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return list(dict.fromkeys(name for one in inner for name in conditional(one, known)))
    found = _VARIABLE.finditer(value) if isinstance(value, str) else ()
    return [one["name"] for one in found if (one["operator"] or "").endswith("+") and one["name"] not in known]


def is_compose(value: Any) -> bool:
    """Whether a document is a Compose file."""
    services = value.get("services") if isinstance(value, dict) else None
    return isinstance(services, dict) and "kind" not in value


def read_service(name: str, service: Mapping[str, Any], draft: Draft, whole: Mapping[str, Any]) -> MachineContainer:
    """The container of a service; `whole` is the file, which defines its configs and secrets.

    Raises:
        NotImportableError: a part of it has another form than Compose takes.
    """
    container = MachineContainer(f"service {name}", name=fit_name(name), image=str(service.get("image") or ""))
    if not container.image and service.get("build"):
        draft.check(
            f"service {name} is built from a Dockerfile: build the image, push it, and name it here", "engine", "image"
        )
    entrypoint = service.get("entrypoint")
    container.entrypoint = None if entrypoint is None else _words(entrypoint)
    container.words = _words(service.get("command") or [])
    _devices(service, container, draft)
    _environment(service, container, draft)
    _mounts(service, container, draft, part(whole, "configs"))
    values = [str(one["value"]) for one in container.env]
    texts_ = [*(container.entrypoint or []), *container.words, *values]
    read_secrets(service.get("secrets"), part(whole, "secrets"), texts_, container, draft)
    _resources(service, container, draft)
    _rights(service, container, draft)
    _rest(service, container, draft)
    for key in service:
        if key not in _IRRELEVANT and not key.startswith("x-"):
            draft.lost(f"service {name}: {key} has no counterpart here")
    return container


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return texts(value)
    try:
        return shlex.split(str(value).replace("\\\n", " "))
    except ValueError as error:
        raise NotImportableError(f"a command line cannot be read: {error}") from None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _environment(service: Mapping[str, Any], container: MachineContainer, draft: Draft) -> None:
    given = service.get("environment")
    if isinstance(given, dict):
        for name, value in given.items():
            container.set_variable(name if value is None else f"{name}={_text(value)}")
    else:
        for text in texts(given):
            container.set_variable(text)
    for source in _list(service.get("env_file")):
        path = source.get("path") if isinstance(source, dict) else source
        optional = isinstance(source, dict) and source.get("required") is False
        add_env_file(str(path), container, draft, optional=optional)


def _mounts(service: Mapping[str, Any], container: MachineContainer, draft: Draft, configs: Mapping[str, Any]) -> None:
    for volume in _list(service.get("volumes")):
        if isinstance(volume, dict):
            _long_mount(volume, container, draft)
            continue
        source, target, options = _short_mount(str(volume))
        container.mount(source, target.rstrip("/") or "/", read_only="ro" in options.split(","), draft=draft)
    for folder in texts(service.get("tmpfs")):
        target, _, options = folder.partition(":")
        container.scratch(target, tmpfs_size(options), draft)
    for one in _list(service.get("configs")):
        config = str(one.get("source") if isinstance(one, dict) else one)
        place = one.get("target", f"/{config}") if isinstance(one, dict) else f"/{config}"
        content = part(configs, config).get("file", "its content")
        draft.check(f"the config {config} at {place}: put {content} into a ConfigMap", "pod")


def _short_mount(text: str) -> tuple[str, str, str]:
    """Source, target and options of `source:target:options`; a variable with a default may hold a colon of its own."""
    parts = text.split(":")
    if len(parts) == 1:
        return "", parts[0], ""
    if len(parts) > 2 and not parts[-1].startswith(("/", ".")):  # noqa: PLR2004 # the options are the third
        return ":".join(parts[:-2]), parts[-2], parts[-1]
    return ":".join(parts[:-1]), parts[-1], ""


def _long_mount(volume: Mapping[str, Any], container: MachineContainer, draft: Draft) -> None:
    kind, source = volume.get("type"), str(volume.get("source") or "")
    target = str(volume.get("target") or "")
    if kind == "tmpfs":
        container.scratch(target, str(part(volume, "tmpfs").get("size") or ""), draft)
        return
    below = ""
    for name in ("volume", "image"):
        options = volume.get(name)
        below = below or (str(options.get("subpath") or "") if isinstance(options, dict) else "")
    container.mount(source, target, read_only=bool(volume.get("read_only")), draft=draft, sub_path=below)


def _devices(service: Mapping[str, Any], container: MachineContainer, draft: Draft) -> None:
    deploy = part(service, "deploy")
    for device in _list(part(deploy, "resources", "reservations").get("devices")):
        _take(device, container)
        if isinstance(device, dict) and device.get("driver") == "nvidia":
            container.profile = "nvidia"
    gpus = service.get("gpus")
    for device in [] if gpus in (None, "all") else _list(gpus):
        _take(device, container)
    for path in _list(service.get("devices")):
        container.device_file(str(path).partition(":")[0] if str(path).startswith("/") else str(path), draft)
    if service.get("runtime") == "habana":
        container.profile = "gaudi"
    elif service.get("runtime") == "nvidia":
        container.profile = container.profile or "nvidia"
    if "replicas" in deploy or "scale" in service:
        container.replicas = _whole(deploy.get("replicas", service.get("scale")))


def _take(device: Any, container: MachineContainer) -> None:
    """Give the container the devices of one reservation."""
    ids = _list(device.get("device_ids")) if isinstance(device, dict) else []
    named = [number for one in ids for number in str(one).split(",")]
    filled = not any(variables_in(one) for one in named)
    container.device_ids = named if named and filled else None
    if named:
        container.devices = len(named) if filled else None
    else:
        container.devices = _whole(device.get("count")) if isinstance(device, dict) else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdigit()) else None


def _resources(service: Mapping[str, Any], container: MachineContainer, draft: Draft) -> None:
    limits = part(service, "deploy", "resources", "limits")
    requests = part(service, "deploy", "resources", "reservations")
    given = (
        (container.limits, "memory", limits.get("memory", service.get("mem_limit"))),
        (container.requests, "memory", requests.get("memory", service.get("mem_reservation"))),
    )
    for section, name, value in given:
        if value is None:
            continue
        size = size_quantity(str(value))
        if size:
            section[name] = size
        else:
            draft.check(f"the memory {shown(str(value))} is no size", "resources")
    for section, value in (
        (container.limits, limits.get("cpus", service.get("cpus"))),
        (container.requests, requests.get("cpus")),
    ):
        if value is not None:
            section["cpu"] = str(value)
    if service.get("shm_size"):
        container.shared_memory = size_quantity(str(service["shm_size"]))


def _rights(service: Mapping[str, Any], container: MachineContainer, draft: Draft) -> None:
    for name, right in (("privileged", "privileged"), ("read_only", "readOnlyRootFilesystem")):
        if service.get(name):
            container.rights[right] = True
    for capability in _list(service.get("cap_add")):
        container.give(str(capability))
    for capability in _list(service.get("cap_drop")):
        container.rights.setdefault("capabilities", {}).setdefault("drop", []).append(str(capability))
    for option in _list(service.get("security_opt")):
        container.security(str(option), draft)
    if service.get("user"):
        container.user(str(service["user"]), draft)


def _rest(service: Mapping[str, Any], container: MachineContainer, draft: Draft) -> None:
    for port in _list(service.get("ports")):
        if isinstance(port, dict):
            add_port(container, f"{port.get('published', port.get('target'))}:{port.get('target')}", draft)
        else:
            add_port(container, str(port), draft)
    profiles = texts(service.get("profiles"))
    if profiles:
        draft.note(
            f"profiles {', '.join(profiles)}: it was started only when asked for; spec.suspend keeps it from that"
        )
    container.host_network = service.get("network_mode") == "host"
    limits_processes = service.get("pids_limit") or part(service, "deploy", "resources", "limits").get("pids")
    shares_memory = service.get("ipc") == "host" and not container.shared_memory
    for is_there, told in (
        (shares_memory, "ipc: host is left out: the engine has a /dev/shm of its own (spec.storage.sharedMemory)"),
        (container.host_network, "network_mode: host is left out: the Service reaches the engine"),
        (limits_processes, "pids_limit is left out: the kubelet limits the processes of a pod (podPidsLimit)"),
        (service.get("ulimits"), "ulimits are left out: a pod has the limits of its node's container runtime"),
        (service.get("healthcheck"), "the healthcheck: the operator's gates stand in for it, and ask for a prompt"),
        (service.get("working_dir"), "working_dir is left out: paths in the arguments should be absolute"),
    ):
        if is_there:
            draft.note(told)
    for host in _list(service.get("extra_hosts")):
        draft.lost(f"extra_hosts {host}: see spec.pod.patch (hostAliases)")
    container.pull_policy = _PULL_POLICIES.get(str(service.get("pull_policy") or ""), "")
    grace = _seconds(str(service.get("stop_grace_period") or ""))
    if grace:
        container.pod["terminationGracePeriodSeconds"] = grace


def _seconds(text: str) -> int:
    found = _SECONDS.fullmatch(text)
    hours, minutes, seconds = (int(number or 0) for number in found.groups()) if found else (0, 0, 0)
    return hours * 3600 + minutes * 60 + seconds
