"""How Jobs that fill claims are looked at, made, shared and deleted."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.resources import NOW, as_live, resource
from vllm_operator.api.resource import parse_resource
from vllm_operator.cluster.cache import Key
from vllm_operator.controller.prefetch import REFUSED_FOR, SETTLED_FOR, PrefetchJobs
from vllm_operator.errors import ApiConflict, ApiNotFound, ApiRefused
from vllm_operator.planner.prefetch import LOOK_AGAIN_AFTER, PrefetchSeen, changes
from vllm_operator.render.prefetch import jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.engine_status import EngineStatusReader
    from vllm_operator.cluster.kinds import Kind

QWEN = Key("team", "qwen")
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}
ANSWER = {"state": "Downloading", "bytes_done": 5, "bytes_total": 9}


class Server:
    """An API server with Jobs, their pods, and what the pods answer."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.refuses: ApiRefused | None = None
        self.asked: list[str] = []
        self.answer: object = None
        self.version = 1
        self.lookup = PrefetchJobs(cast("Client", self), cast("EngineStatusReader", self))

    async def get(self, kind: Kind, namespace: str, name: str) -> LiveObject:
        """A Job."""
        assert (kind.kind, namespace) == ("Job", "team")
        self.calls.append(f"get {name}")
        if self.refuses:
            raise self.refuses
        if name not in self.jobs:
            raise ApiNotFound("GET", "not there")
        return as_live(self.jobs[name], "Job")

    async def labelled_pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """The pods of a Job."""
        self.calls.append(f"pods {namespace} {selector}")
        return self.pods

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> LiveObject:
        """Make a Job."""
        name = body["metadata"]["name"]
        self.calls.append(f"create {name}")
        if self.refuses:
            raise self.refuses
        if name in self.jobs:
            raise ApiConflict("POST", "there is one")
        self.keep(body)
        return await self.get(kind, "team", name)

    async def patch(self, live: LiveObject, changed: Mapping[str, Any]) -> LiveObject:
        """Change its metadata."""
        self.calls.append(f"patch {live.name}")
        self.jobs[live.name]["metadata"] |= changed["metadata"]
        return as_live(self.jobs[live.name], "Job")

    async def delete(self, live: LiveObject) -> None:
        """Delete it."""
        self.calls.append(f"delete {live.name}")
        del self.jobs[live.name]

    async def document(self, url: str) -> object:
        """What its pod answers."""
        self.asked.append(url)
        return self.answer

    def keep(self, body: Mapping[str, Any], **status: Any) -> None:
        """Have a Job."""
        self.version += 1
        identity = {"uid": f"uid-{self.version}", "resourceVersion": str(self.version)}
        found = copy.deepcopy({**body, "metadata": {**body["metadata"], **identity}, "status": status})
        self.jobs[body["metadata"]["name"]] = found

    async def look(self, raw: dict[str, Any], now: Any = NOW) -> PrefetchSeen | None:
        """What the operator sees."""
        return await self.lookup.seen(QWEN, as_live(raw, "VLLMModel"), now)

    async def settle(self, raw: dict[str, Any], now: Any = NOW) -> PrefetchSeen:
        """One pass of the operator: look, and change what is to be changed."""
        seen = await self.look(raw, now)
        assert seen is not None
        wanted = changes(parse_resource(raw), seen)
        return (await self.lookup.execute(QWEN, wanted, seen, now)) or seen if wanted else seen


def prefetched(revision: str = "main", *, generation: int = 1, **status: Any) -> dict[str, Any]:
    storage = {"cache": {"existingClaim": "models", "prefetch": {}}}
    raw = resource(model={"source": "org/model", "revision": revision}, storage=storage, generation=generation)
    return {**raw, "status": status} if status else raw


def name_of(raw: dict[str, Any]) -> str:
    name: str = jobs(parse_resource(raw))[0]["metadata"]["name"]
    return name


@pytest.fixture
def server() -> Server:
    return Server()


async def test_a_model_without_it_costs_no_request(server: Server) -> None:
    assert await server.look(resource()) is None
    assert server.calls == []


async def test_a_job_is_made_once_and_its_program_is_asked_by_the_address_of_its_pod(server: Server) -> None:
    raw = prefetched()
    await server.settle(raw)
    server.pods = [{"metadata": {"name": "p"}, "status": {"phase": "Running", "podIP": "fd00::7"}}]
    server.answer = ANSWER
    seen = await server.settle(raw)
    assert [call for call in server.calls if call.startswith("create")] == [f"create {name_of(raw)}"]
    assert server.asked == ["http://[fd00::7]:8480/status"]
    answer = seen.jobs[name_of(raw)].answer
    assert answer is not None
    assert (answer.bytes_done, answer.bytes_total) == (5, 9)


async def test_what_a_pod_that_is_over_has_left_is_taken_without_asking(server: Server) -> None:
    raw = prefetched()
    await server.settle(raw)
    ended = {"terminated": {"message": json.dumps({"state": "Complete", "bytes_done": 9, "bytes_total": 9})}}
    container = {"name": "prefetch", "state": ended}
    server.pods = [{"metadata": {"name": "p"}, "status": {"phase": "Succeeded", "containerStatuses": [container]}}]
    seen = await server.settle(raw)
    answer = seen.jobs[name_of(raw)].answer
    assert answer is not None
    assert (answer.state, server.asked) == ("Complete", [])


async def test_of_jobs_that_are_done_nothing_is_asked_for_a_while(server: Server) -> None:
    raw = prefetched()
    await server.settle(raw)
    server.jobs[name_of(raw)]["status"] = COMPLETE
    await server.settle(raw)
    server.calls.clear()
    await server.settle(raw, NOW + SETTLED_FOR / 2)
    assert server.calls == []
    await server.settle(prefetched("v2", generation=2), NOW + SETTLED_FOR / 2)
    assert server.calls, "another generation of the spec wants another one"
    server.calls.clear()
    await server.settle(raw, NOW + 2 * SETTLED_FOR)
    assert server.calls


async def test_the_job_of_a_revision_that_is_no_longer_wanted_goes_also_where_the_status_does_not_tell_it(
    server: Server,
) -> None:
    await server.settle(prefetched())
    await server.settle(prefetched("v2", generation=2))
    assert list(server.jobs) == [name_of(prefetched("v2"))]


async def test_after_a_restart_the_status_tells_which_jobs_there_are(server: Server) -> None:
    old, new = prefetched(), prefetched("v2", generation=2, prefetch=[{"job": name_of(prefetched())}])
    await server.settle(old)
    server.lookup = PrefetchJobs(cast("Client", server), cast("EngineStatusReader", server))
    await server.settle(new)
    assert list(server.jobs) == [name_of(new)]


async def test_a_job_that_another_model_has_made_at_the_same_moment_is_shared(server: Server) -> None:
    raw = prefetched()
    seen = await server.look(raw)
    assert seen is not None
    wanted = changes(parse_resource(raw), seen)
    body = copy.deepcopy(jobs(parse_resource(raw))[0])
    body["metadata"]["ownerReferences"] = [{"kind": "VLLMModel", "name": "other", "uid": "uid-of-other"}]
    server.keep(body)
    await server.lookup.execute(QWEN, wanted, seen, NOW)
    await server.settle(raw)
    owners = [one["name"] for one in server.jobs[name_of(raw)]["metadata"]["ownerReferences"]]
    assert owners == ["other", "qwen"]


async def test_somebody_elses_job_of_that_name_is_left_alone_and_told(server: Server) -> None:
    raw = prefetched()
    server.keep({"kind": "Job", "metadata": {"name": name_of(raw), "namespace": "team"}})
    seen = await server.settle(raw)
    assert "is not the operator's" in seen.refusals[name_of(raw)]
    assert not [call for call in server.calls if call.startswith(("patch", "delete"))]


async def test_a_refusal_is_told_and_tried_again_after_a_while(server: Server) -> None:
    raw = prefetched()
    seen = await server.look(raw)
    assert seen is not None
    server.refuses = ApiRefused("POST", "exceeded quota")
    seen = await server.lookup.execute(QWEN, changes(parse_resource(raw), seen), seen, NOW)
    assert seen is not None
    assert "exceeded quota" in seen.refusals[name_of(raw)]
    server.refuses = None
    server.calls.clear()
    await server.settle(raw, NOW + timedelta(seconds=1))
    assert not [call for call in server.calls if call.startswith("create")]
    await server.settle(raw, NOW + REFUSED_FOR)
    assert [call for call in server.calls if call.startswith("create")]


async def test_an_operator_that_may_not_read_jobs_says_so_and_makes_none(server: Server) -> None:
    server.refuses = ApiRefused("GET", "forbidden")
    seen = await server.settle(prefetched())
    assert "ClusterRole" in seen.unreadable
    assert not [call for call in server.calls if call.startswith("create")]


async def test_a_model_that_waits_is_asked_about_no_more_often_than_every_few_seconds(server: Server) -> None:
    raw = prefetched()
    await server.settle(raw)
    await server.settle(raw)
    server.calls.clear()
    await server.settle(raw, NOW + LOOK_AGAIN_AFTER / 2)
    assert server.calls == [], "its Deployment has changed, for example"
    await server.settle(raw, NOW + LOOK_AGAIN_AFTER)
    assert server.calls


async def test_of_many_models_that_wait_each_is_asked_about_less_often(server: Server) -> None:
    raw = prefetched()
    for number in range(199):
        await server.lookup.seen(Key("team", f"m-{number}"), as_live(raw, "VLLMModel"), NOW)
    seen = await server.look(raw)
    assert seen is not None
    assert seen.pause == timedelta(seconds=10)


async def test_an_answer_without_end_is_cut(server: Server) -> None:
    raw = prefetched()
    await server.settle(raw)
    server.pods = [{"metadata": {"name": "p"}, "status": {"phase": "Running", "podIP": "10.0.0.7"}}]
    server.answer = {
        "state": "Waiting",
        "reason": "x" * 999,
        "message": "y" * 9999,
        "commit": "z" * 99,
        "bytes_done": 10**30,
    }
    answer = (await server.settle(raw)).jobs[name_of(raw)].answer
    assert answer is not None
    assert (len(answer.reason), len(answer.message), len(answer.commit), answer.bytes_done) == (64, 1024, 64, 0)
