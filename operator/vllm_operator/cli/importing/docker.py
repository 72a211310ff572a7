"""A `docker run` or `podman run` line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vllm_operator.cli.importing.draft import NotImportableError
from vllm_operator.cli.importing.machine import MachineContainer, add_port, size_quantity
from vllm_operator.cli.importing.shell import shown, variables_in
from vllm_operator.cli.importing.workload import fit_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vllm_operator.cli.importing.draft import Draft

_PROGRAMS: Final = frozenset({"docker", "podman", "nerdctl", "nvidia-docker", "sudo-docker"})
_BARE: Final = frozenset(
    {"-d", "--detach", "-i", "--interactive", "-t", "--tty", "--rm", "--init", "--privileged", "--no-healthcheck"}
    | {
        "-P",
        "--publish-all",
        "--read-only",
        "--oom-kill-disable",
        "--sig-proxy",
        "--quiet",
        "-q",
        "--replace",
        "--tls-verify",
    }
)
_LETTERS: Final = frozenset("dit")
_IRRELEVANT: Final = frozenset(
    {
        *(
            "--name",
            "--restart",
            "--log-driver",
            "--log-opt",
            "--pull",
            "--hostname",
            "-h",
            "--label",
            "-l",
            "--platform",
        ),
        *("--health-cmd", "--health-interval", "--health-retries", "--health-timeout", "--health-start-period"),
        *("--stop-timeout", "--stop-signal", "--cidfile", "--pidfile", "--network-alias", "--ip", "--detach-keys"),
        *("--cgroupns", "--cgroups", "--group-add", "--userns", "--mac-address", "--oom-score-adj"),
        *("--memory-swap", "--memory-swappiness", "--isolation", "--volume-driver", "--annotation"),
    }
)
_SHORT_VALUED: Final = "evpmuwclh"


def docker_run(words: Sequence[str]) -> list[str] | None:
    """What follows `docker run`; None where the words are no such line."""
    rest = list(words)
    while rest and (rest[0].rpartition("/")[2] in {"sudo", "nohup", "exec", "time"} or rest[0] == "-E"):
        rest = rest[1:]
    if not rest or rest[0].rpartition("/")[2] not in _PROGRAMS:
        return None
    rest = rest[1:]
    while rest and rest[0].startswith("-"):
        rest = rest[2:] if rest[0] in {"-H", "--host", "--context", "--log-level"} else rest[1:]
    if rest[:1] == ["container"]:
        rest = rest[1:]
    return rest[1:] if rest[:1] in (["run"], ["create"]) else None


def read_docker_run(words: Sequence[str], draft: Draft) -> MachineContainer:
    """The container that `docker run` would start.

    Raises:
        NotImportableError: no image is named.
    """
    container = MachineContainer("docker run")
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        name, value, rest = _option(rest)
        _apply(name, value, container, draft)
    if len(rest) > 1 and variables_in(rest[0]) and _looks_like_image(rest[1]):
        draft.check(f"nobody has filled in {shown(rest[0])}, which stands before the image", "engine")
        rest = rest[1:]
    if not rest:
        raise NotImportableError("docker run names no image: the line ends before it")
    container.image, container.words = rest[0], rest[1:]
    return container


def _looks_like_image(word: str) -> bool:
    return "/" in word and not word.startswith("-")


def _option(rest: list[str]) -> tuple[str, str, list[str]]:
    """The first option with its value, and what follows."""
    word = rest[0]
    name, equals, value = word.partition("=")
    if word in _BARE or name in _BARE:
        return name, value, rest[1:]
    if not word.startswith("--") and len(word) > 2:  # noqa: PLR2004 # letters in one word, as in -it
        if set(word[1:]) <= _LETTERS:
            return "-it", "", rest[1:]
        letters = word[1:].lstrip("dit")
        if letters and letters[0] in _SHORT_VALUED:
            value = letters[1:].removeprefix("=")
            return f"-{letters[0]}", value or (rest[1] if len(rest) > 1 else ""), rest[1:] if value else rest[2:]
    if equals:
        return name, value, rest[1:]
    return name, rest[1] if len(rest) > 1 else "", rest[2:]


def _apply(name: str, value: str, container: MachineContainer, draft: Draft) -> None:
    handler = _HANDLERS.get(name)
    if name == "--name":
        container.name = "" if variables_in(value) else fit_name(value)
    elif handler:
        handler(value, container, draft)
    elif name == "--privileged":
        container.rights["privileged"] = True
        draft.note("--privileged is kept: engines seldom need it (spec.pod.containerSecurityContext)", "pod")
    elif name == "--read-only":
        container.rights["readOnlyRootFilesystem"] = True
    elif name not in _BARE and name not in _IRRELEVANT and name != "-it":
        draft.lost(f"{name} {shown(value)}: a pod has nothing of this kind, or spec.pod.patch says it")


def _gpus(value: str, container: MachineContainer, draft: Draft) -> None:
    container.profile = "nvidia"
    text = value.strip("\"'")
    found = re.fullmatch(r"device=(.+)", text)
    if variables_in(text):
        draft.note(f"--gpus {shown(value)} is left out: the engine gets as many as spec.parallelism says")
    elif found:
        container.device_ids = [one for one in found[1].split(",") if one]
        container.devices = len(container.device_ids)
    elif text.isdigit():
        container.devices = int(text)


def _volume(value: str, container: MachineContainer, draft: Draft) -> None:
    source, _, rest = value.partition(":")
    target, _, options = rest.partition(":")
    if not target:
        source, target = "", source
    container.mount(source, target.rstrip("/") or "/", read_only="ro" in options.split(","), draft=draft)


def _mount(value: str, container: MachineContainer, draft: Draft) -> None:
    pairs = dict(pair.partition("=")[::2] for pair in value.split(","))
    target = pairs.get("target") or pairs.get("dst") or pairs.get("destination") or ""
    if pairs.get("type") == "tmpfs":
        container.scratch(target, pairs.get("tmpfs-size", ""), draft)
        return
    source = pairs.get("source") or pairs.get("src") or ""
    container.mount(source, target, read_only="readonly" in pairs or "ro" in pairs, draft=draft)


def _variable(value: str, container: MachineContainer, draft: Draft) -> None:  # noqa: ARG001 # all handlers have one form
    container.set_variable(value)


def _env_file(value: str, container: MachineContainer, draft: Draft) -> None:
    add_env_file(value, container, draft)


def add_env_file(path: str, container: MachineContainer, draft: Draft, *, optional: bool = False) -> None:
    """A file of variables: a Secret of the same content, which one command makes."""
    found = re.fullmatch(r"\./(secret|configmap)-(.+)\.env", path)
    if found:
        reference = {"name": found[2]} | ({"optional": True} if optional else {})
        container.env_from.append({"secretRef" if found[1] == "secret" else "configMapRef": reference})
        return
    name = f"{draft.name or 'vllm'}-variables"
    container.env_from.append({"secretRef": {"name": name}})
    place = f" --namespace {draft.namespace}" if draft.namespace else ""
    draft.steps.append(f"kubectl create secret generic {name}{place} --from-env-file={shown(path)}")


def _shared_memory(value: str, container: MachineContainer, draft: Draft) -> None:
    container.shared_memory = size_quantity(value)
    if not container.shared_memory:
        draft.check(f"--shm-size {shown(value)} is no size", "storage", "sharedMemory")


def _ipc(value: str, container: MachineContainer, draft: Draft) -> None:
    if value not in {"host", "private"}:
        draft.lost(f"--ipc {shown(value)}: pods share no memory")
    elif value == "host" and not container.shared_memory:
        draft.note("--ipc host is left out: the engine has a /dev/shm of its own (spec.storage.sharedMemory)")


def _network(value: str, container: MachineContainer, draft: Draft) -> None:
    if value == "host":
        draft.note("--network host is left out: the Service reaches the engine in its pod (spec.pod.hostNetwork)")
        container.host_network = True
    elif value not in {"bridge", "default"}:
        draft.note(f"the network {shown(value)} is left out: who is in the cluster reaches the Service")


def _memory(value: str, container: MachineContainer, draft: Draft) -> None:
    size = size_quantity(value)
    if size:
        container.limits["memory"] = size
    else:
        draft.check(f"--memory {shown(value)} is no size", "resources", "limits")


def _cpus(value: str, container: MachineContainer, draft: Draft) -> None:  # noqa: ARG001
    container.limits["cpu"] = value


def _cpuset(value: str, container: MachineContainer, draft: Draft) -> None:  # noqa: ARG001
    draft.lost(f"--cpuset {shown(value)}: which cores a pod gets is the kubelet's choice; set spec.resources")


def _runtime(value: str, container: MachineContainer, draft: Draft) -> None:
    if value == "habana":
        container.profile = "gaudi"
    elif value == "nvidia":
        container.profile = container.profile or "nvidia"
    elif value not in {"runc", "crun"}:
        draft.check(f"--runtime {shown(value)}: see spec.scheduling.runtimeClassName", "scheduling")


def _device(value: str, container: MachineContainer, draft: Draft) -> None:
    container.device_file(value.partition(":")[0] if value.startswith("/") else value, draft)


def _capability(value: str, container: MachineContainer, draft: Draft) -> None:  # noqa: ARG001
    container.give(value)


def _dropped(value: str, container: MachineContainer, draft: Draft) -> None:  # noqa: ARG001
    container.rights.setdefault("capabilities", {}).setdefault("drop", []).append(value)


def _security(value: str, container: MachineContainer, draft: Draft) -> None:
    container.security(value, draft)


def _user(value: str, container: MachineContainer, draft: Draft) -> None:
    container.user(value, draft)


def _entrypoint(value: str, container: MachineContainer, draft: Draft) -> None:  # noqa: ARG001
    container.entrypoint = value.split() if value else []


def _port(value: str, container: MachineContainer, draft: Draft) -> None:
    add_port(container, value, draft)


def _ulimit(value: str, container: MachineContainer, draft: Draft) -> None:  # noqa: ARG001
    draft.note(f"--ulimit {shown(value)} is left out: a pod has the limits of its node's container runtime")


def _directory(value: str, container: MachineContainer, draft: Draft) -> None:  # noqa: ARG001
    draft.note(f"--workdir {shown(value)} is left out: paths in the arguments should be absolute")


def _host_name(value: str, container: MachineContainer, draft: Draft) -> None:
    name, _, address = value.partition(":")
    if address == "host-gateway":
        draft.lost(f"--add-host {shown(value)}: a pod has no such machine")
        return
    container.pod.setdefault("hostAliases", []).append({"ip": address, "hostnames": [name]})


def _tmpfs(value: str, container: MachineContainer, draft: Draft) -> None:
    target, _, options = value.partition(":")
    container.scratch(target, tmpfs_size(options), draft)


def tmpfs_size(options: str) -> str:
    """The size in the options of a tmpfs: `rw,size=64m`; empty where there is none."""
    return next((one.removeprefix("size=") for one in options.split(",") if one.startswith("size=")), "")


def _process_count(value: str, container: MachineContainer, draft: Draft) -> None:  # noqa: ARG001
    draft.note(f"--pids-limit {shown(value)} is left out: the kubelet limits the processes of a pod (podPidsLimit)")


def _pid(value: str, container: MachineContainer, draft: Draft) -> None:  # noqa: ARG001
    draft.note(f"--pid {shown(value)} is left out: the engine sees its own processes")


_HANDLERS: Final[dict[str, Callable[[str, MachineContainer, Draft], None]]] = {
    "--gpus": _gpus,
    **dict.fromkeys(("-v", "--volume"), _volume),
    "--mount": _mount,
    **dict.fromkeys(("-e", "--env"), _variable),
    "--env-file": _env_file,
    "--shm-size": _shared_memory,
    "--ipc": _ipc,
    **dict.fromkeys(("--network", "--net"), _network),
    **dict.fromkeys(("-m", "--memory"), _memory),
    "--cpus": _cpus,
    **dict.fromkeys(("--cpuset-cpus", "--cpuset-mems", "-c", "--cpu-shares"), _cpuset),
    "--runtime": _runtime,
    "--device": _device,
    "--cap-add": _capability,
    "--cap-drop": _dropped,
    "--security-opt": _security,
    **dict.fromkeys(("-u", "--user"), _user),
    "--entrypoint": _entrypoint,
    **dict.fromkeys(("-p", "--publish"), _port),
    "--ulimit": _ulimit,
    **dict.fromkeys(("-w", "--workdir"), _directory),
    "--add-host": _host_name,
    "--tmpfs": _tmpfs,
    "--pid": _pid,
    "--pids-limit": _process_count,
}
