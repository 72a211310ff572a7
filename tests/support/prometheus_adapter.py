"""The real prometheus-adapter, out of its Go module, with the rules that docs/autoscaling.md has for it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.cluster.binaries import PROMETHEUS_ADAPTER, ensure_extra
from tests.cluster.images import Entry, ImageConfig, build_image, files_layer
from tests.cluster.paths import REPOSITORY
from tests.support.custom_metrics import GROUP, VERSION, api_service

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster import OwnCluster

NAMESPACE: Final = "custom-metrics"
_NAME: Final = "prometheus-adapter"
_IMAGE: Final = "registry.k8s.io/prometheus-adapter/prometheus-adapter:v0.12.0"
_PAGE: Final = REPOSITORY / "docs" / "autoscaling.md"
_RBAC: Final = "rbac.authorization.k8s.io"
_WAIT_SECONDS: Final = 180


def image() -> Path:
    """The archive of its image."""
    program = (ensure_extra(PROMETHEUS_ADAPTER) / "adapter").read_bytes()
    layer = files_layer({"adapter": Entry(mode=0o755, content=program)})
    return build_image(_IMAGE, layers=[layer], config=ImageConfig(entrypoint=["/adapter"], user="65532"))


def rules() -> list[dict[str, Any]]:
    """The rules that our page tells people to give it."""
    (block,) = re.findall(r"```yaml\n(rules:\n  custom:\n.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found: list[dict[str, Any]] = yaml.safe_load(block)["rules"]["custom"]
    return found


def objects(prometheus: str) -> list[dict[str, Any]]:
    """What runs it and has the API server hand requests for custom metrics on to it; it asks this Prometheus."""
    name = {"name": _NAME, "namespace": NAMESPACE}
    labels = {"app": _NAME}
    config = {"rules": rules()}
    container = {
        "name": "adapter",
        "image": _IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "--secure-port=6443",
            "--cert-dir=/certificates",
            "--config=/etc/adapter/config.yaml",
            f"--prometheus-url={prometheus}",
            "--metrics-relist-interval=10s",
            "--metrics-max-age=1m",
        ],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 6443, "scheme": "HTTPS"}, "periodSeconds": 2},
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/adapter"},
            {"name": "certificates", "mountPath": "/certificates"},
        ],
    }
    pod = {
        "serviceAccountName": _NAME,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": _NAME}}, {"name": "certificates", "emptyDir": {}}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"config.yaml": json.dumps(config)}},
        *_rights(),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": name,
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": name,
            "spec": {"selector": labels, "ports": [{"port": 443, "targetPort": 6443}]},
        },
        api_service(name),
    ]


def _rights() -> list[dict[str, Any]]:
    """It reads pods and judges who asks; the controller of autoscalers reads its metrics."""
    own = {"kind": "ServiceAccount", "name": _NAME, "namespace": NAMESPACE}
    scaler = {"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"}
    reader = {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["get", "list", "watch"]}
    metrics = {"apiGroups": [GROUP], "resources": ["*"], "verbs": ["get", "list"]}

    def role(name: str, rule: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule]}

    def binding(name: str, role: str, subject: dict[str, str], namespace: str = "") -> dict[str, Any]:
        return {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
            "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
            "roleRef": {"apiGroup": _RBAC, "kind": "Role" if namespace else "ClusterRole", "name": role},
            "subjects": [subject],
        }

    return [
        role("custom-metrics-of-pods", reader),
        role("custom-metrics-reader", metrics),
        binding("custom-metrics-of-pods", "custom-metrics-of-pods", own),
        binding("custom-metrics-delegator", "system:auth-delegator", own),
        binding("custom-metrics-auth", "extension-apiserver-authentication-reader", own, "kube-system"),
        binding("custom-metrics-scaler", "custom-metrics-reader", scaler),
    ]


def install(cluster: OwnCluster, prometheus: str) -> None:
    """Have it, and wait until the API server finds it."""
    cluster.load_image(image())
    _each(cluster, ("apply", "--server-side"), objects(prometheus))
    place = ("--namespace", NAMESPACE)
    words = ("wait", "--for=condition=Available", f"deployment/{_NAME}", f"--timeout={_WAIT_SECONDS}s")
    cluster.kubectl(*place, *words, timeout=_WAIT_SECONDS + 30.0)
    cluster.kubectl("wait", "--for=condition=Available", f"apiservice/{VERSION}.{GROUP}", "--timeout=60s")


def remove(cluster: OwnCluster, prometheus: str) -> None:
    """Have it no more; first the API, which nobody would answer for."""
    _each(cluster, ("delete", "--wait=false"), objects(prometheus)[::-1])


def _each(cluster: OwnCluster, words: tuple[str, ...], documents: list[dict[str, Any]]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": documents}
    cluster.kubectl(*words, "--filename", "-", input=json.dumps(listed))
