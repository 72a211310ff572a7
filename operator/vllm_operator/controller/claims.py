"""Looking at the claims that a decision may be about, beside a model's own children."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.api.claims import claims_of_spec
from vllm_operator.api.names import cache_name, instance_name
from vllm_operator.api.spec.storage import ONE_NODE_MODES
from vllm_operator.cluster.cache import Key
from vllm_operator.cluster.kinds import PERSISTENT_VOLUME_CLAIM
from vllm_operator.planner.claims import CLAIM, in_question, mounts_of
from vllm_operator.planner.owners import controlling_model

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.cache import Cache
    from vllm_operator.cluster.client import Client
    from vllm_operator.planner.plan import Observation


async def with_claims(client: Client, cache: Cache, observation: Observation) -> Observation:
    """The observation, with what it has to know of claims.

    The cache holds no pods but engines. So the API server is asked what mounts a claim, and only where the answer is
    all that keeps the claim from being deleted.

    Raises:
        ApiError: the API server does not list the pods of the namespace.
    """
    seen = with_known_claims(cache, observation)
    if seen.model is None or not in_question(seen):
        return seen
    mounted_by = mounts_of(await client.pods(seen.model.namespace))
    return replace(seen, claims=replace(seen.claims, mounted_by=mounted_by))


def with_known_claims(cache: Cache, observation: Observation) -> Observation:
    """The observation, with what the cache knows of claims; what pods mount stays as it was asked."""
    model = observation.model
    if model is None or model.leaving:
        return observation
    own = {child.name for child in observation.children if child.kind == CLAIM} | {
        cache_name(instance_name(model.name))
    }
    of_others = frozenset(name for name in own if cache.models_mounting(model.namespace, name) - {model.name})
    named = sorted(claims_of_spec(observation.raw.get("spec")))
    known = [cache.get(PERSISTENT_VOLUME_CLAIM, Key(model.namespace, name)) for name in named]
    found = [live for live in known if live is not None]
    seen = replace(
        observation.claims,
        of_others=of_others,
        on_one_node=frozenset(live.name for live in found if _on_one_node(live)),
        borrowed=tuple(live for live in found if controlling_model(live) not in (None, model.name)),
    )
    return replace(observation, claims=seen)


def _on_one_node(live: LiveObject) -> bool:
    return set(live.body.get("spec", {}).get("accessModes", [])) <= ONE_NODE_MODES
