"""Reading the ConfigMaps that describe models, and estimating whether these fit: seldom, and remembered.

They are the users' own, so no watch shows them. Whatever is in one, and whether or not it can be read, the model is
followed all the same.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.api.resource import readable_resource
from vllm_operator.cluster.kinds import CONFIG_MAP
from vllm_operator.errors import ApiError, ApiNotFound, ApiRefused
from vllm_operator.planner.fit import READ_AGAIN_AFTER, Estimated, estimated, unreadable

if TYPE_CHECKING:
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.cluster.cache import Key
    from vllm_operator.cluster.client import Client

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """What one model's ConfigMap said."""

    uid: str
    generation: int
    """Of the model's spec that was estimated."""
    version: tuple[str, int] | None
    """Uid and resource version of the ConfigMap; None where there is none."""
    read_at: datetime
    estimated: Estimated


class EstimateLookup:
    """Knows what was estimated of each model."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[Key, _Known] = {}
        self._turn = asyncio.Lock()

    async def estimated(self, key: Key, model: LiveObject | None, now: datetime) -> Estimated | None:
        """What spec.estimate of a model tells; None where it is not set, or nothing is known now.

        It is read with each new generation of the spec, and else where the last time is a while ago.
        """
        parsed = None if model is None or model.leaving else readable_resource(model.body)
        if parsed is None or parsed.spec.estimate is None:
            self._known.pop(key, None)
            return None
        known = self._known.get(key)
        if known is not None and (known.uid, known.generation) != (parsed.uid, parsed.generation):
            known = None
        if known is None or not known.read_at <= now < known.read_at + READ_AGAIN_AFTER:
            known = await self._read(parsed, parsed.spec.estimate.config_map_ref.name, known, now)
        if known is None:
            return None
        self._known[key] = known
        return known.estimated

    async def _read(self, model: VLLMModel, name: str, known: _Known | None, now: datetime) -> _Known | None:
        """Read the ConfigMap. Where the API server does not answer, what was known stays, and nobody waits for it."""
        try:
            live = await self._client.get(CONFIG_MAP, model.namespace, name)
        except ApiNotFound:
            missing = (
                f"ConfigMap {name}, which spec.estimate names, does not exist: `kubectl vllm estimate -f MODEL.yaml -o "
                "configmap | kubectl apply -f -` makes it"
            )
            return _Known(model.uid, model.generation, None, now, unreadable(missing, is_missing=True))
        except ApiRefused as error:
            refused = f"ConfigMap {name}, which spec.estimate names, cannot be read: {error.message}"
            return _Known(model.uid, model.generation, None, now, unreadable(refused, is_missing=True))
        except ApiError as error:
            logger.warning("cannot read ConfigMap %s/%s: %s", model.namespace, name, error)
            return known
        version = (live.uid, live.resource_version)
        if known is not None and known.version == version:
            return _Known(model.uid, model.generation, version, now, known.estimated)
        data = live.body.get("data") or {}
        async with self._turn:  # a large model takes a tenth of a second, and all others go on meanwhile
            found = await asyncio.to_thread(estimated, model.spec, name, data)
        return _Known(model.uid, model.generation, version, now, found)
