"""VLLMModels, their children and their pods as the API server would have them, for tests without one."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vllm_operator.api.live import ObjectKey, key_of, live_object
from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.api.resource import VLLMModel, parse_resource
from vllm_operator.planner.plan import Observation
from vllm_operator.planner.template import chosen, with_chosen
from vllm_operator.render.children import children, remembered_children
from vllm_operator.render.context import NO_CLUSTER, RenderContext
from vllm_operator.render.groups import placed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.live import LiveObject

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
SOURCE = "Qwen/Qwen2.5-0.5B-Instruct"


def resource(name: str = "qwen", *, namespace: str = "team", generation: int = 1, **spec: Any) -> dict[str, Any]:
    """A VLLMModel; `spec` holds its sections, the model's source is there unless given."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-of-{name}",
            "generation": generation,
            "resourceVersion": "10",
        },
        "spec": {"model": {"source": SOURCE}, **spec},
    }


def model(name: str = "qwen", *, namespace: str = "team", **spec: Any) -> VLLMModel:
    """The same, parsed."""
    return parse_resource(resource(name, namespace=namespace, **spec))


def child_of(raw: Mapping[str, Any], kind: str, *, suffix: str = "") -> dict[str, Any]:
    """A child of a model as it is rendered."""
    wanted = ObjectKey(kind, f"{parse_resource(raw).instance}{suffix}")
    return copy.deepcopy(next(child for child in children(parse_resource(raw)) if key_of(child) == wanted))


def live(desired: Mapping[str, Any], *, generation: int = 1, **status: Any) -> dict[str, Any]:
    """An object as the API server keeps it: with an identity, and for a Deployment with a status."""
    metadata = {"uid": f"uid-of-{desired['kind']}", "resourceVersion": "20", "generation": generation}
    found = copy.deepcopy({**desired, "metadata": {**desired["metadata"], **metadata}})
    return {**found, "status": status} if status else found


def as_live(raw: Mapping[str, Any], kind: str = "") -> LiveObject:
    """The same as the operator reads it; a test says of an object's identity only what matters to it."""
    identity = {"name": "qwen", "namespace": "team", "uid": "u", "resourceVersion": "1"}
    whole = {"kind": kind or "ConfigMap", **raw, "metadata": {**identity, **raw.get("metadata", {})}}
    return live_object(whole)


def deployment_status(replicas: int, *, ready: int | None = None, updated: int | None = None) -> dict[str, Any]:
    """Status of a Deployment whose controller has seen its first generation."""
    serving = replicas if ready is None else ready
    counts = {
        "replicas": replicas,
        "updatedReplicas": replicas if updated is None else updated,
        "readyReplicas": serving,
        "availableReplicas": serving,
        "unavailableReplicas": replicas - serving,
    }
    return {"observedGeneration": 1, **{name: count for name, count in counts.items() if count}}


def desired(raw: Mapping[str, Any], context: RenderContext = NO_CLUSTER) -> tuple[Mapping[str, Any], ...]:
    """All children of a model as they are wanted where there is none yet."""
    model = parse_resource(raw)
    rendered = remembered_children(model, context)
    return placed(model, with_chosen(model, rendered, chosen(model, observation(raw), rendered)))


def as_desired(raw: Mapping[str, Any], **status: Any) -> dict[ObjectKey, dict[str, Any]]:
    """All children of a model, live; `status` is that of the Deployment."""
    return {key_of(child): live(child, **(status if child["kind"] == "Deployment" else {})) for child in desired(raw)}


LOADING = {"started": False, "state": {"running": {"startedAt": "2026-11-22T11:00:00Z"}}}
"""What kubelet reports of an engine that runs and has not passed its gate."""


def pod(
    name: str = "qwen-1",
    *,
    ready: bool = False,
    container: Mapping[str, Any] | None = None,
    conditions: tuple[Mapping[str, Any], ...] = (),
    **status: Any,
) -> dict[str, Any]:
    """A pod of an engine that loads.

    `container` holds what kubelet reports of the engine instead, `status` further parts of the pod's status.
    """
    readiness = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-11-22T11:00:00Z"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-of-{name}",
            "resourceVersion": "30",
            "labels": {"app.kubernetes.io/instance": "qwen"},
        },
        "status": {
            "conditions": [*conditions, readiness],
            "containerStatuses": [{"name": "vllm", "restartCount": 0, **(LOADING if container is None else container)}],
            **status,
        },
    }


def observation(
    raw: Mapping[str, Any] | None,
    live_children: Mapping[ObjectKey, Mapping[str, Any]] | None = None,
    *pods: Mapping[str, Any],
    now: datetime = NOW,
    **around: Any,
) -> Observation:
    """What the operator sees; `around` holds what it asks the API server for."""
    return Observation(
        model=None if raw is None else live_object(raw),
        children={key: as_live(child) for key, child in (live_children or {}).items()},
        pods=tuple(map(live_object, pods)),
        now=now,
        **around,
    )


def condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """One condition of a status."""
    return dict(next(found for found in status["conditions"] if found["type"] == kind))
