"""On a real API server with its controllers: what the operator's numbers make of edits of pods and replicas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.errors import ClusterError
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.namespace import Namespace
    from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api_server

LONG_AGO = "2026-01-01T00:00:00Z"
NO_ROOM = (
    "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No preemption "
    "victims found for incoming pod."
)
PLACED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": LONG_AGO}
UNPLACED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": NO_ROOM,
    "lastTransitionTime": LONG_AGO,
}
READY = {"type": "Ready", "status": "True", "lastTransitionTime": LONG_AGO}


def length(tokens: int) -> dict[str, Any]:
    """A spec whose pods differ from those of another number."""
    return {"engine": {"maxModelLen": tokens}}


def pods(namespace: Namespace) -> list[dict[str, Any]]:
    """Pods of the engines that are not on their way out, in the order in which they were made."""
    found = namespace.list("pods")
    living = (one for one in found if "deletionTimestamp" not in one["metadata"])
    return sorted(living, key=lambda one: str(one["metadata"]["creationTimestamp"]))


def uids(namespace: Namespace) -> set[str]:
    """Who they are."""
    return {one["metadata"]["uid"] for one in pods(namespace)}


def tell(namespace: Namespace, pod: dict[str, Any], *conditions: dict[str, Any], phase: str = "Running") -> None:
    """Do what scheduler and kubelet do where there are some; for a pod that has gone since it was seen, nothing."""
    patch = json.dumps({"status": {"phase": phase, "conditions": list(conditions)}})
    name = pod["metadata"]["name"]
    try:
        namespace.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "--patch", patch)
    except ClusterError:
        if pod["metadata"]["uid"] in uids(namespace):
            raise


def serve_all(namespace: Namespace) -> None:
    """Every engine that there is has loaded."""
    for pod in pods(namespace):
        if READY not in pod.get("status", {}).get("conditions", []):
            tell(namespace, pod, PLACED, READY)


def wait_ready(namespace: Namespace) -> None:
    """Until all wanted engines serve."""

    def look() -> bool:
        serve_all(namespace)
        generation = namespace.get("vllmmodel", "qwen")["metadata"]["generation"]
        ready = namespace.condition("Ready")
        return (ready.get("status"), ready.get("observedGeneration")) == ("True", generation)

    until(look, what="a model that is ready")


def numbers(namespace: Namespace) -> dict[str, Any]:
    """The strategy of the Deployment."""
    found: dict[str, Any] = namespace.get("deployment", "qwen")["spec"]["strategy"]
    return found


def wait_numbers(namespace: Namespace, wanted: dict[str, Any]) -> None:
    """Until the Deployment has this strategy."""
    until(lambda: numbers(namespace) == wanted, what=f"the strategy {wanted}")


def wait_pods(namespace: Namespace, count: int) -> None:
    """Until there are so many engines."""
    until(lambda: len(pods(namespace)) == count, what=f"{count} engines")


def wait_followed(namespace: Namespace, replicas: int, tokens: int) -> None:
    """Until the operator has written these, the controller has followed, and the numbers are those of rest again."""

    def look() -> bool:
        live = namespace.get("deployment", "qwen")
        spec, status = live["spec"], live.get("status", {})
        (engine,) = spec["template"]["spec"]["containers"]
        seen = status.get("observedGeneration") == live["metadata"]["generation"]
        written = spec["replicas"] == replicas and str(tokens) in engine["args"]
        rests = spec["strategy"].get("rollingUpdate") == {"maxSurge": 1, "maxUnavailable": 0}
        return seen and written and rests

    until(look, what=f"{replicas} replicas with {tokens} tokens")


@pytest.mark.parametrize("pace", ["at once", "one after the other"])
def test_an_engine_that_serves_outlives_quick_edits_of_the_pods_and_of_replicas(
    operator: OperatorProcess, namespace: Namespace, pace: str
) -> None:
    assert operator.get("/readyz") == "ok\n"
    namespace.model(replicas=1, **length(1024))
    namespace.wait_for("deployment", "qwen")
    wait_ready(namespace)
    (serving,) = uids(namespace)
    for replicas, tokens in ((1, 1025), (2, 1026), (1, 1027)):
        namespace.model(replicas=replicas, **length(tokens))
        if pace == "one after the other":
            wait_followed(namespace, replicas, tokens)
            wait_pods(namespace, replicas + 1)
    wait_followed(namespace, 1, 1027)
    wait_pods(namespace, 2)
    assert serving in uids(namespace)
    wait_ready(namespace)
    assert serving not in uids(namespace)
    assert len(pods(namespace)) == 1


def test_an_engine_goes_first_where_the_next_one_finds_no_node_and_the_numbers_go_back(
    operator: OperatorProcess, namespace: Namespace
) -> None:
    assert operator.get("/readyz") == "ok\n"
    rollout = {"surgeTimeoutSeconds": 1}
    namespace.model(replicas=2, rollout=rollout, **length(1024))
    namespace.wait_for("deployment", "qwen")
    wait_ready(namespace)
    old = uids(namespace)
    namespace.model(replicas=2, rollout=rollout, **length(1025))

    def waiting() -> list[dict[str, Any]]:
        return [one for one in pods(namespace) if one["metadata"]["uid"] not in old]

    until(waiting, what="the additional engine")
    (new,) = waiting()
    tell(namespace, new, UNPLACED, phase="Pending")
    until(lambda: len(old & uids(namespace)) == 1, what="one engine less")

    def told() -> tuple[str, int]:
        rollout = namespace.get("vllmmodel", "qwen")["status"].get("rollout", {})
        return rollout.get("strategy", ""), rollout.get("wanted", 0)

    until(lambda: told() == ("InPlace", 2), what="a status that tells the strategy in effect")
    assert numbers(namespace)["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    wait_ready(namespace)
    assert old.isdisjoint(uids(namespace))
    wait_numbers(namespace, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    assert "rollout" not in namespace.get("vllmmodel", "qwen")["status"]


def test_each_strategy_is_taken_by_the_api_server_after_each_other_one(
    operator: OperatorProcess, namespace: Namespace
) -> None:
    assert operator.get("/readyz") == "ok\n"
    namespace.model()
    namespace.wait_for("deployment", "qwen")
    wait_ready(namespace)
    expected: dict[str, dict[str, Any]] = {
        "Recreate": {"type": "Recreate"},
        "InPlace": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "Surge": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    }
    for strategy in ("Recreate", "InPlace", "Recreate", "Surge", "InPlace", "Surge"):
        namespace.model(rollout={"strategy": strategy})
        wait_numbers(namespace, expected[strategy])


def test_paused_the_pods_stay_as_they_are_while_replicas_change_and_go_on_when_resumed(
    operator: OperatorProcess, namespace: Namespace
) -> None:
    assert operator.get("/readyz") == "ok\n"
    paused = {"paused": True}
    namespace.model(replicas=1, rollout=paused, **length(1024))
    namespace.wait_for("deployment", "qwen")
    wait_ready(namespace)
    old = uids(namespace)
    namespace.model(replicas=2, rollout=paused, **length(1025))
    wait_pods(namespace, 2)
    serve_all(namespace)
    namespace.wait_reason("RolloutPaused")
    assert old <= uids(namespace)
    hashes = {one["metadata"]["labels"]["pod-template-hash"] for one in pods(namespace)}
    assert len(hashes) == 1, "the new one is of the old template too"
    namespace.model(replicas=2, **length(1025))
    wait_ready(namespace)
    assert old.isdisjoint(uids(namespace))
