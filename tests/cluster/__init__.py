"""A real Kubernetes cluster for tests on one Linux machine, without a container engine and without a registry.

with start(ClusterSpec(name="mine", node=NodeKind.NONE)) as cluster:
cluster.kubectl("get", "namespaces")
"""

from tests.cluster.cluster import Cluster, OwnCluster
from tests.cluster.errors import ClusterError
from tests.cluster.launch import attach, start
from tests.cluster.spec import ClusterSpec, GpuMount, NodeKind

__all__ = ["Cluster", "ClusterError", "ClusterSpec", "GpuMount", "NodeKind", "OwnCluster", "attach", "start"]
