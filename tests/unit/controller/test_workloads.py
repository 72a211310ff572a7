"""What is read where a queue holds a pod back: one Workload, in the version that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.resources import as_live
from vllm_operator.controller.workloads import WorkloadLookup
from vllm_operator.diagnosis.queues import GONE, HIDDEN, UNANSWERED, UNMADE, Admission
from vllm_operator.errors import ApiNotFound, ApiNotServed, ApiRefused, ApiUnavailable

if TYPE_CHECKING:
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.kinds import Kind

WORDS = "LocalQueue gpus doesn't exist"
WORKLOAD = {"status": {"conditions": [{"type": "QuotaReserved", "status": "False", "message": WORDS}]}}


class Server:
    """An API server that has a Workload, or does not."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []

    async def _answer(self, kind: Kind, what: str) -> Any:
        self.asked.append((kind.api_version.rpartition("/")[2], what))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def selected(self, kind: Kind, _: str, selector: str) -> Any:
        """The Workloads of a selector."""
        return await self._answer(kind, selector)

    async def read(self, kind: Kind, _: str, name: str) -> Any:
        """One Workload."""
        return await self._answer(kind, name)


async def look(server: Server, known: Admission | None = None, group: str = "") -> Any:
    """One look at a pod, which may be of a group."""
    labels = {"kueue.x-k8s.io/pod-group-name": group} if group else {}
    pod = as_live({"metadata": {"name": "qwen-1", "uid": "u-1", "labels": labels}}, kind="Pod")
    return await WorkloadLookup(cast("Client", server)).look(pod, known)


async def test_a_pod_is_found_by_its_uid_and_a_group_by_the_name_that_its_pods_have() -> None:
    server = Server([WORKLOAD], WORKLOAD)
    assert await look(server) == Admission(WORDS)
    assert await look(server, group="leaderworkerset-wide-0-1a2b3") == Admission(WORDS)
    assert server.asked == [("v1beta2", "kueue.x-k8s.io/job-uid=u-1"), ("v1beta2", "leaderworkerset-wide-0-1a2b3")]


async def test_an_older_kueue_is_asked_in_its_own_version() -> None:
    server = Server(ApiNotServed("GET", "404 page not found"), [WORKLOAD])
    assert await look(server) == Admission(WORDS)
    assert [version for version, _ in server.asked] == ["v1beta2", "v1beta1"]


@pytest.mark.parametrize(
    ("answers", "known", "found"),
    [
        ((ApiNotServed("GET", "no"), ApiNotServed("GET", "no")), None, Admission(remark=GONE)),
        ((ApiRefused("GET", "forbidden"),), None, Admission(remark=HIDDEN)),
        (([],), None, Admission(remark=UNMADE)),
        ((ApiUnavailable("GET", "down"),), None, Admission(remark=UNANSWERED)),
        ((ApiUnavailable("GET", "down"),), Admission(WORDS), Admission(WORDS)),
    ],
)
async def test_what_cannot_be_read_is_told(answers: tuple[Any, ...], known: Admission | None, found: Admission) -> None:
    assert await look(Server(*answers), known) == found


async def test_a_group_whose_workload_is_not_made_yet_is_told_so() -> None:
    gone = Server(ApiNotFound("GET", "not found"))
    assert await look(gone, group="wide") == Admission(remark=UNMADE)
