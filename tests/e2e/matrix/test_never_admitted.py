"""Engines that load and do not do what they have to: they never get traffic, and their reason is told."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.e2e.matrix.conftest import WHOLE
from tests.e2e.matrix.findings import NOTHING, Seen, seen
from tests.e2e.matrix.fleet import pair, wait
from tests.support import models
from vllm_operator.api.resource import parse_resource
from vllm_operator.render.command import command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.e2e.matrix.fleet import Fleet, Pair
    from tests.support.api import Api
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = [pytest.mark.node, pytest.mark.real_vllm]

ASK_SECONDS = 5.0


class Started(NamedTuple):
    """Fleets that were started at a moment of the monotonic clock, by the names of their models."""

    pairs: Mapping[str, Pair]
    since: float


@pytest.fixture(scope="module")
def started(place: Site, api: Api, real: EngineChoice, stub: EngineChoice) -> Iterator[Started]:
    """The fleets of all tests. They load side by side: most of it is waiting for a gate that does not give up soon."""
    doomed = ((misnamed(real), WHOLE), (failing(stub), True), (locked(stub), True))
    with contextlib.ExitStack() as running:
        since = time.monotonic()
        pairs = {
            model["metadata"]["name"]: running.enter_context(pair(place, api, model, compared=compared))
            for model, compared in doomed
        }
        yield Started(pairs, since)


def misnamed(real: EngineChoice) -> dict[str, Any]:
    """A real engine that serves under another name."""
    return started_with(models.model("misnamed", real), "--served-model-name", "other")


def failing(stub: EngineChoice) -> dict[str, Any]:
    """An engine whose completions all fail."""
    faults = json.dumps({"fail": {"status": 500, "message": "no template"}})
    return models.model("failing", stub, engine={"env": [{"name": "STUB_FAULTS", "value": faults}]})


def locked(stub: EngineChoice) -> dict[str, Any]:
    """An engine whose server has another key than its pod."""
    return started_with(models.model("locked", stub, auth={"generate": True}), "--api-key", "another")


def started_with(model: dict[str, Any], *words: str) -> dict[str, Any]:
    """The model with more words at the end of its engines' command line than its gate knows of: the last one wins."""
    metadata = {"namespace": "any", "uid": "any", **model["metadata"]}
    line = [*command(parse_resource({**model, "metadata": metadata}).spec), *words]
    patch = {"spec": {"containers": [{"name": "vllm", "args": line}]}}
    return {**model, "spec": {**model["spec"], "pod": {"patch": patch}}}


def refused(place: Site, started: Started, name: str, reason: str) -> tuple[Seen, Seen]:
    """What became of a fleet whose engine is to be refused for a reason, and of its plain twin if it has one."""
    found, since = started.pairs[name], started.since
    place.until(reason, lambda: place.condition("Ready", name).get("reason") == reason, 420.0)
    plain = misled(found.plain, since) if found.plain else NOTHING
    pods = [pod["metadata"]["name"] for pod in found.gated.pods()]
    assert not any(change.routable for pod in pods for change in found.gated.diary.changes(pod, since))
    return Seen(note=f"never in: {reason}"), plain


def misled(plain: Fleet, since: float) -> Seen:
    """What clients get from a fleet whose probes let its engine in: nothing."""
    plain.wait_serving(1)
    with plain.client() as client:
        wait(ASK_SECONDS)
        requests = client.requests()
    found = seen(plain.diary, "", since, requests, note="in")
    assert found.lost == found.requests > 0
    return found


def test_2_a_real_engine_under_another_name_is_never_admitted(place: Site, started: Started, report: Any) -> None:
    gated, plain = refused(place, started, "misnamed", "WrongModel")
    report(2, gated, plain)


def test_3_an_engine_whose_completions_fail_is_never_admitted(place: Site, started: Started, report: Any) -> None:
    gated, plain = refused(place, started, "failing", "CompletionsFail")
    report(3, gated, plain)


def test_4_an_engine_with_another_key_than_the_pods_is_never_admitted(
    place: Site, started: Started, report: Any
) -> None:
    gated, plain = refused(place, started, "locked", "Unauthorized")
    report(4, gated, plain)
