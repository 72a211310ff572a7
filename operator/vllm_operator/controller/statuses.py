"""Writing a status, also where the API server does not take or keep all of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.errors import ApiInvalid
from vllm_operator.planner.status_parts import differing, was_replaced, without

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client

logger = logging.getLogger(__name__)

MOST_TRIES: Final = 5
"""A refusal names all parts at once; more follow where parts without which others are refused were left out."""

_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """What the API server made of a status."""

    told: Mapping[str, Any]
    """What it was told."""
    kept: Mapping[str, Any]
    """What it holds instead."""


def as_told(model: LiveObject | None, kept: Kept | None) -> LiveObject | None:
    """The model as it would be if the API server had kept the status that it was told last.

    Otherwise each look would find that its status differs from what it should be, and write it again; and what the
    status remembers (since when a condition is so) would be forgotten with the parts that are not kept.
    """
    if model is None or kept is None or model.status != kept.kept:
        return model
    return replace(model, content={**model.body, "status": kept.told})


class StatusWriter:
    """Writes statuses, and logs once what the API server does not take of them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._logged: set[str] = set()

    async def write(self, model: LiveObject, status: Mapping[str, Any]) -> tuple[LiveObject, Kept | None]:
        """Write as much of a status as the API server takes. Returns the model, and what it made of the status.

        Nothing is remembered of what was refused beyond this very status: the next one is tried whole again, since the
        definition of the resource may be another one by then.

        Raises:
            ApiInvalid: it refuses what is no part of the status, or all of it.
            ApiError: it did not write it.
        """
        live = await self._write(model, status)
        if live.status == status:
            return live, None
        if not was_replaced(model.status, status, live.status):
            return live, None  # somebody else has written too: the next look takes that out
        self._log("does not keep", differing(status, live.status), "")
        return live, Kept(told=status, kept=live.status)

    async def _write(self, model: LiveObject, status: Mapping[str, Any]) -> LiveObject:
        left = status
        for _ in range(MOST_TRIES - 1):
            try:
                return await self._client.patch_status(model, left)
            except ApiInvalid as refusal:
                reduced = without(left, refusal.fields)
                if not reduced or reduced == left:
                    raise
                self._log("refuses", refusal.fields, f": {refusal.message}")
                left = reduced
        return await self._client.patch_status(model, left)

    def _log(self, verb: str, fields: tuple[str, ...] | list[str], message: str) -> None:
        """Say it once for the same fields, whichever model they are of."""
        named = ", ".join(fields[:_MOST_NAMED])
        if named in self._logged or not named:
            return
        self._logged.add(named)
        advice = "the CustomResourceDefinition is not that of this version of the operator"
        logger.warning(
            "the API server %s a part of a status (%s), the rest is told; %s%s", verb, named, advice, message
        )
