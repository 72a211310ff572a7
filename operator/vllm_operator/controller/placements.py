"""Looking at why no node takes a pod: at its claims where the scheduler speaks of them, and at the nodes else.

And at the node of a pod that does not answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.api.claims import claims_of_pod
from vllm_operator.cluster.kinds import NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD
from vllm_operator.cluster.node_sight import NodeSight
from vllm_operator.diagnosis.events import autoscaler_says, timestamp
from vllm_operator.diagnosis.facts import pod_facts
from vllm_operator.diagnosis.nodes import GONE, HIDDEN, demand_of, state_of
from vllm_operator.diagnosis.outside import SCHEDULING, recognize
from vllm_operator.diagnosis.placement import ROOM, Placement, cause_of_placement
from vllm_operator.diagnosis.volumes import MOST_CLAIMS, NO_CLAIM_SHOWS, ClaimSeen, cause_of_claims, claim_seen
from vllm_operator.errors import ApiNotFound, ApiRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import Any

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client


class PlacementLookup:
    """Finds why no node takes a pod."""

    def __init__(self, client: Client, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._nodes = NodeSight(client, clock)

    async def look(self, pod: LiveObject) -> Placement | None:
        """What is found of a pod; None where it is gone.

        Raises:
            ApiError: the API server does not answer.
        """
        try:
            whole = (await self._client.get(POD, pod.namespace, pod.name)).body
        except ApiNotFound:
            return None
        facts = pod_facts(whole)
        if facts.node:
            return Placement(remark=await self._node(facts.node))
        words = str(facts.condition("PodScheduled").get("message") or "")
        match = recognize(SCHEDULING, words)
        if match and match.id in NO_CLAIM_SHOWS:
            cause = cause_of_claims(await self._claims(pod.namespace, whole))
            return Placement(cause, "" if cause else NO_CLAIM_SHOWS[match.id])
        sight, hidden = await self._nodes.around(demand_of(whole["spec"]))
        since = timestamp(facts.waits_since)
        autoscaler = autoscaler_says(await self._client.events_about(pod), since) if since else ""
        cause = cause_of_placement(sight) if sight else None
        return Placement(cause, hidden or ("" if cause else ROOM), autoscaler.replace("; ", ", "))

    async def _node(self, name: str) -> str:
        """What is known of the node of a pod, which does not answer."""
        try:
            return state_of(await self._client.read(NODE, None, name))
        except ApiNotFound:
            return GONE
        except ApiRefused:
            return HIDDEN

    async def _claims(self, namespace: str, pod: Mapping[str, Any]) -> list[ClaimSeen]:
        """The pod's claims, as far as they exist."""
        found = []
        for name in sorted(claims_of_pod(pod))[:MOST_CLAIMS]:
            try:
                claim = await self._client.get(PERSISTENT_VOLUME_CLAIM, namespace, name)
            except ApiNotFound:
                continue
            found.append(await self._claim(claim))
        return found

    async def _claim(self, claim: LiveObject) -> ClaimSeen:
        volume = claim.body.get("spec", {}).get("volumeName")
        if claim.status.get("phase") != "Bound" or not volume:
            return claim_seen(claim.body, events=await self._client.events_about(claim))
        try:
            return claim_seen(claim.body, volume=await self._client.read(PERSISTENT_VOLUME, None, volume))
        except (ApiNotFound, ApiRefused):  # an operator of some namespaces may not read volumes
            return claim_seen(claim.body)
