"""Configuration files of the components, as documents. Pure; JSON is written where YAML is read."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import addresses
from tests.cluster.tools import CNI_FOLDER

if TYPE_CHECKING:
    from tests.cluster.pki import Pair

CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
PAUSE_IMAGE = "docker.io/library/pause:test"


def kubeconfig(server: str, authority: bytes, client: Pair) -> str:
    """Access to a server for one user, with everything in the one file."""

    def inline(data: bytes) -> str:
        return base64.b64encode(data).decode()

    cluster = {"server": server, "certificate-authority-data": inline(authority)}
    user = {"client-certificate-data": inline(client.certificate), "client-key-data": inline(client.key)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    return json.dumps(document, indent=1)


def audit_policy(*, reads: bool = False) -> str:
    """Log who writes what, without contents, and who reads what where that is asked for."""
    verbs = ["create", "update", "patch", "delete", "deletecollection", *(["get", "list", "watch"] if reads else [])]
    rules = [{"level": "Metadata", "verbs": verbs}, {"level": "None"}]
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
    return json.dumps(policy)


def kubelet(node: str, folder: Path, config: Path, cgroup: str) -> str:
    """KubeletConfiguration of a node."""
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "x509": {"clientCAFile": str(config / "ca.crt")},
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": str(config / f"{node}-server.crt"),
        "tlsPrivateKeyFile": str(config / f"{node}-server.key"),
        "clusterDNS": [addresses.DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "volumePluginDir": str(folder / "volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}/{node}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "serializeImagePulls": False,
        # A test machine is often nearly full; images are not fetched again, so none may be collected.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "10h",
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
    }
    return json.dumps(document, indent=1)


def containerd(folder: Path) -> str:
    """Configuration of containerd; its sockets and sandboxes lie at the usual places below /run."""
    return f"""\
version = 3
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd/opt"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  netns_mounts_under_state_dir = true
  # Machines without CAP_SYS_RESOURCE refuse the negative score that the kubelet asks for.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{CNI_FOLDER}"]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      Root = "/run/runc"
"""


def cni(node: str) -> str:
    """The pod network of a node: a bridge, addresses handed out locally, host ports."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": "/run/cni",
            "ranges": [[{"subnet": addresses.pod_network(node)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "test", "plugins": [bridge, portmap]})


def corefile(config: Path) -> str:
    """CoreDNS serves the cluster's names and nothing else: no server can be asked beyond the namespace."""
    return f"""\
.:53 {{
  bind {addresses.DNS_SERVER}
  errors
  ready {addresses.DNS_SERVER}:{addresses.DNS_READY_PORT}
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {config}/admin-internal.kubeconfig
    pods verified
    ttl 1
  }}
}}
"""


def first_objects() -> tuple[tuple[str, dict[str, object]], ...]:
    """What a new cluster needs besides what the API server makes itself: (collection, object) in order."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    binding: dict[str, object] = {
        "metadata": {"name": "test-cluster-kube-proxy"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-proxy"}],
    }
    service: dict[str, object] = {
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {"clusterIP": addresses.DNS_SERVICE, "ports": ports},
    }
    endpoints: dict[str, object] = {
        "metadata": {
            "name": "kube-dns-process",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [addresses.DNS_SERVER], "conditions": {"ready": True}}],
    }
    return (
        ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding),
        ("/api/v1/namespaces/kube-system/services", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", endpoints),
    )
