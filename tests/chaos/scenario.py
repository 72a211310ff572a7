"""What users do to one model, step by step, and what comes of it where nothing goes wrong."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos import snapshot
from tests.support.api import APPLY, done
from vllm_operator.cluster.kinds import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.chaos.operators import Operators
    from tests.chaos.snapshot import Snapshot
    from tests.support.api import Api
    from tests.support.api_proxy import Done

NAME = "qwen"
CREATED: Mapping[str, Any] = {
    "model": {"source": "org/tiny", "chatTemplate": {"inline": "{{ messages }}"}},
    "replicas": 2,
    "auth": {"generate": True},
    "storage": {"cache": {"persistentVolumeClaim": {"size": "1Gi"}}},
    "network": {"allowFrom": [{"podSelector": {"matchLabels": {"app": "echo-roots"}}}]},
    "disruption": {"maxUnavailable": 1},
}
EDITED: Mapping[str, Any] = {
    **{name: value for name, value in CREATED.items() if name != "network"},
    "replicas": 3,
    "service": {"port": 80},
}
ROLLED: Mapping[str, Any] = {
    **EDITED,
    "model": {"source": "org/tiny", "chatTemplate": {"inline": "{{ messages[0] }}"}},
    "engine": {"maxModelLen": 1024, "env": [{"name": "A", "value": "1"}]},
    "storage": {"cache": {"emptyDir": {}}},
}


def model(namespace: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The resource of a step."""
    return {
        "apiVersion": MODEL.api_version,
        "kind": MODEL.kind,
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": dict(spec),
    }


def apply(spec: Mapping[str, Any]) -> Callable[[Api, str], None]:
    """A step that applies a spec."""

    def step(api: Api, namespace: str) -> None:
        path, body = MODEL.path(namespace, NAME), model(namespace, spec)
        done(api.call("PATCH", path, body, APPLY, fieldManager="user", force="true"))

    return step


def delete(api: Api, namespace: str) -> None:
    """A step that deletes the model."""
    done(api.call("DELETE", MODEL.path(namespace, NAME)))


STEPS: Mapping[str, Callable[[Api, str], None]] = {
    "create": apply(CREATED),
    "edit": apply(EDITED),
    "rollout": apply(ROLLED),
    "delete": delete,
}


@dataclass(frozen=True)
class Ending:
    """What stands after a step, and what was written on the way."""

    objects: Snapshot
    writes: Counter[str]
    """Of children: method, path and body."""
    told: int
    """Writes of the status."""


def ending(api: Api, kinds: list[tuple[str, str, str]], namespace: str, writes: list[Done]) -> Ending:
    """Read it."""
    found = snapshot.objects(api, namespace, kinds)
    children = [one for one in writes if not one.call.path.endswith("/status")]
    return Ending(
        objects=snapshot.snapshot(found, namespace),
        writes=Counter(_write(one, namespace) for one in children),
        told=len(writes) - len(children),
    )


def _write(one: Done, namespace: str) -> str:
    text = f"{one.call.method} {one.call.path} {json.dumps(snapshot.readable(one.call.json()), sort_keys=True)}"
    return snapshot.neutral(text, namespace)


async def undisturbed(
    api: Api, kinds: list[tuple[str, str, str]], operators: Operators, namespace: str
) -> dict[str, Ending]:
    """What comes of each step where nothing goes wrong."""
    found = {}
    for name, step in STEPS.items():
        before = len(operators.proxy.applied(namespace))
        step(api, namespace)
        await operators.settle()
        found[name] = ending(api, kinds, namespace, operators.proxy.applied(namespace)[before:])
    return found
