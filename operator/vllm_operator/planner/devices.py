"""Claims of devices: whether the cluster has them, and which of their templates pods still need. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.planner.engines import pod_bodies
from vllm_operator.planner.workload import live_workload
from vllm_operator.render.devices import API_VERSION, KIND, templates_of
from vllm_operator.render.untyped import items

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.planner.plan import Observation

MISSING: Final = (
    f"spec.accelerator.resourceClaims needs {API_VERSION}, which the cluster does not serve, so nothing is changed: "
    "upgrade it to Kubernetes 1.34 or newer, or name what a device plug-in offers in spec.accelerator.resource"
)


def are_missing(observation: Observation) -> bool:
    """Whether the spec wants claims of devices, and the API server does not know them.

    Such an API server leaves the claims out of the pods that it stores, and engines would start without a device.
    """
    wanted = items(observation.raw, "spec", "accelerator", "resourceClaims")
    return bool(wanted) and not observation.resource_claims


def is_needed(child: LiveObject, observation: Observation) -> bool:
    """Whether it is a ResourceClaimTemplate of which pods that are there, or that may be made anew, get their claims.

    That is so for engines of an earlier spec until they have been replaced: where one of them is evicted, its
    ReplicaSet makes another.
    """
    if child.kind != KIND:
        return False
    live = live_workload(observation)
    made = [live.body["spec"]["template"]] if live is not None else []
    return child.name in templates_of([*made, *pod_bodies(observation)])
