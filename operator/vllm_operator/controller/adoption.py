"""Looking at a Deployment that is to be adopted: whose its fields are, which the cache does not keep."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import instance_name
from vllm_operator.cluster.kinds import DEPLOYMENT
from vllm_operator.errors import ApiNotFound
from vllm_operator.planner.adoption import applied_template
from vllm_operator.planner.template import needs_managed_fields

if TYPE_CHECKING:
    from vllm_operator.cluster.client import Client
    from vllm_operator.planner.plan import Observation


async def with_applied_template(client: Client, observation: Observation) -> Observation:
    """The observation, with the pod template that the operator has applied, where that one is to be kept.

    Once for each Deployment that an earlier version of the operator made, and where somebody deletes a revision.

    Raises:
        ApiError: the API server does not give the Deployment.
    """
    model = observation.model
    if model is None or not needs_managed_fields(observation):
        return observation
    key = ObjectKey(DEPLOYMENT.kind, instance_name(model.name))
    try:
        live = await client.get(DEPLOYMENT, model.namespace, key.name)
    except ApiNotFound:  # it is gone, and the watch has not said so yet
        return replace(observation, children={one: live for one, live in observation.children.items() if one != key})
    return replace(observation, applied_template=applied_template(live.body))
