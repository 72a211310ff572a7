"""A namespace of a cluster, and what tests do in it: apply, look, wait."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, TypeVar

from tests.support.api import done
from tests.support.reader import reader_of
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster

N = TypeVar("N", bound="Namespace")
INSTANCE = "app.kubernetes.io/instance"


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
        return reader_of(self.cluster).get(kind, self.name, name)

    def list(self, kinds: str, **labels: str) -> list[dict[str, Any]]:
        """Objects of some kinds, by labels."""
        selector = ",".join(f"{INSTANCE if key == 'instance' else key}={value}" for key, value in labels.items())
        return reader_of(self.cluster).list(kinds, self.name, selector)

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

    def wait_condition(self, condition: str, status: str, name: str = "qwen") -> None:
        """Until a condition has this status: it is written after what it tells of."""
        until(lambda: self.condition(condition, name).get("status") == status, what=f"{condition} {status} of {name}")


def created(kind: type[N], cluster: OwnCluster, name: str) -> N:
    """A namespace that nobody has used before."""
    done(reader_of(cluster).api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}}))
    return kind(cluster, name)


@contextlib.contextmanager
def temporary(kind: type[N], cluster: OwnCluster, name: str) -> Iterator[N]:
    """The same, deleted after the block; nobody waits until it is gone."""
    yield created(kind, cluster, name)
    done(reader_of(cluster).api.call("DELETE", f"/api/v1/namespaces/{name}"))
