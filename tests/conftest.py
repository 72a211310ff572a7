"""Fixtures that every test may ask for."""

from tests.cluster.fixtures import api_server, cluster, cluster_images

__all__ = ["api_server", "cluster", "cluster_images"]
