"""Hearing what kubelet says of pods that are not ready: their Events, read seldom and remembered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vllm_operator.errors import ApiError
from vllm_operator.planner import lookups, pods
from vllm_operator.planner.words import last_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.cache import Key
    from vllm_operator.cluster.client import Client
    from vllm_operator.planner.lookups import Heard

logger = logging.getLogger(__name__)


class Listener:
    """Reads the Events of a model's pods when it is time to."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._heard: dict[Key, dict[str, Heard]] = {}

    async def heard(self, key: Key, found: Sequence[LiveObject], now: datetime) -> Mapping[str, Heard]:
        """What is known of a model's pods that keep silent, by uid; what is due is read before."""
        before = self._heard.pop(key, {})
        by_uid = {pod.uid: pod for pod in found}
        known = {uid: heard for uid, heard in before.items() if uid in by_uid and pods.keeps_silent(by_uid[uid].body)}
        for pod in lookups.due([pod.body for pod in found], before, now):
            uid = lookups.uid(pod)
            known[uid] = await self._listen(by_uid[uid], before.get(uid), now)
        if known:
            self._heard[key] = known
        return dict(known)

    async def _listen(self, pod: LiveObject, before: Heard | None, now: datetime) -> Heard:
        """One look. Where it fails, what was heard before stays, and the status is written without more."""
        since = pods.words_count_from(pod.body)
        try:
            events = await self._client.warnings_about(pod)
        except ApiError as error:
            logger.warning("cannot read what kubelet says of a pod that is not ready: %s", error)
            return lookups.after_look(pod.body, before, before.words if before else None, now)
        return lookups.after_look(pod.body, before, last_words(events, since or now), now)
