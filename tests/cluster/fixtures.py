"""Clusters for tests: each is started when the first test asks for it and stopped at the end of the session.

A cluster also ends with the process that started it, so nothing stays behind when pytest itself is killed. To have
more images in the cluster, a conftest.py overrides `cluster_images` and takes the original as its argument.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterSpec, NodeKind, OwnCluster, images, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def started(spec: ClusterSpec) -> OwnCluster:
    """Start a cluster of our own processes."""
    cluster = start(spec)
    assert isinstance(cluster, OwnCluster), f"--node {spec.node} is not made of our own processes"
    return cluster


@pytest.fixture(scope="session")
def api_server() -> Iterator[OwnCluster]:
    """A real API server with etcd and the controller manager, and no nodes."""
    with started(ClusterSpec(name=f"test-api-{os.getpid()}", node=NodeKind.NONE)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster_images() -> tuple[Path, ...]:
    """The images that the cluster has from the start."""
    return (images.base_image(),)


@pytest.fixture(scope="session")
def cluster(cluster_images: tuple[Path, ...]) -> Iterator[OwnCluster]:
    """A real cluster with one node, eight GPUs that do not exist, and the images."""
    spec = ClusterSpec(name=f"test-node-{os.getpid()}", node=NodeKind.REAL, images=cluster_images)
    with started(spec) as cluster:
        yield cluster
