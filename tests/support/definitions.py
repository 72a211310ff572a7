"""Waiting until an API server serves a custom resource."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.waiting import until
from vllm_operator.api.meta import GROUP, PLURAL

if TYPE_CHECKING:
    from tests.cluster import Cluster

MODELS = f"{PLURAL}.{GROUP}"


def wait_established(cluster: Cluster, name: str = MODELS) -> None:
    """Until the API server serves the resource; `kubectl wait` fails where a definition has no conditions yet."""
    until(lambda: _established(cluster, name), what=f"the definition of {name}")


def _established(cluster: Cluster, name: str) -> bool:
    definition = json.loads(cluster.kubectl("get", "crd", name, "--output", "json"))
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(found["type"] == "Established" and found["status"] == "True" for found in conditions)
