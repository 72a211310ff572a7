"""The cluster under test: who logs in, where the phases take place, and how their traces go."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.bench.audit import AuditLog
from tests.bench.errors import BenchError
from tests.bench.machine import Usage, cpu_seconds, usage
from tests.cluster import Cluster, OwnCluster
from tests.cluster.paths import REPOSITORY
from tests.support.definitions import wait_established
from vllm_operator.api.names import MANAGED_SELECTOR
from vllm_operator.cluster.client import Client
from vllm_operator.cluster.kinds import CHILDREN, MODEL, POD, Kind
from vllm_operator.cluster.session import open_session

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

NAMESPACE: Final = "vllm-bench"
OPERATOR: Final = "operator"
HARNESS: Final = "harness"
_VALID_FOR: Final = "24h"
_REQUEST_SECONDS: Final = 30.0
_CLEAN_SECONDS: Final = 600.0
_CLEAN_POLL_SECONDS: Final = 0.5
_CONTROL_PLANE: Final = ("kube-apiserver", "etcd")
_REPLICA_SET: Final = Kind("apps/v1", "ReplicaSet", "replicasets")
_COUNTER: Final = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_WRITING: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})


@dataclass(frozen=True, slots=True)
class Site:
    """A prepared cluster."""

    cluster: OwnCluster
    log: AuditLog
    server: str
    authority: str
    harness_token: str
    operator_kubeconfig: Path

    def session(self) -> aiohttp.ClientSession:
        """A new session of the harness: cold, as the operator's is when it starts."""
        headers = {"Authorization": f"Bearer {self.harness_token}"}
        return open_session(ssl.create_default_context(cadata=self.authority), headers)

    def client(self, session: aiohttp.ClientSession) -> Client:
        """The operator's own client."""
        return Client(session, self.server, timeout_seconds=_REQUEST_SECONDS)

    def control_plane_cpu_seconds(self) -> float:
        """CPU time of the API server and etcd so far."""
        return sum(cpu_seconds(self.cluster.process(name).pid) for name in _CONTROL_PLANE)

    def usage(self, *pids: int) -> Usage:
        """CPU time of the machine and of what is measured: the cluster, this process and the given ones."""
        cluster = [part.process.pid for part in self.cluster.components() if part.process]
        return usage([*cluster, *pids])

    async def make_namespace(self, name: str) -> None:
        """Make the namespace of a phase."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        url = f"{self.server}/api/v1/namespaces"
        async with self.session() as session, session.post(url, json=body) as answer:
            await _check(answer, f"making namespace {name}")

    async def written(self) -> int:
        """All writes that the API server has counted in its metrics, but for leases and events."""
        async with self.session() as session, session.get(f"{self.server}/metrics") as answer:
            await _check(answer, "reading the API server's metrics")
            return written(await answer.text())

    async def clean(self, namespace: str) -> None:
        """Remove what a phase has left in its namespace, and wait until it is gone.

        Raises:
            BenchError: it stays.
        """
        async with self.session() as session:
            for kind in (MODEL, *CHILDREN):
                url = self.server + kind.path(namespace)
                parameters = {"propagationPolicy": "Background", **_ours(kind)}
                async with session.delete(url, params=parameters) as answer:
                    await _check(answer, f"removing all {kind.plural}")
            for kind in (MODEL, *CHILDREN, _REPLICA_SET, POD):
                await self._until_gone(session, kind, namespace)

    async def _until_gone(self, session: aiohttp.ClientSession, kind: Kind, namespace: str) -> None:
        url = self.server + kind.path(namespace)
        parameters = {"limit": "1", **_ours(kind)}
        deadline = time.monotonic() + _CLEAN_SECONDS
        while time.monotonic() < deadline:
            async with session.get(url, params=parameters) as answer:
                await _check(answer, f"listing {kind.plural}")
                if not (await answer.json())["items"]:
                    return
            await asyncio.sleep(_CLEAN_POLL_SECONDS)
        raise BenchError(f"{kind.plural} in {namespace} do not go away")


def prepare(cluster: Cluster, folder: Path) -> Site:
    """Install the CRD, and make a user for the operator and one for the harness.

    Both are service accounts with the same rights, so that the API server does the same work to let them in.

    Raises:
        BenchError: the cluster keeps no audit log.
    """
    if not isinstance(cluster, OwnCluster) or not cluster.spec.audit_log:
        raise BenchError("the benchmark needs the audit log of a cluster that it has started itself")
    cluster.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "crds"))
    wait_established(cluster)
    cluster.kubectl("create", "namespace", NAMESPACE)
    for user in (OPERATOR, HARNESS):
        cluster.kubectl("create", "serviceaccount", user, "--namespace", NAMESPACE)
        account = f"--serviceaccount={NAMESPACE}:{user}"
        cluster.kubectl("create", "clusterrolebinding", f"bench-{user}", "--clusterrole=cluster-admin", account)
    admin = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    access = admin["clusters"][0]["cluster"]
    kubeconfig = folder / "operator.kubeconfig"
    kubeconfig.write_text(json.dumps(_with_token(admin, _token(cluster, OPERATOR))), encoding="utf-8")
    return Site(
        cluster=cluster,
        log=AuditLog(cluster.logs / "audit.log"),
        server=access["server"],
        authority=base64.b64decode(access["certificate-authority-data"]).decode("ascii"),
        harness_token=_token(cluster, HARNESS),
        operator_kubeconfig=kubeconfig,
    )


def user_name(account: str) -> str:
    """A service account as the API server calls it."""
    return f"system:serviceaccount:{NAMESPACE}:{account}"


def written(metrics: str) -> int:
    """The sum of the write requests in the API server's metrics, but for leases and events."""
    total = 0.0
    for labels, value in _COUNTER.findall(metrics):
        label = dict(_LABEL.findall(labels))
        if label["verb"] in _WRITING and label["resource"] not in {"leases", "events"}:
            total += float(value)
    return int(total)


def _ours(kind: Kind) -> dict[str, str]:
    """Parameters that leave out what every namespace has from the start, such as its account."""
    return {"labelSelector": MANAGED_SELECTOR} if kind in CHILDREN else {}


def _with_token(admin: dict[str, Any], token: str) -> dict[str, Any]:
    """The kubeconfig of the administrator, for another user."""
    [user] = admin["users"]
    return {**admin, "users": [{"name": user["name"], "user": {"token": token}}]}


def _token(cluster: Cluster, user: str) -> str:
    arguments = ("create", "token", user, "--namespace", NAMESPACE, "--duration", _VALID_FOR)
    return cluster.kubectl(*arguments).strip()


async def _check(answer: aiohttp.ClientResponse, what: str) -> None:
    if not answer.ok:
        raise BenchError(f"{what}: HTTP {answer.status}: {await answer.text()}")
