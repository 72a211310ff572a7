"""The kinds that the operator reads and writes, and the paths under which the API server has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vllm_operator.api import groups, meta
from vllm_operator.render import devices


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, mostly of a namespaced one."""

    api_version: str
    kind: str
    plural: str

    @property
    def root(self) -> str:
        """Path of its API group and version."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of all objects, of those in a namespace, of one, or of a part of one."""
        parts = [self.root]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/".join(parts)


MODEL: Final = Kind(meta.API_VERSION, meta.KIND, meta.PLURAL)
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
SERVICE: Final = Kind("v1", "Service", "services")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
SECRET: Final = Kind("v1", "Secret", "secrets")
SERVICE_ACCOUNT: Final = Kind("v1", "ServiceAccount", "serviceaccounts")
PERSISTENT_VOLUME_CLAIM: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESS: Final = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
POD_DISRUPTION_BUDGET: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
CONTROLLER_REVISION: Final = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
POD: Final = Kind("v1", "Pod", "pods")
POD_MONITOR: Final = Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
SCALED_OBJECT: Final = Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
HORIZONTAL_POD_AUTOSCALER: Final = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
LEADER_WORKER_SET: Final = Kind(groups.API_VERSION, groups.KIND, "leaderworkersets")
RESOURCE_CLAIM_TEMPLATE: Final = Kind(devices.API_VERSION, devices.KIND, "resourceclaimtemplates")
"""Listed also to know whether the API server has claims of devices at all: one that has not leaves a pod's out."""
CUSTOM_METRICS: Final = Kind("custom.metrics.k8s.io/v1beta2", "MetricValueList", "")
"""Never read: whether the API server serves any version of the group says what autoscalers can go by."""

LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
"""Says which of several operators writes; neither watched nor of any model."""

NODE: Final = Kind("v1", "Node", "nodes")
PERSISTENT_VOLUME: Final = Kind("v1", "PersistentVolume", "persistentvolumes")
"""Of the whole cluster: looked at where no node takes a pod."""

WORKLOADS: Final = tuple(
    Kind(f"kueue.x-k8s.io/{version}", "Workload", "workloads") for version in ("v1beta2", "v1beta1")
)
"""What Kueue makes of what waits in a queue, newest version first: looked at where it holds a pod back."""

EVENT: Final = Kind("v1", "Event", "events")

JOB: Final = Kind("batch/v1", "Job", "jobs")
"""Fills a claim: made and looked at where a model asks for it, and watched nowhere."""

CHILDREN: Final = (
    DEPLOYMENT,
    SERVICE,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    PERSISTENT_VOLUME_CLAIM,
    NETWORK_POLICY,
    INGRESS,
    POD_DISRUPTION_BUDGET,
    CONTROLLER_REVISION,
)
"""What the operator makes, and repairs when somebody else changes it."""

WATCHED: Final = (MODEL, *CHILDREN, POD)

OPTIONAL: Final = (POD_MONITOR, SCALED_OBJECT, HORIZONTAL_POD_AUTOSCALER, LEADER_WORKER_SET, RESOURCE_CLAIM_TEMPLATE)
"""Children of kinds that an API server may not serve. They are listed from time to time instead of watched: kopf finds
the kinds that it watches only once, at its start, and a watch of a kind that goes away would end the operator. What a
LeaderWorkerSet makes shows in its pods, which are watched. A
HorizontalPodAutoscaler is always served, and its status changes with every move of a metric: it is listed, too."""

_BY_NAME: Final = {kind.kind: kind for kind in (*WATCHED, *OPTIONAL, JOB)}


def kind_of(name: str) -> Kind:
    """The kind with this name.

    Raises:
        KeyError: the operator does not work with it.
    """
    return _BY_NAME[name]
