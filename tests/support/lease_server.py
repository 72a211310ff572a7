"""One Lease in memory, with the guard that the API server has: what is written names the version that it replaces."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from vllm_operator.api.live import live_object
from vllm_operator.errors import ApiConflict, ApiError, ApiNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.kinds import Kind


class LeaseServer:
    """Stands for the client, for an elector; any number of electors may share one."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.failures: list[ApiError] = []
        """Answers to the next requests."""
        self.lost_answers = 0
        """So many of the next writes are carried out, and their answers lost."""
        self.writes = 0
        self.namespace_is_there = True

    async def get(self, kind: Kind, namespace: str, name: str) -> LiveObject:
        """Read it."""
        self._fail()
        if self.lease is None:
            raise ApiNotFound(f"GET {kind.path(namespace, name)}", "not found")
        return live_object(copy.deepcopy(self.lease))

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> LiveObject:
        """Make it."""
        self._fail()
        if not self.namespace_is_there:
            raise ApiNotFound(f"POST {kind.path('vllm-system')}", 'namespaces "vllm-system" not found')
        if self.lease is not None:
            raise ApiConflict("POST", "there is one")
        return self._keep({**body, "metadata": {**body["metadata"], "uid": "u"}})

    async def replace(self, kind: Kind, body: Mapping[str, Any]) -> LiveObject:
        """Replace it."""
        self._fail()
        if self.lease is None:
            raise ApiNotFound(f"PUT {kind.path('vllm-system', 'vllm-operator')}", "not found")
        if body["metadata"].get("resourceVersion") != self.lease["metadata"]["resourceVersion"]:
            raise ApiConflict("PUT", "the object has been modified")
        return self._keep(body)

    def edit(self, **spec: Any) -> None:
        """Somebody writes to it by hand."""
        assert self.lease
        self._keep({**self.lease, "spec": {**self.lease["spec"], **spec}})

    @property
    def spec(self) -> dict[str, Any]:
        """What it says now."""
        assert self.lease
        found: dict[str, Any] = self.lease["spec"]
        return found

    def _keep(self, body: Mapping[str, Any]) -> LiveObject:
        self.version += 1
        self.writes += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        self.lease = copy.deepcopy({**body, "metadata": metadata})
        if self.lost_answers:
            self.lost_answers -= 1
            raise ApiError("PUT", "the answer was lost")
        return live_object(copy.deepcopy(self.lease))

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
