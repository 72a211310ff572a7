"""The real Kueue, out of its Go module and its own chart, and queues in it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.cluster.binaries import KUEUE, ensure_extra, extra_source
from tests.cluster.images import Entry, ImageConfig, build_image, files_layer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster import OwnCluster
    from tests.support.site import Site

NAMESPACE: Final = "kueue-system"
MODULE: Final = "sigs.k8s.io/kueue"
API_VERSION: Final = "kueue.x-k8s.io/v1beta2"
FLAVOR: Final = "default-flavor"
_REPOSITORY, _TAG = "registry.k8s.io/kueue/kueue", "v0.17.0"
_USER: Final = "65532"
_PLENTY: Final = 1000

_CONFIGURATION: Final[dict[str, Any]] = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta2",
    "kind": "Configuration",
    "health": {"healthProbeBindAddress": ":8081"},
    "metrics": {"bindAddress": ":8443"},
    "webhook": {"port": 9443},
    "leaderElection": {"leaderElect": False},
    "integrations": {"frameworks": ["batch/job", "pod", "deployment", "leaderworkerset.x-k8s.io/leaderworkerset"]},
}


def _values(changes: dict[str, Any]) -> dict[str, Any]:
    """Values of the chart, with more of Kueue's configuration."""
    manager = {
        "image": {"repository": _REPOSITORY, "tag": _TAG, "pullPolicy": "IfNotPresent"},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    }
    gates = [{"name": "VisibilityOnDemand", "enabled": False}]  # its API server takes a second port
    return {
        "controllerManager": {"featureGates": gates, "manager": manager},
        "managerConfig": {"controllerManagerConfigYaml": yaml.safe_dump({**_CONFIGURATION, **changes})},
    }


def image() -> Path:
    """The archive of the image under the name that the chart is given."""
    program = (ensure_extra(KUEUE) / "kueue").read_bytes()
    layer = files_layer({"manager": Entry(mode=0o755, content=program)})
    return build_image(f"{_REPOSITORY}:{_TAG}", layers=[layer], config=ImageConfig(entrypoint=["/manager"], user=_USER))


def install(cluster: OwnCluster, **configuration: Any) -> None:
    """As its own chart says, and wait until it takes objects: its webhooks get their certificate by then.

    Done again with another configuration, it is started anew with that.
    """
    chart = str(extra_source(KUEUE, MODULE) / "charts" / "kueue")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:
        yaml.safe_dump(_values(configuration), values)
        values.flush()
        words = ["template", "kueue", chart, "--namespace", NAMESPACE, "--values", values.name]
        rendered = subprocess.run(
            [str(cluster.binaries / "helm"), *words], env=cluster.env, check=True, capture_output=True, text=True
        ).stdout
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    found = [one for one in yaml.safe_load_all(rendered) if one and one["kind"] != "APIService"]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": [namespace, *found]})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", input=document)
    words = ["rollout", "status", "deployment/kueue-controller-manager", "--timeout=240s"]
    cluster.kubectl("--namespace", NAMESPACE, *words, timeout=260)


def object_of(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """An object of Kueue."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def cluster_queue(name: str, gpus: int, **spec: Any) -> dict[str, Any]:
    """A ClusterQueue of so many GPUs, with as much of everything else as anybody asks for."""
    amounts = {"cpu": _PLENTY, "memory": f"{_PLENTY}Gi", "nvidia.com/gpu": gpus}
    resources = [{"name": resource, "nominalQuota": amount} for resource, amount in amounts.items()]
    flavors = [{"name": FLAVOR, "resources": resources}]
    groups = [{"coveredResources": list(amounts), "flavors": flavors}]
    return object_of("ClusterQueue", name, namespaceSelector={}, resourceGroups=groups, **spec)


def queue(site: Site, gpus: int, name: str = "gpus", **spec: Any) -> None:
    """A LocalQueue of the namespace, with a ClusterQueue of its own, once it admits."""
    whole = f"{site.name}-{name}"
    local = object_of("LocalQueue", name, clusterQueue=whole)
    flavor = {"apiVersion": API_VERSION, "kind": "ResourceFlavor", "metadata": {"name": FLAVOR}}
    site.apply(flavor, cluster_queue(whole, gpus, **spec), local)
    site.kubectl("wait", "--for=condition=Active", f"localqueue/{name}", "--timeout=60s")
