"""Engines that load and do not do what they have to: they never get traffic, and their reason is told."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.matrix.findings import Seen, seen
from tests.e2e.matrix.fleet import pair, wait
from tests.support import models
from vllm_operator.api.resource import parse_resource
from vllm_operator.render.command import command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.api import Api
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

ASK_SECONDS = 5.0


def refused(place: Site, api: Api, model: Mapping[str, Any], reason: str) -> tuple[Seen, Seen]:
    """What became of a fleet whose engine is to be refused for a reason, and of its plain twin."""
    with pair(place, api, model) as found:
        since = time.monotonic()
        place.until(reason, lambda: place.condition("Ready", model["metadata"]["name"]).get("reason") == reason, 420.0)
        found.plain.wait_serving(1)
        with found.plain.client() as client:
            wait(ASK_SECONDS)
            requests = client.requests()
        plain = seen(found.plain.diary, "", since, requests, note="in")
        names = [pod["metadata"]["name"] for pod in found.gated.pods()]
        assert not any(change.routable for name in names for change in found.gated.diary.changes(name, since))
        return Seen(note=f"never in: {reason}"), plain


@pytest.mark.real_vllm
def test_2_a_real_engine_under_another_name_is_never_admitted(
    place: Site, api: Api, real: EngineChoice, report: Any
) -> None:
    model = started_with(models.model("misnamed", real), "--served-model-name", "other")
    gated, plain = refused(place, api, model, "WrongModel")
    report(2, gated, plain)
    assert plain.lost == plain.requests > 0


def started_with(model: dict[str, Any], *words: str) -> dict[str, Any]:
    """The model with more words at the end of its engines' command line than its gate knows of: the last one wins."""
    metadata = {"namespace": "any", "uid": "any", **model["metadata"]}
    line = [*command(parse_resource({**model, "metadata": metadata}).spec), *words]
    patch = {"spec": {"containers": [{"name": "vllm", "command": line}]}}
    return {**model, "spec": {**model["spec"], "pod": {"patch": patch}}}


def test_3_an_engine_whose_completions_fail_is_never_admitted(
    place: Site, api: Api, stub: EngineChoice, report: Any
) -> None:
    faults = json.dumps({"fail": {"status": 500, "message": "no template"}})
    env = [{"name": "STUB_FAULTS", "value": faults}]
    gated, plain = refused(place, api, models.model("failing", stub, engine={"env": env}), "CompletionsFail")
    report(3, gated, plain)
    assert plain.lost == plain.requests > 0


def test_4_an_engine_with_another_key_than_the_pods_is_never_admitted(
    place: Site, api: Api, stub: EngineChoice, report: Any
) -> None:
    model = started_with(models.model("locked", stub, auth={"generate": True}), "--api-key", "another")
    gated, plain = refused(place, api, model, "Unauthorized")
    report(4, gated, plain)
    assert plain.lost == plain.requests > 0
