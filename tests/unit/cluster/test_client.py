"""The client: what it sends, and which error each answer becomes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.resources import as_live, child_of, live, resource
from tests.support.servers import free_port
from vllm_operator.cluster.client import MOST_REQUESTS, Client, Identities, Identity
from vllm_operator.cluster.kinds import (
    DEPLOYMENT,
    MODEL,
    NODE,
    PERSISTENT_VOLUME,
    POD,
    POD_DISRUPTION_BUDGET,
    POD_MONITOR,
)
from vllm_operator.errors import (
    ApiConflict,
    ApiEnding,
    ApiError,
    ApiInvalid,
    ApiNotFound,
    ApiNotServed,
    ApiRefused,
    ApiSilent,
    ApiUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHILD = child_of(resource(), "Deployment")


class Answers:
    """A server that answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, bytes]] = []
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, str, dict[str, str], str, Any]] = []

    async def handle(self, request: web.Request) -> web.Response:
        """The next reply; the last one stays."""
        body = await request.read()
        kind = request.headers.get("Content-Type", "")
        self.asked.append((request.method, request.path, dict(request.query), kind, json.loads(body) if body else None))
        status, content = self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
        return web.Response(status=status, body=content, content_type="application/json", headers=self.headers)

    def reply(self, status: int, document: object, **headers: str) -> None:
        """What the next request gets."""
        self.headers = headers
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.replies.append((status, content))


@pytest.fixture
def answers() -> Answers:
    """What the server will say."""
    return Answers()


@pytest.fixture
async def client(answers: Answers) -> AsyncIterator[Client]:
    """A client of that server."""
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answers.handle)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        yield Client(session, f"{server.make_url('/')}", timeout_seconds=30)


def status(code: int, message: str = "said the server") -> dict[str, Any]:
    """An error of the API server."""
    return {"kind": "Status", "code": code, "message": message, "details": {"name": "qwen"}}


async def test_a_path_that_is_not_served_is_told_from_an_object_that_is_not_there(
    client: Client, answers: Answers
) -> None:
    answers.reply(404, {"kind": "Status", "code": 404, "message": "the server could not find the requested resource"})
    with pytest.raises(ApiNotServed):
        await client.get(DEPLOYMENT, "team", "qwen")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, ApiRefused),
        (401, ApiRefused),
        (403, ApiRefused),
        (404, ApiNotFound),
        (409, ApiConflict),
        (410, ApiUnavailable),
        (422, ApiInvalid),
        (429, ApiUnavailable),
        (500, ApiUnavailable),
        (503, ApiUnavailable),
    ],
)
async def test_each_status_is_one_error_with_the_servers_own_message(
    client: Client, answers: Answers, code: int, kind: type[ApiError]
) -> None:
    answers.reply(code, status(code))
    with pytest.raises(ApiError) as caught:
        await client.get(DEPLOYMENT, "team", "qwen")
    assert type(caught.value) is kind
    assert caught.value.message == f"said the server (HTTP {code})"
    assert "GET /apis/apps/v1/namespaces/team/deployments/qwen" in str(caught.value)


async def test_an_object_that_cannot_be_read_by_its_types_is_refused_although_the_answer_is_500(
    client: Client, answers: Answers
) -> None:
    answers.reply(500, status(500, "failed to create typed patch object (a/b; v1, Kind=C): .d: duplicate entries"))
    with pytest.raises(ApiRefused, match="duplicate entries"):
        await client.apply(CHILD, force=True)


async def test_a_refusal_of_an_invalid_object_names_its_parts(client: Client, answers: Answers) -> None:
    causes = [{"field": "status.rollout.strategy"}, {"reason": "none"}, {"field": "status.warnings[1]"}]
    answers.reply(422, {**status(422), "details": {"causes": causes}})
    with pytest.raises(ApiInvalid) as caught:
        await client.patch_status(as_live(resource()), {})
    assert caught.value.fields == ("status.rollout.strategy", "status.warnings[1]")


async def test_how_long_the_server_asks_to_be_left_alone_is_known(client: Client, answers: Answers) -> None:
    answers.reply(429, status(429), **{"Retry-After": "7"})
    with pytest.raises(ApiUnavailable) as caught:
        await client.get(DEPLOYMENT, "team", "qwen")
    assert caught.value.retry_after_seconds == 7


async def test_an_answer_that_is_no_list_is_one_that_can_come_better(client: Client, answers: Answers) -> None:
    answers.reply(200, {"kind": "Welcome"})
    with pytest.raises(ApiUnavailable, match="no list but 'Welcome'"):
        await client.identities(POD)


GROUPS = {"groups": [{"name": "vllm.echo-roots.io"}]}
RESOURCES = {"resources": [{"name": "vllmmodels"}]}


async def test_a_kind_is_served_when_it_is_listed_and_also_said_to_be_there(client: Client, answers: Answers) -> None:
    documents: tuple[dict[str, Any], ...] = ({"items": []}, GROUPS, RESOURCES)
    for document in documents:
        answers.reply(200, document)
    await client.check_served(MODEL)
    root = "/apis/vllm.echo-roots.io/v1alpha1"
    assert [path for _, path, *_ in answers.asked] == [f"{root}/vllmmodels", "/apis", root]


@pytest.mark.parametrize(
    "documents",
    [({"items": []}, {"groups": []}, RESOURCES), ({"items": []}, GROUPS, {"resources": []})],
    ids=["group", "resource"],
)
async def test_a_kind_that_is_not_said_to_be_there_yet_is_not_served(
    client: Client, answers: Answers, documents: tuple[dict[str, Any], ...]
) -> None:
    for document in documents:
        answers.reply(200, document)
    with pytest.raises(ApiNotFound, match="yet"):
        await client.check_served(MODEL)


async def test_a_namespace_that_is_being_deleted_is_told_apart_from_other_refusals(
    client: Client, answers: Answers
) -> None:
    ending = {**status(403), "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}}
    answers.reply(403, ending)
    with pytest.raises(ApiEnding):
        await client.apply(CHILD, force=False)


@pytest.mark.parametrize("content", [b"", b"<html>Bad Gateway</html>", b"[]", b'"text"', b"{}", b"null", b"\xff"])
async def test_an_error_that_is_not_of_the_api_server_is_an_error_all_the_same(
    client: Client, answers: Answers, content: bytes
) -> None:
    answers.reply(502, content)
    with pytest.raises(ApiUnavailable, match=r"\(HTTP 502\)"):
        await client.get(DEPLOYMENT, "team", "qwen")


async def test_a_good_answer_that_is_no_json_is_no_answer(client: Client, answers: Answers) -> None:
    answers.reply(200, b"<html>welcome</html>")
    with pytest.raises(ApiSilent):
        await client.get(DEPLOYMENT, "team", "qwen")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with aiohttp.ClientSession() as session:
        client = Client(session, f"http://127.0.0.1:{free_port()}", timeout_seconds=30)
        with pytest.raises(ApiSilent):
            await client.get(DEPLOYMENT, "team", "qwen")


async def test_a_server_that_does_not_answer_in_time_is_unavailable() -> None:
    over = asyncio.Event()

    async def never(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", never)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        client = Client(session, str(server.make_url("/")), timeout_seconds=0.1)
        with pytest.raises(ApiSilent):
            await client.get(DEPLOYMENT, "team", "qwen")
        over.set()


async def test_what_is_ours_is_applied_as_a_whole_by_force(client: Client, answers: Answers) -> None:
    answers.reply(200, live(CHILD))
    assert (await client.apply(CHILD, force=True)).body == live(CHILD)
    ((method, path, query, kind, body),) = answers.asked
    assert (method, path) == ("PATCH", "/apis/apps/v1/namespaces/team/deployments/qwen")
    assert query == {"fieldManager": "vllm-operator", "force": "true"}
    assert kind == "application/apply-patch+yaml"
    assert body == CHILD


async def test_what_may_be_somebody_elses_is_made_and_never_changed(client: Client, answers: Answers) -> None:
    answers.reply(201, live(CHILD))
    before = json.dumps(CHILD)
    await client.apply(CHILD, force=False)
    ((_, _, query, _, body),) = answers.asked
    assert query["force"] == "false"
    assert body["metadata"].pop("resourceVersion") == "1", "no object has it, so whatever is there is a conflict"
    assert body == CHILD
    assert json.dumps(CHILD) == before, "what was given stays as it was"


async def test_a_patch_is_for_this_very_object_as_it_was_seen(client: Client, answers: Answers) -> None:
    answers.reply(200, live(CHILD))
    await client.patch(as_live(live(CHILD)), {"metadata": {"managedFields": []}, "spec": {"ports": []}})
    ((method, path, query, kind, body),) = answers.asked
    assert (method, path) == ("PATCH", "/apis/apps/v1/namespaces/team/deployments/qwen")
    assert (query, kind) == ({"fieldManager": "vllm-operator"}, "application/merge-patch+json")
    guard = {"uid": "uid-of-Deployment", "resourceVersion": "20"}
    assert body == {"metadata": {"managedFields": [], **guard}, "spec": {"ports": []}}


async def test_annotations_are_for_this_very_object_in_whatever_state(client: Client, answers: Answers) -> None:
    answers.reply(200, live(CHILD))
    await client.annotate(as_live(live(CHILD)), {"a": "1", "b": None})
    ((method, path, _, kind, body),) = answers.asked
    assert (method, path) == ("PATCH", "/apis/apps/v1/namespaces/team/deployments/qwen")
    assert kind == "application/merge-patch+json"
    assert body == {"metadata": {"uid": "uid-of-Deployment", "annotations": {"a": "1", "b": None}}}


async def test_a_status_is_for_this_very_object(client: Client, answers: Answers) -> None:
    answers.reply(200, resource())
    before = {"replicas": 7, "warnings": ["an old one"], "rollout": {"updated": 1, "reason": "old"}}
    model = as_live({**resource(), "status": before})
    await client.patch_status(model, {"replicas": 1, "rollout": {"updated": 2}})
    ((method, path, query, kind, body),) = answers.asked
    assert (method, path) == ("PATCH", "/apis/vllm.echo-roots.io/v1alpha1/namespaces/team/vllmmodels/qwen/status")
    assert (query, kind) == ({"fieldManager": "vllm-operator"}, "application/merge-patch+json")
    rollout = {"updated": 2, "reason": None}
    assert body["metadata"] == {"uid": "uid-of-qwen"}
    assert body["status"] == {"replicas": 1, "warnings": None, "rollout": rollout}


async def test_replicas_are_set_through_the_scale_subresource_of_the_model_as_it_was_seen(
    client: Client, answers: Answers
) -> None:
    answers.reply(200, {"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": 3}})
    await client.scale(as_live(resource()), 3)
    ((method, path, query, kind, body),) = answers.asked
    assert (method, path) == ("PATCH", "/apis/vllm.echo-roots.io/v1alpha1/namespaces/team/vllmmodels/qwen/scale")
    assert (query, kind) == ({"fieldManager": "vllm-operator"}, "application/merge-patch+json")
    assert body == {"metadata": {"uid": "uid-of-qwen", "resourceVersion": "10"}, "spec": {"replicas": 3}}


@pytest.mark.parametrize(("group", "served"), [("vllm.echo-roots.io", True), ("custom.metrics.k8s.io", False)])
async def test_an_api_group_is_served_when_it_is_said_to_be_there(
    client: Client, answers: Answers, group: str, *, served: bool
) -> None:
    answers.reply(200, GROUPS)
    assert (group in await client.served_groups()) is served


@pytest.mark.parametrize("code", [200, 404])
async def test_deleting_what_is_gone_is_no_error(client: Client, answers: Answers, code: int) -> None:
    answers.reply(code, status(code))
    await client.delete(as_live(live(CHILD)))
    ((method, _, _, _, body),) = answers.asked
    assert method == "DELETE"
    assert body["preconditions"] == {"uid": live(CHILD)["metadata"]["uid"]}


def another(body: dict[str, Any]) -> dict[str, Any]:
    """A new object of the same name."""
    return {**body, "metadata": {**body["metadata"], "uid": "uid-of-another"}}


async def test_deleting_what_is_replaced_is_no_error(client: Client, answers: Answers) -> None:
    answers.reply(409, status(409))
    answers.reply(200, another(live(CHILD)))
    await client.delete(as_live(live(CHILD)))
    assert [method for method, *_ in answers.asked] == ["DELETE", "GET"]


OF_ONE_OBJECT = {
    "delete": lambda client: client.delete(as_live(live(CHILD))),
    "annotate": lambda client: client.annotate(as_live(live(CHILD)), {"a": "1"}),
    "status": lambda client: client.patch_status(as_live(resource()), {"replicas": 1}),
}
"""The writes that name an object by its uid, in whatever state it is."""


@pytest.mark.parametrize("name", OF_ONE_OBJECT)
async def test_a_conflict_about_an_object_that_is_still_there_is_no_end_of_it_and_is_tried_again(
    client: Client, answers: Answers, name: str
) -> None:
    answers.reply(409, status(409))
    answers.reply(200, resource() if name == "status" else live(CHILD))
    with pytest.raises(ApiUnavailable, match="said the server"):
        await OF_ONE_OBJECT[name](client)


@pytest.mark.parametrize("name", ["annotate", "status"])
async def test_a_conflict_about_an_object_that_is_replaced_or_gone_says_so(
    client: Client, answers: Answers, name: str
) -> None:
    answers.reply(409, status(409))
    answers.reply(200, another(resource() if name == "status" else live(CHILD)))
    with pytest.raises(ApiConflict):
        await OF_ONE_OBJECT[name](client)
    answers.replies.clear()
    answers.reply(409, status(409))
    answers.reply(404, status(404))
    with pytest.raises(ApiNotFound):
        await OF_ONE_OBJECT[name](client)


async def test_a_deletion_that_is_refused_is_told(client: Client, answers: Answers) -> None:
    answers.reply(403, status(403))
    with pytest.raises(ApiRefused):
        await client.delete(as_live(live(CHILD)))


async def test_identities_are_listed_page_by_page_as_metadata_alone(client: Client, answers: Answers) -> None:
    def page(name: str, token: str) -> dict[str, Any]:
        item = {"metadata": {"namespace": "team", "name": name, "uid": f"uid-{name}", "resourceVersion": "7"}}
        return {"metadata": {"continue": token, "resourceVersion": "9"}, "items": [item]}

    answers.reply(200, page("a", "next"))
    answers.reply(200, page("b", ""))
    found = await client.identities(MODEL)
    assert found == Identities(9, (Identity("team", "a", "uid-a", 7), Identity("team", "b", "uid-b", 7)))
    assert not any("resourceVersion" in query for _, _, query, _, _ in answers.asked), "the store's own state"
    assert [query.get("continue") for _, _, query, _, _ in answers.asked] == [None, "next"]
    assert all(query["labelSelector"] == "!vllm.echo-roots.io/operator" for _, _, query, _, _ in answers.asked)


async def test_pods_of_a_namespace_are_listed_page_by_page_whosever_they_are(client: Client, answers: Answers) -> None:
    answers.reply(200, {"metadata": {"continue": "next"}, "items": [{"metadata": {"name": "a"}}]})
    answers.reply(200, {"metadata": {}, "items": None})
    assert await client.pods("team") == [{"metadata": {"name": "a"}}]
    assert {(path, query.get("labelSelector")) for _, path, query, _, _ in answers.asked} == {
        ("/api/v1/namespaces/team/pods", None)
    }


async def test_objects_of_an_optional_kind_are_listed_whole_and_only_ours(client: Client, answers: Answers) -> None:
    identity = {"name": "qwen", "namespace": "team", "uid": "u", "resourceVersion": "1"}
    found = {"metadata": identity, "spec": {"selector": {}}}
    answers.reply(200, {"metadata": {}, "items": [found]})
    assert [live.body async for live in client.objects(POD_MONITOR)] == [found]
    ((_, path, query, _, _),) = answers.asked
    assert path == "/apis/monitoring.coreos.com/v1/podmonitors"
    assert query["labelSelector"] == "app.kubernetes.io/managed-by=vllm-operator,!vllm.echo-roots.io/operator"


async def test_what_others_made_of_a_kind_is_listed_whole_and_without_ours(client: Client, answers: Answers) -> None:
    theirs = {"metadata": {"name": "theirs", "namespace": "team"}, "spec": {}}
    answers.reply(200, {"metadata": {"continue": "next"}, "items": [theirs]})
    answers.reply(200, {"metadata": {}, "items": None})
    assert [found async for found in client.others(POD_DISRUPTION_BUDGET, "team")] == [theirs]
    assert {(path, query["labelSelector"]) for _, path, query, _, _ in answers.asked} == {
        (
            "/apis/policy/v1/namespaces/team/poddisruptionbudgets",
            "app.kubernetes.io/managed-by!=vllm-operator",
        )
    }


async def test_only_what_the_operator_made_is_listed_of_common_kinds(client: Client, answers: Answers) -> None:
    answers.reply(200, {"metadata": {}, "items": None})
    assert await client.identities(POD) == Identities(0, ())
    ((_, path, query, _, _),) = answers.asked
    assert path == "/api/v1/pods"
    assert query["labelSelector"] == "app.kubernetes.io/managed-by=vllm-operator,!vllm.echo-roots.io/operator"


async def test_what_kubelet_warns_of_is_asked_for_with_one_bounded_list(client: Client, answers: Answers) -> None:
    answers.reply(200, {"metadata": {"continue": "more"}, "items": [{"message": "a"}]})
    pod = {"kind": "Pod", "metadata": {"namespace": "team", "name": "qwen-1", "uid": "u"}}
    assert await client.warnings_about(as_live(pod)) == [{"message": "a"}]
    ((method, path, parameters, _, _),) = answers.asked
    assert (method, path) == ("GET", "/api/v1/namespaces/team/events")
    assert parameters == {"fieldSelector": "involvedObject.uid=u,type=Warning", "limit": "100"}
    answers.replies.clear()
    answers.reply(200, {"metadata": {}, "items": None})
    assert await client.warnings_about(as_live(pod)) == []


async def test_the_pods_of_a_node_are_asked_of_the_api_servers_own_cache(client: Client, answers: Answers) -> None:
    answers.reply(200, {"kind": "PodList", "items": [{"a": 1}]})
    assert await client.pods_on("gpu-1") == [{"a": 1}]
    _, path, query, *_ = answers.asked[0]
    assert (path, query["resourceVersion"]) == ("/api/v1/pods", "0")
    assert query["fieldSelector"] == "spec.nodeName=gpu-1,status.phase!=Succeeded,status.phase!=Failed"


async def test_of_what_belongs_to_no_namespace_so_much_is_read_page_by_page(client: Client, answers: Answers) -> None:
    answers.reply(200, {"kind": "NodeList", "items": [{"n": 1}, {"n": 2}], "metadata": {"continue": "more"}})
    answers.reply(200, {"kind": "NodeList", "items": [{"n": 3}, {"n": 4}], "metadata": {"continue": "and more"}})
    assert [found["n"] async for found in client.first(NODE, 3)] == [1, 2, 3]
    assert [path for _, path, *_ in answers.asked] == ["/api/v1/nodes"] * 2
    assert "labelSelector" not in answers.asked[0][2]
    answers.replies = [(200, b'{"kind": "PersistentVolume"}')]
    assert await client.read(PERSISTENT_VOLUME, None, "pv-1") == {"kind": "PersistentVolume"}
    assert answers.asked[-1][1] == "/api/v1/persistentvolumes/pv-1"


async def test_an_event_is_created_in_its_namespace(client: Client, answers: Answers) -> None:
    answers.reply(201, {})
    event = {"kind": "Event", "metadata": {"namespace": "team", "name": "qwen.1"}}
    await client.post_event(event)
    (method, path, _, _, body) = answers.asked[0]
    assert (method, path, body) == ("POST", "/api/v1/namespaces/team/events", event)


async def test_requests_beyond_a_few_wait_for_their_turn_and_their_deadline_begins_with_it() -> None:
    running, most = 0, 0

    async def slowly(_: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.9)
        running -= 1
        return web.json_response(live(CHILD))

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", slowly)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        client = Client(session, str(server.make_url("/")), timeout_seconds=2.0)
        wanted = MOST_REQUESTS * 3  # which together take longer than one of them may
        found = await asyncio.gather(*(client.get(DEPLOYMENT, "team", "qwen") for _ in range(wanted)))
    assert len(found) == wanted
    assert most == MOST_REQUESTS
