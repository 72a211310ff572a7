"""One measurement each: the bare writes, the operator at work, the operator with nothing to do, a restart.

Every phase begins on a quiet API server, in an empty namespace of its own, and ends with a quiet one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.bench import bare, bodies
from tests.bench.audit import AuditLog, Write, counted, lag_seconds, stands_at
from tests.bench.figures import Bare, Operated, Still, difference
from tests.bench.process import OperatorProcess
from tests.bench.site import HARNESS, OPERATOR, Site, user_name
from vllm_operator.api.names import SHARED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from tests.bench.bodies import Work
    from tests.bench.options import Options
    from vllm_operator.cluster.client import Client

_SECONDS_PER_RESOURCE: Final = 0.5
_LEAST_SECONDS: Final = 120.0
_WARM_UP: Final = 3
"""Models made one at a time that do not count: with the first come connections and what its namespace shares."""
_BETWEEN_SECONDS: Final = 1.1
"""Quiet between two of them: what follows a model within a second, its namespace's catalogue, is to meet no other."""


@dataclass(frozen=True, slots=True)
class Phases:
    """The measurements on one cluster."""

    site: Site
    options: Options
    folder: Path
    """For the operator's log."""

    def start(self) -> OperatorProcess:
        """Start the operator."""
        return OperatorProcess(
            self.site.operator_kubeconfig,
            self.folder / "operator.log",
            workers=self.options.concurrency,
            source=self.options.operator_source,
        )

    async def quiet(self) -> None:
        """Wait until nobody writes."""
        await self._log.until_quiet(self.options.quiet_seconds, limit_seconds=self._limit_seconds)

    async def bare(self, namespace: str, resources: int) -> Bare:
        """The harness writes everything alone."""
        works = await self._begin(namespace, resources)
        cpu, usage = self.site.control_plane_cpu_seconds(), self.site.usage()
        async with self.site.session() as session:
            await bare.write_all(self.site.client(session), works, self.options.concurrency)
        seconds = await self._stand(works)
        used = usage.until(self.site.usage())
        await self.quiet()
        return Bare(
            seconds=seconds,
            writes=len(counted(self._log.writes, user_name(HARNESS))),
            control_plane_cpu_seconds=self.site.control_plane_cpu_seconds() - cpu,
            used=used,
        )

    async def operated(self, operator: OperatorProcess, namespace: str, resources: int) -> Operated:
        """The harness writes the resources, and the operator, running and idle until then, does the rest."""
        works = await self._begin(namespace, resources)
        written = await self.site.written()
        self._log.forget()
        before, cpu = await operator.read(), self.site.control_plane_cpu_seconds()
        usage = self.site.usage(operator.pid)
        async with self.site.session() as session:
            await bare.apply_resources(self.site.client(session), works, self.options.concurrency)
            seconds = await self._stand(works)
        used = usage.until(self.site.usage(operator.pid))
        await self.quiet()
        after, cpu = await operator.read(), self.site.control_plane_cpu_seconds() - cpu
        writes = counted(self._log.writes, user_name(OPERATOR))
        own = [write for write in writes if write.target.name not in SHARED]
        return Operated(
            seconds=seconds,
            settled_seconds=max(write.answered for write in writes) - _start(self._log.writes),
            writes=dict(Counter(write.target.resource for write in own)),
            shared_writes=len(writes) - len(own),
            failed_writes=sum(not write.succeeded for write in writes),
            unattributed_writes=await self.site.written() - written - _without_events(self._log.writes),
            cpu_seconds=after.cpu_seconds - before.cpu_seconds,
            proc_cpu_seconds=after.proc_cpu_seconds - before.proc_cpu_seconds,
            control_plane_cpu_seconds=cpu,
            rss_mib=after.rss_mib,
            peak_rss_mib=after.peak_rss_mib,
            reconciles=difference(after.reconciles, before.reconciles),
            failures=int(after.failures - before.failures),
            used=used,
        )

    async def still(self, operator: OperatorProcess) -> tuple[Still, OperatorProcess]:
        """Leave it alone for a minute, then start it anew, with everything in place. Returns the new process."""
        self._log.forget()
        before = await operator.read()
        await asyncio.sleep(self.options.idle_seconds)
        self._log.read()
        after = await operator.read()
        idle_writes = len(counted(self._log.writes, user_name(OPERATOR)))
        idle_renewals = self._log.renewals[user_name(OPERATOR)]
        self._log.forget()
        stop_seconds = await operator.stop()
        operator = self.start()
        try:
            start_seconds = await operator.wait_ready()
            await self.quiet()
        except BaseException:
            operator.kill()
            raise
        still = Still(
            idle_writes=idle_writes,
            idle_renewals=idle_renewals,
            idle_cpu_seconds=after.cpu_seconds - before.cpu_seconds,
            restart_writes=len(counted(self._log.writes, user_name(OPERATOR))),
            stop_seconds=stop_seconds,
            start_seconds=start_seconds,
        )
        return still, operator

    async def one_by_one_bare(self, namespace: str) -> list[float]:
        """The harness makes one model after the other, each with its children and status one after the other.

        Returns the seconds from the answer to each model's own write to that of its Deployment.
        """
        return await self._one_by_one(namespace, bare.write_one)

    async def one_by_one_operated(self, namespace: str) -> list[float]:
        """The harness makes one model after the other, and the operator, idle until then, does the rest; as above."""

        async def create(client: Client, work: Work) -> None:
            await client.apply(work.resource, force=True)

        return await self._one_by_one(namespace, create)

    async def _one_by_one(self, namespace: str, make: Callable[[Client, Work], Awaitable[None]]) -> list[float]:
        lags: list[float] = []
        works = await self._begin(namespace, _WARM_UP + self.options.singles)
        async with self.site.session() as session:
            client = self.site.client(session)
            for work in works:
                self._log.forget()
                await make(client, work)
                await self._stand([work])
                lag = lag_seconds(self._log.writes, work.made, work.deployment)
                assert lag is not None
                lags.append(lag)
                await self._log.until_quiet(_BETWEEN_SECONDS, limit_seconds=self._limit_seconds)
        return lags[_WARM_UP:]

    @property
    def _limit_seconds(self) -> float:
        return _LEAST_SECONDS + self.options.resources * _SECONDS_PER_RESOURCE

    @property
    def _log(self) -> AuditLog:
        return self.site.log

    async def _begin(self, namespace: str, resources: int) -> list[Work]:
        works = bodies.works(namespace, resources)
        await self.site.make_namespace(namespace)
        await self.quiet()
        self._log.forget()
        return works

    async def _stand(self, works: Sequence[Work]) -> float:
        """Wait until everything stands; returns the seconds from the first request until it did."""
        owed = bodies.owed(works)

        def stands() -> bool:
            return stands_at(self._log.writes, owed) is not None

        await self._log.until(stands, what="all children and statuses", seconds=self._limit_seconds)
        at = stands_at(self._log.writes, owed)
        assert at is not None
        return at - _start(self._log.writes)


def _start(writes: Sequence[Write]) -> float:
    """When the harness's first request came in."""
    return min(write.received for write in writes if write.user == user_name(HARNESS))


def _without_events(writes: Sequence[Write]) -> int:
    return sum(write.target.resource != "events" for write in writes)
