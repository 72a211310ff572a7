"""A driver of Dynamic Resource Allocation on the first node of a cluster, for devices that do not exist."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.cluster.binaries import DRA, ensure_extra

if TYPE_CHECKING:
    from types import TracebackType

    from tests.cluster import OwnCluster

NAME: Final = "gpu.example.com"
NODE: Final = "node-1"
REFUSES: Final = "/run/dra-refuses"
"""While this file is there on the node, the driver prepares no claim."""
_END_SECONDS: Final = 20.0


def device_class(name: str = NAME) -> dict[str, Any]:
    """The DeviceClass of all devices of the driver, as a vendor's chart brings it."""
    selector = {"cel": {"expression": f"device.driver == '{NAME}'"}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [selector]},
    }


class Driver:
    """Runs beside the kubelet of the node from the beginning of a `with` block to its end."""

    def __init__(self, cluster: OwnCluster, count: int = 1) -> None:
        self._cluster, self._count = cluster, count
        self._log = Path(tempfile.mkstemp(prefix="dra-", suffix=".log")[1])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = str(ensure_extra(DRA) / "dra")
        kubeconfig = str(self._cluster.layout.config / "admin-internal.kubeconfig")
        options = ["-name", NAME, "-node", NODE, "-count", str(self._count), "-kubeconfig", kubeconfig]
        with self._log.open("wb") as log:
            command = self._beside([program, *options, "-refuse", REFUSES])
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.unlink()

    def log(self) -> str:
        """What it printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def refuse(self, *, refuses: bool) -> None:
        """Have it fail each claim from now on, or no longer."""
        command = ["touch", REFUSES] if refuses else ["rm", "-f", REFUSES]
        subprocess.run(self._beside(command), check=True)

    def _beside(self, command: list[str]) -> list[str]:
        kubelet = self._cluster.process(f"kubelet@{NODE}").pid
        return ["nsenter", f"--mount=/proc/{kubelet}/ns/mnt", f"--net=/proc/{kubelet}/ns/net", "--", *command]


def left(cluster: OwnCluster) -> list[str]:
    """All claims and templates of claims that there are in the cluster."""
    answer = cluster.kubectl("get", "resourceclaims,resourceclaimtemplates", "--all-namespaces", "--output", "json")
    return [f"{one['kind']} {one['metadata']['name']}" for one in json.loads(answer)["items"]]
