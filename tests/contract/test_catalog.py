"""The catalogue on a real API server: it follows the models, costs nothing while they rest, and pods may read it."""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.contract.test_operator import requests
from tests.support.operator_process import OperatorProcess
from tests.support.waiting import until
from vllm_client import ConfigurationError, KubernetesSource, ModelRouter, Unauthorized
from vllm_operator.planner.namespace import CATALOG_AGAIN_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster
    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server

REPOSITORY = Path(__file__).parent.parent.parent
MANY = 30


@pytest.fixture(scope="module")
def running(quiet_server: OwnCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """The operator, on an API server without controllers: the test itself says which engines serve."""
    quiet_server.kubectl("delete", "vllmmodels", "--all", "--all-namespaces")  # over a hundred, of other files
    with OperatorProcess(quiet_server.kubeconfig, tmp_path_factory.mktemp("operator")) as operator:
        yield operator


@pytest.fixture
def team(quiet: Namespace, running: OperatorProcess) -> Namespace:
    """A namespace for one test."""
    assert running.get("/readyz")
    return quiet


def listed(team: Namespace) -> dict[str, dict[str, Any]]:
    """The models in the catalogue, by name; none while there is no catalogue."""
    found = team.get("configmap", "vllm-catalog")
    return {one["name"]: one for one in json.loads(found["data"]["catalog.json"])["models"]} if found else {}


def wait_listed(team: Namespace, name: str, **fields: Any) -> dict[str, Any]:
    """A model's entry, once it has these fields."""

    def look() -> dict[str, Any]:
        found = listed(team).get(name, {})
        return found if found and fields.items() <= found.items() else {}

    return until(look, what=f"{name} in the catalogue with {fields}")


def serve(team: Namespace, name: str, engines: int) -> None:
    """Say that so many engines of a model serve, as the Deployment's controller would."""
    team.wait_for("deployment", name)
    status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": engines}
    patch = json.dumps({"status": {**status, "availableReplicas": engines}})
    team.kubectl("patch", "deployment", name, "--subresource=status", "--type=merge", "--patch", patch)


def writes(team: Namespace) -> int:
    """How often the operator has written a ConfigMap, or tried to, in the whole cluster."""
    return sum(count for key, count in requests(team).items() if key.startswith("APPLY configmaps"))


def rested(team: Namespace, running: OperatorProcess, name: str) -> int:
    """The writes so far, once the operator has looked at the model and its namespace again and has nothing to do."""
    looks = running.looks()
    team.kubectl("annotate", "vllmmodel", name, "--overwrite", f"seen-after={looks}")
    until(lambda: running.looks() >= looks + 2, what="looks at the model and its namespace")

    def idle() -> bool:
        """Whether it looks at nothing for longer than it puts a look at a catalogue off."""
        before = running.looks()
        time.sleep(CATALOG_AGAIN_AFTER.total_seconds() * 1.5)
        return running.looks() == before

    until(idle, what="an idle operator")
    return writes(team)


def test_the_catalogue_follows_models_readiness_edits_and_deletions(team: Namespace) -> None:
    team.model("small", model={"source": "org/tiny", "servedNames": ["small"]})
    team.model("large", catalog={"languages": ["zh-TW"], "complexity": ["complex"], "weight": 200})
    small = wait_listed(team, "small", ready=False)
    assert (small["served_names"], small["base_url"]) == (["small"], f"http://small.{team.name}.svc:8000/v1")
    wait_listed(team, "large", ready=False, languages=["zh-TW"], complexity=["complex"], weight=200)
    serve(team, "large", 1)
    wait_listed(team, "large", ready=True)
    serve(team, "large", 0)
    wait_listed(team, "large", ready=False)
    team.model("large", catalog={"tasks": ["chat"]})
    assert "languages" not in wait_listed(team, "large", tasks=["chat"], weight=100)
    team.kubectl("delete", "vllmmodel", "small")
    until(lambda: set(listed(team)) == {"large"}, what="a catalogue without small")
    team.kubectl("delete", "vllmmodel", "large")
    team.wait_gone("configmap", "vllm-catalog")


def test_an_edit_of_the_catalogue_leaves_the_deployment_as_it_is(team: Namespace, running: OperatorProcess) -> None:
    team.model()
    wait_listed(team, "qwen")
    team.wait_reason("EnginesStarting")
    before = team.get("deployment", "qwen")["metadata"]
    team.model(catalog={"tasks": ["chat"], "labels": {"tier": "gold"}})
    wait_listed(team, "qwen", tasks=["chat"], labels={"tier": "gold"})
    rested(team, running, "qwen")
    after = team.get("deployment", "qwen")["metadata"]
    assert (after["generation"], after["resourceVersion"]) == (before["generation"], before["resourceVersion"])


def test_models_at_rest_cost_no_write_whatever_else_of_them_changes(team: Namespace, running: OperatorProcess) -> None:
    team.model()
    wait_listed(team, "qwen")
    team.wait_reason("EnginesStarting")
    before = rested(team, running, "qwen")
    for _ in range(2):
        assert rested(team, running, "qwen") == before


def test_models_that_come_together_cost_one_write_a_second(team: Namespace, running: OperatorProcess) -> None:
    team.model("first")
    wait_listed(team, "first")
    before = rested(team, running, "first")
    since = time.monotonic()
    documents = [team.document(f"model-{number}") for number in range(MANY)]
    team.kubectl("apply", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": documents})
    until(lambda: len(listed(team)) == MANY + 1, what="all models in the catalogue")
    bindings = MANY
    written = rested(team, running, "first") - before - bindings
    assert 0 < written <= (time.monotonic() - since) / CATALOG_AGAIN_AFTER.total_seconds() + 1


def test_a_catalogue_that_is_edited_or_deleted_comes_back(team: Namespace) -> None:
    team.model()
    wait_listed(team, "qwen")
    patch = json.dumps({"data": {"catalog.json": "{}", "more": "words"}})
    uid = team.get("configmap", "vllm-catalog")["metadata"]["uid"]
    team.kubectl("patch", "configmap", "vllm-catalog", "--type=merge", "--patch", patch)
    until(lambda: '"qwen"' in team.get("configmap", "vllm-catalog")["data"]["catalog.json"], what="the catalogue")
    team.kubectl("delete", "configmap", "vllm-catalog")
    until(lambda: team.get("configmap", "vllm-catalog").get("metadata", {}).get("uid", uid) != uid, what="another one")


def test_a_foreign_config_map_is_left_alone_and_told(team: Namespace, running: OperatorProcess) -> None:
    team.kubectl("create", "configmap", "vllm-catalog", "--from-literal=mine=1")
    team.model()

    def events() -> list[dict[str, Any]]:
        found = team.list("events")
        return [event for event in found if event["reason"] == "NameTaken"]

    (event, *_) = until(events, what="an Event")
    told = "ConfigMap vllm-catalog exists and is not the operator's: delete or rename it"
    assert (event["type"], event["message"], event["involvedObject"]["name"]) == ("Warning", told, "qwen")
    running.wait_logged(f"namespace {team.name}: {told}")
    assert team.get("configmap", "vllm-catalog")["data"] == {"mine": "1"}
    assert team.get("configmap", "vllm-manager")
    team.wait_reason("EnginesStarting")
    team.kubectl("delete", "configmap", "vllm-catalog")
    wait_listed(team, "qwen")


def test_a_pod_reads_it_from_the_api_server_with_the_role_of_the_documentation(team: Namespace, tmp_path: Path) -> None:
    environ = service_account(team, tmp_path)
    source = KubernetesSource(environ=environ, service_account=tmp_path, refresh_seconds=0)
    with pytest.raises(
        Unauthorized, match=r'configmaps "vllm-catalog" is forbidden.*Role in namespace quiet-'
    ) as caught:
        source.read()
    assert "resources [configmaps], resourceNames [vllm-catalog], verbs [get]" in caught.value.advice
    page = (REPOSITORY / "docs" / "catalog.md").read_text(encoding="utf-8")
    (role,) = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "kind: RoleBinding" in text]
    items = list(yaml.safe_load_all(role))
    team.kubectl("apply", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": items})

    def allowed() -> str:
        try:
            source.read()
        except ConfigurationError as error:
            return str(error)
        except Unauthorized:  # the API server's authorizer learns of the role by a watch
            return ""
        raise AssertionError("a catalogue without models")

    assert f"namespace {team.name} has no ConfigMap vllm-catalog" in until(allowed, what="the role")
    team.model(catalog={"languages": ["en"]})
    wait_listed(team, "qwen")
    assert ModelRouter(source).best(language="en").name == "qwen"
    serve(team, "qwen", 1)
    wait_listed(team, "qwen", ready=True)
    assert ModelRouter(source).best().ready


def service_account(team: Namespace, folder: Path) -> dict[str, str]:
    """The files and the variables that a pod of the namespace has."""
    team.kubectl("create", "serviceaccount", "default")
    cluster = yaml.safe_load(team.cluster.kubeconfig.read_text(encoding="utf-8"))["clusters"][0]["cluster"]
    (folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    (folder / "token").write_text(team.kubectl("create", "token", "default"), encoding="utf-8")
    (folder / "namespace").write_text(team.name, encoding="utf-8")
    address = urlsplit(cluster["server"])
    return {"KUBERNETES_SERVICE_HOST": str(address.hostname), "KUBERNETES_SERVICE_PORT": str(address.port)}
