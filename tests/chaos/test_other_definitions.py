"""The CustomResourceDefinition is that of another version: what it does not take of a status costs the rest nothing."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.operators import until
from tests.chaos.scenario import CREATED, EDITED, NAME, apply, model
from tests.support.api import done
from vllm_operator.cluster.kinds import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.chaos.operators import Operators
    from tests.support.api import Api

pytestmark = pytest.mark.api_server

DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/vllmmodels.vllm.echo-roots.io"
GIVEN = {
    "resync_seconds": 2.0,
    "lease_duration_seconds": 30,
    "renew_deadline_seconds": 20,
    "retry_period_seconds": 2,
}


CONDITION: Mapping[str, Any] = {
    "type": "Available",
    "status": "False",
    "reason": "NoEngineServes",
    "message": "",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
STATUS: Mapping[str, Any] = {
    "observedGeneration": 1,
    "replicas": 0,
    "readyReplicas": 0,
    "updatedReplicas": 0,
    "selector": "a=b",
    "url": "http://a",
    "binding": {"name": "a", "configMap": "b"},
    "conditions": [CONDITION],
}
"""One that the original takes."""


class Definition:
    """The definition of the resource, to be replaced by another one."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._original = done(api.call("GET", DEFINITION))

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Edit the properties of the status."""
        spec = copy.deepcopy(self._original["spec"])
        edit(spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"])
        self._write(spec)

    def restore(self) -> None:
        """Have the original again."""
        self._write(self._original["spec"])

    def _write(self, spec: dict[str, Any]) -> None:
        now = done(self._api.call("GET", DEFINITION))
        done(self._api.call("PUT", DEFINITION, {**now, "spec": spec}))


@pytest.fixture
def definition(api: Api) -> Iterator[Definition]:
    """That of the tests' API server, which has the original again afterwards."""
    found = Definition(api)
    yield found
    found.restore()


def lacks_the_binding(status: dict[str, Any]) -> None:
    """As the definition of a version that did not know it."""
    del status["properties"]["binding"]
    status["required"] = [name for name in status.get("required", []) if name != "binding"]


def bounds(status: dict[str, Any]) -> None:
    """As the definition of a version that had narrower bounds, here of what conditions cannot be without."""
    status["properties"]["conditions"]["items"]["properties"]["reason"] |= {"maxLength": len("AsDesired")}


def told(api: Api, namespace: str) -> dict[str, Any]:
    """The status of the model."""
    found: dict[str, Any] = done(api.call("GET", MODEL.path(namespace, NAME))).get("status", {})
    return found


def parts(status: Mapping[str, Any]) -> set[str]:
    """The fields of a status, and the types of its conditions."""
    return {*status, *(one["type"] for one in status.get("conditions", []))}


def in_force(api: Api, namespace: str, part: str, *, taken: bool) -> None:
    """Until the API server judges by the definition: it takes a second to."""
    path, body = MODEL.path(namespace, "probe"), model(namespace, CREATED)
    body["metadata"]["name"] = "probe"
    done(api.call("POST", MODEL.path(namespace), body))
    patch = {"status": STATUS}
    deadline = time.monotonic() + 60
    while True:
        answer = api.call("PATCH", f"{path}/status", patch, "application/merge-patch+json", dryRun="All")
        if (not answer.refusal and part in parts(answer.body.get("status", {}))) is taken:
            break
        assert time.monotonic() < deadline, "the definition does not get in force"
        time.sleep(0.1)
    done(api.call("DELETE", path))


@pytest.mark.parametrize(
    ("edit", "missing"),
    [(lacks_the_binding, "binding"), (bounds, "Available")],
    ids=["lacks-a-field", "has-narrower-bounds"],
)
async def test_the_rest_of_a_status_is_told_and_an_unchanged_world_costs_no_write(  # noqa: PLR0917 # fixtures and cases
    edit: Callable[[dict[str, Any]], None],
    missing: str,
    api: Api,
    operators: Operators,
    definition: Definition,
    new_namespace: Callable[[], str],
) -> None:
    operators.given |= GIVEN
    namespace, elsewhere = new_namespace(), new_namespace()
    definition.change(edit)
    in_force(api, elsewhere, missing, taken=False)
    async with operators:
        apply(CREATED)(api, namespace)
        await operators.settle()
        status, written = told(api, namespace), len(operators.proxy.done)
        assert missing not in parts(status)
        assert status["observedGeneration"] == 1
        assert {"Stalled", "TemplateUpdatePending"} <= {one["type"] for one in status["conditions"]}
        calls = operators.proxy.calls
        lists = calls["pods", "list"]
        await until(lambda: calls["pods", "list"] >= lists + 3, "resyncs")
        assert len(operators.proxy.done) == written, "an unchanged world"
        definition.restore()
        in_force(api, elsewhere, missing, taken=True)
        apply(EDITED)(api, namespace)
        await operators.settle()
        assert missing in parts(told(api, namespace)), "the next status is told whole"
