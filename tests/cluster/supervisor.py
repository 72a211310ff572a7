"""The cluster's inner process: starts everything and keeps it running. With nodes it is process 1 of its namespace.

It dies with the guard, and everything that it started dies with it.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import addresses, components, configs, isolation, pki
from tests.cluster.errors import ClusterError
from tests.cluster.node import Node
from tests.cluster.probes import Api, dns_answers, http_ok
from tests.cluster.processes import Process
from tests.cluster.reports import Reporter
from tests.cluster.spec import ClusterSpec, Layout, NodeKind, node_names
from tests.cluster.supervision import Supervision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.cluster.addresses import ControlPlane

_API_NAMES = ("kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "kubernetes.default", "localhost")


def write_configuration(
    layout: Layout, plane: ControlPlane, outside_port: int, nodes: Sequence[str], spec: ClusterSpec
) -> None:
    """Make certificates and the configuration files that refer to them."""
    config = layout.config
    authority = pki.Authority()
    (config / "ca.crt").write_bytes(authority.certificate)
    pki.write_secret(config / "service-accounts.key", pki.signing_key())
    api_addresses = [addresses.LOOPBACK, addresses.NODE_1, addresses.KUBERNETES_SERVICE]
    authority.server("kube-apiserver", hosts=_API_NAMES, addresses=api_addresses).save(config, "apiserver")
    users = {
        "controller-manager": authority.client("system:kube-controller-manager"),
        "scheduler": authority.client("system:kube-scheduler"),
        "proxy": authority.client("system:kube-proxy"),
    }
    for node in nodes:
        users[node] = authority.client(f"system:node:{node}", "system:nodes")
        authority.server(node, hosts=[node], addresses=[addresses.node_address(node)]).save(config, f"{node}-server")
    front = pki.Authority()
    (config / "front-proxy-ca.crt").write_bytes(front.certificate)
    front.client(components.FRONT_PROXY).save(config, "front-proxy")
    admin = authority.client("admin", "system:masters")
    admin.save(config, "admin")
    users["admin-internal"] = admin
    for name, pair in users.items():
        content = configs.kubeconfig(plane.api, authority.certificate, pair)
        pki.write_secret(config / f"{name}.kubeconfig", content.encode())
    outside = configs.kubeconfig(f"https://{addresses.LOOPBACK}:{outside_port}", authority.certificate, admin)
    pki.write_secret(layout.kubeconfig, outside.encode())
    (config / "audit-policy.json").write_text(configs.audit_policy(reads=spec.audit_reads), encoding="utf-8")
    (config / "Corefile").write_text(configs.corefile(config), encoding="utf-8")


def start_without_node(spec: ClusterSpec, layout: Layout, supervision: Supervision) -> None:
    """Only what answers the API, on the host's loopback interface."""
    plane = addresses.on_loopback()
    write_configuration(layout, plane, plane.api_port, (), spec)
    supervision.start(components.etcd(plane, layout, spec))
    supervision.start(components.api_server(plane, layout, spec, isolated=False))
    api = Api(plane, layout.config)
    supervision.until("API server ready", api.ready)
    if spec.controller_manager:
        supervision.start(components.controller_manager(layout))
        supervision.until("controllers at work", lambda: _has_default_account(api))


def start_with_nodes(spec: ClusterSpec, layout: Layout, supervision: Supervision, listener: int, port: int) -> None:
    """A whole cluster, in the namespaces that this process was started in."""
    nodes = node_names(spec)
    plane = addresses.ISOLATED
    isolation.hide_host(spec, layout.state)
    isolation.enter_node(nodes[0], layout.node(nodes[0]))
    isolation.connect_first_node(nodes)
    write_configuration(layout, plane, port, nodes, spec)
    supervision.say("namespaces and certificates")
    first = Node(nodes[0], spec, layout, supervision)
    first.prepare()
    supervision.start(components.etcd(plane, layout, spec))
    supervision.start(components.api_server(plane, layout, spec, isolated=True))
    supervision.start(components.relay(listener, plane))
    for node in nodes[1:]:
        supervision.start(components.node_supervisor(node, layout))
    first.start_runtime()
    api = Api(plane, layout.config)
    supervision.until("API server ready", api.ready)
    supervision.start(components.controller_manager(layout))
    supervision.start(components.scheduler(layout))
    for collection, document in configs.first_objects():
        api.create(collection, document)
    supervision.start(components.coredns(layout))
    first.start_agents()
    _await_nodes(spec, supervision, api)


def _await_nodes(spec: ClusterSpec, supervision: Supervision, api: Api) -> None:
    for node in node_names(spec):
        supervision.until(f"{node} Ready, {spec.gpus} GPUs", partial(_node_ready, api, node, spec.gpus))
    ready = (addresses.DNS_SERVER, addresses.DNS_READY_PORT, "/ready")
    supervision.until("CoreDNS ready", lambda: http_ok(*ready))
    supervision.until("controllers at work", lambda: _has_default_account(api))
    name = "kubernetes.default.svc.cluster.local"
    supervision.until("DNS answers through its Service", lambda: dns_answers(name, addresses.DNS_SERVICE))


def _has_default_account(api: Api) -> bool:
    return api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None


def _node_ready(api: Api, node: str, gpus: int) -> bool:
    status = (api.get(f"/api/v1/nodes/{node}") or {}).get("status", {})
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions", []))
    return ready and int(status.get("allocatable", {}).get(components.GPU_RESOURCE, "0")) == gpus


def main(layout: Layout, listener: int, port: int) -> None:
    """Start the cluster, say so, and keep it running."""
    Process.current().save(layout.supervisor)
    spec = ClusterSpec.from_json(layout.spec.read_text(encoding="utf-8"))
    reporter = Reporter(sys.stdout)
    supervision = Supervision(layout, "cluster", reporter.progress)
    try:
        if spec.node is NodeKind.NONE:
            start_without_node(spec, layout, supervision)
        else:
            start_with_nodes(spec, layout, supervision, listener, port)
    except (ClusterError, ValueError) as error:
        reporter.failed(str(error))
        sys.exit(1)
    layout.ready.touch()
    reporter.ready()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever listened may go
    supervision.run()


if __name__ == "__main__":
    main(Layout(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))
