"""Mounts and links inside of a cluster's namespaces. Nothing here is ever visible on the host.

The kubelet and containerd use fixed paths; the kubelet also sets some kernel parameters of the whole machine. Inside
the mount namespace those paths are the cluster's own folders and those parameters are plain files, so that the host
keeps its values and the kernel forgets all of it when the last process dies.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import addresses
from tests.cluster.errors import ClusterError
from tests.cluster.paths import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.cluster.spec import ClusterSpec

NODE_BRIDGE = "br-node"
KUBELET_SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""What the kubelet would set for the whole machine."""

_OVERLAID = ("/var/lib", "/var/log")
_RUN = "/run"


def hide_host(spec: ClusterSpec, state: Path) -> None:
    """The cluster's own /proc, /run, /var/lib and /var/log, and stand-ins for the kubelet's kernel parameters."""
    _mount("-t", "proc", "proc", "/proc")
    kept = [
        state,
        REPOSITORY,
        Path(sys.prefix),
        Path(sys.base_prefix),
        *(mount.host for mount in spec.gpu_mounts),
        *spec.images,
    ]
    kept += [point for point in _mount_points() if str(point).startswith(_OVERLAID)]
    hidden = [path for path in kept if str(path).startswith((*_OVERLAID, _RUN))]
    handles = {path: os.open(path, os.O_PATH) for path in sorted(hidden)}
    _mount("-t", "tmpfs", "tmpfs", _RUN)
    for place in _OVERLAID:
        upper, work = (Path(f"{_RUN}/overlay{place}/{part}") for part in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir()
        _mount("-t", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", "overlay", place)
    for path, handle in handles.items():
        _put_back(path, handle)
    values = Path(_RUN) / "sysctls"
    values.mkdir()
    for name, value in KUBELET_SYSCTLS.items():
        stand_in = values / name.replace("/", ".")
        stand_in.write_text(f"{value}\n", encoding="ascii")
        _mount("--bind", str(stand_in), f"/proc/sys/{name}")


def enter_node(node: str, folder: Path) -> None:
    """The node's own /run and folders at the fixed paths of the kubelet, and its host name."""
    _mount("-t", "tmpfs", "tmpfs", _RUN)
    for name in ("lib/kubelet", "lib/cni", "log/pods", "log/containers"):
        own, fixed = folder / name, Path("/var") / name
        own.mkdir(parents=True)
        fixed.mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(own), str(fixed))
    socket.sethostname(node)


def connect_first_node(nodes: Sequence[str]) -> None:
    """The first node's network: a bridge that carries the node addresses and the default route.

    The bridge leads nowhere but to the other nodes. The route must exist all the same: a connection to a Service's
    address looks for one before the address is rewritten.
    """
    _ip(
        "link set lo up",
        f"link add {NODE_BRIDGE} type bridge",
        f"addr add {addresses.NODE_1}/{addresses.NODE_NETWORK_BITS} dev {NODE_BRIDGE}",
        f"addr add {addresses.DNS_SERVER}/{addresses.NODE_NETWORK_BITS} dev {NODE_BRIDGE}",
        f"link set {NODE_BRIDGE} up",
        f"route add default dev {NODE_BRIDGE} src {addresses.NODE_1}",
        *_pod_routes(nodes[0], nodes),
    )
    _forward()


def connect_further_node(node: str, nodes: Sequence[str]) -> None:
    """A further node's network: a wire to the first node's bridge. Process 1 is the first node's supervisor."""
    wire = f"wire-{addresses.node_number(node)}"
    _ip(
        "link set lo up",
        f"link add eth0 type veth peer name {wire} netns 1",
        f"addr add {addresses.node_address(node)}/{addresses.NODE_NETWORK_BITS} dev eth0",
        "link set eth0 up",
        f"route add default via {addresses.NODE_1} src {addresses.node_address(node)}",
        *_pod_routes(node, nodes),
    )
    _ip(f"link set {wire} master {NODE_BRIDGE} up", inside=("nsenter", "--net=/proc/1/ns/net", "--"))
    _forward()


def _pod_routes(node: str, nodes: Iterable[str]) -> list[str]:
    others = [other for other in nodes if other != node]
    return [f"route add {addresses.pod_network(other)} via {addresses.node_address(other)}" for other in others]


def _forward() -> None:
    for name in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        setting = Path("/proc/sys") / name
        if not setting.exists():
            raise ClusterError(f"the kernel lacks {setting}: load the module with `modprobe br_netfilter`")
        setting.write_text("1", encoding="ascii")


def _put_back(path: Path, handle: int) -> None:
    """Bind what the open handle refers to where it was before a mount hid it."""
    kept = os.fstat(handle)
    if path.exists() and os.path.samestat(path.stat(), kept):
        return
    if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112 - the handle's target, whatever its path shows now
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    _mount("--no-canonicalize", "--rbind", f"/proc/self/fd/{handle}", str(path), pass_fds=(handle,))


def _mount_points() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [Path(line.split()[4].encode().decode("unicode_escape")) for line in lines]


def _mount(*arguments: str, pass_fds: tuple[int, ...] = ()) -> None:
    _run(["mount", *arguments], pass_fds=pass_fds)


def _ip(*commands: str, inside: Sequence[str] = ()) -> None:
    _run([*inside, "ip", "-batch", "-"], text="".join(f"{command}\n" for command in commands))


def _run(command: Sequence[str], *, text: str = "", pass_fds: tuple[int, ...] = ()) -> None:
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False, pass_fds=pass_fds)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command)}\n{text}failed: {done.stderr.strip()}")
