"""What the live catalogue of a namespace lists of one model: read only where it matters, since it may be long."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.api import names
from vllm_operator.cluster.cache import Key
from vllm_operator.cluster.kinds import CONFIG_MAP
from vllm_operator.planner.adapters import may_leave
from vllm_operator.render.catalog import listed_adapters

if TYPE_CHECKING:
    from vllm_operator.cluster.cache import Cache
    from vllm_operator.planner.plan import Observation


def with_catalogued(cache: Cache, observation: Observation, release: str) -> Observation:
    """The observation with the names of adapters that clients find in the catalogue, where one of them is to go."""
    model = observation.model
    if model is None or not may_leave(observation):
        return observation
    keys = (Key(model.namespace, names.prefixed(release, part)) for part in names.CATALOG_PARTS)
    parts = [live.body for key in keys if (live := cache.get(CONFIG_MAP, key)) is not None]
    return replace(observation, catalogued=listed_adapters(parts, model.name))
