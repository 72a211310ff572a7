"""What nodes have and what their pods hold of it, read for all models together: seldom, and bounded.

One list of the nodes a minute at most, however many pods wait for one, and the pods of so many nodes a minute. An API
server answers the latter out of its own cache (`resourceVersion: 0`), by an index.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from vllm_operator.cluster.kinds import NODE
from vllm_operator.diagnosis.nodes import holding_of, node_of
from vllm_operator.diagnosis.placement import Sight, nodes_to_look_at
from vllm_operator.errors import ApiRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from vllm_operator.cluster.client import Client
    from vllm_operator.diagnosis.nodes import Demand, Holding, Node

logger = logging.getLogger(__name__)

FRESH_FOR: Final = timedelta(minutes=1)
"""How long what was read of nodes and their pods is taken for true."""

ASKED_AGAIN_AFTER: Final = timedelta(minutes=10)
"""After an API server that does not let the operator read them."""

MOST_NODES_READ: Final = 2000
"""Nodes of a cluster that are judged."""

MOST_NODES_A_MINUTE: Final = 64
"""Nodes whose pods are read in a minute, for all models together."""

NODES_HIDDEN: Final = "what nodes have, and who holds it, cannot be seen: the operator may not list nodes"
PODS_HIDDEN: Final = "who holds it cannot be seen: the operator may not list the pods of other namespaces"


@dataclass(frozen=True, slots=True)
class _Read:
    at: datetime
    held: tuple[Holding, ...]


class NodeSight:
    """Reads nodes and their pods, and remembers them for a minute."""

    def __init__(self, client: Client, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._nodes: tuple[Node, ...] = ()
        self._nodes_at: datetime | None = None
        self._nodes_refused_at: datetime | None = None
        self._pods: dict[str, _Read] = {}
        self._pods_refused_at: datetime | None = None
        self._reads: deque[datetime] = deque()

    async def around(self, demand: Demand) -> tuple[Sight | None, str]:
        """What is seen around a pod that no node takes, and what cannot be seen, as a clause.

        Raises:
            ApiError: the API server does not answer.
        """
        async with self._one_at_a_time:  # whoever comes meanwhile finds what was read
            if not await self._read_nodes():
                return None, NODES_HIDDEN
            names = nodes_to_look_at(demand, self._nodes)
            held = {name: read for name in names if (read := await self._held(name)) is not None}
            hidden = PODS_HIDDEN if self._pods_refused_at is not None and names else ""
            return Sight(demand, self._nodes, held), hidden

    async def _read_nodes(self) -> bool:
        """Have the nodes of now; returns whether they may be seen."""
        now = self._clock()
        if self._nodes_refused_at is not None and now < self._nodes_refused_at + ASKED_AGAIN_AFTER:
            return False
        if self._nodes_at is not None and now < self._nodes_at + FRESH_FOR:
            return True
        try:
            found = [node_of(raw) async for raw in self._client.first(NODE, MOST_NODES_READ)]
        except ApiRefused as error:
            if self._nodes_refused_at is None:
                logger.info("what nodes have is not told of pods that wait for one: %s", error)
            self._nodes_refused_at = now
            return False
        self._nodes, self._nodes_at, self._nodes_refused_at = tuple(found), now, None
        self._pods = {name: read for name, read in self._pods.items() if now < read.at + FRESH_FOR}
        return True

    async def _held(self, node: str) -> tuple[Holding, ...] | None:
        """What pods hold of a node; None where that is not known, and has to wait."""
        now = self._clock()
        known = self._pods.get(node)
        if known is not None and now < known.at + FRESH_FOR:
            return known.held
        if not self._may_read(now):
            return None
        self._reads.append(now)
        try:
            pods = await self._client.pods_on(node)
        except ApiRefused:
            self._pods_refused_at = now
            return None
        self._pods_refused_at = None
        held = tuple(holding_of(pod) for pod in pods)
        self._pods[node] = _Read(now, held)
        return held

    def _may_read(self, now: datetime) -> bool:
        while self._reads and self._reads[0] <= now - timedelta(minutes=1):
            self._reads.popleft()
        refused = self._pods_refused_at is not None and now < self._pods_refused_at + ASKED_AGAIN_AFTER
        return not refused and len(self._reads) < MOST_NODES_A_MINUTE
