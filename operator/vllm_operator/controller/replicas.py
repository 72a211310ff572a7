"""Keeping `spec.replicas` of autoscaled models the autoscaler's: what an edit sets is put back before it counts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from vllm_operator.api.resource import readable_resource
from vllm_operator.cluster.cache import Key
from vllm_operator.cluster.kinds import MODEL
from vllm_operator.errors import ApiNotFound, ApiRefused
from vllm_operator.planner.news import News
from vllm_operator.planner.replicas import replicas_to_keep, writer_of
from vllm_operator.planner.scope import is_anothers
from vllm_operator.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject, ObjectKey
    from vllm_operator.api.spec.autoscaling import Autoscaling
    from vllm_operator.cluster.cache import Cache
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.controller.announce import Announcer

logger = logging.getLogger(__name__)

KEPT_REASON: Final = "ReplicasKept"
"""Of the Event that says that an edit of `spec.replicas` was not followed."""


class ReplicasGuard:
    """Puts back what an edit of an autoscaled model has made of its replicas.

    `take_in` is given the model as it is afterwards: it may hold another edit, which concerns more than this look.
    """

    def __init__(
        self,
        client: Client,
        cache: Cache,
        take_in: Callable[[Kind, LiveObject], object],
        announcer: Announcer,
        release: str,
    ) -> None:
        self._client = client
        self._cache = cache
        self._take_in = take_in
        self._announcer = announcer
        self._release = release

    async def kept(
        self, model: LiveObject | None, children: Mapping[ObjectKey, LiveObject], now: datetime
    ) -> LiveObject | None:
        """The model with the number of engines that is to be followed; None where it is gone.

        Raises:
            ApiError: the API server does not take the number that is put back now.
        """
        scaling = None if model is None or model.leaving else _autoscaling(model, self._release)
        replicas = replicas_to_keep(model, scaling, children) if model and scaling else None
        if model is None or replicas is None:
            return model
        try:
            await self._client.scale(model, replicas)
            live = await self._client.get(MODEL, model.namespace, model.name)
        except ApiNotFound:  # it is gone, and the watch has not said so yet
            return model
        except ApiRefused as refusal:
            logger.warning("%s/%s: cannot set spec.replicas to %d: %s", model.namespace, model.name, replicas, refusal)
            return model
        self._take_in(MODEL, live)
        await self._tell(model, replicas, now)
        return self._cache.get(MODEL, Key(model.namespace, model.name))

    async def _tell(self, before: LiveObject, replicas: int, now: datetime) -> None:
        """Say what was put back in the log, and in an Event unless the model is new: then nobody has set anything."""
        writer, number = writer_of(before.body), before.body["spec"].get("replicas", 1)
        if number == replicas:
            return
        told = f"{writer.manager if writer else 'an edit'} set spec.replicas to {number}: kept at {replicas}, since"
        message = f"{told} spec.autoscaling owns it; leave spec.replicas out of manifests"
        fields = logs.write("scaled", before, KEPT_REASON)
        logger.info("%s/%s: %s", before.namespace, before.name, message, extra=fields)
        if before.status:
            await self._announcer.announce(before, News("Normal", KEPT_REASON, message), now)


def _autoscaling(model: LiveObject, release: str) -> Autoscaling | None:
    """What the spec asks for, where this operator follows the model and can read it."""
    if "autoscaling" not in model.body.get("spec", {}) or is_anothers(model, release):
        return None
    readable = readable_resource(model.body)
    return readable.spec.autoscaling if readable else None
