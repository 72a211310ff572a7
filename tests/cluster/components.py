"""The cluster's components as data: which program runs with which flags. Pure; the flags' reasons stand beside them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster import addresses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.cluster.addresses import ControlPlane
    from tests.cluster.spec import ClusterSpec, Layout

GPU_RESOURCE = "nvidia.com/gpu"
FRONT_PROXY = "front-proxy-client"
"""Who the API server is to the servers of other APIs that it hands requests on to, as kubeadm names it."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """A process that the supervisor starts, and starts again when it dies, like a system's service manager."""

    name: str
    command: tuple[str, ...]
    pass_fds: tuple[int, ...] = ()
    restart: bool = True


def etcd(plane: ControlPlane, layout: Layout, spec: ClusterSpec) -> Component:
    """The store of the API server."""
    flags: dict[str, object] = {
        "data-dir": layout.state / "etcd",
        "listen-client-urls": plane.etcd,
        "advertise-client-urls": plane.etcd,
        "listen-peer-urls": plane.etcd_peer,
        "initial-advertise-peer-urls": plane.etcd_peer,
        "initial-cluster": f"default={plane.etcd_peer}",
        "unsafe-no-fsync": "true",  # every start is a new cluster: nothing is worth a flush
    }
    if spec.etcd_quota_bytes:
        flags["quota-backend-bytes"] = spec.etcd_quota_bytes
    return Component(name="etcd", command=_command("etcd", flags))


def api_server(plane: ControlPlane, layout: Layout, spec: ClusterSpec, *, isolated: bool) -> Component:
    """kube-apiserver; outside of a namespace it has no routable address to publish as the `kubernetes` Service."""
    config = layout.config
    flags: dict[str, object] = {
        "etcd-servers": plane.etcd,
        "bind-address": "0.0.0.0" if isolated else plane.address,  # noqa: S104 - all addresses of a private namespace
        "advertise-address": addresses.NODE_1,
        "secure-port": plane.api_port,
        "client-ca-file": config / "ca.crt",
        "tls-cert-file": config / "apiserver.crt",
        "tls-private-key-file": config / "apiserver.key",
        "service-account-key-file": config / "service-accounts.key",
        "service-account-signing-key-file": config / "service-accounts.key",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-cluster-ip-range": addresses.SERVICES,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": ",".join(("NodeRestriction", *spec.admission)),
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-client-certificate": config / "admin.crt",
        "kubelet-client-key": config / "admin.key",
        "kubelet-certificate-authority": config / "ca.crt",
        "allow-privileged": "true",
        **_front_proxy(config),
    }
    if not isolated:
        flags["endpoint-reconciler-type"] = "none"
        if not spec.controller_manager:  # nobody makes the `default` ServiceAccounts that this plugin waits for
            flags["disable-admission-plugins"] = "ServiceAccount"
    if spec.audit_log:
        flags["audit-policy-file"] = config / "audit-policy.json"
        flags["audit-log-path"] = layout.logs / "audit.log"
    return Component(name="kube-apiserver", command=_command("kube-apiserver", flags))


def _front_proxy(config: Path) -> dict[str, object]:
    """How servers of other APIs, such as those of metrics, know that the API server names the user of a request.

    An authority of its own: whoever had a certificate of the clients' could name any user else.
    """
    return {
        "requestheader-client-ca-file": config / "front-proxy-ca.crt",
        "requestheader-allowed-names": FRONT_PROXY,
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": config / "front-proxy.crt",
        "proxy-client-key-file": config / "front-proxy.key",
    }


def controller_manager(layout: Layout) -> Component:
    """kube-controller-manager."""
    config = layout.config
    flags = {
        "kubeconfig": config / "controller-manager.kubeconfig",
        "service-account-private-key-file": config / "service-accounts.key",
        "root-ca-file": config / "ca.crt",
        "use-service-account-credentials": "true",
        "kube-api-qps": 200,  # with the default its controllers start five seconds late
        "kube-api-burst": 400,
        "horizontal-pod-autoscaler-sync-period": "2s",  # a test of an autoscaler would wait for its 15 seconds
        "cluster-cidr": addresses.PODS,
        "leader-elect": "false",
        "flex-volume-plugin-dir": layout.state / "volume-plugins",
        "secure-port": 0,
    }
    return Component(name="kube-controller-manager", command=_command("kube-controller-manager", flags))


def scheduler(layout: Layout) -> Component:
    """kube-scheduler."""
    flags = {"kubeconfig": layout.config / "scheduler.kubeconfig", "leader-elect": "false", "secure-port": 0}
    return Component(name="kube-scheduler", command=_command("kube-scheduler", flags))


def coredns(layout: Layout) -> Component:
    """CoreDNS."""
    return Component(name="coredns", command=("coredns", "-conf", str(layout.config / "Corefile")))


def containerd(node: str, folder: Path) -> Component:
    """The container runtime of a node."""
    return Component(name=f"containerd@{node}", command=("containerd", "-c", str(folder / "containerd.toml")))


def kubelet(node: str, folder: Path, layout: Layout) -> Component:
    """The kubelet of a node."""
    flags = {
        "config": folder / "kubelet.json",
        "kubeconfig": layout.config / f"{node}.kubeconfig",
        "hostname-override": node,
        "node-ip": addresses.node_address(node),
    }
    return Component(name=f"kubelet@{node}", command=_command("kubelet", flags))


def kube_proxy(node: str, layout: Layout) -> Component:
    """kube-proxy of a node."""
    flags = {
        "kubeconfig": layout.config / "proxy.kubeconfig",
        "hostname-override": node,
        "proxy-mode": "nftables",
        "cluster-cidr": addresses.PODS,
        # Limits of connection tracking belong to the host's network namespace: leave them alone.
        "conntrack-max-per-core": 0,
        "conntrack-tcp-timeout-established": 0,
        "conntrack-tcp-timeout-close-wait": 0,
    }
    return Component(name=f"kube-proxy@{node}", command=_command("kube-proxy", flags))


def device_plugin(node: str, spec: ClusterSpec) -> Component:
    """The plugin that advertises GPUs which do not exist."""
    mounts = ",".join(f"{mount.host.resolve()}:{mount.container}" for mount in spec.gpu_mounts)
    command = ("deviceplugin", "-resource", GPU_RESOURCE, "-count", str(spec.gpus), "-mount", mounts)
    return Component(name=f"device-plugin@{node}", command=command)


def relay(listener: int, plane: ControlPlane) -> Component:
    """The way from the host's loopback interface to the API server."""
    return python_component(
        "relay", "tests.cluster.relay", [str(listener), plane.address, str(plane.api_port)], pass_fds=(listener,)
    )


def node_supervisor(node: str, layout: Layout) -> Component:
    """A further node: its processes in mount, network and host name namespaces of their own.

    Killed, it takes the node's kubelet, kube-proxy and containerd with it for good: a node that failed.
    """
    inner = python_component(node, "tests.cluster.node", [str(layout.state), node])
    outer = ("unshare", "--mount", "--net", "--uts", "--propagation", "private", "--")
    return Component(name=node, command=(*outer, *inner.command), restart=False)


def python_component(name: str, module: str, arguments: Sequence[str], *, pass_fds: tuple[int, ...] = ()) -> Component:
    """A module of this package as a component."""
    command = (sys.executable, "-m", module, *arguments)
    return Component(name=name, command=command, pass_fds=pass_fds)


def _command(program: str, flags: Mapping[str, object]) -> tuple[str, ...]:
    return (program, *(f"--{name}={value}" for name, value in flags.items()))
