"""An API server with our CRD, an operator beside it, and a namespace for each test."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.operator_process import OperatorProcess
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster

REPOSITORY = Path(__file__).parent.parent.parent
_NUMBERS = itertools.count(1)


class Namespace:
    """A namespace of its own, and kubectl in it."""

    def __init__(self, cluster: OwnCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def kubectl(self, *args: str, document: object = None) -> str:
        """Run kubectl here; `document` goes to `-f -`."""
        text = None if document is None else json.dumps(document)
        return self.cluster.kubectl("--namespace", self.name, *args, input=text)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object; empty where there is none."""
        text = self.kubectl("get", kind, name, "--output", "json", "--ignore-not-found", "--show-managed-fields")
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def wait_for(self, kind: str, name: str) -> dict[str, Any]:
        """One object, once it is there."""
        return until(lambda: self.get(kind, name), what=f"{kind} {name}")

    def wait_gone(self, kind: str, name: str) -> None:
        """Until there is no such object."""
        until(lambda: not self.get(kind, name), what=f"the end of {kind} {name}")

    def model(self, name: str = "qwen", **spec: Any) -> None:
        """Apply a VLLMModel."""
        self.kubectl("apply", "--filename", "-", document=self.document(name, **spec))

    def document(self, name: str = "qwen", **spec: Any) -> dict[str, Any]:
        """A VLLMModel of this namespace."""
        return {
            "apiVersion": "vllm.echo-roots.io/v1alpha1",
            "kind": "VLLMModel",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"model": {"source": "org/tiny"}, **spec},
        }

    def condition(self, kind: str, name: str = "qwen") -> dict[str, Any]:
        """One condition of a model; empty before there is one."""
        conditions = self.get("vllmmodel", name).get("status", {}).get("conditions", [])
        return next((dict(found) for found in conditions if found["type"] == kind), {})

    def wait_reason(self, reason: str, name: str = "qwen") -> dict[str, Any]:
        """The Ready condition, once it has this reason."""

        def look() -> dict[str, Any]:
            found = self.condition("Ready", name)
            return found if found.get("reason") == reason else {}

        return until(look, what=f"{reason} of {name}")


@pytest.fixture(scope="session")
def with_crd(api_server: OwnCluster) -> OwnCluster:
    """The API server, once it serves the resource."""
    api_server.kubectl("apply", "--kustomize", str(REPOSITORY / "crds"))
    api_server.kubectl("wait", "--for=condition=Established", "crd/vllmmodels.vllm.echo-roots.io", "--timeout=60s")
    return api_server


@pytest.fixture(scope="session")
def operator(with_crd: OwnCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """The operator, at work."""
    with OperatorProcess(with_crd.kubeconfig, tmp_path_factory.mktemp("operator")) as running:
        yield running


@pytest.fixture
def namespace(with_crd: OwnCluster) -> Iterator[Namespace]:
    """A namespace for one test."""
    name = f"contract-{next(_NUMBERS)}"
    with_crd.kubectl("create", "namespace", name)
    yield Namespace(with_crd, name)
    with_crd.kubectl("delete", "namespace", name, "--wait=false")
