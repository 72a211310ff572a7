"""Electing the one operator that writes, by a Lease (coordination.k8s.io/v1), as client-go's leaderelection does it.

The holder renews every retry period and steps down where it could not for the renew deadline; the others look at the
Lease and take it once it has not changed for its whole duration, or is released. Every write of the Lease names the
resource version that it replaces, so one of two at once fails. No time in the Lease is compared with a clock here: each
process counts from when it saw a change, so the clocks of the machines may differ, and only have to run equally fast.

Three rules go further than client-go's:

- a Lease that somebody deletes is taken at once by its holder alone: the others wait out what they saw of it, since the
  holder may not know yet;
- a process that comes back in the same pod takes the Lease of the one before it at once: kubelet has ended that one;
- the lease counts from before the request of a renewal was sent (`fence.py`), and not from its answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cluster.fence import boot_time
from vllm_operator.cluster.kinds import LEASE
from vllm_operator.cluster.remedies import outage_of, with_remedy
from vllm_operator.errors import ApiConflict, ApiError, ApiNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.fence import LeaseFence

logger = logging.getLogger(__name__)

RELEASED_SECONDS: Final = 1
"""Duration of a Lease that nobody holds, as client-go has it: the API server refuses 0."""

SHORTEST_PAUSE_SECONDS: Final = 0.1

STAND_DOWN_SECONDS: Final = 2.0
"""How long an operator that ends waits for the answers to its last writes before it gives the Lease up unreleased."""

LOOKS_PER_PERIOD: Final = 2
"""How often a replica that waits looks at the Lease in a retry period: a release is to be seen soon."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The three times of an election, in seconds; client-go's defaults for the core components."""

    lease_duration: int = 15
    renew_deadline: float = 10.0
    retry_period: float = 2.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who stands for election."""

    identity: str
    """Of this very process: no other ever has it."""
    pod: str = ""
    """Name of its pod, which every process of that pod's container has had before it; empty outside of one."""

    @classmethod
    def of(cls, pod: str) -> Candidate:
        """A new one. Its identity begins with what people know: the pod, or else the machine."""
        return cls(f"{pod or socket.gethostname()}_{uuid.uuid4()}", pod)

    def succeeds(self, holder: str) -> bool:
        """Whether the holder was an earlier process in this one's pod, whose end made room for this one."""
        return bool(self.pod) and holder.rpartition("_")[0] == self.pod


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was last seen of the Lease."""

    body: Mapping[str, Any] | None
    """The whole object; None where there is none."""
    free_at: float
    """From when on, by our own clock, its holder cannot take itself for the holder any more."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """What the Lease says; empty where there is none."""
        return (self.body or {}).get("spec") or {}

    @property
    def holder(self) -> str:
        """Identity of who holds it; empty where nobody does."""
        return str(self.spec.get("holderIdentity") or "")

    def is_free_for(self, candidate: Candidate, now: float) -> bool:
        """Whether the candidate may take it, or keep it."""
        return self.holder == candidate.identity or now >= self.free_at


def sighting(
    before: Sighting | None, body: Mapping[str, Any] | None, candidate: Candidate, now: float, duration: float
) -> Sighting:
    """What is known after the Lease was read.

    Args:
        before: What was known until now; None at the first look.
        body: The Lease; None where there is none.
        candidate: Who has read it.
        now: Seconds of our own clock, read after the answer was there.
        duration: Seconds that a lease lasts whose holder does not say.
    """
    seen = Sighting(body, now)
    if body is None:
        others = before is not None and before.holder != candidate.identity
        return replace(seen, free_at=before.free_at) if before and others else seen
    if not seen.holder or (before is None and candidate.succeeds(seen.holder)):
        return seen
    if before is not None and before.body is not None and before.spec == seen.spec:
        return replace(seen, free_at=before.free_at)
    return replace(seen, free_at=now + float(seen.spec.get("leaseDurationSeconds") or duration))


def held(seen: Sighting, candidate: Candidate, duration: int, now: datetime) -> dict[str, Any]:
    """The spec of the Lease once the candidate holds it: as a renewal where it does already."""
    renewed = {"renewTime": _micro_time(now), "leaseDurationSeconds": duration}
    if seen.holder == candidate.identity:
        return {**seen.spec, **renewed}
    transitions = int(seen.spec.get("leaseTransitions") or 0) + (seen.body is not None)
    acquired = {"holderIdentity": candidate.identity, "acquireTime": _micro_time(now), "leaseTransitions": transitions}
    return {**seen.spec, **renewed, **acquired}


def released(seen: Sighting, now: datetime) -> dict[str, Any]:
    """The spec of the Lease once nobody holds it, as client-go leaves it."""
    given_up = {"holderIdentity": "", "leaseDurationSeconds": RELEASED_SECONDS}
    times = {"renewTime": _micro_time(now), "acquireTime": _micro_time(now)}
    return {**seen.spec, **given_up, **times}


def lease_body(seen: Sighting, namespace: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The Lease with this spec. What others have added to the one that was seen stays."""
    if seen.body is None:
        labels = {"app.kubernetes.io/name": "vllm-operator", "app.kubernetes.io/part-of": "vllm-operator"}
        metadata: Mapping[str, Any] = {"namespace": namespace, "name": name, "labels": labels}
    else:
        metadata = {key: value for key, value in seen.body["metadata"].items() if key != "managedFields"}
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}


def _micro_time(now: datetime) -> str:
    """A time as a Lease has it."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeaderElector:
    """Holds the Lease or waits for it, and opens the fence while it holds it. Losing it ends nothing."""

    def __init__(
        self,
        client: Client,
        fence: LeaseFence,
        *,
        namespace: str,
        name: str,
        candidate: Candidate,
        timing: Timing,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._client = client
        self._fence = fence
        self._namespace = namespace
        self._name = name
        self._candidate = candidate
        self._timing = timing
        self._clock = clock
        self._seen: Sighting | None = None
        self._said_of = ""
        self._lock = asyncio.Lock()
        self._answered_at: float | None = None
        self._failure = ""
        self._told = ""
        """Of which failure the log has a line."""
        self._ended = False

    @property
    def trouble(self) -> str:
        """Why this process cannot be elected; empty where it can. A failure counts once it has lasted for a lease."""
        if self._answered_at is None:
            return self._failure or f"has not read {self._what} yet"
        lasts = self._clock() - self._answered_at > self._timing.lease_duration
        return self._failure if lasts else ""

    async def run(self) -> None:
        """Stand for election until cancelled."""
        while not self._ended:
            began = self._clock()
            await self.turn()
            # one that took its time to fail is tried again at once, while there is some left
            await asyncio.sleep(max(SHORTEST_PAUSE_SECONDS, self._pause() - (self._clock() - began)))

    async def turn(self) -> None:
        """Renew the Lease, or look whether it is free; and step down where it could not be renewed in time."""
        async with self._lock:
            if not self._ended:
                await self._try()
        if self._fence.overdue and self._fence.lost():
            logger.warning("no longer the leader: %s was not renewed in time: %s", self._what, self._failure)

    async def stand_down(self, seconds: float = STAND_DOWN_SECONDS) -> None:
        """Stop writing for good, and release the Lease where it is certain that no write of ours is under way."""
        certain = await self._fence.stop(seconds)
        async with self._lock:
            self._ended, seen = True, self._seen
            if not self._fence.in_term or seen is None or seen.holder != self._candidate.identity:
                return
            self._fence.lost()
            if not certain:
                logger.warning("%s is not released but runs out: a write may still be under way", self._what)
                return
            try:
                await self._store(seen, released(seen, datetime.now(UTC)))
            except ApiError as error:
                logger.warning("%s could not be released and runs out: %s", self._what, error)
            else:
                logger.info("released %s", self._what)

    @property
    def _what(self) -> str:
        return f"the Lease {self._namespace}/{self._name}"

    def _pause(self) -> float:
        """Seconds from one try to the next, spread so that several replicas do not ask at the same time."""
        period = self._timing.retry_period
        if not self._fence.in_term:
            period *= random.uniform(0.8, 1.2) / LOOKS_PER_PERIOD  # noqa: S311 # spreads looks, guards nothing
        return period

    async def _try(self) -> None:
        """Make one try, and note why it failed."""
        try:
            if not await self._attempt(look=False):
                await self._attempt(look=True)
        except ApiError as error:
            outage = outage_of(error.message)
            news = outage or str(error)  # of an API server that is away each try has other words
            if self._told != news:
                helps = with_remedy(str(error), outage)
                logger.warning("%s cannot be held or read, tries again: %s", self._what, helps)
            self._failure, self._told = str(error), news
        else:
            self._failure, self._told, self._answered_at = "", "", self._clock()

    async def _attempt(self, *, look: bool) -> bool:
        """Renew the Lease, take it, or see who has it. Returns false where it was another one than the one known."""
        seen = self._seen
        if look or seen is None or seen.holder != self._candidate.identity:
            seen = await self._look()
        if not seen.is_free_for(self._candidate, self._clock()):
            self._follow(seen)
            return True
        sent_at = self._clock()
        try:
            stored = await self._store(
                seen, held(seen, self._candidate, self._timing.lease_duration, datetime.now(UTC))
            )
        except (ApiConflict, ApiNotFound):  # somebody was faster, edited it or deleted it; or no namespace is there
            if seen.body is None and (await self._look()).body is None:
                raise
            return False
        self._seen = Sighting(stored, sent_at + self._timing.lease_duration)
        if self._fence.renewed(sent_at):
            logger.info("the leader now, by %s%s", self._what, f" after {seen.holder}" if seen.holder else "")
        self._said_of = self._candidate.identity
        return True

    async def _look(self) -> Sighting:
        """Read the Lease."""
        try:
            body = (await self._client.get(LEASE, self._namespace, self._name)).body
        except ApiNotFound:
            body = None
        self._seen = sighting(self._seen, body, self._candidate, self._clock(), self._timing.lease_duration)
        return self._seen

    async def _store(self, seen: Sighting, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write the Lease as the successor of the one that was seen; it fails where there is another by now."""
        body = lease_body(seen, self._namespace, self._name, spec)
        write = self._client.create if seen.body is None else self._client.replace
        return (await write(LEASE, body)).body

    def _follow(self, seen: Sighting) -> None:
        """Take in that another one holds the Lease, or may take itself for its holder."""
        if self._fence.lost():
            logger.warning("no longer the leader: %s is held by %s", self._what, seen.holder or "nobody")
        if seen.holder and self._said_of != seen.holder:
            logger.info("stands by: %s is held by %s", self._what, seen.holder)
        self._said_of = seen.holder
