"""Nodes, what their pods hold of them, and what a pod asks of a node: as far as a scheduler judges by it. Pure.

Of a node and of a pod only that is kept. As `pkg/scheduler/framework/plugins` of Kubernetes has it: noderesources,
nodeaffinity and tainttoleration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal, DecimalException
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.names import INSTANCE, MANAGED_BY, MANAGER
from vllm_operator.api.quantity import quantity
from vllm_operator.diagnosis.cause import quoted
from vllm_operator.render.untyped import items, part, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Amounts = Mapping[str, Decimal]

_NO_EFFECT: Final = "PreferNoSchedule"
_OF_THE_NODE: Final = "node.kubernetes.io/"
"""Taints by which Kubernetes itself says how a node is."""
_AGES: Final = re.compile(r"\b(?:\d+(?:\.\d+)?(?:h|ms|m|s))+\b")
"""Told, they would change the status by themselves."""
GONE: Final = "the node does not exist any more"
HIDDEN: Final = "the operator may not read nodes"
CORDONED: Final = "node.kubernetes.io/unschedulable"


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps pods from a node that do not tolerate it."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def __str__(self) -> str:
        """As kubectl has it."""
        return f"{self.key}{f'={self.value}' if self.value else ''}:{self.effect}"

    @property
    def is_state(self) -> bool:
        """Whether it says how the node is, and nobody tolerates it on purpose."""
        return self.key.startswith(_OF_THE_NODE)


@dataclass(frozen=True, slots=True)
class Node:
    """A node."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    """Those that keep pods away."""
    allocatable: Amounts = field(default_factory=dict)
    """What pods may have of it together."""
    capacity: Amounts = field(default_factory=dict)
    """What it has, with devices that are not well."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What one pod holds of its node."""

    namespace: str
    pod: str
    model: str = ""
    """Instance name of the model whose engine it is; empty where it is none of the operator's."""
    requests: Amounts = field(default_factory=dict)

    @property
    def holder(self) -> str:
        """Who holds it, in words: all engines of a model count as one."""
        return f"model {self.namespace}/{self.model}" if self.model else f"pod {self.namespace}/{self.pod}"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pod asks of a node."""

    requests: Amounts
    selector: Mapping[str, str] = field(default_factory=dict)
    """`nodeSelector`."""
    terms: tuple[Mapping[str, Any], ...] | None = None
    """Terms of the required node affinity, of which one has to be met; None where there is no such affinity."""
    tolerations: tuple[Mapping[str, Any], ...] = ()

    @property
    def device(self) -> str:
        """The extended resource that it asks for, a GPU before another one; empty where it asks for none."""
        found = [name for name, amount in self.requests.items() if is_device(name) and amount]
        return min(found, key=lambda name: ("gpu" not in name, name), default="")

    def selects(self, node: Node) -> bool:
        """Whether a node has the labels that it asks for."""
        labels = node.labels
        selected = all(labels.get(key) == value for key, value in self.selector.items())
        return selected and (self.terms is None or any(_meets(term, node) for term in self.terms))

    def untolerated(self, node: Node) -> tuple[Taint, ...]:
        """The taints of a node that keep it away."""
        return tuple(taint for taint in node.taints if not any(_tolerates(one, taint) for one in self.tolerations))


def is_device(resource: str) -> bool:
    """Whether it is an extended resource, such as a device plug-in offers."""
    return "/" in resource and "kubernetes.io/" not in resource


def node_of(raw: Mapping[str, Any]) -> Node:
    """A Node as the API server sent it."""
    status, spec = part(raw, "status"), part(raw, "spec")
    taints = [
        Taint(str(one.get("key", "")), str(one.get("value") or ""), str(one.get("effect", "")))
        for one in items(spec, "taints")
        if one.get("effect") != _NO_EFFECT
    ]
    if spec.get("unschedulable") and CORDONED not in {taint.key for taint in taints}:
        taints.append(Taint(CORDONED))
    return Node(
        name=str(raw["metadata"]["name"]),
        labels=dict(part(raw, "metadata", "labels")),
        taints=tuple(taints),
        allocatable=amounts(part(status, "allocatable")),
        capacity=amounts(part(status, "capacity")),
    )


def state_of(raw: Mapping[str, Any]) -> str:
    """What a Node's condition Ready says, as a clause."""
    ready = next((one for one in items(raw, "status", "conditions") if one.get("type") == "Ready"), {})
    if ready.get("status") == "True":
        return "the node says that it is well again"
    words = f"{ready.get('reason') or 'NotReady'}: {ready.get('message') or 'it says no more'}"
    return _AGES.sub("...", quoted(words)).rstrip(". ").replace("; ", ", ")


def holding_of(raw: Mapping[str, Any]) -> Holding:
    """A Pod as the API server sent it."""
    metadata, labels = raw["metadata"], part(raw, "metadata", "labels")
    ours = labels.get(MANAGED_BY) == MANAGER
    return Holding(
        namespace=str(metadata["namespace"]),
        pod=str(metadata["name"]),
        model=str(labels.get(INSTANCE, "")) if ours else "",
        requests=requests_of(part(raw, "spec")),
    )


def demand_of(spec: Mapping[str, Any]) -> Demand:
    """What the spec of a pod asks of a node."""
    affinity = part(spec, "affinity", "nodeAffinity").get("requiredDuringSchedulingIgnoredDuringExecution")
    return Demand(
        requests=requests_of(spec),
        selector=dict(part(spec, "nodeSelector")),
        terms=None if affinity is None else tuple(items(affinity, "nodeSelectorTerms")),
        tolerations=tuple(items(spec, "tolerations")),
    )


def requests_of(spec: Mapping[str, Any]) -> dict[str, Decimal]:
    """What a pod reserves of its node: its containers together, or an init container that asks for more, and overhead.

    Sidecars, which are init containers that stay, count with the containers.
    """
    sidecars = [one for one in items(spec, "initContainers") if one.get("restartPolicy") == "Always"]
    first = [one for one in items(spec, "initContainers") if one.get("restartPolicy") != "Always"]
    together = total(_requests(one) for one in (*items(spec, "containers"), *sidecars))
    for wanted in map(_requests, first):
        names = {*together, *wanted}
        together = {name: max(together.get(name, Decimal()), wanted.get(name, Decimal())) for name in names}
    return total((together, amounts(part(spec, "overhead"))))


def total(parts: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    """The sum of amounts, resource by resource."""
    found: dict[str, Decimal] = {}
    for one in parts:
        for name, amount in one.items():
            found[name] = found.get(name, Decimal()) + amount
    return found


def amounts(texts: Mapping[str, Any]) -> dict[str, Decimal]:
    """Quantities by their resources; what is none is left out."""
    found = {}
    for name, text in texts.items():
        try:
            found[str(name)] = quantity(text)
        except DecimalException:
            continue
    return found


def _requests(container: Mapping[str, Any]) -> dict[str, Decimal]:
    """What is not requested and limited counts as its limit, as the API server has it."""
    resources = part(container, "resources")
    return amounts({**part(resources, "limits"), **part(resources, "requests")})


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    key, effect = toleration.get("key") or "", toleration.get("effect") or taint.effect
    if effect != taint.effect or key not in ("", taint.key):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == taint.value


def _meets(term: Mapping[str, Any], node: Node) -> bool:
    """Whether a node meets all of a term; one that asks for nothing is met by no node."""
    labels, fields = items(term, "matchExpressions"), items(term, "matchFields")
    if not labels and not fields:
        return False
    return all(_holds(one, node.labels) for one in labels) and all(
        _holds(one, {"metadata.name": node.name}) for one in fields
    )


def _holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(str(requirement.get("key"))), words(requirement, "values")
    match requirement.get("operator"):
        case "In":
            met = value in values
        case "NotIn":
            met = value not in values
        case "Exists":
            met = value is not None
        case "DoesNotExist":
            met = value is None
        case "Gt":
            met = _is_whole(value, values) and int(str(value)) > int(values[0])
        case "Lt":
            met = _is_whole(value, values) and int(str(value)) < int(values[0])
        case _:
            met = False
    return met


def _is_whole(value: str | None, values: list[str]) -> bool:
    return value is not None and value.isdecimal() and len(values) == 1 and values[0].isdecimal()
