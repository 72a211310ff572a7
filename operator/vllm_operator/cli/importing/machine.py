"""What Docker, Podman and Compose say of a container, in the words of a pod."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.importing.devices import profile_of_image
from vllm_operator.cli.importing.shell import escaped, mark, shown, variables_in
from vllm_operator.cli.importing.workload import Workload, fit_name, unused

if TYPE_CHECKING:
    from vllm_operator.cli.importing.draft import Draft

_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 # the mount point that torch and NCCL use
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_DEVICE_FILES: Final = ("/dev/kfd", "/dev/dri", "/dev/nvidia", "nvidia.com/gpu", "/dev/accel", "/dev/vfio")
"""Devices of accelerators, which a pod gets by the resource of its profile."""
_PROFILE_DEVICES: Final = (
    ("/dev/kfd", "amd"),
    ("nvidia.com/gpu", "nvidia"),
    ("/dev/nvidia", "nvidia"),
    *((name, "ascend") for name in ("/dev/davinci", "/dev/devmm_svm", "/dev/hisi_hdc")),
    ("/dev/neuron", "neuron"),
)
"""What the names of devices begin with, and the profile that they tell."""
_NPU: Final = re.compile(r"/dev/davinci[0-9]+")
_RDMA: Final = "/dev/infiniband"


@dataclass(slots=True)
class MachineContainer:
    """A container on a machine, as it is read bit by bit."""

    origin: str
    name: str = ""
    image: str = ""
    entrypoint: list[str] | None = None
    words: list[str] = field(default_factory=list)
    """What follows the image."""
    env: list[dict[str, Any]] = field(default_factory=list)
    env_from: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    volumes_of_machine: dict[str, str] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    requests: dict[str, Any] = field(default_factory=dict)
    devices: int | None = None
    profile: str = ""
    """Profile of the devices, where an option tells it."""
    rights: dict[str, Any] = field(default_factory=dict)
    """`securityContext` of the container."""
    pull_policy: str = ""
    """As Kubernetes calls it."""
    pod: dict[str, Any] = field(default_factory=dict)
    """Further fields of the pod."""
    ports: list[tuple[int, int]] = field(default_factory=list)
    """Ports of the machine, each with the port of the container behind it."""
    host_network: bool = False
    """Whether its network is the machine's, where no port is published."""
    device_ids: list[str] | None = None
    """Devices of the machine that it sees; None where it sees all of them."""
    renders: bool = False
    """Whether it sees the graphics devices of the machine."""
    shared_memory: str = ""
    replicas: int | None = None

    def set_variable(self, text: str) -> None:
        """One variable, as `NAME=VALUE`; a name alone is taken from the shell."""
        name, equals, value = text.partition("=")
        self.env = [one for one in self.env if one["name"] != name]
        self.env.append({"name": name, "value": escaped(value) if equals else mark(name)})

    def scratch(self, target: str, size: str, draft: Draft) -> None:
        """One tmpfs, which is memory, of the size that Docker is told; of any size where it is told none."""
        limit = size_quantity(size)
        if size and not limit:
            draft.check(f"the size {shown(size)} of the tmpfs at {shown(target)} is no size", "pod", "volumes")
        if target == _SHARED_MEMORY and limit:
            self.shared_memory = limit
            return
        self.mount("", target, read_only=False, draft=draft)
        if target != _SHARED_MEMORY:
            self.volumes[-1]["emptyDir"] = {"medium": "Memory"} | ({"sizeLimit": limit} if limit else {})

    def mount(self, source: str, target: str, *, read_only: bool, draft: Draft, sub_path: str = "") -> None:
        """One mount: a folder of the machine, a named volume, or nothing that is named."""
        if target == _SHARED_MEMORY:
            told = f"{shown(source) or 'the volume'} at /dev/shm is left out"
            draft.note(f"{told}: the engine has one of its own (spec.storage.sharedMemory)")
            return
        name = unused(fit_name(target) or "volume", self._names())
        mount = {"name": name, "mountPath": target, "subPath": sub_path, "readOnly": read_only}
        self.mounts.append({key: value for key, value in mount.items() if value})
        if not source:
            self.volumes.append({"name": name, "emptyDir": {}})
        elif source.startswith("/") and not variables_in(source):
            self.volumes.append({"name": name, "hostPath": {"path": source}})
        else:
            folder = source.startswith((".", "~")) or "/" in source or bool(variables_in(source))
            self.volumes.append({"name": name})
            kind = "the folder" if folder else "the volume"
            self.volumes_of_machine[name] = f"{kind} {shown(source)} of the machine"

    def _names(self) -> set[str]:
        return {str(volume["name"]) for volume in self.volumes}

    def device_file(self, path: str, draft: Draft) -> None:
        """A device that the container sees."""
        profile = next((profile for name, profile in _PROFILE_DEVICES if path.startswith(name)), "")
        self.profile = profile or self.profile
        self.renders = self.renders or path.startswith("/dev/dri")
        if _NPU.fullmatch(path):
            self.devices = (self.devices or 0) + 1
        if path.startswith(_RDMA):
            draft.check(
                f"{_RDMA}: a pod gets RDMA devices by an extended resource, which the cluster's device plug-in names: "
                "put it into spec.resources.limits, such as rdma/hca_shared_devices_a: 1",
                "resources",
                "limits",
            )
        elif profile in {"ascend", "neuron"}:
            draft.note(f"the devices of {profile} are not named: a pod gets those that its device plug-in chooses")
        elif not path.startswith(_DEVICE_FILES):
            draft.lost(f"the device {shown(path)}: a pod gets devices by extended resources")

    def _profile(self) -> str:
        """The profile that the options tell; graphics devices alone are Intel's, since ROCm wants /dev/kfd besides."""
        if self.renders and not self.profile and not profile_of_image(self.image):
            return "xpu"
        return self.profile

    def give(self, capability: str) -> None:
        """One capability more."""
        adds = self.rights.setdefault("capabilities", {}).setdefault("add", [])
        adds.append(capability.removeprefix("CAP_"))

    def security(self, option: str, draft: Draft) -> None:
        """One `--security-opt`."""
        kind, _, value = option.replace("=", ":", 1).partition(":")
        if kind == "seccomp" and value == "unconfined":
            self.pod.setdefault("securityContext", {})["seccompProfile"] = {"type": "Unconfined"}
        elif kind == "apparmor" and value == "unconfined":
            self.rights["appArmorProfile"] = {"type": "Unconfined"}
        elif kind == "no-new-privileges":
            return
        elif kind == "label":
            draft.note(f"--security-opt {option} is left out: the cluster says how SELinux labels pods")
        else:
            draft.lost(f"--security-opt {shown(option)}: see spec.pod.securityContext")

    def user(self, text: str, draft: Draft) -> None:
        """The user that the container runs as."""
        user, _, group = text.partition(":")
        if user == "root":
            user = "0"
        if variables_in(text):
            told = f"the user {shown(text)}: nobody has filled it in: set spec.pod.securityContext.runAsUser"
            draft.check(told, "pod", "securityContext")
            return
        if not user.isdigit():
            draft.check(f"the user {shown(text)} is known by name only: set spec.pod.securityContext.runAsUser", "pod")
            return
        context = self.pod.setdefault("securityContext", {})
        context["runAsUser"] = int(user)
        if group.isdigit() and group != "0":
            context["runAsGroup"] = int(group)

    def workload(self) -> Workload:
        """The container as a pod."""
        container: dict[str, Any] = {"name": "engine", "image": self.image, "env": self.env, "envFrom": self.env_from}
        if self.entrypoint is not None:
            container["command"] = self.entrypoint
        container["args"] = self.words
        container["resources"] = {"limits": self.limits, "requests": self.requests}
        context = self.pod.get("securityContext", {})
        if self.profile == "amd" and context.get("seccompProfile") == {"type": "Unconfined"}:
            del context["seccompProfile"]  # the profile has it
        container["volumeMounts"] = self.mounts
        if self.pull_policy:
            container["imagePullPolicy"] = self.pull_policy
        container["securityContext"] = self.rights
        spec = {"containers": [container], "volumes": self.volumes, **self.pod}
        return Workload(
            self.origin,
            name=self.name,
            template={"spec": spec},
            replicas=self.replicas,
            devices=self.devices,
            profile=self._profile(),
            device_ids=self.device_ids,
            published=[] if self.host_network else self.ports,
            on_a_machine=True,
            shared_memory=self.shared_memory,
            volumes_of_machine=self.volumes_of_machine,
        )


def add_port(container: MachineContainer, text: str, draft: Draft) -> None:
    """One `-p`: `8080:8000`, `127.0.0.1:8080:8000/tcp`, `8000`."""
    plain = text.strip().removesuffix("/tcp")
    address, _, rest = plain.rpartition(":")
    outside = address.rpartition(":")[2] if address else ""
    if variables_in(plain) or not rest.isdigit():
        draft.check(
            f"the port {shown(text)}: set spec.service.port, at which clients reach the engines", "service", "port"
        )
        return
    if address.startswith(("127.", "localhost")):
        draft.note(f"the port {shown(text)} was for this machine alone: the Service is reached in the whole cluster")
    container.ports.append((int(outside) if outside.isdigit() else int(rest), int(rest)))


def size_quantity(text: str) -> str:
    """A size as Docker writes it, as a quantity: `16g` is `16Gi`. Empty where it is none."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return ""
    unit = {"k": "Ki", "m": "Mi", "g": "Gi", "t": "Ti", "": ""}[found[2].lower()]
    number = found[1].rstrip("0").rstrip(".") if "." in found[1] else found[1]
    return f"{number}{unit}"
