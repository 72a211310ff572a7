"""Reading the Events of pods that are not ready: seldom, and with what they said remembered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from vllm_operator.diagnosis import lookups
from vllm_operator.diagnosis.engines import needs_lookup
from vllm_operator.diagnosis.events import latest_message
from vllm_operator.diagnosis.facts import explained_from
from vllm_operator.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from vllm_operator.cluster.cache import Key
    from vllm_operator.cluster.client import Client
    from vllm_operator.diagnosis.lookups import EventLookup

logger = logging.getLogger(__name__)


class EventReader:
    """Reads the Events of a model's pods when it is time to."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[Key, dict[str, EventLookup]] = {}

    async def read(self, key: Key, pods: Sequence[Mapping[str, Any]], now: datetime) -> Mapping[str, EventLookup]:
        """What Events said of a model's pods that do not say themselves why they are not ready, by the pod's uid.

        What is due is read before.
        """
        before = self._known.pop(key, {})
        unexplained = {lookups.uid(pod) for pod in pods if needs_lookup(pod)}
        known = {uid: lookup for uid, lookup in before.items() if uid in unexplained}
        for pod in lookups.due_pods(pods, before, now):
            known[lookups.uid(pod)] = await self._look_up(pod, before.get(lookups.uid(pod)), now)
        if known:
            self._known[key] = known
        return dict(known)

    async def _look_up(self, pod: Mapping[str, Any], before: EventLookup | None, now: datetime) -> EventLookup:
        """Read the Events of one pod. Where that fails, what was known before stays, and the status is written."""
        since = explained_from(pod)
        try:
            events = await self._client.warnings_about(pod)
        except ApiError as error:
            logger.warning("cannot read the Events of a pod that is not ready: %s", error)
            return lookups.after_lookup(pod, before, before.message if before else None, now)
        return lookups.after_lookup(pod, before, latest_message(events, since or now), now)
