"""Kubernetes Events about models: best effort; which of them there shall be is decided elsewhere."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.errors import ApiError

if TYPE_CHECKING:
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client
    from vllm_operator.planner.news import News

logger = logging.getLogger(__name__)

_COMPONENT: Final = "vllm-operator"
_LONGEST_NAME: Final = 200
_SUFFIX_BYTES: Final = 6


class Announcer:
    """Writes Events."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._failed = False

    async def announce(self, model: LiveObject, news: News, now: datetime) -> None:
        """Tell news of a model. That it cannot be told is logged once, and stops nothing."""
        try:
            await self._client.post_event(event_of(model, news, now, secrets.token_hex(_SUFFIX_BYTES)))
        except ApiError as error:
            if not self._failed:
                logger.warning("cannot write Events; statuses say the same: %s", error)
            self._failed = True
        else:
            self._failed = False


def event_of(model: LiveObject, news: News, now: datetime, suffix: str) -> dict[str, Any]:
    """The Event; `suffix` makes its name unique. `kubectl describe` finds it by the model's uid."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    name = model.name[:_LONGEST_NAME].rstrip(".-")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{suffix}", "namespace": model.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": model.name,
            "namespace": model.namespace,
            "uid": model.uid,
            "resourceVersion": str(model.resource_version),
        },
        "type": news.type,
        "reason": news.reason,
        "message": news.message,
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
