"""Metrics and health of the operator itself, over HTTP."""

from __future__ import annotations

import asyncio
import collections
import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from prometheus_client import Metric

    from vllm_operator.diagnosis.engines import EngineReport
    from vllm_operator.settings import Settings

logger = logging.getLogger(__name__)

_BUCKETS: Final = tuple(round(0.0005 * 1.3**step, 6) for step in range(40))
"""From half a millisecond to some 14 seconds, each a third above the one before, so that quantiles can be read."""


class EngineMetrics(Collector):
    """How many engines are in which state, and why, and how many models wait for a new pod template.

    Both as the operator last saw each model. The labels are state and reason, two small sets of words: what is wrong
    with which model its status says.
    """

    def __init__(self) -> None:
        self._engines: dict[Hashable, collections.Counter[tuple[str, str]]] = {}
        self._pending: set[Hashable] = set()

    def count(self, model: Hashable, engines: Iterable[EngineReport]) -> None:
        """The engines of one model, instead of what was counted of it before."""
        found = collections.Counter((str(engine.state), str(engine.reason)) for engine in engines)
        if found:
            self._engines[model] = found
        else:
            self._engines.pop(model, None)

    def count_pending(self, model: Hashable, *, pending: bool) -> None:
        """Whether the engines of one model keep a pod template that this version of the operator renders otherwise."""
        (self._pending.add if pending else self._pending.discard)(model)

    def clear(self) -> None:
        """Forget every model: another replica counts them now."""
        self._engines.clear()
        self._pending.clear()

    def collect(self) -> Iterator[Metric]:
        """The metrics, when they are asked for."""
        family = GaugeMetricFamily("vllm_operator_engines", "Engines by state and reason.", labels=["state", "reason"])
        for labels, number in sorted(sum(self._engines.values(), collections.Counter()).items()):
            family.add_metric(labels, number)
        yield family
        help_text = "Models whose engines keep a pod template that this version of the operator renders otherwise."
        yield GaugeMetricFamily("vllm_operator_template_updates_pending", help_text, value=len(self._pending))


class Telemetry:
    """What the operator measures of itself."""

    def __init__(
        self,
        synced: asyncio.Event,
        troubles: Callable[[], Mapping[str, str]] = dict,
        election_trouble: Callable[[], str] = str,
        silent: Callable[[], Mapping[str, float]] = dict,
        obstacles: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.registry = CollectorRegistry()
        self.synced = synced
        self._waiting_for = ""
        self.troubles = troubles
        """Kinds that cannot be watched now, and why."""
        self.election_trouble = election_trouble
        """Why this process cannot be elected; empty where it can, be it the leader or not."""
        self.leader = Gauge(
            "vllm_operator_leader", "1 while this replica is the one that writes, else 0.", registry=self.registry
        )
        self.silent = silent
        """Kinds that nobody watches any more, and since how many seconds."""
        self.obstacles = obstacles
        """What else keeps the operator from its work: missing rights, a log that cannot be written."""
        self.reconcile_seconds = Histogram(
            "vllm_operator_reconcile_seconds", "One look at one model.", buckets=_BUCKETS, registry=self.registry
        )
        self.failures = Counter(
            "vllm_operator_reconcile_failures_total", "Looks that failed and are tried again.", registry=self.registry
        )
        self.engines = EngineMetrics()
        self.registry.register(self.engines)
        ProcessCollector(registry=self.registry)

    def wait_for(self, what: str) -> None:
        """Take in what the start waits for; nothing where it goes on."""
        self._waiting_for = what

    def unready(self) -> str:
        """Why the operator does not follow the cluster now; empty where it does, also while another replica leads."""
        if not self.synced.is_set():
            return self._waiting_for or "still listing what exists"
        found = [f"cannot watch {kind}: {message}" for kind, message in self.troubles().items()]
        found += filter(None, self.obstacles())
        election = self.election_trouble()
        return "; ".join([*found, *([f"cannot be elected: {election}"] if election else [])])

    def dead(self) -> str:
        """Why only a new process can follow the cluster again; empty where this one can."""
        silent = self.silent().items()
        return "; ".join(f"no sign of the watch of {kind} for {seconds:.0f} s" for kind, seconds in silent)

    def watch_namespaces(self, unfollowed: Callable[[], int]) -> None:
        """Report how many namespaces of the list cannot be followed."""
        gauge = Gauge(
            "vllm_operator_namespaces_unfollowed",
            "Namespaces of the list that do not exist (yet), or where the operator lacks its rights.",
            registry=self.registry,
        )
        gauge.set_function(unfollowed)

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Report how many keys wait."""
        gauge = Gauge("vllm_operator_queue_length", "Models that wait to be looked at.", registry=self.registry)
        gauge.set_function(length)


async def serve(settings: Settings, telemetry: Telemetry) -> None:
    """Serve /healthz, /readyz and /metrics until cancelled.

    /healthz answers as long as the event loop turns, and says no where a watch has ended without a word, by the age of
    its last event, bookmark or try: what kubelet does then, a new process, is the one thing that helps. It says yes
    where the API server does not answer, or takes a right away: a new process could do no more. /readyz tells of that.
    A worker that dies ends the whole process.

    Raises:
        OSError: the port is taken.
    """

    async def healthz(_: web.Request) -> web.Response:
        dead = telemetry.dead()
        if dead:
            logger.error("a new process has to take over: %s", dead)
        return web.Response(status=503 if dead else 200, text=f"{dead or 'ok'}\n")

    async def readyz(_: web.Request) -> web.Response:
        unready = telemetry.unready()
        return web.Response(status=503 if unready else 200, text=f"{unready or 'ok'}\n")

    async def metrics(_: web.Request) -> web.Response:
        text = generate_latest(telemetry.registry)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    application = web.Application()
    routes = [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.listen_host, settings.listen_port).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
