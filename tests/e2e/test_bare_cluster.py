"""On a bare cluster two commands install the operator and serve a model: those of the pages, as they print them.

There is no registry: the images have the names that the commands lead to. The engine is the stub under the name of
vLLM's image, since nodes of tests have no GPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster import ClusterSpec, NodeKind, configs
from tests.cluster.fixtures import started
from tests.cluster.paths import REPOSITORY
from tests.cluster.spec import node_names
from tests.support import images
from tests.support.waiting import until
from vllm_operator import __version__
from vllm_operator.api.spec.profiles import VLLM_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.node

REGISTRY: Final = "registry.example.com/team"
NAMES: Final = {
    images.OPERATOR: f"{REGISTRY}/vllm-operator:{__version__}",
    images.STUB_ENGINE: f"docker.io/vllm/vllm-openai:{VLLM_VERSION}",
}
SECONDS: Final = 600.0
BLOCK: Final = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SERVE: Final = ("kubectl apply -f manifests/samples/", "kubectl wait --for=condition=Ready ")
ASK: Final = 'kubectl vllm chat qwen "What is an ontology?"'


@pytest.fixture
def bare() -> Iterator[OwnCluster]:
    """A cluster in which nothing is installed."""
    archives = (images.operator_image(), images.stub_engine_image())
    with started(ClusterSpec(name=f"test-bare-{os.getpid()}", node=NodeKind.REAL, images=archives)) as cluster:
        for source, target in NAMES.items():
            name_image(cluster, source, target)
        yield cluster


def name_image(cluster: OwnCluster, source: str, target: str) -> None:
    """Give an image one more name on each node."""
    for node in node_names(cluster.spec):
        socket = f"/proc/{cluster.process(f'containerd@{node}').pid}/root{configs.CONTAINERD_SOCKET}"
        words = (cluster.binaries / "ctr", "--address", socket, "--namespace", "k8s.io", "images", "tag")
        subprocess.run([*words, source, target], check=True, capture_output=True)


def command(page: str, beginning: str) -> str:
    """The one command of a page that begins so."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    lines = "\n".join(BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    (found,) = {line.partition("  #")[0].strip() for line in lines if line.startswith(beginning)}
    return found


def uninstall() -> str:
    """The commands of the page that leave nothing."""
    text = (REPOSITORY / "docs/install.md").read_text(encoding="utf-8")
    (found,) = [block for block in BLOCK.findall(text) if block.startswith("kubectl delete vllmmodels")]
    return str(found)


def run(cluster: OwnCluster, words: str) -> str:
    """Run a command as a reader would, in a checkout; what it prints."""
    path = os.pathsep.join((str(Path(sys.executable).parent), cluster.env["PATH"]))
    # a reader's make is not started by another one, which would have it print its directory into what it pipes
    env = {name: value for name, value in cluster.env.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", words.replace("REGISTRY", REGISTRY)],
        cwd=REPOSITORY,
        env={**env, "PATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}\n{cluster.kubectl('get', 'pods', '-A')}"
    return done.stdout


@pytest.mark.parametrize(
    ("page", "install"), [("docs/quickstart.md", "helm install "), ("README.md", "make install-yaml ")]
)
def test_two_commands_install_the_operator_and_serve_a_model_that_answers(
    bare: OwnCluster, page: str, install: str
) -> None:
    run(bare, command(page, install))
    for beginning in SERVE:
        run(bare, command(page, beginning))
    asked = run(bare, command("docs/quickstart.md", ASK))
    assert "What is an ontology?" in asked
    if install.startswith("helm"):
        run(bare, uninstall())
        ours = ("--all-namespaces", "--selector", "app.kubernetes.io/part-of=vllm-operator", "--output", "name")
        kinds = "deployments,pods,services,configmaps,secrets,roles,rolebindings"
        until(lambda: bare.kubectl("get", kinds, *ours) == "", what="the end of all that was made", seconds=120)
        of_cluster = "customresourcedefinitions,clusterroles,clusterrolebindings"
        assert [name for name in bare.kubectl("get", of_cluster, "--output", "name").split() if "vllm" in name] == []
