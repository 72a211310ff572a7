"""Looking for the autoscaler that fights with the operator over a Deployment's replicas: seldom, and remembered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vllm_operator.api.names import instance_name
from vllm_operator.cluster.kinds import HORIZONTAL_POD_AUTOSCALER
from vllm_operator.errors import ApiError
from vllm_operator.planner.autoscalers import autoscalers_of, is_due, is_scaled_by_others

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject, ObjectKey
    from vllm_operator.cluster.cache import Key
    from vllm_operator.cluster.client import Client

logger = logging.getLogger(__name__)


class AutoscalerLookup:
    """Knows which autoscalers aim at the Deployments of models."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found: dict[Key, tuple[datetime, tuple[str, ...]]] = {}

    async def autoscalers(
        self, key: Key, model: LiveObject | None, children: Mapping[ObjectKey, LiveObject], now: datetime
    ) -> tuple[str, ...]:
        """Kind and name of each that aims at this model's Deployment, as far as it has shown itself."""
        asked_at, known = self._found.get(key, (None, ()))
        if model is None:
            self._found.pop(key, None)
            return ()
        shown = known or is_scaled_by_others(model.body, children, instance_name(key.name))
        if shown and is_due(asked_at, now):
            known = await self._ask(key, known)
            self._found[key] = (now, known)
        return known

    async def _ask(self, key: Key, known: tuple[str, ...]) -> tuple[str, ...]:
        """One look. Where it fails, what was known stays, and nobody waits for it."""
        try:
            found = await self._client.objects_in(HORIZONTAL_POD_AUTOSCALER, key.namespace)
        except ApiError as error:
            logger.warning("cannot list the autoscalers of namespace %s: %s", key.namespace, error)
            return known
        return autoscalers_of(found, instance_name(key.name))
