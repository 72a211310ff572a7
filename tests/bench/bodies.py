"""The resources that are applied, and the writes that the operator owes each of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tests.bench.audit import Target
from vllm_operator.api.crd import crd
from vllm_operator.api.live import live_object
from vllm_operator.api.meta import API_VERSION, KIND, PLURAL
from vllm_operator.cluster.kinds import kind_of
from vllm_operator.planner.decide import decide
from vllm_operator.planner.plan import Observation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NO_UID: Final = "00000000-0000-0000-0000-000000000000"
STATUS: Final = f"{PLURAL}/status"


@dataclass(frozen=True, slots=True)
class Work:
    """One resource and what follows from it, made before the clock runs."""

    resource: Mapping[str, Any]
    children: tuple[Mapping[str, Any], ...]
    """As the operator renders them, but for the owner's uid, which only the API server gives."""
    status: Mapping[str, Any]
    """The first one that the operator writes: no engine serves yet."""

    @property
    def name(self) -> str:
        """Name of the resource."""
        return str(self.resource["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Namespace of the resource and of its children."""
        return str(self.resource["metadata"]["namespace"])

    @property
    def made(self) -> Target:
        """The resource itself, as a write is about it."""
        return Target(PLURAL, self.namespace, self.name)

    @property
    def deployment(self) -> Target:
        """Its Deployment, as a write is about it."""
        [name] = [child["metadata"]["name"] for child in self.children if child["kind"] == "Deployment"]
        return Target(kind_of("Deployment").plural, self.namespace, name)

    def children_of(self, uid: str) -> list[dict[str, Any]]:
        """The children of the resource that was made."""
        return [_owned(child, uid) for child in self.children]


def works(namespace: str, number: int) -> list[Work]:
    """The resources of one phase: a model like any other, with resources, a context length and its own names."""
    return [_work(namespace, f"model-{count:05}") for count in range(number)]


def owed(works: Sequence[Work]) -> frozenset[Target]:
    """Everything that has to stand at the end: resources, children, statuses."""
    targets = set()
    for work in works:
        for body in (work.resource, *work.children):
            targets.add(Target(kind_of(body["kind"]).plural, work.namespace, body["metadata"]["name"]))
        targets.add(Target(STATUS, work.namespace, work.name))
    return frozenset(targets)


def _work(namespace: str, name: str) -> Work:
    resource: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"source": "Qwen/Qwen2.5-0.5B-Instruct", "servedNames": [name, "qwen"]},
            "engine": {"maxModelLen": "32k", "gpuMemoryUtilization": 0.9},
            "resources": {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"memory": "32Gi"}},
        },
    }
    seen = {
        **resource,
        "metadata": {**resource["metadata"], "uid": _NO_UID, "generation": 1, "resourceVersion": "1"},
        "spec": _with_defaults(resource["spec"], _spec_schema()),
    }
    plan = decide(Observation(model=live_object(seen), children={}, pods=(), now=datetime.now(UTC)))
    return Work(resource, tuple(write.desired for write in plan.writes), plan.status or {})


def _owned(child: Mapping[str, Any], uid: str) -> dict[str, Any]:
    [owner] = child["metadata"]["ownerReferences"]
    return {**child, "metadata": {**child["metadata"], "ownerReferences": [{**owner, "uid": uid}]}}


@functools.cache
def _spec_schema() -> dict[str, Any]:
    [version] = crd()["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def _with_defaults(value: Any, schema: Mapping[str, Any]) -> Any:
    """A value as the API server stores it: the operator's revision of a model holds the defaults too."""
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        missing = {name: part["default"] for name, part in properties.items() if "default" in part}
        return {name: _with_defaults(part, properties.get(name, {})) for name, part in {**missing, **value}.items()}
    if isinstance(value, list):
        return [_with_defaults(part, schema.get("items", {})) for part in value]
    return value
