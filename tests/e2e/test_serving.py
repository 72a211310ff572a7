"""From a VLLMModel to an answered prompt, and back to nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterError
from tests.support import models
from tests.support.site import CHILDREN, OPERATOR_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node


def test_an_applied_model_gets_ready_and_answers_over_service_dns(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("hello", stub))
    site.wait_ready("hello")
    assert site.ask("hello", "say something") == "hello heard: say something"


def test_two_models_side_by_side_answer_under_their_own_names(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("first", stub), models.model("second", stub))
    site.wait_ready("first")
    site.wait_ready("second")
    assert site.ask("first", "who") == "first heard: who"
    assert site.ask("second", "who") == "second heard: who"


def test_scaling_up_and_to_zero_moves_the_endpoints_and_the_status(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("scaled", stub))
    site.wait_ready("scaled")
    site.kubectl("scale", "vllmmodel/scaled", "--replicas", "2")
    site.wait_ready("scaled")
    site.wait_endpoints("scaled", 2)
    site.wait_endpoints("scaled-engines", 2)
    site.kubectl("scale", "vllmmodel/scaled", "--replicas", "0")
    site.wait_reason("ScaledToZero", "scaled")
    site.wait_endpoints("scaled", 0)
    for condition in ("Available", "Reconciling"):
        site.wait_condition(condition, "False", "scaled")


def test_an_edited_length_rolls_the_engines_and_never_leaves_the_service_empty(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("edited", stub, engine={"maxModelLen": 1024}))
    site.wait_ready("edited")
    site.wait_endpoints("edited", 1)
    (before,) = site.pods("edited")
    site.patch("edited", {"engine": {"maxModelLen": 2048}})

    site.until("the new engine serves alone", lambda: _replaced(site, "edited", before), closely=True)
    site.wait_ready("edited")
    (after,) = site.pods("edited")
    assert _argument(after, "--max-model-len") == "2048"


def test_a_deployment_edited_by_hand_is_repaired(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("drifted", stub))
    site.wait_ready("drifted")
    wanted = site.get("deployment", "drifted")["spec"]
    container = {"name": "vllm", "image": "example.com/another:1"}
    site.patch("drifted", {"replicas": 3, "template": {"spec": {"containers": [container]}}}, kind="deployment")
    site.until("the Deployment is as before", lambda: site.get("deployment", "drifted")["spec"] == wanted)


def test_a_restarted_operator_writes_nothing(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("kept", stub))
    site.wait_ready("kept")
    site.until("the catalogue shows that", lambda: _listed(site).get("kept", {}).get("ready"))
    site.until("what the engine reported", lambda: site.capacity("kept"))
    before = _versions(site)
    _operator(site, "delete", "pods", "--all")
    _operator(site, "wait", "--for=condition=Available", "deployment/vllm-operator")

    def logs() -> str:
        return _operator(site, "logs", "--selector", "app.kubernetes.io/name=vllm-operator", "--tail", "-1")

    site.until("one of the new operators leads", lambda: "leading with" in logs())
    log = logs().splitlines()
    assert [line for line in log if f" {site.name}/" in line and "applied" in line] == []
    assert _versions(site) == before


def test_a_wrong_gpu_count_is_refused_by_the_api_server(site: Site, stub: EngineChoice) -> None:
    wrong = models.model("wrong", stub, parallelism={"tensor": 2}, accelerator={"count": 3})
    with pytest.raises(ClusterError, match=r"must equal spec\.parallelism\.tensor x pipeline x data"):
        site.apply(wrong)


def test_an_engine_that_never_starts_stays_out_of_the_service_and_the_status_says_why(
    site: Site, stub: EngineChoice
) -> None:
    site.apply(models.model("broken", stub, engine={"extraArgs": ["--no-such-argument", "4"]}))
    message = site.wait_reason("EnginesFailing", "broken")["message"]
    assert "0 of 1 engines serve" in message
    assert "exit code 2" in message
    assert "does not take its command line (--no-such-argument" in message
    assert site.condition("Available", "broken")["status"] == "False"
    assert site.endpoints("broken") == set()


def test_an_engine_that_is_deleted_while_it_loads_does_not_keep_its_gpus_for_its_grace(
    site: Site, stub: EngineChoice
) -> None:
    loading = {"env": [{"name": "STUB_LOAD_SECONDS", "value": "300"}]}
    site.apply(models.model("large", stub, engine=loading))
    pod = site.until("a loading engine", lambda: _loading(site, "large"))
    assert pod is not None
    assert pod["spec"]["terminationGracePeriodSeconds"] == 45
    site.kubectl("scale", "vllmmodel/large", "--replicas", "0")  # a garbage collector knows new kinds only 30 s later
    site.until("no pod any more", lambda: not site.list("pods"), seconds=15)


def test_a_model_too_large_for_the_node_says_that_it_cannot_be_scheduled(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("huge", stub, parallelism={"tensor": 64, "pipeline": 2}))
    assert "Insufficient nvidia.com/gpu" in site.wait_reason("EnginesFailing", "huge")["message"]


def test_a_deleted_model_leaves_nothing(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("gone", stub))
    site.wait_ready("gone")
    site.kubectl("delete", "vllmmodel", "gone")
    site.until("all children are gone", lambda: not site.list(f"{CHILDREN},pods", instance="gone"))
    shared = [{"app.kubernetes.io/name": name} for name in ("vllm-manager", "vllm-catalog")]
    site.until(
        "what models share went with the last one", lambda: not any(site.list("configmaps", **one) for one in shared)
    )


def _loading(site: Site, name: str) -> dict[str, Any] | None:
    """The pod of a model, once its container runs."""
    running = (pod for pod in site.pods(name) if pod["status"]["phase"] == "Running")
    return next(running, None)


def _replaced(site: Site, name: str, before: Mapping[str, Any]) -> bool:
    """Whether an engine has made way for another one; there has to be one behind the Service all the time."""
    assert site.endpoints(name), "the Service was empty during the rollout"
    return before["metadata"]["name"] not in [pod["metadata"]["name"] for pod in site.pods(name)]


def _argument(pod: Mapping[str, Any], flag: str) -> str:
    words: list[str] = pod["spec"]["containers"][0]["args"]
    return words[words.index(flag) + 1]


def _operator(site: Site, *arguments: str) -> str:
    return site.cluster.kubectl("--namespace", OPERATOR_NAMESPACE, *arguments)


def _listed(site: Site) -> dict[str, dict[str, Any]]:
    """The models of the catalogue, by name."""
    content = json.loads(site.get("configmap", "vllm-catalog")["data"]["catalog.json"])
    return {one["name"]: one for one in content["models"]}


def _versions(site: Site) -> dict[str, str]:
    """The resource versions of everything that the operator writes here."""
    managed = {"app.kubernetes.io/managed-by": "vllm-operator"}
    objects = [*site.list(CHILDREN, **managed), site.get("vllmmodel", "kept")]
    return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in objects}
