"""What a cluster's network would make of its NetworkPolicies, as rules of the packet filter of the first node.

The test cluster has no controller for them. This one reads policies and pods once, and knows what the operator renders:
pods and namespaces by `matchLabels`, ports by name. What the node itself sends, such as kubelet's probes, is not
forwarded and passes.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.cluster import OwnCluster

TABLE: Final = "test-policies"


@contextlib.contextmanager
def enforced(cluster: OwnCluster, namespace: str) -> Iterator[None]:
    """Enforce the policies of a namespace for the pods that there are now.

    Raises:
        ValueError: a policy says something that this does not know.
    """
    policies = _items(cluster, "networkpolicies", "--namespace", namespace)
    pods = _items(cluster, "pods", "--all-namespaces")
    labels = {one["metadata"]["name"]: one["metadata"]["labels"] for one in _items(cluster, "namespaces")}
    rules = [rule for policy in policies for rule in rules_of(policy, pods, labels)]
    table = f"table inet {TABLE} {{ chain forward {{ type filter hook forward priority -10; {'; '.join(rules)}; }}; }}"
    _nft(cluster, table)
    try:
        yield
    finally:
        _nft(cluster, f"delete table inet {TABLE}")


def rules_of(
    policy: Mapping[str, Any], pods: Iterable[Mapping[str, Any]], namespaces: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """The rules for each pod that a policy selects: answers, who is let in, and nobody else."""
    here = policy["metadata"]["namespace"]
    pods = [pod for pod in pods if pod["status"].get("podIP")]
    selected = [pod for pod in pods if _is(pod, {"podSelector": policy["spec"]["podSelector"]}, here, namespaces)]
    for target in selected:
        address = target["status"]["podIP"]
        yield f"ip daddr {address} ct state established,related accept"
        for rule in policy["spec"].get("ingress") or ():
            peers = [
                pod["status"]["podIP"] for pod in pods if any(_is(pod, peer, here, namespaces) for peer in rule["from"])
            ]
            ports = ", ".join(_number(target, port["port"]) for port in rule.get("ports") or ())
            if peers:
                where = f" tcp dport {{ {ports} }}" if ports else ""
                yield f"ip daddr {address} ip saddr {{ {', '.join(peers)} }}{where} accept"
        yield f"ip daddr {address} drop"


def _is(
    pod: Mapping[str, Any], peer: Mapping[str, Any], here: str, namespaces: Mapping[str, Mapping[str, str]]
) -> bool:
    """Whether a pod is one of a peer of a policy."""
    if not set(peer) <= {"podSelector", "namespaceSelector"}:
        raise ValueError(f"a peer that is not known: {peer}")
    home = pod["metadata"]["namespace"]
    wanted = peer.get("namespaceSelector")
    near = home == here if wanted is None else _fits(namespaces[home], wanted)
    return near and _fits(pod["metadata"].get("labels") or {}, peer.get("podSelector") or {})


def _number(pod: Mapping[str, Any], name: str) -> str:
    """The port of a pod that has this name."""
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
    return next(str(port["containerPort"]) for port in ports if port.get("name") == name)


def _fits(labels: Mapping[str, str], selector: Mapping[str, Any]) -> bool:
    if not set(selector) <= {"matchLabels"}:
        raise ValueError(f"a selector that is not known: {selector}")
    return (selector.get("matchLabels") or {}).items() <= labels.items()


def _items(cluster: OwnCluster, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", *words, "--output", "json"))["items"]
    return found


def _nft(cluster: OwnCluster, text: str) -> None:
    done = cluster.run_inside(["nft", text])
    assert done.returncode == 0, done.stderr
