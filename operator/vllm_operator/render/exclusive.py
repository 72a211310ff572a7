"""Can two pods of one template run on the same node? Judged by the finished template, after the user's patch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.names import POD_TEMPLATE_HASH
from vllm_operator.render.selectors import selects
from vllm_operator.render.untyped import items, part, words

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONTAINERS: Final = ("containers", "initContainers")
_HOSTNAME: Final = "kubernetes.io/hostname"


def one_per_node(template: Mapping[str, Any]) -> bool:
    """Whether a node holds one pod of this template at most.

    Where that is so, a rollout that adds a pod before it takes one away waits for ever as soon as every node that the
    pods may use has one: ports of the node, and pods that keep away from each other, are free only when the old pod is
    gone.
    """
    return _takes_ports(template) or _keeps_apart(template)


def _takes_ports(template: Mapping[str, Any]) -> bool:
    shares_network = bool(part(template, "spec").get("hostNetwork"))
    containers = [container for kind in _CONTAINERS for container in items(template, "spec", kind)]
    ports = [port for container in containers for port in items(container, "ports")]
    return any(shares_network or port.get("hostPort") for port in ports)


def _keeps_apart(template: Mapping[str, Any]) -> bool:
    """Whether the pods must not share a node with pods that have their own labels, of whichever revision."""
    labels = part(template, "metadata", "labels")
    affinity = part(template, "spec", "affinity", "podAntiAffinity")
    return any(
        term.get("topologyKey") == _HOSTNAME
        and POD_TEMPLATE_HASH not in words(term, "matchLabelKeys")
        and "labelSelector" in term  # one that is missing selects nothing, an empty one everything
        and selects(part(term, "labelSelector"), labels)
        for term in items(affinity, "requiredDuringSchedulingIgnoredDuringExecution")
    )
