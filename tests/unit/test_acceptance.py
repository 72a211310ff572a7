"""What `helm test` runs: it tells how far the model came, and never leaves one behind."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from vllm_operator import acceptance
from vllm_operator.acceptance import Trial, completion, standing, tried
from vllm_operator.api.live import LiveObject, live_object
from vllm_operator.errors import ApiConflict, ApiNotFound, ApiUnavailable, TrialFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

MODEL = {
    "apiVersion": "vllm.echo-roots.io/v1alpha1",
    "kind": "VLLMModel",
    "metadata": {"name": "try", "namespace": "team-a", "uid": "1", "resourceVersion": "1", "generation": 1},
    "spec": {},
}


def told(status: str = "False", reason: str = "EnginesStarting", *, generation: int = 1, stalled: str = "False") -> Any:
    """A status."""
    ready = {"type": "Ready", "status": status, "reason": reason, "message": "words", "observedGeneration": generation}
    return {"conditions": [ready, {"type": "Stalled", "status": stalled}], "url": "http://127.0.0.1:1/v1"}


class FakeClient:
    """An API server with one model, whose statuses come one after the other."""

    def __init__(self, statuses: Sequence[Any], *, left_behind: bool = False) -> None:
        self.statuses = list(statuses)
        self.left_behind = left_behind
        self.there = left_behind
        self.deleted = 0

    async def create(self, _: object, body: Mapping[str, Any]) -> LiveObject:
        """Take it, if there is none."""
        if self.there:
            raise ApiConflict("POST", "it is there")
        self.there = True
        return live_object({**MODEL, **body, "metadata": MODEL["metadata"]})

    async def get(self, *_: object) -> LiveObject:
        """The next state of it."""
        if not self.there:
            raise ApiNotFound("GET", "gone")
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(status, Exception):
            raise status
        return live_object({**MODEL, "status": status})

    async def delete(self, _: LiveObject) -> None:
        """Take it away."""
        self.there = False
        self.deleted += 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once, and what is ready is given up soon where it cannot be reached."""
    monkeypatch.setattr(acceptance, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(acceptance, "_ROUTED_SECONDS", 0.2)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session for engines."""
    async with aiohttp.ClientSession() as opened:
        yield opened


def trial(seconds: float = 5.0) -> Trial:
    """Something to try."""
    return Trial(model=MODEL, prompt="The sky is", timeout_seconds=seconds)


@pytest.mark.parametrize(
    ("status", "ready", "hopeless", "followed"),
    [
        ({}, False, False, False),
        (told(generation=0), False, False, False),
        (told(), False, False, True),
        (told("True", "AllEnginesServe"), True, False, True),
        (told("True", "AllEnginesServe", generation=0), False, False, False),
        (told("False", "InvalidSpec", stalled="True"), False, True, True),
    ],
)
def test_a_status_says_how_far_the_spec_as_it_stands_is(
    status: Any, *, ready: bool, hopeless: bool, followed: bool
) -> None:
    found = standing(live_object({**MODEL, "status": status}))
    assert (found.ready, found.hopeless, found.followed) == (ready, hopeless, followed)


async def test_what_can_never_serve_is_given_up_at_once_with_the_words_of_the_status(
    session: aiohttp.ClientSession,
) -> None:
    client = FakeClient([{}, ApiUnavailable("GET", "away"), told("False", "InvalidSpec", stalled="True")])
    with pytest.raises(TrialFailed, match="not served: InvalidSpec: words"):
        await tried(client, session, trial())  # type: ignore[arg-type] # the few calls that are made
    assert (client.there, client.deleted) == (False, 1)


async def test_what_does_not_serve_in_time_is_taken_away_and_the_last_words_are_told(
    session: aiohttp.ClientSession,
) -> None:
    client = FakeClient([told()])
    with pytest.raises(TrialFailed, match=r"not served within 0.05 s: EnginesStarting: words"):
        await tried(client, session, trial(0.05))  # type: ignore[arg-type] # as above
    assert not client.there


async def test_a_model_that_nobody_follows_is_told_as_such(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "_FOLLOWED_SECONDS", 0.01)
    client = FakeClient([{}])
    with pytest.raises(TrialFailed, match=r"no operator follows it.*test\.labels"):
        await tried(client, session, trial())  # type: ignore[arg-type] # as above
    assert not client.there


async def test_one_that_an_earlier_try_left_behind_goes_first_and_one_that_cannot_be_reached_is_told_as_such(
    session: aiohttp.ClientSession,
) -> None:
    client = FakeClient([told("True", "AllEnginesServe")], left_behind=True)
    with pytest.raises(
        TrialFailed, match=r"ready, but nobody in this pod reaches http://127\.0\.0\.1:1/v1.*kube-proxy"
    ):
        await tried(client, session, trial())  # type: ignore[arg-type] # as above
    assert (client.there, client.deleted) == (False, 2)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"choices": [{"text": " blue"}]}, ""),
        ({"choices": [{"text": " \n"}]}, "with nothing"),
        ({"choices": []}, "does not answer as vLLM does"),
        ({"error": "no"}, "does not answer as vLLM does"),
        ([], "does not answer as vLLM does"),
    ],
)
async def test_only_words_are_a_completion(session: aiohttp.ClientSession, answer: Any, said: str) -> None:
    asked: list[Any] = []

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "qwen"}]})

    async def completions(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return web.json_response(answer)

    app = web.Application()
    app.add_routes([web.get("/v1/models", models), web.post("/v1/completions", completions)])
    async with TestServer(app) as server:
        url = str(server.make_url("/v1"))
        if said:
            with pytest.raises(TrialFailed, match=said):
                await completion(session, url, "The sky is")
        else:
            assert await completion(session, url, "The sky is") == " blue"
    assert asked == [{"model": "qwen", "prompt": "The sky is", "max_tokens": 16}]


async def served(_: web.Request) -> web.Response:
    """What a model says to all that is asked."""
    return web.json_response({"data": [{"id": "qwen"}], "choices": [{"text": " blue"}]})


async def test_a_model_that_is_ready_before_the_node_knows_of_it_is_asked_until_it_answers(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setattr(acceptance, "_ROUTED_SECONDS", 30.0)
    app = web.Application()
    app.add_routes([web.get("/v1/models", served), web.post("/v1/completions", served)])
    asked = asyncio.ensure_future(completion(session, f"http://127.0.0.1:{unused_tcp_port}/v1", "The sky is"))
    await asyncio.sleep(0.1)
    assert not asked.done()
    async with TestServer(app, port=unused_tcp_port):
        assert await asked == " blue"


@pytest.mark.parametrize(("status", "patient"), [(502, True), (503, True), (504, True), (401, False), (500, False)])
async def test_a_proxy_on_the_way_may_know_of_no_engine_yet_and_what_the_engine_refuses_is_told_at_once(
    session: aiohttp.ClientSession, status: int, *, patient: bool
) -> None:
    statuses = [status, status]

    async def models(request: web.Request) -> web.Response:
        return web.Response(status=statuses.pop()) if statuses else await served(request)

    app = web.Application()
    app.add_routes([web.get("/v1/models", models), web.post("/v1/completions", served)])
    async with TestServer(app) as server:
        asked = completion(session, str(server.make_url("/v1")), "The sky is")
        if patient:
            assert await asked == " blue"
        else:
            with pytest.raises(TrialFailed, match=f"does not answer as vLLM does: .*{status}"):
                await asked


async def test_a_server_without_the_right_certificate_is_told_at_once(session: aiohttp.ClientSession) -> None:
    async with TestServer(web.Application()) as server:
        url = str(server.make_url("/v1").with_scheme("https"))
        with pytest.raises(TrialFailed, match=r"does not answer as vLLM does: .*SSL"):
            await completion(session, url, "The sky is")


def test_the_arguments_of_the_chart_become_the_model() -> None:
    words = ["--name=try", "--namespace=team-a", '--labels={"a":"b"}', f"--spec={json.dumps({'model': {}})}"]
    read = acceptance._read([*words, "--prompt=x", "--timeout-seconds=60", "--pod", "pod-1", "uid-1"])  # noqa: SLF001 # what the pod's command line gives
    assert read.timeout_seconds == 60
    assert read.model["spec"] == {"model": {}}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "pod-1", "uid": "uid-1"}
    wanted = {"name": "try", "namespace": "team-a", "labels": {"a": "b"}, "ownerReferences": [owner]}
    assert read.model["metadata"] == wanted
