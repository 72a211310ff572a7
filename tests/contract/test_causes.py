"""Causes that only a real API server and its controllers show: refused pods, and answers that the user has to mend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.namespace import Namespace
    from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api_server


def quota(pods: int) -> dict[str, Any]:
    """A ResourceQuota for so many pods."""
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"pods": str(pods)}},
    }


@pytest.fixture
def own(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace whose model is gone before the next test counts what is written."""
    yield namespace
    namespace.kubectl("delete", "vllmmodel", "qwen")
    namespace.wait_gone("deployment", "qwen")


def test_a_quota_that_refuses_pods_is_told_and_so_is_its_end(operator: OperatorProcess, own: Namespace) -> None:
    assert operator.get("/healthz") == "ok\n"
    own.kubectl("apply", "--filename", "-", document=quota(0))
    until(lambda: own.get("resourcequota", "few").get("status", {}).get("hard"), what="the quota's controller")
    own.model()
    message = own.wait_reason("PodsRefused")["message"]
    assert message.startswith("0 of 1 engines serve; the API server refuses pods: exceeded quota: few")
    assert own.condition("Reconciling")["status"] == "True"
    own.kubectl("apply", "--filename", "-", document=quota(9))
    own.kubectl("annotate", "replicasets", "--all", "example.com/try=again")
    own.wait_reason("EnginesStarting")


def test_pod_security_that_refuses_pods_is_told(operator: OperatorProcess, own: Namespace) -> None:
    assert operator.get("/healthz") == "ok\n"
    own.kubectl("label", "namespace", own.name, "pod-security.kubernetes.io/enforce=restricted")
    own.model(pod={"securityContext": {"runAsUser": 0}})
    message = own.wait_reason("PodsRefused")["message"]
    assert 'refuses pods: violates PodSecurity "restricted:latest"' in message
    assert "pod-security.kubernetes.io/enforce" in message


def test_a_duplicate_that_the_api_server_answers_with_500_is_the_users_to_mend(
    operator: OperatorProcess, own: Namespace
) -> None:
    assert operator.get("/healthz") == "ok\n"
    mounts = [{"name": "a", "mountPath": "/a"}, {"name": "a", "mountPath": "/a"}]
    own.model(pod={"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": mounts})
    found = own.wait_reason("ChildRefused")
    assert "duplicate entries for key" in found["message"]
    assert "HTTP 500" in found["message"]
    assert own.condition("Stalled")["status"] == "True"
