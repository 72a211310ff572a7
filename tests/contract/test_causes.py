"""Causes that only a real API server and its controllers show: refused pods, and answers that the user has to mend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
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


def test_a_quota_that_refuses_pods_is_told_and_so_is_its_end(operator: OperatorProcess, namespace: Namespace) -> None:
    assert operator.get("/healthz") == "ok\n"
    namespace.kubectl("apply", "--filename", "-", document=quota(0))
    until(lambda: namespace.get("resourcequota", "few").get("status", {}).get("hard"), what="the quota's controller")
    namespace.model()
    message = namespace.wait_reason("PodsRefused")["message"]
    assert message.startswith("0 of 1 engines serve; the API server refuses pods: exceeded quota: few")
    assert namespace.condition("Reconciling")["status"] == "True"
    namespace.kubectl("apply", "--filename", "-", document=quota(9))
    namespace.kubectl("annotate", "replicasets", "--all", "example.com/try=again")
    namespace.wait_reason("EnginesStarting")


def test_pod_security_that_refuses_pods_is_told(operator: OperatorProcess, namespace: Namespace) -> None:
    assert operator.get("/healthz") == "ok\n"
    namespace.kubectl("label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=restricted")
    namespace.model(pod={"securityContext": {"runAsUser": 0}})
    message = namespace.wait_reason("PodsRefused")["message"]
    assert 'refuses pods: violates PodSecurity "restricted:latest"' in message
    assert "pod-security.kubernetes.io/enforce" in message


def test_a_duplicate_that_the_api_server_answers_with_500_is_the_users_to_mend(
    operator: OperatorProcess, namespace: Namespace
) -> None:
    assert operator.get("/healthz") == "ok\n"
    mounts = [{"name": "a", "mountPath": "/a"}, {"name": "a", "mountPath": "/a"}]
    namespace.model(pod={"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": mounts})
    found = namespace.wait_reason("ChildRefused")
    assert "duplicate entries for key" in found["message"]
    assert "HTTP 500" in found["message"]
    assert namespace.condition("Stalled")["status"] == "True"
