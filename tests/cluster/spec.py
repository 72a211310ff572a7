"""What a test cluster should be, and where its parts lie."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.errors import ClusterError
from tests.cluster.paths import clusters_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NODES = 9
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")


class NodeKind(StrEnum):
    """What runs the pods."""

    REAL = "real"
    """A kubelet with containerd, in namespaces of their own; needs root on Linux."""
    NONE = "none"
    """Nothing: etcd, the API server and the controller manager only; needs no root."""
    KIND = "kind"
    """The `kind` program and its container engine."""
    EXISTING = "existing"
    """The cluster that KUBECONFIG names."""


@dataclass(frozen=True)
class GpuMount:
    """A host folder and where containers that get a GPU find it: the way a vendor's plug-in brings its driver."""

    host: Path
    container: str

    @classmethod
    def parse(cls, text: str) -> GpuMount:
        """Read `HOST:CONTAINER`, or `HOST` for the same path on both sides."""
        host, _, container = text.partition(":")
        path = Path(host).resolve()
        return cls(path, container or str(path))


@dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """A cluster to start.

    Attributes:
        name: two clusters of different names run side by side.
        node: what runs the pods.
        nodes: how many nodes (REAL only).
        gpus: how many nvidia.com/gpu each node advertises; the devices do not exist.
        images: image archives to load before the cluster counts as started.
        gpu_mounts: host folders to bind read-only into containers that get a GPU.
        controller_manager: run the controller manager (NONE only; REAL always does).
        audit_log: log write requests to `logs/audit.log` at level Metadata.
        audit_reads: log read requests there too, each watch when it begins.
        etcd_quota_bytes: how much etcd takes in before it refuses writes; 0 for its default of 2 GiB.
        admission: admission plug-ins beside those that every API server of the tests has.
    """

    name: str = "default"
    node: NodeKind = NodeKind.REAL
    nodes: int = 1
    gpus: int = 8
    images: tuple[Path, ...] = ()
    gpu_mounts: tuple[GpuMount, ...] = ()
    controller_manager: bool = True
    audit_log: bool = False
    audit_reads: bool = False
    etcd_quota_bytes: int = 0
    admission: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be started.

        Raises:
            ClusterError: names the field and what it may be.
        """
        if not _NAME.fullmatch(self.name):
            raise ClusterError(f"cluster name {self.name!r}: use up to 30 of a-z, 0-9 and -, a letter first")
        if not 1 <= self.nodes <= MAX_NODES:
            raise ClusterError(f"{self.nodes} nodes: from 1 to {MAX_NODES} are possible")
        if self.nodes > 1 and self.node is not NodeKind.REAL:
            raise ClusterError(f"several nodes need --node real, not {self.node}")
        if self.gpus < 0:
            raise ClusterError(f"{self.gpus} GPUs: the number cannot be negative")
        for path in (*self.images, *(mount.host for mount in self.gpu_mounts)):
            if not path.exists():
                raise ClusterError(f"{path} does not exist")

    def to_json(self) -> str:
        """The specification as text, for the cluster's own processes."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> ClusterSpec:
        """The inverse of `to_json`."""
        fields: Mapping[str, Any] = json.loads(text)
        images = tuple(Path(path) for path in fields["images"])
        mounts = tuple(GpuMount(Path(mount["host"]), mount["container"]) for mount in fields["gpu_mounts"])
        texts = {"node": NodeKind(fields["node"]), "admission": tuple(fields["admission"])}
        return cls(**{**fields, **texts, "images": images, "gpu_mounts": mounts})


@dataclass(frozen=True)
class Layout:
    """The state folder of one cluster and the places in it."""

    state: Path

    @classmethod
    def of(cls, name: str) -> Layout:
        """The layout of the cluster of this name, running or not."""
        return cls(clusters_folder() / name)

    @property
    def spec(self) -> Path:
        """The ClusterSpec as JSON."""
        return self.state / "spec.json"

    @property
    def lock(self) -> Path:
        """Locked by the guard as long as it lives: the proof that the cluster runs."""
        return self.state / "lock"

    @property
    def guard(self) -> Path:
        """The guard's process, for `down`."""
        return self.state / "guard.json"

    @property
    def supervisor(self) -> Path:
        """The supervisor's process as seen from the host."""
        return self.state / "supervisor.json"

    @property
    def ready(self) -> Path:
        """Exists once the cluster has started."""
        return self.state / "ready"

    @property
    def kubeconfig(self) -> Path:
        """Administrator access from the host."""
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One file per component."""
        return self.state / "logs"

    @property
    def config(self) -> Path:
        """Certificates and configuration files of the components."""
        return self.state / "config"

    @property
    def temporary(self) -> Path:
        """TMPDIR of the components."""
        return self.state / "tmp"

    @property
    def components(self) -> Path:
        """One file per supervisor that lists its components' processes."""
        return self.state / "components"

    def node(self, name: str) -> Path:
        """State of one node: images, pods' volumes and logs."""
        return self.state / "nodes" / name

    @property
    def cgroup(self) -> str:
        """Name of the cluster's control group, directly below the root of each hierarchy; unique on the machine."""
        return f"vllm-operator-test-{self.state.name}-{hashlib.sha256(bytes(self.state)).hexdigest()[:8]}"


def node_names(spec: ClusterSpec) -> tuple[str, ...]:
    """The names of the nodes."""
    return tuple(f"node-{number}" for number in range(1, spec.nodes + 1)) if spec.node is NodeKind.REAL else ()
