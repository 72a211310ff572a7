"""One node: containerd, images, kubelet, kube-proxy and the GPU plugin. As a program: a further node's supervisor."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import addresses, components, configs, isolation
from tests.cluster.errors import ClusterError
from tests.cluster.probes import Api
from tests.cluster.spec import ClusterSpec, Layout, node_names
from tests.cluster.supervision import Supervision

if TYPE_CHECKING:
    from collections.abc import Sequence


class Node:
    """Starts the parts of one node, in the namespaces that it belongs to."""

    def __init__(self, name: str, spec: ClusterSpec, layout: Layout, supervision: Supervision) -> None:
        self.name = name
        self._spec, self._layout, self._supervision = spec, layout, supervision
        self._folder = layout.node(name)
        self._failures: list[ClusterError] = []
        self._importing = threading.Thread(target=self._import_images)

    def prepare(self) -> None:
        """Write the configuration files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "cni").mkdir()
        kubelet = configs.kubelet(self.name, self._folder, self._layout.config, self._layout.cgroup)
        (self._folder / "containerd.toml").write_text(configs.containerd(self._folder), encoding="utf-8")
        (self._folder / "cni" / "10-test.conflist").write_text(configs.cni(self.name), encoding="utf-8")
        (self._folder / "kubelet.json").write_text(kubelet, encoding="utf-8")

    def start_runtime(self) -> None:
        """Start containerd and begin to import the images; the API server may start meanwhile."""
        self._supervision.start(components.containerd(self.name, self._folder))
        self._supervision.until(f"containerd@{self.name} answers", _runtime_answers)
        self._importing.start()

    def start_agents(self) -> None:
        """Start what talks to the API server, which must be ready, when the images are there.

        Raises:
            ClusterError: an image could not be imported.
        """
        self._supervision.start(components.kubelet(self.name, self._folder, self._layout))
        self._supervision.start(components.kube_proxy(self.name, self._layout))
        if self._spec.gpus:
            plugins = Path("/var/lib/kubelet/device-plugins")
            self._supervision.until(f"kubelet@{self.name} takes plugins", (plugins / "kubelet.sock").exists)
            self._supervision.start(components.device_plugin(self.name, self._spec))
        self._importing.join()
        for failure in self._failures:
            raise failure

    def _import_images(self) -> None:
        try:
            for image in self._spec.images:
                import_image(image, configs.CONTAINERD_SOCKET)
        except ClusterError as error:
            self._failures.append(error)


def import_image(archive: Path, socket: Path, program: Path = Path("ctr")) -> None:
    """Load an image archive into the containerd behind the socket."""
    command = [str(program), "--address", str(socket), "--namespace", "k8s.io", "images", "import", str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"cannot import {archive}: {done.stderr.strip() or done.stdout.strip()}")


def _runtime_answers() -> bool:
    command: Sequence[str] = ("ctr", "--address", str(configs.CONTAINERD_SOCKET), "version")
    return (
        configs.CONTAINERD_SOCKET.exists() and not subprocess.run(command, capture_output=True, check=False).returncode
    )


def main(layout: Layout, name: str) -> None:
    """Run a further node until killed."""
    spec = ClusterSpec.from_json(layout.spec.read_text(encoding="utf-8"))
    supervision = Supervision(layout, name, lambda line: print(line, flush=True))
    isolation.enter_node(name, layout.node(name))
    isolation.connect_further_node(name, node_names(spec))
    node = Node(name, spec, layout, supervision)
    node.prepare()
    node.start_runtime()
    supervision.until("API server answers", Api(addresses.ISOLATED, layout.config).ready)
    node.start_agents()
    supervision.run()


if __name__ == "__main__":
    try:
        main(Layout(Path(sys.argv[1])), sys.argv[2])
    except ClusterError as error:
        sys.exit(str(error))
