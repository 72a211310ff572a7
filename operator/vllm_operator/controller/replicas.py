"""Keeping `spec.replicas` of autoscaled models the autoscaler's: what an edit sets is put back before it counts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.api.resource import parse_resource
from vllm_operator.cluster.kinds import MODEL
from vllm_operator.errors import ApiNotFound, ApiRefused, InvalidSpec
from vllm_operator.planner.news import News
from vllm_operator.planner.replicas import replicas_to_keep, writer_of
from vllm_operator.planner.scope import is_anothers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vllm_operator.api.live import LiveObject, ObjectKey
    from vllm_operator.api.spec.autoscaling import Autoscaling
    from vllm_operator.cluster.cache import Cache, Key
    from vllm_operator.cluster.client import Client
    from vllm_operator.controller.announce import Announcer
    from vllm_operator.planner.replicas import ReplicasWriter

logger = logging.getLogger(__name__)

KEPT_REASON = "ReplicasKept"
"""Of the Event that says that an edit of `spec.replicas` was not followed."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """What is known of one spec of a model."""

    uid: str
    generation: int
    writer: ReplicasWriter | None


class ReplicasGuard:
    """Looks once at each spec of an autoscaled model: who has written its replicas, which the cache does not keep."""

    def __init__(self, client: Client, cache: Cache, announcer: Announcer, release: str) -> None:
        self._client = client
        self._cache = cache
        self._announcer = announcer
        self._release = release
        self._judged: dict[Key, _Judged] = {}

    async def judged(
        self, key: Key, model: LiveObject | None, children: Mapping[ObjectKey, LiveObject], now: datetime
    ) -> tuple[LiveObject | None, ReplicasWriter | None]:
        """The model as its spec is to be followed, and who has written its replicas.

        Raises:
            ApiError: the API server does not say, or does not take the number that is put back.
        """
        scaling = None if model is None or model.leaving else _autoscaling(model, self._release)
        if model is None or scaling is None:
            self._judged.pop(key, None)
            return model, None
        known = self._judged.get(key)
        if known is not None and (known.uid, known.generation) == (model.uid, model.generation):
            return model, known.writer
        try:
            live = await self._kept(await self._client.get(MODEL, *key), scaling, children, now)
        except ApiNotFound:  # it is gone, and the watch has not said so yet
            return model, None
        writer = writer_of(live.body)
        self._judged[key] = _Judged(live.uid, live.generation, writer)
        self._cache.put(MODEL, live)
        return self._cache.get(MODEL, key), writer

    async def _kept(
        self, live: LiveObject, scaling: Autoscaling, children: Mapping[ObjectKey, LiveObject], now: datetime
    ) -> LiveObject:
        """The model with the number of engines that is to be followed."""
        writer = writer_of(live.body)
        kept = replicas_to_keep(live, scaling, children, writer)
        if kept is None:
            return live
        set_to = live.body["spec"].get("replicas", 1)
        told = f"{writer.manager if writer else 'an edit'} set spec.replicas to {set_to}: kept at {kept}, since"
        message = f"{told} spec.autoscaling owns it; leave spec.replicas out of manifests"
        try:
            await self._client.scale(live, kept)
        except ApiRefused as refusal:
            logger.warning("%s/%s: cannot keep spec.replicas at %d: %s", live.namespace, live.name, kept, refusal)
            return live
        logger.info("%s/%s: %s", live.namespace, live.name, message)
        if live.status:  # of a new model nobody has set anything: the number is what the API server fills in
            await self._announcer.announce(live, News("Normal", KEPT_REASON, message), now)
        return await self._client.get(MODEL, live.namespace, live.name)


def _autoscaling(model: LiveObject, release: str) -> Autoscaling | None:
    """What the spec asks for, where this operator follows the model and can read it."""
    if "autoscaling" not in model.body.get("spec", {}) or is_anothers(model, release):
        return None
    try:
        return parse_resource(model.body).spec.autoscaling
    except InvalidSpec:
        return None
