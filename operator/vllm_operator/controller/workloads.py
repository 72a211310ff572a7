"""Looking at what a queue of Kueue says of a pod that it holds back: one read of the pod's Workload."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from vllm_operator.cluster.kinds import WORKLOADS
from vllm_operator.diagnosis.queues import GONE, HIDDEN, JOB_UID, POD_GROUP, UNANSWERED, UNMADE, Admission, admission_of
from vllm_operator.errors import ApiError, ApiNotFound, ApiNotServed, ApiRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.diagnosis.facts import Finding

logger = logging.getLogger(__name__)


class WorkloadLookup:
    """Finds why a queue does not admit a pod."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def look(self, pod: LiveObject, known: Finding | None) -> Finding:
        """What is found of a pod. Where the API server does not answer, what was known before stays."""
        try:
            workload = await self._of(pod)
        except ApiNotServed:
            return Admission(remark=GONE)
        except ApiRefused:
            return Admission(remark=HIDDEN)
        except ApiError as error:
            logger.warning("cannot look at what keeps a pod in its queue: %s", error)
            return known or Admission(remark=UNANSWERED)
        return admission_of(workload) if workload else Admission(remark=UNMADE)

    async def _of(self, pod: LiveObject) -> Mapping[str, Any] | None:
        """The pod's Workload, in the newest version that is served; None where there is none.

        Raises:
            ApiNotServed: Kueue is not there.
            ApiError: it cannot be read.
        """
        *newer, oldest = WORKLOADS
        for kind in newer:
            try:
                return await self._read(kind, pod)
            except ApiNotServed:
                continue
        return await self._read(oldest, pod)

    async def _read(self, kind: Kind, pod: LiveObject) -> Mapping[str, Any] | None:
        name = pod.labels.get(POD_GROUP)
        if not name:
            return next(iter(await self._client.selected(kind, pod.namespace, f"{JOB_UID}={pod.uid}")), None)
        try:
            return await self._client.read(kind, pod.namespace, name)
        except ApiNotServed:
            raise
        except ApiNotFound:
            return None
