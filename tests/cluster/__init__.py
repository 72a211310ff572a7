"""A real Kubernetes cluster for tests on one Linux machine, without a container engine and without a registry.

with start(ClusterSpec(name="mine", node=NodeKind.NONE)) as cluster:
cluster.kubectl("get", "namespaces")
"""

from tests.cluster.cluster import Cluster, OwnCluster, attach, start
from tests.cluster.errors import ClusterError
from tests.cluster.spec import ClusterSpec, NodeKind

__all__ = ["Cluster", "ClusterError", "ClusterSpec", "NodeKind", "OwnCluster", "attach", "start"]
