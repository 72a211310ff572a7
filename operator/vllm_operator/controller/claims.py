"""Looking at the claims that a decision may be about, beside a model's own children."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_operator.api.claims import claims_of_spec
from vllm_operator.api.names import cache_name, instance_name
from vllm_operator.cluster.cache import Key
from vllm_operator.cluster.kinds import PERSISTENT_VOLUME_CLAIM
from vllm_operator.planner.claims import CLAIM, ClaimsSeen, in_question, mounts_of
from vllm_operator.planner.owners import controlling_model

if TYPE_CHECKING:
    from vllm_operator.cluster.cache import Cache
    from vllm_operator.cluster.client import Client
    from vllm_operator.planner.plan import Observation


async def with_claims(client: Client, cache: Cache, key: Key, observation: Observation) -> Observation:
    """The observation, with what it has to know of claims.

    The cache holds no pods but engines. So the API server is asked what mounts a claim, and only where the answer is
    all that keeps the claim from being deleted.

    Raises:
        ApiError: the API server does not list the pods of the namespace.
    """
    if observation.raw is None or "deletionTimestamp" in observation.raw["metadata"]:
        return observation
    own = {child.name for child in observation.children if child.kind == CLAIM} | {cache_name(instance_name(key.name))}
    of_others = frozenset(name for name in own if cache.models_mounting(key.namespace, name) - {key.name})
    found = [
        cache.get(PERSISTENT_VOLUME_CLAIM, Key(key.namespace, name))
        for name in sorted(claims_of_spec(observation.raw.get("spec")))
    ]
    borrowed = tuple(live for live in found if live is not None and controlling_model(live) not in (None, key.name))
    seen = replace(observation, claims=ClaimsSeen(of_others=of_others, borrowed=borrowed))
    if not in_question(seen):
        return seen
    mounted_by = mounts_of(await client.pods(key.namespace))
    return replace(seen, claims=replace(seen.claims, mounted_by=mounted_by))
