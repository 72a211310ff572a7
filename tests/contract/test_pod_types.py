"""The types of a pod template's fields are those of the real API server, and so is what is refused for them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api import APPLY, Api
from tests.support.resources import model
from tools import pod_schema
from vllm_operator.cluster.answers import is_users_error
from vllm_operator.cluster.kinds import DEPLOYMENT
from vllm_operator.render.deployment import deployment
from vllm_operator.render.patch import strategic_merge
from vllm_operator.render.types import type_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster
    from tests.support.namespace import Namespace
    from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api_server


def engine(**fields: Any) -> dict[str, Any]:
    """A patch of the engine's container."""
    return {"spec": {"containers": [{"name": "vllm", **fields}]}}


WRONG: list[dict[str, Any]] = [
    {"metadata": {"labels": {"mesh": True}}},
    {"metadata": {"annotations": {"a": 1}}},
    {"spec": {"nodeSelector": {"gpu": False}}},
    {"spec": {"schedulingGates": [{"name": 1}]}},
    {"spec": {"priority": "1"}},
    {"spec": {"priority": 1.5}},
    {"spec": {"hostPID": "yes"}},
    {"spec": {"tolerations": {"a": 1}}},
    {"spec": {"overhead": {"memory": True}}},
    {"spec": {"volumes": [{"name": "x", "configMap": {"name": "y", "defaultMode": "0644"}}]}},
    {"spec": {"volumes": [{"name": "x", "csi": {"driver": "y", "volumeAttributes": {"a": True}}}]}},
    engine(env=[{"name": "A", "value": 1}]),
    engine(command=["vllm", 1]),
    engine(lifecycle={"postStart": {"httpGet": {"port": True, "path": "/"}}}),
    engine(resources={"limits": {"memory": True}}),
]
RIGHT: list[dict[str, Any]] = [
    {"metadata": {"labels": {"mesh": "on"}}},
    {"spec": {"priority": 1, "hostPID": True, "tolerations": [{"operator": "Exists"}]}},
    engine(resources={"limits": {"memory": 1_000_000_000, "cpu": 0.5}}),
    engine(lifecycle={"postStart": {"httpGet": {"port": "http", "path": "/"}}}),
]
ONLY_THE_SERVERS: list[dict[str, Any]] = [
    {"spec": {"tolerationz": []}},
    {"spec": {"volumes": [{"name": "x", "emptyDir": {"sizeLimit": "much"}}]}},
]


@pytest.fixture(scope="module")
def api(quiet_server: OwnCluster) -> Iterator[Api]:
    """The API server over HTTP."""
    with contextlib.closing(Api(quiet_server.kubeconfig)) as found:
        yield found


def answer(api: Api, patch: dict[str, Any]) -> tuple[int, str]:
    """Status and words with which the API server refuses a Deployment whose template has this patch."""
    desired = deployment(model(namespace="default"))
    desired["spec"]["template"] = strategic_merge(desired["spec"]["template"], patch)
    del desired["metadata"]["ownerReferences"]
    path = DEPLOYMENT.path("default", desired["metadata"]["name"])
    found = api.call("PATCH", path, desired, APPLY, fieldManager="test", force="true", dryRun="All")
    return found.code, found.refusal


def test_the_committed_table_is_what_the_api_server_says(quiet_server: OwnCluster) -> None:
    made = pod_schema.asked(lambda path: quiet_server.kubectl("get", "--raw", path))
    assert pod_schema.MODULE.read_text(encoding="utf-8") == pod_schema.formatted(made), "python -m tools.pod_schema"


@pytest.mark.parametrize("patch", WRONG, ids=str)
def test_a_wrong_type_is_found_before_the_api_server_answers_it_with_500(api: Api, patch: dict[str, Any]) -> None:
    code, words = answer(api, patch)
    assert is_users_error(code, words), words
    assert list(type_faults(patch, "PodTemplateSpec", "patch"))


@pytest.mark.parametrize("patch", RIGHT, ids=str)
def test_a_right_type_is_found_right(api: Api, patch: dict[str, Any]) -> None:
    assert answer(api, patch) == (201, "")
    assert not list(type_faults(patch, "PodTemplateSpec", "patch"))


@pytest.mark.parametrize("patch", ONLY_THE_SERVERS, ids=str)
def test_what_only_the_api_server_knows_is_recognised_in_its_500(api: Api, patch: dict[str, Any]) -> None:
    code, words = answer(api, patch)
    assert is_users_error(code, words), words


def test_a_label_that_yaml_reads_as_true_is_told_and_mended(operator: OperatorProcess, namespace: Namespace) -> None:
    assert operator.get("/healthz") == "ok\n"
    namespace.model(pod={"patch": {"metadata": {"labels": {"mesh": True}}}})
    told = namespace.wait_reason("InvalidSpec")["message"]
    assert told.startswith("spec.pod.patch.metadata.labels.mesh: must be text, not true: put it in quotes")
    namespace.model(pod={"patch": {"spec": {"tolerationz": []}}})
    assert ".tolerationz: field not declared in schema" in namespace.wait_reason("ChildRefused")["message"]
    assert namespace.condition("Stalled")["status"] == "True"
    namespace.model(pod={"patch": {"metadata": {"labels": {"mesh": "on"}}}})
    namespace.wait_reason("EnginesStarting")
