"""Addresses of a cluster. Each cluster has a network namespace of its own, so they may be the same in all of them.

They are taken from the blocks reserved for documentation and benchmarks: no host route is ever shadowed.
"""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass

from tests.cluster.errors import ClusterError

NODE_NETWORK_BITS = 24
NODE_1 = "192.0.2.1"
DNS_SERVER = "192.0.2.53"
"""CoreDNS is a process of the first node, not a pod, with an address of its own."""
DNS_READY_PORT = 8181
SERVICES = "198.18.0.0/16"
KUBERNETES_SERVICE = "198.18.0.1"
DNS_SERVICE = "198.18.0.10"
PODS = "198.19.0.0/16"
LOOPBACK = "127.0.0.1"
_PORTS = range(20000, 32000)  # below the kernel's ephemeral ports: no outgoing connection takes one meanwhile


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """Where etcd and the API server listen."""

    address: str
    api_port: int
    etcd_port: int
    etcd_peer_port: int

    @property
    def api(self) -> str:
        """URL of the API server for the cluster's own components."""
        return f"https://{self.address}:{self.api_port}"

    @property
    def etcd(self) -> str:
        """URL of etcd."""
        return f"http://{LOOPBACK}:{self.etcd_port}"

    @property
    def etcd_peer(self) -> str:
        """URL that etcd would answer other members at."""
        return f"http://{LOOPBACK}:{self.etcd_peer_port}"


ISOLATED = ControlPlane(address=NODE_1, api_port=6443, etcd_port=2379, etcd_peer_port=2380)
"""The control plane in a network namespace, where every port is free."""


def on_loopback() -> ControlPlane:
    """A control plane on free ports of the host's loopback interface."""
    api, etcd, peer = _free_ports(3)
    return ControlPlane(address=LOOPBACK, api_port=api, etcd_port=etcd, etcd_peer_port=peer)


def node_number(node: str) -> int:
    """The number in a node's name."""
    return int(node.rpartition("-")[2])


def node_address(node: str) -> str:
    """A node's address in the node network."""
    return f"192.0.2.{node_number(node)}"


def pod_network(node: str) -> str:
    """The pods' addresses on a node."""
    return f"198.19.{node_number(node)}.0/24"


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ClusterError(f"no {count} free ports on {LOOPBACK} from {_PORTS.start} to {_PORTS.stop - 1}")
