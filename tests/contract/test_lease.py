"""The election on a real API server: what its Leases take, and an operator whose Lease is deleted, taken or left."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import kopf
import pytest

from tests.support.operator_process import OperatorProcess
from tests.support.waiting import until
from vllm_operator.cluster.client import Client
from vllm_operator.cluster.fence import LeaseFence
from vllm_operator.cluster.lease import Candidate, LeaderElector, Timing
from vllm_operator.cluster.session import open_session
from vllm_operator.controller import app
from vllm_operator.errors import NotLeading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.cluster import OwnCluster
    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server

NAME = "elected"
QUICK = {
    "LEASE_DURATION_SECONDS": "4",
    "RENEW_DEADLINE_SECONDS": "3",
    "RETRY_PERIOD_SECONDS": "0.2",
    "LEASE_NAME": NAME,
}


class Replica:
    """An elector on the real API server, with a clock that a test moves."""

    def __init__(self, client: Client, namespace: str, identity: str) -> None:
        self.now = 0.0
        self.fence = LeaseFence(lease_duration=15, renew_deadline=10, clock=lambda: self.now)
        self.elector = LeaderElector(
            client,
            self.fence,
            namespace=namespace,
            name=NAME,
            candidate=Candidate(identity),
            timing=Timing(),
            clock=lambda: self.now,
        )

    async def turn(self, now: float) -> bool:
        """One try, and whether it may write then."""
        self.now = now
        await self.elector.turn()
        with contextlib.suppress(NotLeading):
            return self.fence.check() > 0
        return False


@pytest.fixture
async def client(quiet_server: OwnCluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """The operator's client, as the administrator."""
    monkeypatch.setenv("KUBECONFIG", str(quiet_server.kubeconfig))
    info = app.connection(kopf.OperatorSettings())
    async with open_session(info.as_ssl_context(), info.as_http_headers(), unacknowledged_seconds=5) as session:
        yield Client(session, info.server, timeout_seconds=30)


def lease(namespace: Namespace) -> dict[str, Any]:
    """The spec of the Lease."""
    spec: dict[str, Any] = namespace.get("lease", NAME)["spec"]
    return spec


async def test_a_real_api_server_takes_each_write_of_the_lease_and_refuses_the_second_of_two(
    client: Client, quiet: Namespace
) -> None:
    first, second = (Replica(client, quiet.name, identity) for identity in ("first_1", "second_1"))
    assert await first.turn(0.0)
    assert lease(quiet)["holderIdentity"] == "first_1"
    assert await first.turn(2.0)
    assert not await second.turn(0.0)
    assert await second.turn(15.0), "nothing was renewed since it looked first"
    assert not await first.turn(4.0), "its write names a version that is no more"
    quiet.kubectl("annotate", "lease", NAME, "example.com/mine=1")
    assert await second.turn(16.0)
    quiet.kubectl("delete", "lease", NAME)
    assert not await first.turn(5.0)
    assert await second.turn(18.0)
    await second.elector.stand_down()
    assert lease(quiet)["holderIdentity"] == ""
    assert await first.turn(6.0)
    assert lease(quiet)["leaseTransitions"] == 1


@pytest.fixture
def alone(quiet_server: OwnCluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator with a Lease of its own."""
    with OperatorProcess(quiet_server.kubeconfig, tmp_path, **QUICK) as running:
        yield running


def held_by(cluster: OwnCluster) -> str:
    """Who has the Lease of that operator."""
    found = json.loads(cluster.kubectl("get", "lease", NAME, "--namespace", "default", "--output", "json"))
    return str(found["spec"].get("holderIdentity") or "")


def test_an_operator_goes_on_after_its_lease_was_deleted_taken_or_left_by_a_crash(
    quiet_server: OwnCluster, alone: OperatorProcess
) -> None:
    until(alone.leads, what="the operator to lead")
    pod = held_by(quiet_server)
    assert pod.startswith(f"operator-{alone.port}_")
    quiet_server.kubectl("delete", "lease", NAME, "--namespace", "default")
    until(lambda: NAME in quiet_server.kubectl("get", "leases", "--namespace", "default"), what="another Lease")
    assert alone.leads()
    taken = json.dumps({"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 1}})
    quiet_server.kubectl("patch", "lease", NAME, "--namespace", "default", "--type=merge", "--patch", taken)
    alone.wait_logged("no longer the leader")
    until(alone.leads, what="the operator to lead again")
    alone.kill()
    alone.start()
    until(alone.leads, what="the next process of the pod to lead")
    assert held_by(quiet_server) != pod
    assert alone.stop() == 0
    assert held_by(quiet_server) == ""
    alone.start()
