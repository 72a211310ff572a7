"""The order of the phases on one cluster, and the clusters of one run."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.bodies import works
from tests.bench.figures import Measured, Singles, percentile
from tests.bench.options import ControllerManager
from tests.bench.phases import Phases
from tests.bench.site import prepare
from tests.cluster import ClusterSpec, NodeKind, start

if TYPE_CHECKING:
    from tests.bench.figures import Bare, Operated, Still
    from tests.bench.options import Options


def measure(options: Options, mode: ControllerManager) -> Measured:
    """Start a cluster, measure on it, take it down."""
    print(f"controller manager {mode}: starting etcd and the API server", flush=True)
    spec = ClusterSpec(
        name=f"bench-{mode}", node=NodeKind.NONE, controller_manager=mode is ControllerManager.ON, audit_log=True
    )
    with start(spec) as cluster, tempfile.TemporaryDirectory(prefix="vllm-bench-") as folder:
        site = prepare(cluster, Path(folder))
        try:
            return asyncio.run(_Run(Phases(site, options, options.output.parent)).all())
        finally:
            site.log.close()


@dataclass(slots=True)
class _Run:
    """All phases on one cluster."""

    phases: Phases
    _started: float = field(default_factory=time.monotonic)
    _count: int = 0

    async def all(self) -> Measured:
        """Warm up, then pair after pair in changing order; after the last one, an idle minute, a restart, and singles.

        A new cluster takes writes faster than one that has seen a thousand: a pair of full size goes before.
        """
        options = self.phases.options
        await self._bare(options.resources)
        await self._operated(options.resources)
        pairs: list[tuple[Bare, Operated]] = []
        still: Still | None = None
        for repetition in range(options.repetitions):
            to_come = options.repetitions - 1 - repetition
            if to_come % 2 == 0:
                bare = await self._bare(options.resources)
                operated, still = await self._operated(options.resources, still=to_come == 0)
            else:
                operated, _ = await self._operated(options.resources)
                bare = await self._bare(options.resources)
            pairs.append((bare, operated))
            others = max(bare.used.others_share, operated.used.others_share)
            ratio = f"{operated.seconds / bare.seconds:.2f}x"
            self._say(
                f"pair {repetition + 1} of {options.repetitions}: {ratio}; others took {others:.0%} of the machine"
            )
        assert still is not None
        children = len(works("any", 1)[0].children)
        singles = await self._one_by_one()
        return Measured(resources=options.resources, children=children, pairs=pairs, still=still, singles=singles)

    async def _one_by_one(self) -> Singles:
        """Make models one at a time: first all of them bare, then all of them with the operator."""
        namespace = self._namespace("bare")
        bare = await self.phases.one_by_one_bare(namespace)
        self._say(f"bare writes, one resource to its Deployment: {percentile(bare, 0.5) * 1000:.1f} ms")
        await self._clean(namespace)
        namespace = self._namespace("operated")
        operator = self.phases.start()
        try:
            await operator.wait_ready()
            operated = await self.phases.one_by_one_operated(namespace)
            self._say(f"operator, one resource to its Deployment: {percentile(operated, 0.5) * 1000:.1f} ms")
            await operator.stop()
        finally:
            operator.kill()
        await self._clean(namespace)
        return Singles(bare_seconds=bare, operated_seconds=operated)

    async def _bare(self, resources: int) -> Bare:
        namespace = self._namespace("bare")
        found = await self.phases.bare(namespace, resources)
        self._say(f"bare writes of {resources}: {found.seconds:.2f} s, {found.writes} writes")
        await self._clean(namespace)
        return found

    async def _operated(self, resources: int, *, still: bool = False) -> tuple[Operated, Still | None]:
        namespace = self._namespace("operated")
        operator = self.phases.start()
        seen: Still | None = None
        try:
            await operator.wait_ready()
            found = await self.phases.operated(operator, namespace, resources)
            writes = sum(found.writes.values())
            self._say(f"operator with {resources}: {found.seconds:.2f} s, {writes} writes by it")
            if still:
                self._say(f"leaving it alone for {self.phases.options.idle_seconds:.0f} s, then a restart")
                seen, operator = await self.phases.still(operator)
                self._say(f"{seen.idle_writes} idle writes, {seen.restart_writes} writes of the restart")
            await operator.stop()
        finally:
            operator.kill()
        await self._clean(namespace)
        return found, seen

    async def _clean(self, namespace: str) -> None:
        await self.phases.site.clean(namespace)
        await self.phases.quiet()

    def _namespace(self, kind: str) -> str:
        self._count += 1
        return f"bench-{self._count:02}-{kind}"

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {text}", flush=True)
