"""Metrics of the operator itself, named as controller-runtime and client-go name theirs where they measure the same."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vllm_operator import __version__
from vllm_operator.telemetry.models import ModelMetrics

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import Metric

_BUCKETS: Final = tuple(round(0.0005 * 1.3**step, 6) for step in range(40))
"""From half a millisecond to some 14 seconds, each a third above the one before, so that quantiles can be read."""

_WAITS: Final = (0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)
_REQUESTS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds; as client-go's `rest_client_request_duration_seconds`, without its finest ones."""


class Outcome(StrEnum):
    """How a look ended."""

    SUCCESS = "success"
    REQUEUE_AFTER = "requeue_after"
    ERROR = "error"
    UNEXPECTED = "unexpected"
    NOT_LEADING = "not_leading"
    NOT_FOLLOWED = "not_followed"


class WorkQueue(Protocol):
    """What is told of the queue."""

    def __len__(self) -> int:
        """Keys that wait."""

    @property
    def oldest_seconds(self) -> float:
        """How long the key has waited that waits longest; 0 where none does."""

    @property
    def longest_running_seconds(self) -> float:
        """How long the look takes that takes longest now; 0 where none is under way."""


class ApiRequests:
    """Requests to the API server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._total = Counter(
            "vllm_operator_api_requests_total",
            "Requests to the API server, by verb and by the status of the answer; <error> where none came.",
            ["verb", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "vllm_operator_api_request_seconds",
            "Time until the API server began to answer, by verb.",
            ["verb"],
            buckets=_REQUESTS,
            registry=registry,
        )

    def observe(self, verb: str, code: str, seconds: float) -> None:
        """Count one."""
        self._total.labels(verb, code).inc()
        self._seconds.labels(verb).observe(seconds)


class WatchAges(Collector):
    """How long ago each kind of object was last heard of."""

    def __init__(self, ages: Callable[[], Mapping[str, float]]) -> None:
        self._ages = ages

    def collect(self) -> Iterator[Metric]:
        """The metric, when it is asked for."""
        help_text = "Time since the API server last said something about a kind: a list, an event or a bookmark."
        family = GaugeMetricFamily("vllm_operator_watch_last_event_age_seconds", help_text, labels=["resource"])
        for resource, seconds in sorted(self._ages().items()):
            family.add_metric([resource], seconds)
        yield family


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
        # without it each counter and histogram has one series more, which tells when it began
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no types here
        self.registry = CollectorRegistry()
        self.synced = synced
        self._waiting_for = ""
        self.troubles = troubles
        """Kinds that cannot be watched now, and why."""
        self.election_trouble = election_trouble
        """Why this process cannot be elected; empty where it can, be it the leader or not."""
        self.silent = silent
        """Kinds that nobody watches any more, and since how many seconds."""
        self.obstacles = obstacles
        """What else keeps the operator from its work: missing rights, a log that cannot be written."""
        self.leader = self._gauge("vllm_operator_leader", "1 while this replica is the one that writes, else 0.")
        self.reconcile_seconds = self._histogram("vllm_operator_reconcile_seconds", "One look at one model.", _BUCKETS)
        self.queue_seconds = self._histogram(
            "vllm_operator_queue_wait_seconds", "How long models waited before they were looked at.", _WAITS
        )
        self.failures = Counter(
            "vllm_operator_reconcile_failures_total", "Looks that failed and are tried again.", registry=self.registry
        )
        self._looks = Counter(
            "vllm_operator_reconcile_total", "Looks by how they ended.", ["result"], registry=self.registry
        )
        for outcome in Outcome:
            self._looks.labels(outcome)  # from 0 on, so that the first one is an increase
        self.requests = ApiRequests(self.registry)
        self.models = ModelMetrics()
        self.registry.register(self.models)
        build = Gauge(
            "vllm_operator_build_info", "1; the version of the operator.", ["version"], registry=self.registry
        )
        build.labels(__version__).set(1)
        ProcessCollector(registry=self.registry)

    def looked(self, outcome: Outcome) -> None:
        """Count a look by how it ended."""
        self._looks.labels(outcome).inc()
        if outcome in (Outcome.ERROR, Outcome.UNEXPECTED):
            self.failures.inc()

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
        help_text = "Namespaces of the list where the operator lacks its rights, as in one that does not exist yet."
        self._gauge("vllm_operator_namespaces_unfollowed", help_text).set_function(unfollowed)

    def watch_queue(self, queue: WorkQueue) -> None:
        """Report how many keys wait and for how long, and how long the slowest look takes that is under way."""
        depth = self._gauge("vllm_operator_queue_depth", "Models that wait to be looked at.")
        depth.set_function(lambda: len(queue))
        oldest = self._gauge("vllm_operator_queue_oldest_seconds", "How long the model waits that waits longest.")
        oldest.set_function(lambda: queue.oldest_seconds)
        running = self._gauge("vllm_operator_longest_running_reconcile_seconds", "The slowest look under way.")
        running.set_function(lambda: queue.longest_running_seconds)

    def watch_ages(self, ages: Callable[[], Mapping[str, float]]) -> None:
        """Report how long ago each kind was last heard of."""
        self.registry.register(WatchAges(ages))

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(name, help_text, registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, help_text, buckets=buckets, registry=self.registry)
