"""The real controller of LeaderWorkerSets, out of its Go module and its own chart."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from tests.cluster.binaries import LWS, ensure_extra, extra_source
from tests.cluster.images import Entry, ImageConfig, build_image, files_layer
from tests.support.definitions import wait_established
from vllm_operator.api import groups

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster import OwnCluster

NAMESPACE: Final = "lws-system"
MODULE: Final = "sigs.k8s.io/lws"
DEFINITION: Final = f"leaderworkersets.{groups.API_VERSION.partition('/')[0]}"
_REPOSITORY, _TAG = "registry.k8s.io/lws/lws", "v0.8.0"
_VALUES: Final = (
    f"image.manager.tag={_TAG}",
    "image.manager.pullPolicy=IfNotPresent",
    "resources.requests.cpu=50m",
    "resources.requests.memory=64Mi",
)
_USER: Final = "65532"
_ATTEMPTS: Final = 60


def image() -> Path:
    """The archive of the image under the name that the chart knows."""
    program = (ensure_extra(LWS) / "cmd").read_bytes()
    layer = files_layer({"manager": Entry(mode=0o755, content=program)})
    return build_image(f"{_REPOSITORY}:{_TAG}", layers=[layer], config=ImageConfig(entrypoint=["/manager"], user=_USER))


def source() -> Path:
    """The module's folder, with its chart and its definitions."""
    return extra_source(LWS, MODULE)


def install_definition(cluster: OwnCluster) -> None:
    """The kind alone, without what follows it."""
    cluster.kubectl("apply", "--server-side", "--filename", str(source() / "config" / "crd" / "bases"))
    wait_established(cluster, DEFINITION)


def install(cluster: OwnCluster) -> None:
    """As its own documentation says, and wait until it takes objects: its webhooks get their certificate by then."""
    install_definition(cluster)
    chart = str(source() / "charts" / "lws")
    words = ["template", "lws", chart, "--namespace", NAMESPACE, *(part for one in _VALUES for part in ("--set", one))]
    rendered = subprocess.run(
        [str(cluster.binaries / "helm"), *words], env=cluster.env, check=True, capture_output=True, text=True
    ).stdout
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("apply", "--server-side", "--filename", "-", input=rendered)
    cluster.kubectl(
        "wait",
        "--namespace",
        NAMESPACE,
        "--for=condition=Available",
        "deployment/lws-controller-manager",
        "--timeout=180s",
        timeout=200,
    )
