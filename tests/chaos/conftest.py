"""An API server on which nobody acts but tests and operators, a proxy before it, and namespaces."""

from __future__ import annotations

import itertools
import os
import secrets
from typing import TYPE_CHECKING

import pytest

from tests.chaos import snapshot
from tests.chaos.operators import Operators
from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.fixtures import started
from tests.contract.conftest import define
from tests.support.api import Api
from tests.support.api_proxy import ApiProxy
from vllm_operator.api.names import OPERATOR_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster import OwnCluster

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def lonely_server() -> Iterator[OwnCluster]:
    """An API server with the resource, and no controllers: nobody else writes."""
    spec = ClusterSpec(name=f"test-chaos-{os.getpid()}", node=NodeKind.NONE, controller_manager=False)
    with started(spec) as cluster:
        define(cluster)
        cluster.kubectl("create", "namespace", OPERATOR_NAMESPACE)
        yield cluster


@pytest.fixture(scope="session")
def api(lonely_server: OwnCluster) -> Iterator[Api]:
    """Its administrator."""
    found = Api(lonely_server.kubeconfig)
    yield found
    found.close()


@pytest.fixture(scope="session")
def kinds(api: Api) -> list[tuple[str, str, str]]:
    """Everything that namespaces hold."""
    return snapshot.kinds(api)


@pytest.fixture
def proxy(lonely_server: OwnCluster) -> Iterator[ApiProxy]:
    """Between the operators of one test and the API server."""
    with ApiProxy(lonely_server.kubeconfig) as running:
        yield running


@pytest.fixture
def operators(proxy: ApiProxy, monkeypatch: pytest.MonkeyPatch, lonely_server: OwnCluster) -> Iterator[Operators]:
    """The operators of one test; what it made is gone after it, so that the next test's has nothing to look at."""
    monkeypatch.setattr(
        "vllm_operator.controller.reconcile.secrets.token_urlsafe",
        lambda _: "the-same-key-in-every-namespace-00000000000",
    )
    yield Operators(proxy, monkeypatch)
    for kind in ("vllmmodels", "deployments,services,configmaps,secrets,pvc,netpol,pdb,sa,controllerrevisions,pods"):
        lonely_server.kubectl("delete", kind, "--all", "--all-namespaces", "--wait=false", "--grace-period=0")


@pytest.fixture
def new_namespace(lonely_server: OwnCluster) -> Callable[[], str]:
    """Makes namespaces, whose names are in no other word."""

    def make() -> str:
        name = f"ns{next(_NUMBERS):04}{secrets.token_hex(2)}x"
        lonely_server.kubectl("create", "namespace", name)
        return name

    return make
