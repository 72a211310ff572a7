"""Failure modes of the real vLLM behind a real kubelet, on one pair of fleets: each test leaves it serving."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.matrix.acts import PATIENT
from tests.e2e.matrix.breaking import Part, stopped
from tests.e2e.matrix.conftest import WHOLE, WITHDRAWN_SECONDS
from tests.e2e.matrix.findings import both_seen
from tests.e2e.matrix.fleet import wait
from tests.e2e.matrix.told import verdicts
from tests.support.site import OPERATOR_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.matrix.findings import Seen
    from tests.e2e.matrix.fleet import Client, Pair
    from tests.support.site import Site

pytestmark = [pytest.mark.node, pytest.mark.real_vllm]

LOAD = ("--workers", "2", "--pause", "0.5")
"""A request comes every third of a second: an engine that hangs has one at once. Without the pauses these two clients
would have the engines take all of a machine's two cores."""


RESTARTED_SECONDS = 150.0
"""What is promised is 90 on a quiet machine; here two cores run eight engines' processes and their clients."""


@pytest.fixture
def serving(engines: Pair) -> Pair:
    """The fleets, whole."""
    for fleet in engines.fleets():
        fleet.wait_serving(2)
    return engines


@pytest.mark.parametrize(
    ("number", "part", "busy"),
    [
        pytest.param(5, Part.CORE, True, id="5 engine core under load"),
        pytest.param(6, Part.CORE, False, id="6 engine core while idle"),
        pytest.param(7, Part.WORKER, True, id="7 worker under load"),
        pytest.param(9, Part.SERVER, True, id="9 API server"),
    ],
)
def test_a_hung_engine_leaves_the_service_is_restarted_and_comes_back(
    serving: Pair, report: Any, number: int, part: Part, *, busy: bool
) -> None:
    gated, plain = hang(serving, part, busy=busy, restarted=WHOLE)  # the restart of one of them is seen in row 17
    report(number, gated, plain)
    assert gated.withdrawn_seconds is not None
    assert gated.withdrawn_seconds < WITHDRAWN_SECONDS
    if WHOLE:
        assert gated.restarts == 1
        assert gated.restarted_seconds is not None
        assert gated.restarted_seconds < RESTARTED_SECONDS
    assert busy or gated.lost == 0
    if part is not Part.SERVER:  # a server that answers nothing is what plain probes do find
        assert (plain.withdrawals, plain.restarts) == (0, 0)
        assert not WHOLE or (gated.lost or 0) < (plain.lost or 0)


def hang(engines: Pair, part: Part, *, busy: bool, restarted: bool) -> tuple[Seen, Seen]:
    """Stop a process of one engine in both fleets, until the gated one was restarted or only until it is out.

    Then it is back, in the latter case by itself. What is returned is what clients saw. Of an idle engine they ask
    only after it is out: they would make it a busy one.
    """
    names = [fleet.pods()[0]["metadata"]["name"] for fleet in engines.fleets()]
    victims = [fleet.process(name, part) for fleet, name in zip(engines.fleets(), names, strict=True)]
    diary = engines.gated.diary
    with contextlib.ExitStack() as stack:
        clients = clients_of(engines, stack) if busy else []
        with stopped(*victims):
            since = time.monotonic()
            if not busy:
                out = partial(diary.withdrawn_at, names[0], since)
                engines.gated.site.until("it is out", out, WITHDRAWN_SECONDS)
                wait(3)  # kube-proxy follows the EndpointSlice a moment later
                clients = clients_of(engines, stack, *PATIENT)
            if restarted:
                engines.gated.wait_back(names[0], since)
            else:
                engines.gated.site.until("it is out", lambda: diary.withdrawn_at(names[0], since))
                wait(5)
        engines.gated.wait_back(names[0], since)
        wait(5)
        found = both_seen(engines, since, [client.requests() for client in clients], names)
    for fleet in engines.fleets():
        fleet.wait_serving(2)
    return found


def clients_of(engines: Pair, stack: contextlib.ExitStack, *options: str) -> list[Client]:
    """A client of each fleet, which has asked for some seconds."""
    clients = [stack.enter_context(fleet.client(*LOAD, *options)) for fleet in engines.fleets()]
    wait(4)
    return clients


def test_8_an_engine_whose_core_is_killed_is_out_at_once_and_told_as_a_crash(serving: Pair, report: Any) -> None:
    site = serving.gated.site

    def told() -> bool:
        return "which nobody had asked for" in crash(site)

    found = kill(serving, Part.CORE, lambda: site.until("the crash is told", told))
    report(8, *found)
    assert found[0].withdrawn_seconds is not None
    assert found[0].withdrawn_seconds < WITHDRAWN_SECONDS
    assert found[0].restarts == 1


def crash(site: Site) -> str:
    """What the status says of the engines."""
    return str(site.condition("Ready", "real").get("message", ""))


def kill(engines: Pair, part: Part, meanwhile: Callable[[], object]) -> tuple[Seen, Seen]:
    """Kill a process of one engine in both fleets, and look until both engines are back."""
    names = [fleet.pods()[-1]["metadata"]["name"] for fleet in engines.fleets()]
    with contextlib.ExitStack() as stack:
        clients = clients_of(engines, stack)
        since = time.monotonic()
        for fleet, name in zip(engines.fleets(), names, strict=True):
            fleet.process(name, part).kill(signal.SIGKILL)
        meanwhile()
        for fleet, name in zip(engines.fleets(), names, strict=True):
            fleet.wait_back(name, since)
        wait(3)
        return both_seen(engines, since, [client.requests() for client in clients], names)


def test_13_a_deleted_engine_is_out_before_it_refuses_and_loses_no_request(serving: Pair, report: Any) -> None:
    with contextlib.ExitStack() as stack:
        clients = clients_of(serving, stack, *PATIENT)
        since = time.monotonic()
        names = [fleet.pods()[0]["metadata"]["name"] for fleet in serving.fleets()]
        serving.gated.site.kubectl("delete", "pod", *names, "--wait=false")
        for fleet in serving.fleets():
            fleet.wait_serving(2)
        found = both_seen(serving, since, [client.requests() for client in clients], names)
    report(13, *found)
    assert found[0].lost == 0
    assert found[0].withdrawn_seconds is not None
    assert found[0].withdrawn_seconds < 5, "the server is told to end after a pause of 5 s"


def test_14_and_15_a_restarted_container_is_back_only_after_a_completed_prompt_also_while_the_operator_is_cut_off(
    serving: Pair, report: Any
) -> None:
    site, name = serving.gated.site, serving.gated.pods()[-1]["metadata"]["name"]
    since = site.timeline(name)[-1]["time"]
    with cut_off(site):
        found = kill(serving, Part.MANAGER, lambda: None)
        assert (found[0].withdrawals, found[0].restarts) == (1, 1), "only the killed one"
    for number in (14, 15):
        report(number, *found)
    after = [entry for entry in site.timeline(name) if entry["time"] > since]
    assert verdicts(after)[-2:] == ["starting", "serving"]
    site.wait_ready("real")


@contextlib.contextmanager
def cut_off(site: Site) -> Iterator[None]:
    """Drop all packets from and to the operators, be it the one that leads or one that stands by."""
    operators = json.loads(operator_kubectl(site, "get", "pods", "-o", "json"))["items"]
    addresses = ", ".join(operator["status"]["podIP"] for operator in operators)
    chains = "\n".join(
        f"add chain inet cut {hook} {{ type filter hook {hook} priority -10; }}\n"
        f"add rule inet cut {hook} ip saddr {{ {addresses} }} drop\n"
        f"add rule inet cut {hook} ip daddr {{ {addresses} }} drop"
        for hook in ("input", "forward", "output")
    )
    done = site.cluster.run_inside(["nft", "-f", "-"], input=f"add table inet cut\n{chains}\n")
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        site.cluster.run_inside(["nft", "delete", "table", "inet", "cut"])


def test_16_traffic_flows_while_the_operator_is_down_and_nothing_flaps_when_it_comes_back(
    serving: Pair, report: Any
) -> None:
    since = time.monotonic()
    deployment = serving.gated.site.get("deployment", "real")["metadata"]["generation"]
    with contextlib.ExitStack() as stack:
        clients = clients_of(serving, stack, *PATIENT)
        with operator_down(serving.gated.site):
            wait(15)
        wait(15)
        found = both_seen(serving, since, [client.requests() for client in clients])
    report(16, *found)
    assert (found[0].withdrawals, found[0].restarts, found[0].lost) == (0, 0, 0)
    assert serving.gated.site.get("deployment", "real")["metadata"]["generation"] == deployment


def test_17_a_hung_engine_is_withdrawn_and_restarted_without_the_operator(serving: Pair, report: Any) -> None:
    with operator_down(serving.gated.site):
        found = hang(serving, Part.CORE, busy=True, restarted=True)
    report(17, *found)
    assert found[0].withdrawn_seconds is not None
    assert found[0].withdrawn_seconds < WITHDRAWN_SECONDS
    assert found[0].restarts == 1
    assert found[0].restarted_seconds is not None
    assert found[0].restarted_seconds < RESTARTED_SECONDS
    serving.gated.site.wait_ready("real")


@contextlib.contextmanager
def operator_down(site: Site) -> Iterator[None]:
    """No operator runs."""
    operator_kubectl(site, "scale", "deployment/vllm-operator", "--replicas", "0")
    operator_kubectl(site, "wait", "--for=delete", "pod", "--selector", "app.kubernetes.io/name=vllm-operator")
    try:
        yield
    finally:
        operator_kubectl(site, "scale", "deployment/vllm-operator", "--replicas", "2")
        operator_kubectl(site, "wait", "--for=condition=Available", "deployment/vllm-operator", "--timeout", "90s")


def operator_kubectl(site: Site, *arguments: str) -> str:
    """Kubectl where the operator is."""
    return site.cluster.kubectl("--namespace", OPERATOR_NAMESPACE, *arguments)
