"""How a Deployment at rest would replace its engines, by `spec.rollout` and by what keeps two of them apart."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.claims import claims_of_pod
from vllm_operator.render import storage
from vllm_operator.render.devices import shares_devices
from vllm_operator.render.exclusive import one_per_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.spec.rollout import Rollout
    from vllm_operator.api.spec.storage import Storage


class Strategy(StrEnum):
    """How engines are replaced; Auto has become one of these."""

    SURGE = "Surge"
    IN_PLACE = "InPlace"
    RECREATE = "Recreate"


ONE_NODE: Final = "a claim of theirs is for one node at a time"
ONE_CLAIM: Final = "they share the devices of one ResourceClaim"
ONE_PER_NODE: Final = "a node holds one of them at most, by its ports or by their anti-affinity"


def exclusion(wanted: Storage, template: Mapping[str, Any], one_node_claims: frozenset[str]) -> str:
    """What keeps two engines from being there at the same time, in words; empty where nothing does."""
    if storage.on_one_node(wanted) or claims_of_pod(template) & one_node_claims:
        return ONE_NODE
    if shares_devices(template):
        return ONE_CLAIM
    return ONE_PER_NODE if one_per_node(template) else ""


def fewest_available(wanted: Rollout, replicas: int) -> int:
    """How many engines have to serve while others are replaced: `minAvailable`, and without it all but one.

    A share is rounded up, as that of a PodDisruptionBudget is.
    """
    given = wanted.min_available
    if given is None:
        return 0 if wanted.strategy == "Recreate" else max(replicas - 1, 0)
    if isinstance(given, str) and given.endswith("%"):
        return math.ceil(int(given[:-1]) * replicas / 100)
    return int(given)


def resting_strategy(wanted: Rollout, excluded: str) -> Strategy:
    """The strategy with which a rollout begins. Recreate that has to leave some engines takes the others at once."""
    if wanted.strategy == "Auto":
        return Strategy.IN_PLACE if excluded else Strategy.SURGE
    if wanted.strategy == "Recreate" and wanted.min_available is not None:
        return Strategy.IN_PLACE
    return Strategy(wanted.strategy)


def expendable(strategy: Strategy, wanted: Rollout, replicas: int) -> int:
    """How many engines may be taken away before their successors serve; maxUnavailable of the Deployment."""
    if strategy is not Strategy.IN_PLACE:
        return 0
    return max(max(replicas, 1) - fewest_available(wanted, replicas), 0)


def manifest(strategy: Strategy, *, surge: int, unavailable: int) -> dict[str, Any]:
    """`strategy` of a Deployment: how many engines a rollout may add, and how many it may take away first.

    The API server takes no two zeros: where nothing may go, one may come.
    """
    if strategy is Strategy.RECREATE:
        return {"type": "Recreate"}
    surge = surge if surge or unavailable else 1
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def at_rest(wanted: Rollout, replicas: int, excluded: str) -> dict[str, Any]:
    """`strategy` of a Deployment that nothing is known of."""
    strategy = resting_strategy(wanted, excluded)
    surge = int(strategy is Strategy.SURGE)
    return manifest(strategy, surge=surge, unavailable=expendable(strategy, wanted, replicas))
