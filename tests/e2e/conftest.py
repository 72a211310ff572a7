"""One cluster with the operator for all end-to-end tests; each test has a namespace of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterSpec, NodeKind, OwnCluster, start
from tests.e2e.matrix.conftest import WHOLE
from tests.support import images, models
from tests.support.namespace import temporary
from tests.support.site import Site, install_operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.models import EngineChoice


GPUS = 80
"""Enough for the fleets of the failure modes, whose pods of an earlier test may still be on their way out."""


@pytest.fixture(scope="session")
def stub() -> EngineChoice:
    """The stub engine."""
    return models.stub()


@pytest.fixture(scope="session")
def real() -> EngineChoice:
    """The real vLLM; an error where it is not installed. `make test` has two cores for all engines and all else."""
    return models.real(as_released=WHOLE)


@pytest.fixture(scope="session")
def language() -> EngineChoice:
    """The real vLLM with a language model whose answers have sense; it is mounted and started as `real` is."""
    return models.language()


@pytest.fixture(scope="session")
def operated(stub: EngineChoice, real: EngineChoice) -> Iterator[OwnCluster]:
    """A cluster in which the operator runs from manifests/base."""
    archives = (images.operator_image(), images.client_image(), stub.archive, real.archive)
    spec = ClusterSpec(
        name=f"test-e2e-{os.getpid()}",
        node=NodeKind.REAL,
        images=archives,
        gpus=GPUS,
        gpu_mounts=(*stub.mounts, *real.mounts),
    )
    with start(spec) as cluster:
        assert isinstance(cluster, OwnCluster)
        install_operator(cluster)
        yield cluster


@pytest.fixture
def site(operated: OwnCluster, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A namespace for one test."""
    namespace = request.node.originalname.removeprefix("test_").replace("_", "-")[:40].rstrip("-") + f"-{os.getpid()}"
    with temporary(Site, operated, namespace) as found:
        yield found
