"""Looking at the LeaderWorkerSet of a model, which no watch brings, and at whether the cluster has that kind."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.api import groups
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import instance_name
from vllm_operator.cluster.kinds import LEADER_WORKER_SET
from vllm_operator.errors import ApiError, ApiNotFound, ApiNotServed

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.cache import Cache
    from vllm_operator.cluster.client import Client
    from vllm_operator.planner.plan import Observation

logger = logging.getLogger(__name__)


async def with_groups(client: Client, cache: Cache, observation: Observation) -> Observation:
    """The observation of a model whose engines have several pods, with the set that makes them as it is now.

    Other models cost no call. Where the API server does not answer, what was known before stands.
    """
    model = observation.model
    if model is None or model.leaving or groups.size_of(observation.raw.get("spec")) == 1:
        return observation
    key = ObjectKey(groups.KIND, instance_name(model.name))
    known = observation.children.get(key)
    live: LiveObject | None = known
    try:
        live = await client.get(LEADER_WORKER_SET, model.namespace, key.name)
        cache.put(LEADER_WORKER_SET, live)
        cache.set_served(LEADER_WORKER_SET, served=True)
    except ApiNotFound as error:
        cache.set_served(LEADER_WORKER_SET, served=not isinstance(error, ApiNotServed))
        live = None
        if known is not None:
            cache.remove(LEADER_WORKER_SET, known)
    except ApiError as error:
        logger.warning("%s/%s: cannot look at its LeaderWorkerSet: %s", model.namespace, model.name, error)
    children = {one: child for one, child in observation.children.items() if one != key}
    if live is not None:
        children[key] = live
    return replace(observation, children=children, leader_worker_sets=cache.serves(LEADER_WORKER_SET))
