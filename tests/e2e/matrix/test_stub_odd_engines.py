"""Engines that are odd and sound, as the stub makes them behind a real kubelet, and faults that hide where few look.

All fleets run side by side, each with its own oddity: most of it is waiting for what must not happen. Each test is
about one of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.errors import ClusterError
from tests.e2e.matrix.acts import BEFORE_SECONDS, PATIENT, asking, befallen, rested, victims
from tests.e2e.matrix.breaking import Part, stopped
from tests.e2e.matrix.conftest import GATES, UNRESTARTED_SECONDS, WHOLE, WITHDRAWN_SECONDS
from tests.e2e.matrix.findings import Seen, both_seen
from tests.e2e.matrix.fleet import pair, wait
from tests.e2e.matrix.told import manager_status, timelines
from tests.support import models
from vllm_operator.api.resource import parse_resource
from vllm_operator.render.command import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from tests.e2e.matrix.fleet import Pair
    from tests.support.api import Api
    from tests.support.models import EngineChoice
    from tests.support.site import Site

    Both = tuple[Seen, Seen]
    Report = Callable[[int, Seen, Seen], None]

pytestmark = pytest.mark.node

LOAD_SECONDS = 10
CALM = ("--workers", "2", "--pause", "0.2")
"""Clients of many fleets share two cores."""
DEVELOPMENT = [{"name": "VLLM_SERVER_DEV_MODE", "value": "1"}]
HYBRID = (
    *("--data-parallel-size", "8", "--data-parallel-size-local", "4", "--data-parallel-start-rank", "4"),
    "--data-parallel-hybrid-lb",
)
UNHEARD = {"kv_transfer_params": {"do_remote_prefill": True}}


@dataclasses.dataclass(frozen=True)
class Oddity:
    """A fleet and what befalls it; two engines each unless told otherwise."""

    name: str
    act: Callable[[Pair], Both]
    words: tuple[str, ...] = ()
    """More words of the engine's command line than the operator knows of."""
    env: Sequence[Mapping[str, str]] = ()
    replicas: int = 2
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reachable: bool = True
    """Whether its gated engines are ever to be ready."""

    def model(self, choice: EngineChoice) -> dict[str, Any]:
        """The resource."""
        whole = {"replicas": self.replicas, "gates": GATES, **self.spec}
        found = models.model(self.name, choice, engine={"env": [*self.env]}, **whole)
        if not self.words:
            return found
        metadata = {"namespace": "any", "uid": "any", **found["metadata"]}
        line = [*command(parse_resource({**found, "metadata": metadata}).spec), *self.words]
        patch = {"spec": {"containers": [{"name": "vllm", "args": line}]}}
        return {**found, "spec": {**found["spec"], "pod": {"patch": patch}}}


# ------------------------------------------------------------------------------------------------------- what befalls


def remote(pair: Pair) -> Both:
    """Every engine waits for the KV cache of a request for long, and has nothing else."""
    for fleet in pair.fleets():
        for pod in fleet.pods():
            fleet.site.faults(pod["metadata"]["name"], remote_kv_seconds=UNRESTARTED_SECONDS)
    since = time.monotonic()
    patient = ("--workers", "4", "--extra", json.dumps(UNHEARD), "--seconds", "1")
    deadline = ("--deadline", str(UNRESTARTED_SECONDS + 60))
    with asking(pair, *patient, *deadline) as clients:
        return both_seen(pair, since, [client.all_requests() for client in clients])


def paused(pair: Pair) -> Both:
    """One engine is paused for long."""
    site = pair.gated.site
    told = "paused until it is resumed"
    return rested(
        pair, lambda name: site.post(name, "/pause", {}), lambda name: site.post(name, "/resume", {}), told, CALM
    )


def scaled(pair: Pair) -> Both:
    """One engine adds ranks for long."""
    site = pair.gated.site
    told = "ranks are being added or removed"
    return rested(
        pair, lambda name: site.faults(name, scaling=True), lambda name: site.faults(name, scaling=False), told, CALM
    )


def idle_rank(pair: Pair) -> Both:
    """One of the ranks, which are called 4 to 7, hangs while nobody asks."""
    return frozen(pair, "VLLM::EngineCore_DP5")


def silent_core(pair: Pair) -> Both:
    """An engine of another kind hangs while nobody asks."""
    return frozen(pair, Part.CORE)


def frozen(pair: Pair, part: str) -> Both:
    """Stop a process of one idle engine in both fleets, until the gated one was restarted; clients ask thereafter."""
    names = victims(pair)
    processes = [fleet.process(name, part) for fleet, name in zip(pair.fleets(), names, strict=True)]
    with stopped(*processes):
        since = time.monotonic()
        pair.gated.wait_restarted(names[0], since)
        with asking(pair, *CALM) as clients:
            wait(6)
            return both_seen(pair, since, [client.requests() for client in clients], names)


def unmeasured(pair: Pair) -> Both:
    """An engine without metrics hangs under load."""
    names = victims(pair)
    processes = [fleet.process(name, Part.CORE) for fleet, name in zip(pair.fleets(), names, strict=True)]
    with asking(pair, *CALM) as clients, contextlib.ExitStack() as stack:
        wait(BEFORE_SECONDS)
        stack.enter_context(stopped(*processes))
        since = time.monotonic()
        pair.gated.wait_restarted(names[0], since)
        return both_seen(pair, since, [client.requests() for client in clients], names)


def second_life(pair: Pair) -> Both:
    """The engine ends, in a pod whose first process is not its own; the next one loads for a while."""
    names = victims(pair)
    with asking(pair, *CALM) as clients:
        wait(BEFORE_SECONDS)
        since = time.monotonic()
        for name in names:
            with contextlib.suppress(AssertionError):  # it ends before it answers
                pair.gated.site.faults(name, exit=1)
        for fleet, name in zip(pair.fleets(), names, strict=True):
            fleet.wait_back(name, since)
        wait(UNRESTARTED_SECONDS / 2)
        return both_seen(pair, since, [client.requests() for client in clients], names)


def profiled(pair: Pair) -> Both:
    """One engine writes a profile for long."""
    return befallen(
        pair,
        lambda name: pair.gated.site.faults(name, profile=UNRESTARTED_SECONDS),
        UNRESTARTED_SECONDS + 5,
        CALM,
    )


def heard(pair: Pair) -> Both:
    """Nothing befalls it: clients ask."""
    since = time.monotonic()
    with asking(pair, *CALM, *PATIENT) as clients:
        wait(5)
        return both_seen(pair, since, [client.requests() for client in clients])


def unheard(pair: Pair) -> Both:
    """It listens where nobody outside of its pod can reach it, and is given the time in which others are admitted."""
    (pod,) = pair.gated.pods()
    site, name = pair.gated.site, pod["metadata"]["name"]
    site.until("the engine listens", lambda: "startup complete" in site.kubectl("logs", name, "-c", "vllm"))
    wait(15)
    status = manager_status(site, name)
    assert not status["admitted"], status
    assert pair.gated.diary.routable() == frozenset()
    return Seen(note=f"never in: {status['sentence']}"), Seen()


SHARED = {"pod": {"patch": {"spec": {"shareProcessNamespace": True}}}}
ODDITIES = (
    Oddity("remote", remote),
    Oddity("paused", paused, env=DEVELOPMENT),
    Oddity("transcriber", silent_core, env=[{"name": "STUB_TASK", "value": "transcription"}]),
    Oddity("chatter", silent_core, env=[{"name": "STUB_TASK", "value": "chat"}]),
    Oddity("hybrid", idle_rank, words=HYBRID),
    Oddity("scaled", scaled),
    Oddity("shared", second_life, env=[{"name": "STUB_LOAD_SECONDS", "value": str(LOAD_SECONDS)}], spec=SHARED),
    Oddity("own-address", heard, words=("--host", "$(POD_IP)"), replicas=1),
    Oddity("loopback", unheard, words=("--host", "::1"), replicas=1, reachable=False),
    Oddity("both-families", heard, words=("--host", "::"), replicas=1),
    Oddity("unmeasured", unmeasured, words=("--disable-log-stats",)),
    Oddity("profiled", profiled),
)


# ------------------------------------------------------------------------------------------------------------ the rows


@pytest.fixture(scope="module")
def crowd(place: Site, api: Api, stub: EngineChoice) -> Iterator[Mapping[str, Future[Both]]]:
    """What became of each fleet. All are started first, so that no fleet's start disturbs another one's figures."""
    with contextlib.ExitStack() as running, ThreadPoolExecutor(len(ODDITIES)) as pool:
        pairs = {one.name: running.enter_context(pair(place, api, one.model(stub), compared=WHOLE)) for one in ODDITIES}
        for one in ODDITIES:
            if one.reachable:
                for fleet in pairs[one.name].fleets():
                    fleet.wait_serving(one.replicas)
        yield {one.name: pool.submit(one.act, pairs[one.name]) for one in ODDITIES}
        for found in pairs.values():
            print(timelines(found.gated))
        place.kubectl("delete", "vllmmodels", *pairs, "--wait=false")
        plain = (f"{name}-plain" for name in pairs)
        place.kubectl("delete", "deployments", *plain, "--ignore-not-found", "--wait=false")


def unharmed(found: Both) -> None:
    """Whether clients asked, and nothing was withdrawn, restarted or lost."""
    assert found[0].requests
    assert (found[0].withdrawals, found[0].restarts, found[0].lost) == (0, 0, 0), found[0].diary


def withdrawn(found: Seen) -> None:
    """Whether a broken engine left the Service soon enough."""
    assert found.withdrawn_seconds is not None
    assert found.withdrawn_seconds < WITHDRAWN_SECONDS


def test_23_engines_whose_requests_wait_for_kv_from_elsewhere_stay(
    crowd: Mapping[str, Future[Both]], report: Report
) -> None:
    found = crowd["remote"].result()
    report(23, *found)
    unharmed(found)


def test_25_a_paused_engine_has_no_traffic_and_is_not_restarted(
    crowd: Mapping[str, Future[Both]], report: Report
) -> None:
    found = crowd["paused"].result()
    report(25, *found)
    withdrawn(found[0])
    assert (found[0].withdrawals, found[0].restarts) == (1, 0)


def test_32_a_model_that_only_transcribes_is_admitted_by_that_and_found_by_that_when_it_hangs(
    crowd: Mapping[str, Future[Both]], report: Report
) -> None:
    found = crowd["transcriber"].result()
    report(32, *(dataclasses.replace(one, lost=None, note="in at first") for one in found))
    withdrawn(found[0])
    assert found[0].restarts == 1
    assert found[1].withdrawals == 0


def test_32_a_model_that_only_chats_is_admitted_by_that_and_found_by_that_when_it_hangs(
    crowd: Mapping[str, Future[Both]],
) -> None:
    found = crowd["chatter"].result()
    withdrawn(found[0])
    assert found[0].restarts == 1


def test_33_a_rank_of_a_hybrid_node_that_hangs_while_idle_is_found(
    crowd: Mapping[str, Future[Both]], report: Report
) -> None:
    found = crowd["hybrid"].result()
    report(33, *found)
    withdrawn(found[0])
    assert found[0].restarts == 1
    assert (found[1].withdrawals, found[1].restarts) == (0, 0)


def test_35_an_engine_that_adds_ranks_has_no_traffic_and_is_not_restarted(
    crowd: Mapping[str, Future[Both]], report: Report
) -> None:
    found = crowd["scaled"].result()
    report(35, *found)
    withdrawn(found[0])
    assert (found[0].withdrawals, found[0].restarts) == (1, 0)


def test_36_where_pods_share_their_processes_a_second_life_is_judged_by_its_own_process(
    crowd: Mapping[str, Future[Both]], report: Report
) -> None:
    found = crowd["shared"].result()
    report(36, *found)
    assert found[0].restarts == 1
    assert found[0].restarted_seconds is not None
    assert found[0].admitted_seconds is not None
    assert found[0].admitted_seconds - found[0].restarted_seconds > LOAD_SECONDS / 2, "not before it has loaded"


def test_37_an_engine_is_asked_where_its_clients_ask(crowd: Mapping[str, Future[Both]], report: Report) -> None:
    own, loopback, both = (crowd[name].result() for name in ("own-address", "loopback", "both-families"))
    assert "no client reaches it" in loopback[0].note
    report(37, dataclasses.replace(own[0], note=f"in; on ::1 {loopback[0].note}"), own[1])
    unharmed(own)
    unharmed(both)


def test_38_an_engine_without_metrics_is_refused_and_where_it_was_patched_in_a_hang_is_found_all_the_same(
    crowd: Mapping[str, Future[Both]], report: Report, place: Site, stub: EngineChoice
) -> None:
    with pytest.raises(ClusterError, match="it empties the metrics, by which the gate sees"):
        place.apply(models.model("refused", stub, engine={"extraArgs": ["--disable-log-stats"]}))
    found = crowd["unmeasured"].result()
    report(38, dataclasses.replace(found[0], note="refused in the spec; this one is patched"), found[1])
    withdrawn(found[0])
    assert (found[1].withdrawals, found[1].restarts) == (0, 0)


def test_40_an_engine_that_writes_a_profile_is_not_restarted(crowd: Mapping[str, Future[Both]], report: Report) -> None:
    found = crowd["profiled"].result()
    report(40, *found)
    assert found[0].restarts == 0
