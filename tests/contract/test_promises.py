"""On a real API server with its controllers: keys that change, and an autoscaler that aims at the Deployment."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until
from vllm_operator.api.names import KEYS_CHANGED_AT

if TYPE_CHECKING:
    from tests.support.namespace import Namespace
    from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api_server

READY = json.dumps({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})


def put_key(namespace: Namespace, text: str) -> None:
    """The user's Secret, and a touch of the model: the operator would look at the Secret within a minute."""
    data = {"token": base64.b64encode(text.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "team-key"}, "data": data}
    namespace.kubectl("apply", "--filename", "-", document=secret)


def touch(namespace: Namespace, text: str) -> None:
    """Have the operator look at the model now."""
    namespace.kubectl("annotate", "vllmmodel", "qwen", "--overwrite", f"example.com/touched={text}")


def pods(namespace: Namespace) -> list[dict[str, Any]]:
    """Pods of the engines."""
    return namespace.list("pods")


def admit(namespace: Namespace) -> None:
    """Do what kubelet does where there is one: report every pod as ready."""
    for found in pods(namespace):
        conditions = found.get("status", {}).get("conditions", [])
        if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            name = found["metadata"]["name"]
            namespace.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "--patch", READY)


def binding_key(namespace: Namespace) -> str:
    """The key that clients get; empty while there is none."""
    data = namespace.get("secret", "qwen-binding").get("data", {})
    return base64.b64decode(data.get("VLLM_API_KEY", "")).decode()


def mark(namespace: Namespace) -> str:
    """When the keys changed, as the template says."""
    template = namespace.get("deployment", "qwen")["spec"]["template"]
    return str(template["metadata"]["annotations"].get(KEYS_CHANGED_AT, ""))


def wait_ready(namespace: Namespace, key: str | None = None) -> None:
    """Until all engines serve. With a key: at no moment is the model ready while the binding has another one."""

    def look() -> bool:
        admit(namespace)
        ready = namespace.condition("Ready").get("status") == "True"
        assert not ready or key is None or binding_key(namespace) == key, "ready, and the binding has another key"
        return ready

    until(look, what="a model that is ready")


def test_a_key_that_changes_rolls_the_engines_and_then_reaches_the_binding(
    operator: OperatorProcess, namespace: Namespace
) -> None:
    assert operator.get("/readyz") == "ok\n"
    put_key(namespace, "first")
    namespace.model(auth={"keys": [{"name": "team-key", "key": "token"}]})
    namespace.wait_for("deployment", "qwen")
    wait_ready(namespace, "first")
    before = {one["metadata"]["uid"] for one in pods(namespace)}
    assert mark(namespace) == ""
    put_key(namespace, "second")
    touch(namespace, "1")
    changed_at = until(lambda: mark(namespace), what="the time of the change in the template")
    assert binding_key(namespace) == "first"
    namespace.wait_condition("Ready", "False")
    (warning,) = until(lambda: namespace.get("vllmmodel", "qwen")["status"].get("warnings"), what="the warning")
    assert warning.startswith(f"spec.auth: the API keys changed at {changed_at}: ")
    assert warning.endswith("the binding keeps the key of before until none of them is left")
    wait_ready(namespace, "second")
    assert before.isdisjoint(one["metadata"]["uid"] for one in pods(namespace))
    assert "warnings" not in namespace.get("vllmmodel", "qwen")["status"]
    namespace.kubectl("label", "secret", "team-key", "some=label")
    looks = operator.looks()
    touch(namespace, "2")
    operator.wait_for_look(looks)
    assert mark(namespace) == changed_at, "a label of the Secret is no change of a key"


def test_a_generated_key_that_is_deleted_is_made_anew_and_rolls_the_engines(
    operator: OperatorProcess, namespace: Namespace
) -> None:
    assert operator.get("/readyz") == "ok\n"
    namespace.model(auth={"generate": True})
    namespace.wait_for("deployment", "qwen")
    wait_ready(namespace)
    before, old = binding_key(namespace), {one["metadata"]["uid"] for one in pods(namespace)}
    namespace.kubectl("delete", "secret", "qwen-binding")
    until(lambda: mark(namespace), what="the time of the change in the template")
    namespace.wait_condition("Ready", "False")
    wait_ready(namespace)
    assert binding_key(namespace) not in ("", before)
    assert old.isdisjoint(one["metadata"]["uid"] for one in pods(namespace))


def test_an_autoscaler_that_aims_at_the_deployment_is_named(operator: OperatorProcess, namespace: Namespace) -> None:
    assert operator.get("/readyz") == "ok\n"
    namespace.model()
    namespace.wait_for("deployment", "qwen")
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen"},
            "minReplicas": 3,
            "maxReplicas": 5,
        },
    }
    namespace.kubectl("apply", "--filename", "-", document=autoscaler)

    def named() -> bool:
        told = namespace.get("vllmmodel", "qwen").get("status", {}).get("warnings", [])
        return any(one.startswith("HorizontalPodAutoscaler web scales Deployment qwen") for one in told)

    until(named, what="the name of the autoscaler")


def test_engines_are_replaced_by_hand_as_those_of_any_deployment(
    operator: OperatorProcess, namespace: Namespace
) -> None:
    assert operator.get("/readyz") == "ok\n"
    namespace.model()
    namespace.wait_for("deployment", "qwen")
    wait_ready(namespace)
    old = {one["metadata"]["uid"] for one in pods(namespace)}
    looks = operator.looks()
    namespace.kubectl("rollout", "restart", "deployment", "qwen")
    operator.wait_for_look(looks)

    def replaced() -> bool:
        admit(namespace)
        return old.isdisjoint(one["metadata"]["uid"] for one in pods(namespace))

    until(replaced, what="new pods")
    template = namespace.get("deployment", "qwen")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]
