"""Why no node takes a pod, found on real Nodes and Pods: each policy, and which of them counts."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.diagnosis.nodes import Node, demand_of, holding_of, node_of
from vllm_operator.diagnosis.outside import SCHEDULING, diagnose
from vllm_operator.diagnosis.placement import (
    MOST_NODES,
    POLICIES,
    Sight,
    cause_of_placement,
    nodes_to_look_at,
)
from vllm_operator.diagnosis.signatures import LANGUAGES

GPU = "nvidia.com/gpu"
LABELS = {"kubernetes.io/hostname": "gpu-1", "pool": "gpu"}


def node(
    name: str = "gpu-1",
    gpus: int = 8,
    *,
    healthy: int | None = None,
    labels: dict[str, str] | None = None,
    taints: tuple[dict[str, str], ...] = (),
    cordoned: bool = False,
    memory: str = "256Gi",
) -> dict[str, Any]:
    """A Node as the API server has it."""
    has = {"cpu": "64", "memory": memory, "pods": "110", **({GPU: str(gpus)} if gpus else {})}
    spec: dict[str, Any] = {"taints": list(taints)} | ({"unschedulable": True} if cordoned else {})
    allocatable = has | ({GPU: str(healthy)} if healthy is not None else {})
    status = {"capacity": has, "allocatable": allocatable}
    return {"metadata": {"name": name, "labels": LABELS if labels is None else labels}, "spec": spec, "status": status}


def holder(name: str, gpus: int, *, model: str = "", namespace: str = "team", memory: str = "1Gi") -> dict[str, Any]:
    """A Pod that holds GPUs of its node."""
    labels = {"app.kubernetes.io/managed-by": "vllm-operator", "app.kubernetes.io/instance": model} if model else {}
    resources = (
        {"limits": {GPU: str(gpus)}, "requests": {"memory": memory}} if gpus else {"requests": {"memory": memory}}
    )
    container = {"name": "main", "resources": resources}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": {"containers": [container]}}


def wanted(gpus: int = 4, *, memory: str = "16Gi", **spec: Any) -> dict[str, Any]:
    """Spec of a pod that asks for GPUs."""
    limits = {GPU: str(gpus)} if gpus else {}
    resources = {"limits": limits, "requests": {"memory": memory, "cpu": "4", **limits}}
    return {"containers": [{"name": "vllm", "resources": resources}], **spec}


def told(
    nodes: list[dict[str, Any]],
    held: dict[str, list[dict[str, Any]]] | None = None,
    spec: dict[str, Any] | None = None,
) -> tuple[str, str, str]:
    """Id, sentence and value of what keeps a pod from these nodes, of all of which the pods are known."""
    known = {
        one["metadata"]["name"]: tuple(map(holding_of, (held or {}).get(one["metadata"]["name"], []))) for one in nodes
    }
    cause = cause_of_placement(Sight(demand_of(spec or wanted()), tuple(map(node_of, nodes)), known))
    if cause is None:
        return "", "", ""
    for language in LANGUAGES:
        assert diagnose(SCHEDULING, "", seen=cause, language=language), "its texts need no more than is seen"
    found = diagnose(SCHEDULING, "", seen=cause)
    assert found is not None
    return found.explanation.id, found.explanation.sentence, found.explanation.value


def test_a_cluster_without_the_resource_is_told_with_what_it_has_instead() -> None:
    amd = node(gpus=0)
    amd["status"]["capacity"]["amd.com/gpu"] = "8"
    name, sentence, _ = told([amd, node("cpu", 0)])
    assert name == "NoSuchDevice"
    assert sentence.startswith(f"no node has {GPU}, and nodes have amd.com/gpu: look whether the device plug-in runs")
    assert told([node("cpu", 0)])[1].startswith(f"no node has {GPU}: ")
    assert told([])[0] == "NoSuchDevice"


def test_a_label_that_no_node_has_is_told_with_the_values_that_nodes_have() -> None:
    name, sentence, _ = told([node(), node("b", labels={"pool": "big"})], spec=wanted(nodeSelector={"pool": "gpus"}))
    assert name == "NodeLabels"
    assert "no node meets spec.scheduling.nodeSelector pool=gpus, nodes have pool=gpu, pool=big: " in sentence


def test_labels_that_no_node_has_together_are_told_together() -> None:
    both = {"pool": "gpu", "zone": "b"}
    nodes = [node(labels={"pool": "gpu", "zone": "a"}), node("b", labels={"pool": "big", "zone": "b"})]
    assert "spec.scheduling.nodeSelector pool=gpu, zone=b: " in told(nodes, spec=wanted(nodeSelector=both))[1]


def test_an_affinity_that_no_node_meets_is_told() -> None:
    term = {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["other"]}]}
    rule = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    assert "no node meets spec.scheduling.affinity: " in told([node()], spec=wanted(affinity=rule))[1]


def test_labels_that_lead_to_nodes_without_gpus_are_told() -> None:
    nodes = [node(labels={"pool": "gpu"}), node("cpu", 0, labels={"pool": "cpu"})]
    sentence = told(nodes, spec=wanted(nodeSelector={"pool": "cpu"}))[1]
    assert f"no node meets spec.scheduling.nodeSelector pool=cpu and has {GPU}, nodes have {GPU} on gpu-1" in sentence


def test_gpus_that_their_plug_in_takes_for_ill_are_told() -> None:
    name, sentence, _ = told([node(healthy=0)])
    assert name == "DevicesUnhealthy"
    assert sentence.startswith(f"node gpu-1 has 8 {GPU}, of which its device plug-in reports 0 as healthy")


def test_more_gpus_than_the_largest_node_has_are_told_with_a_number_that_fits() -> None:
    name, sentence, value = told([node(gpus=2), node("b", 4)], spec=wanted(8))
    assert (name, value) == ("NodeTooSmall", "4")
    assert sentence.startswith(f"one pod asks for 8 {GPU}, and the largest node has 4: lower spec.parallelism.tensor")


def test_more_memory_than_any_node_with_gpus_has_is_told() -> None:
    name, sentence, _ = told([node(memory="64Gi"), node("cpu", 0, memory="1Ti")], spec=wanted(memory="128Gi"))
    assert name == "NodeResources"
    assert "one pod asks for 128.0Gi of memory, and the nodes that it may use have at most 64.0Gi at all" in sentence


TAINT = {"key": "dedicated", "value": "team-b", "effect": "NoSchedule"}
TOLERATION = {"key": "dedicated", "operator": "Equal", "value": "team-b", "effect": "NoSchedule"}
PLANE = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}


def test_a_taint_that_is_not_tolerated_is_told_with_the_toleration_to_add() -> None:
    name, sentence, value = told([node(taints=(TAINT,)), node("plane", 0, taints=(PLANE,))])
    assert name == "NodeTaints"
    assert sentence.startswith(
        "node gpu-1 could take the pod by labels and size, and has taint dedicated=team-b:NoSchedule"
    )
    assert value == "{key: dedicated, operator: Equal, value: team-b, effect: NoSchedule}"
    assert told([node(taints=(TAINT,))], spec=wanted(tolerations=[TOLERATION])) == ("", "", "")


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"key": "dedicated", "value": "team-b"}, True),
        ({"key": "dedicated", "value": "team-b", "effect": "NoExecute"}, False),
        ({"key": "dedicated", "value": "team-a"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations_count_as_the_scheduler_has_them(toleration: dict[str, str], *, tolerated: bool) -> None:
    assert (told([node(taints=(TAINT,))], spec=wanted(tolerations=[toleration]))[0] == "") is tolerated


def test_a_taint_that_only_prefers_keeps_nobody_away() -> None:
    assert told([node(taints=({"key": "a", "effect": "PreferNoSchedule"},))]) == ("", "", "")


def test_nodes_that_are_cordoned_or_not_ready_are_told_as_that_and_not_as_tainted() -> None:
    name, sentence, _ = told([node(cordoned=True), node("b", taints=(TAINT,))])
    assert name == "NodesCordoned"
    assert sentence.startswith("node gpu-1 could take the pod, and is cordoned: `kubectl uncordon`")
    sick = node(taints=({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},))
    assert told([sick])[1].startswith("node gpu-1 could take the pod, and is not-ready: see `kubectl describe node`")


def test_gpus_that_others_hold_are_counted_and_their_holders_are_named() -> None:
    held = {
        "gpu-1": [holder("llama-7f-1", 4, model="llama"), holder("train", 2, namespace="jobs"), holder("log", 0)],
        "gpu-2": [holder("llama-7f-2", 4, model="llama"), holder("a", 1), holder("b", 1), holder("c", 1)],
    }
    name, sentence, _ = told([node(), node("gpu-2")], held)
    assert name == "DevicesTaken"
    assert sentence.startswith(
        f"one pod asks for 4 {GPU}, 2 nodes that it may use have 16, 3 are free (at most 2 on one node), held by "
        "model team/llama (8), pod jobs/train (2), pod team/a (1) and 2 more: end or scale down what holds them"
    )


def test_names_of_any_length_leave_a_sentence_that_is_whole() -> None:
    held = {"gpu-1": [holder("p" * 60 + str(number), 2, namespace="n" * 60) for number in range(4)]}
    sentence = told([node()], held)[1]
    assert "and 3 more: end or scale down" in sentence


def test_memory_that_others_hold_on_the_nodes_with_free_gpus_is_told() -> None:
    held = {"gpu-1": [holder("hungry", 0, memory="250Gi")], "gpu-2": [holder("llama", 8)]}
    name, sentence, _ = told([node(), node("gpu-2")], held)
    assert name == "NodeResources"
    assert "asks for 16.0Gi of memory, and the nodes that it may use have at most 6.0Gi free: " in sentence


def test_where_a_place_is_free_nothing_is_claimed() -> None:
    assert told([node()]) == ("", "", "")


def test_a_node_whose_pods_are_not_known_counts_neither_as_full_nor_as_free() -> None:
    nodes = tuple(map(node_of, (node(), node("gpu-2"))))
    none = Sight(demand_of(wanted()), nodes)
    assert cause_of_placement(none) is None
    one = Sight(demand_of(wanted()), nodes, {"gpu-1": (holding_of(holder("llama", 8, model="llama")),)})
    cause = cause_of_placement(one)
    assert cause is not None
    assert dict(cause.groups)["nodes"] == "node gpu-1 (of 2)"


def test_the_pods_of_the_nodes_with_the_most_gpus_are_looked_at_and_no_more_than_so_many() -> None:
    nodes = tuple(
        Node(f"n-{number:03}", allocatable=node_of(node(gpus=4 + number % 2)).allocatable) for number in range(99)
    )
    names = nodes_to_look_at(demand_of(wanted()), nodes)
    assert len(names) == MOST_NODES
    assert all(int(name[2:]) % 2 for name in names)
    tainted = (node_of(node(taints=(TAINT,))),)
    assert nodes_to_look_at(demand_of(wanted()), tainted) == ()


def test_a_pod_without_devices_is_judged_by_cpu_and_memory() -> None:
    assert told([node("cpu", 0)], spec=wanted(0)) == ("", "", "")
    assert told([node("cpu", 0, memory="8Gi")], spec=wanted(0))[0] == "NodeResources"


def test_init_containers_sidecars_and_overhead_count_as_the_scheduler_counts_them() -> None:
    spec = wanted(
        1,
        memory="4Gi",
        initContainers=[
            {"name": "fetch", "resources": {"requests": {"memory": "9Gi"}}},
            {"name": "mesh", "restartPolicy": "Always", "resources": {"requests": {"memory": "1Gi"}}},
        ],
        overhead={"memory": "1Gi"},
    )
    assert demand_of(spec).requests["memory"] == 10 * 2**30


def test_every_policy_has_a_case_here() -> None:
    assert len(POLICIES) == 9
