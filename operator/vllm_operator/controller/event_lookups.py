"""Reading the Events of pods that are not ready: seldom, and with what they said remembered."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_operator.diagnosis import lookups
from vllm_operator.diagnosis.events import latest_message
from vllm_operator.diagnosis.facts import explained_from
from vllm_operator.diagnosis.lookups import LookupBudget, Turn
from vllm_operator.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.cache import Key
    from vllm_operator.cluster.client import Client
    from vllm_operator.diagnosis.cause import EngineState
    from vllm_operator.diagnosis.lookups import EventLookup

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lookups:
    """What is known of the Events of one model's pods."""

    by_uid: Mapping[str, EventLookup]
    turns: Mapping[EngineState, datetime]
    """When the budgets let more of them be read, by the state of the pods that wait for it."""


class EventReader:
    """Reads the Events of a model's pods when it is time to."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[Key, dict[str, EventLookup]] = {}
        self._budgets = {state: LookupBudget(rate) for state, rate in lookups.RATES.items()}

    async def read(self, key: Key, pods: Sequence[LiveObject], now: datetime) -> Lookups:
        """What Events said of a model's pods that do not say themselves why they are not ready.

        What is due is read before, as far as the budget of all models allows.
        """
        before = self._known.pop(key, {})
        by_uid = {pod.uid: pod for pod in pods}
        planned = lookups.planned((pod.body for pod in pods), before)
        unexplained = {lookups.uid(lookup.pod) for lookup in planned}
        known = {uid: lookup for uid, lookup in before.items() if uid in unexplained}
        due = lookups.due(planned, now)
        turns: dict[EngineState, datetime] = {}
        for state in self._budgets:
            waiting = [by_uid[lookups.uid(lookup.pod)] for lookup in due if lookup.state is state]
            turn = self._turn(state, key, len(waiting), now)
            if turn.at > now:
                turns[state] = turn.at
                continue
            for pod in waiting[: turn.lookups]:
                known[pod.uid] = await self._look_up(pod, before.get(pod.uid), now)
        if known:
            self._known[key] = known
        return Lookups(dict(known), turns)

    def _turn(self, state: EngineState, key: Key, wanted: int, now: datetime) -> Turn:
        """When the pods of a model that are in a state may be looked up, and how many of them."""
        if not wanted:
            self._budgets[state] = self._budgets[state].release(key)
            return Turn(now, 0)
        self._budgets[state], turn = self._budgets[state].reserve(key, wanted, now)
        return turn

    async def _look_up(self, pod: LiveObject, before: EventLookup | None, now: datetime) -> EventLookup:
        """Read the Events of one pod. Where that fails, what was known before stays, and the status is written."""
        since = explained_from(pod.body)
        try:
            events = await self._client.warnings_about(pod)
        except ApiError as error:
            logger.warning("cannot read the Events of a pod that is not ready: %s", error)
            return lookups.after_lookup(pod.body, before, before.message if before else None, now)
        return lookups.after_lookup(pod.body, before, latest_message(events, since or now), now)
