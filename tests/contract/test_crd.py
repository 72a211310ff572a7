"""The resource on a real API server: what it takes, what it refuses and in which words."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings

from tests.support.api import Answer, Api
from tests.support.constraints import CONSTRAINTS, TRANSITIONS, Constraint, Transition
from tests.support.definitions import wait_established
from tests.support.namespace import Namespace
from tests.support.specs import field_paths, schema_at, setting, specs
from tests.support.waiting import until
from vllm_operator.api.crd import crd
from vllm_operator.api.spec import parse_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def team(quiet_server: OwnCluster) -> Namespace:
    """One namespace for all: hardly anything is stored, and no operator writes between two steps of a test."""
    return Namespace(quiet_server, "default")


@pytest.fixture(scope="module")
def api(quiet_server: OwnCluster) -> Iterator[Api]:
    """The API server over HTTP."""
    found = Api(quiet_server.kubeconfig)
    yield found
    found.close()


def attempt(api: Api, spec: dict[str, Any]) -> Answer:
    """What the API server says of a spec; the model's source is there unless given."""
    whole = {"model": {"source": "org/tiny"}, **spec}
    document = {"apiVersion": "vllm.echo-roots.io/v1alpha1", "kind": "VLLMModel", "spec": whole}
    return api.try_model(document | {"metadata": {"name": "case", "namespace": "default"}})


@pytest.mark.parametrize("case", CONSTRAINTS, ids=lambda case: case.message[:70])
def test_each_constraint_takes_what_is_right_and_refuses_what_is_wrong_in_its_words(api: Api, case: Constraint) -> None:
    assert attempt(api, case.accepted).refusal == ""
    assert case.message in attempt(api, case.refused).refusal


@pytest.mark.parametrize("case", TRANSITIONS, ids=lambda case: case.message[-40:])
def test_what_cannot_change_is_refused_on_update(api: Api, team: Namespace, case: Transition) -> None:
    def change(spec: dict[str, Any]) -> Answer:
        path = "/apis/vllm.echo-roots.io/v1alpha1/namespaces/default/vllmmodels/changed"
        body = json.loads(team.kubectl("get", "--raw", path))
        return api.call("PUT", path, body | {"spec": {"model": {"source": "org/tiny"}, **spec}}, dryRun="All")

    created = api.create_model(team.document("changed", **case.before))
    assert change(case.before).refusal == ""
    assert change(case.accepted).refusal == ""
    assert case.message in change(case.refused).refusal
    api.delete(created)


EARLIER_GROUP: Final = "earlier.example.com"


def definition(*, refusing: bool) -> dict[str, Any]:
    """The definition under another group; also as it was before any argument of `vllm serve` had a field."""
    found = crd()
    found["metadata"]["name"] = f"vllmmodels.{EARLIER_GROUP}"
    found["spec"]["group"] = EARLIER_GROUP
    found["spec"]["names"].pop("shortNames", None)
    found["spec"]["names"].pop("categories", None)
    (version,) = found["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    if not refusing:
        del spec["engine"]["properties"]["extraArgs"]["x-kubernetes-validations"]
    return found


def test_a_model_that_was_applied_before_its_argument_got_a_field_can_be_scaled_and_edited_elsewhere(
    api: Api, quiet_server: OwnCluster, team: Namespace
) -> None:
    place = f"/apis/{EARLIER_GROUP}/v1alpha1/namespaces/default/vllmmodels"
    spec = {"model": {"source": "org/tiny"}, "engine": {"extraArgs": ["--enable-chunked-prefill"]}}

    def made(name: str, **parameters: str) -> Answer:
        kind = {"apiVersion": f"{EARLIER_GROUP}/v1alpha1", "kind": "VLLMModel"}
        return api.call("POST", place, kind | {"metadata": {"name": name}, "spec": spec}, **parameters)

    def edited(path: str, **fields: Any) -> str:
        return api.call("PATCH", path, {"spec": fields}, "application/merge-patch+json").refusal

    team.kubectl("create", "--filename", "-", document=definition(refusing=False))
    try:
        wait_established(quiet_server, f"vllmmodels.{EARLIER_GROUP}")
        assert made("old").refusal == ""
        team.kubectl("replace", "--filename", "-", document=definition(refusing=True))
        until(lambda: made("new", dryRun="All").refusal, what="the refusal of new models")
        assert edited(f"{place}/old/scale", replicas=3) == ""
        assert edited(f"{place}/old", engine={"maxNumSeqs": 8}) == ""
        told = "--enable-chunked-prefill has a field of its own: set spec.engine.enableChunkedPrefill"
        assert told in edited(f"{place}/old", engine={"extraArgs": ["--enable-chunked-prefill", "--x"]})
    finally:
        team.kubectl("delete", "crd", f"vllmmodels.{EARLIER_GROUP}")


def outside(node: dict[str, Any]) -> Iterator[Any]:
    """Values that a schema refuses."""
    if "minimum" in node:
        yield node["minimum"] - (0 if node.get("exclusiveMinimum") else 1)
    if "maximum" in node:
        yield node["maximum"] + 1
    if "maxLength" in node:
        yield "a" * (node["maxLength"] + 1)
    if "pattern" in node:
        yield " a b "
    if "enum" in node and node.get("type") == "string":
        yield "no-such-choice"
    if node.get("type") == "boolean":
        yield "yes"
    yield {"array": {}, "object": []}.get(node.get("type", ""), [])


BEYOND = [(path, value) for path in field_paths() for value in outside(schema_at(path))]


def put(spec: dict[str, Any], path: str, value: Any) -> None:
    """Set what stands at a path, in the first items of lists."""
    *steps, last = path.replace("[]", ".0").split(".")
    inner: Any = spec
    for step in steps:
        inner = inner[int(step) if step.isdigit() else step]
    inner[last] = value


@pytest.mark.parametrize("path", sorted({path for path, _ in BEYOND}))
def test_each_bound_is_kept_and_its_refusal_names_the_field(api: Api, path: str) -> None:
    spec = setting(path)
    assert attempt(api, spec).refusal == ""
    for value in [value for known, value in BEYOND if known == path]:
        wrong = copy.deepcopy(spec)
        put(wrong, path, value)
        said = attempt(api, wrong).refusal
        assert f"spec.{path.replace('[]', '[0]')}" in said, f"{value!r}: {said}"


@given(spec=specs())
@settings(max_examples=200, derandomize=True, deadline=None)
def test_generated_specs_are_valid_and_what_is_stored_is_read_as_what_was_written(
    api: Api, spec: dict[str, Any]
) -> None:
    answer = attempt(api, spec)
    assert answer.refusal == ""
    assert parse_spec(answer.body["spec"]) == parse_spec(spec)


def test_the_resource_is_established_with_its_short_name(team: Namespace) -> None:
    crd = json.loads(team.kubectl("get", "crd", "vllmmodels.vllm.echo-roots.io", "--output", "json"))
    conditions = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    assert team.kubectl("get", "vllm") == ""


def test_the_definition_is_small_enough_for_the_note_that_kubectl_apply_leaves_on_it(team: Namespace) -> None:
    crd = json.loads(team.kubectl("get", "crd", "vllmmodels.vllm.echo-roots.io", "--output", "json"))
    note = crd["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert 10_000 < len(note) < 262_144


def test_the_defaults_of_the_server_are_those_of_the_operator(api: Api) -> None:
    stored = attempt(api, {}).body["spec"]
    assert stored == parse_spec({"model": {"source": "org/tiny"}}).manifest()
    assert stored["engine"] == {"port": 8000, "shutdownTimeoutSeconds": 30}


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("", "A model, and the vLLM engines that serve it"),
        (".spec.engine.cpuOffloadGB", "--cpu-offload-gb"),
        (".spec.engine.kvTransferConfig", "--kv-transfer-config"),
        (".spec.engine.env.valueFrom.resourceFieldRef.divisor", "Unit in which the value is given"),
        (".spec.resources.limits", "What the engine may use at most"),
        (".spec.scheduling.affinity.podAntiAffinity", "Which pods the engines keep away from"),
        (".spec.storage.cache.persistentVolumeClaim.size", "It may grow where the storage class allows"),
        (".status.conditions.lastTransitionTime", "When `status` last changed"),
        (".spec.catalog", "Edits restart nothing"),
        (".spec.catalog.languages", "BCP 47 tags"),
    ],
)
def test_kubectl_explains_every_field(team: Namespace, field: str, said: str) -> None:
    assert said in " ".join(team.kubectl("explain", f"vllmmodel{field}").split())


def test_kubectl_explains_the_whole_spec_at_once(team: Namespace) -> None:
    told = team.kubectl("explain", "vllmmodel.spec", "--recursive").split()
    deep = {"kvOffloading", "numSpeculativeTokens", "localhostProfile", "whenUnsatisfiable", "allowFrom", "except"}
    assert deep <= set(told)
    assert {path.rpartition(".")[2].removesuffix("[]") for path in field_paths()} <= set(told)


def test_the_served_schema_describes_all_fields(api: Api) -> None:
    served = api.call("GET", "/openapi/v3/apis/vllm.echo-roots.io/v1alpha1").body
    schema = served["components"]["schemas"]["io.echo-roots.vllm.v1alpha1.VLLMModel"]

    def fields(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, field in node.get("properties", {}).items():
            yield f"{path}.{name}", field
            yield from fields(field, f"{path}.{name}")
        yield from fields(node["items"], f"{path}[]") if "items" in node else ()

    found = dict(itertools.chain.from_iterable(fields(schema["properties"][part], part) for part in ("spec", "status")))
    assert {f"spec.{path}" for path in field_paths()} <= found.keys()
    assert [path for path, field in found.items() if not field.get("description")] == []
