"""Models as the operator has told them, with pods, for tests of the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.resources import deployment_status, pod, resource
from vllm_operator.api.names import QUEUE
from vllm_operator.diagnosis.queues import POD_GROUP

if TYPE_CHECKING:
    from tests.support.namespace import Namespace

SINCE = "2026-11-22T11:00:00Z"
TOO_LONG = (
    "ValueError: To serve at least one request with the model's max seq len (40960), (5.62 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (1.29 GiB). Based on the available memory, the estimated "
    "maximum model length is 9392. Try increasing `gpu_memory_utilization`"
)
"""A line of an engine's log that names a known failure, with the value that mends it."""
STATUS: dict[str, Any] = {
    "verdict": "starting",
    "cause": "Loading",
    "sentence": "nothing listens on port 8000 yet",
    "phase": {"name": "LoadingWeights", "detail": "3 of 8 shards", "since": "2026-11-22T11:00:30Z"},
}
"""What the manager of an engine says that loads."""


def conditions(**told: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Conditions by their types: status, reason and message of each."""
    names = ("status", "reason", "message")
    return [
        {"type": kind, **dict(zip(names, words, strict=True)), "observedGeneration": 1, "lastTransitionTime": SINCE}
        for kind, words in told.items()
    ]


READY = conditions(
    Ready=("True", "AllEnginesServe", "1 of 1 engines serve"),
    Available=("True", "EnginesServe", "at least one engine takes traffic"),
    Reconciling=("False", "AsDesired", ""),
    Stalled=("False", "AsDesired", ""),
)
LOADING = conditions(
    Ready=("False", "EnginesStarting", "0 of 1 engines serve; qwen-1 loads its weights"),
    Available=("False", "NoEngineServes", "no engine takes traffic"),
    Reconciling=("True", "EnginesStarting", "0 of 1 engines serve; qwen-1 loads its weights"),
    Stalled=("False", "AsDesired", ""),
)
STALLED = conditions(
    Ready=("False", "EnginesFailing", "0 of 1 engines serve; qwen-1 fails"),
    Available=("False", "NoEngineServes", "no engine takes traffic"),
    Reconciling=("False", "EnginesFailing", "0 of 1 engines serve; qwen-1 fails"),
    Stalled=("True", "EnginesFailing", "0 of 1 engines serve; qwen-1 fails"),
)


def model(told: list[dict[str, Any]] | None = None, *, name: str = "qwen", **status: Any) -> dict[str, Any]:
    """A model with these conditions; without any, no operator has looked at it."""
    raw = resource(name)
    if told is None:
        return raw
    return {**raw, "status": {"observedGeneration": 1, "replicas": 1, "conditions": told, **status}}


def deployment(*, ready: int = 0) -> dict[str, Any]:
    """The Deployment of a model with one engine."""
    return {"kind": "Deployment", "metadata": {"generation": 1}, "status": deployment_status(1, ready=ready)}


def running(name: str = "qwen-1", **container: Any) -> dict[str, Any]:
    """A pod whose engine runs and loads, with a manager in it."""
    state = {"running": {"startedAt": SINCE}}
    return _with_ports(pod(name, container={"started": False, "restartCount": 0, "state": state, **container}))


def serving(name: str = "qwen-1") -> dict[str, Any]:
    """A pod whose engine serves."""
    state = {"running": {"startedAt": SINCE}}
    return _with_ports(pod(name, ready=True, container={"started": True, "ready": True, "state": state}))


def queued(name: str = "qwen-1", *, group: str = "") -> dict[str, Any]:
    """A pod that its queue of Kueue does not admit."""
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastTransitionTime": SINCE}
    found = pod(name, conditions=(scheduled,))
    labels = {QUEUE: "gpus", **({POD_GROUP: group} if group else {})}
    found["metadata"]["labels"] = {**found["metadata"].get("labels", {}), **labels}
    return {
        **found,
        "spec": {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}], "containers": [{"name": "vllm"}]},
    }


def crashed(name: str = "qwen-1", line: str = TOO_LONG) -> dict[str, Any]:
    """A pod whose engine has ended, with a line of its log in the termination message."""
    message = f"the engine ended with exit code 1, which nobody had asked for\n{line}"
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": message}}
    waits = {"waiting": {"reason": "CrashLoopBackOff"}}
    return _with_ports(pod(name, container={"restartCount": 3, "state": waits, "lastState": ended}))


def _with_ports(found: dict[str, Any]) -> dict[str, Any]:
    ports = [{"name": "http", "containerPort": 8000}, {"name": "gate", "containerPort": 8480}]
    return {**found, "spec": {"nodeName": "node-1", "containers": [{"name": "vllm", "ports": ports}]}}


def tell(namespace: Namespace, *conditions: tuple[str, str, str, str], **status: object) -> None:
    """Write a status of the newest generation, as the operator does."""
    generation = namespace.get("vllmmodel", "qwen")["metadata"]["generation"]
    told = {
        "observedGeneration": generation,
        "replicas": 1,
        "readyReplicas": 1,
        "selector": "a=b",
        "url": "http://qwen:8000/v1",
        "binding": {"name": "qwen-binding", "configMap": "qwen-client"},
        "conditions": [
            {
                **dict(zip(("type", "status", "reason", "message"), condition, strict=True)),
                "observedGeneration": generation,
                "lastTransitionTime": "2026-11-22T10:00:00Z",
            }
            for condition in conditions
        ],
        **status,
    }
    patch = json.dumps({"status": told})
    namespace.kubectl("patch", "vllmmodel", "qwen", "--subresource=status", "--type=merge", "--patch", patch)
