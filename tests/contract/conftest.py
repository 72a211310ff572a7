"""An API server with our CRD, an operator beside it, and a namespace for each test."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterSpec, NodeKind
from tests.cluster.fixtures import started
from tests.support.definitions import wait_established
from tests.support.engine_kinds import Kind
from tests.support.namespace import Namespace, created, temporary
from tests.support.operator_process import OperatorProcess
from tests.support.vllm_cpu import real_engine
from tests.support.vllm_parser import RealParser, real_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster

REPOSITORY = Path(__file__).parent.parent.parent
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module", params=["stub", pytest.param("real", marks=pytest.mark.real_vllm)])
def kind(request: pytest.FixtureRequest) -> Kind:
    """The stub, and then the real engine."""
    if request.param == "real":
        real_engine().require()
    return Kind(real=request.param == "real")


@pytest.fixture(scope="package")
def parser() -> Iterator[RealParser]:
    """The argument parser of vLLM itself: one process for all who ask it, since its start takes ten seconds."""
    with real_parser() as running:
        yield running


@pytest.fixture(scope="session")
def with_crd(api_server: OwnCluster) -> OwnCluster:
    """The API server, once it serves the resource."""
    define(api_server)
    return api_server


def define(cluster: OwnCluster) -> None:
    """Have the cluster serve the resource."""
    cluster.kubectl("apply", "--kustomize", str(REPOSITORY / "crds"))
    wait_established(cluster)


@pytest.fixture(scope="session")
def operator(with_crd: OwnCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """The operator, at work."""
    with OperatorProcess(with_crd.kubeconfig, tmp_path_factory.mktemp("operator")) as running:
        yield running


@pytest.fixture(scope="session")
def quiet_server() -> Iterator[OwnCluster]:
    """An API server with the resource, on which nobody acts but the test: no operator and no controllers."""
    spec = ClusterSpec(name=f"test-quiet-{os.getpid()}", node=NodeKind.NONE, controller_manager=False)
    with started(spec) as cluster:
        define(cluster)
        yield cluster


@pytest.fixture
def quiet(quiet_server: OwnCluster) -> Namespace:
    """A namespace for one test, on that API server."""
    return created(Namespace, quiet_server, f"quiet-{next(_NUMBERS)}")


@pytest.fixture
def namespace(with_crd: OwnCluster) -> Iterator[Namespace]:
    """A namespace for one test."""
    with temporary(Namespace, with_crd, f"contract-{next(_NUMBERS)}") as found:
        yield found
