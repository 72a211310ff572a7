"""Looking whether the cluster has claims of devices, for the models that want them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.cluster.kinds import RESOURCE_CLAIM_TEMPLATE
from vllm_operator.errors import ApiError
from vllm_operator.planner.devices import are_missing

if TYPE_CHECKING:
    from vllm_operator.cluster.cache import Cache
    from vllm_operator.cluster.client import Client
    from vllm_operator.planner.plan import Observation

logger = logging.getLogger(__name__)


async def with_device_claims(client: Client, cache: Cache, observation: Observation) -> Observation:
    """The observation of a model that wants claims of devices, with whether the cluster has them by now.

    Other models cost no call, nor do these once the API server is known to serve them. The lists that are made from
    time to time tell as well, but late, and nothing where the operator may not list them.
    """
    model = observation.model
    if model is None or model.leaving or not are_missing(observation):
        return observation
    try:
        served = await client.serves(RESOURCE_CLAIM_TEMPLATE)
    except ApiError as error:
        logger.warning("%s/%s: cannot see whether claims of devices are served: %s", model.namespace, model.name, error)
        return observation
    cache.set_served(RESOURCE_CLAIM_TEMPLATE, served=served)
    return replace(observation, resource_claims=served)
