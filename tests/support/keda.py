"""The real KEDA, out of its Go module and its own kustomization: what follows ScaledObjects, and its metrics server."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from tests.cluster.binaries import KEDA, ensure_extra, extra_source
from tests.cluster.images import Entry, ImageConfig, build_image, files_layer
from tests.support.definitions import wait_established

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster import OwnCluster

NAMESPACE: Final = "keda"
MODULE: Final = "github.com/kedacore/keda/v2"
DEFINITION: Final = "scaledobjects.keda.sh"
FINALIZER: Final = "finalizer.keda.sh"
DEPLOYMENTS: Final = ("keda-operator", "keda-metrics-apiserver", "keda-admission")
_REGISTRY: Final = "ghcr.io/kedacore"
_IMAGES: Final = {  # program of the module: (image, path of the program in it)
    "operator": ("keda", "keda"),
    "adapter": ("keda-metrics-apiserver", "keda-adapter"),
    "webhooks": ("keda-admission-webhooks", "keda-admission-webhooks"),
}
_TAG: Final = "main"
"""What its kustomization names; the program is that of the module's version."""
_USER: Final = "65532"
_WAIT_SECONDS: Final = 240


@cache
def source() -> Path:
    """The module's folder; Go holds the module against the checksums beside its version when it comes.

    Raises:
        CalledProcessError: there is no way to the module.
    """
    return extra_source(KEDA, MODULE)


def definition() -> Path:
    """The file of the CustomResourceDefinition of ScaledObject."""
    return source() / "config" / "crd" / "bases" / "keda.sh_scaledobjects.yaml"


def images() -> tuple[Path, ...]:
    """The archives of its images, under the names that its kustomization has."""
    folder = ensure_extra(KEDA)
    return tuple(_image(folder / program, *names) for program, names in _IMAGES.items())


def _image(program: Path, image: str, path: str) -> Path:
    layer = files_layer({path: Entry(mode=0o755, content=program.read_bytes())})
    config = ImageConfig(entrypoint=[f"/{path}"], user=_USER)
    return build_image(f"{_REGISTRY}/{image}:{_TAG}", layers=[layer], config=config)


def _manifests(cluster: OwnCluster) -> str:
    """Its own kustomization; its images are on the node, and are not to be looked for elsewhere."""
    rendered = cluster.kubectl("kustomize", str(source() / "config" / "default"))
    return rendered.replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent")


def install(cluster: OwnCluster) -> None:
    """As its own kustomization has it, and wait until its metrics server answers for external metrics."""
    for archive in images():
        cluster.load_image(archive)
    cluster.kubectl("apply", "--server-side", "--filename", "-", input=_manifests(cluster))
    wait_established(cluster, DEFINITION)
    for name in DEPLOYMENTS:
        wait_available(cluster, name)
    wait = ("wait", "--for=condition=Available", "apiservice/v1beta1.external.metrics.k8s.io", "--timeout=60s")
    cluster.kubectl(*wait)


def wait_available(cluster: OwnCluster, name: str) -> None:
    """Until a Deployment of it serves."""
    words = ("wait", "--namespace", NAMESPACE, "--for=condition=Available", f"deployment/{name}")
    cluster.kubectl(*words, f"--timeout={_WAIT_SECONDS}s", timeout=_WAIT_SECONDS + 30.0)


def remove(cluster: OwnCluster) -> None:
    """All of it at once, as people do: its operator is gone before its definitions, which wait for their objects."""
    place = ("--namespace", NAMESPACE)
    cluster.kubectl(*place, "delete", "deployment", *DEPLOYMENTS, "--wait")
    cluster.kubectl(*place, "wait", "--for=delete", "pods", "--all", "--timeout=120s")
    cluster.kubectl("delete", "--wait=false", "--ignore-not-found", "--filename", "-", input=_manifests(cluster))


def errors(cluster: OwnCluster) -> str:
    """What its operator has found wrong in the last half minute."""
    words = ("logs", "--namespace", NAMESPACE, "deployment/keda-operator", "--since=30s")
    return "\n".join(line for line in cluster.kubectl(*words).splitlines() if "ERROR" in line)
