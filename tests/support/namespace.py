"""A namespace of a cluster, and what tests do in it: apply, look, wait."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.cluster import OwnCluster


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
