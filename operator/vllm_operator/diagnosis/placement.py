"""Why no node takes a pod: found on the nodes, their pods and the pod's claims, by an ordered chain of policies. Pure.

The scheduler says how many nodes fail by which rule. What it does not say is which label or taint it is, how many
devices there are, and who holds them. Each policy is a function of what was seen that returns the id of a cause of
`outside.yaml` with what its texts tell, or None where it has nothing to say.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Final

from vllm_operator.api.quantity import canonical
from vllm_operator.diagnosis.known import Recognized
from vllm_operator.diagnosis.nodes import CORDONED, is_device, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vllm_operator.diagnosis.nodes import Demand, Holding, Node

MOST_NODES: Final = 32
"""Nodes whose pods are looked at for one pod."""

MOST_HOLDERS: Final = 3
_MOST_WORDS: Final = 140
"""Characters of a list in a sentence."""
_MOST_VALUES: Final = 3
_PLAIN: Final = ("cpu", "memory", "ephemeral-storage")
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Placement:
    """What was found of a pod that no node takes."""

    seen: Recognized | None = None
    """The cause; None where what was seen shows none."""
    remark: str = ""
    """What is to be said where no cause is seen, or not all of it, as a clause; empty where nothing is."""
    autoscaler: str = ""
    """What an autoscaler of nodes says; empty where none does."""


ROOM: Final = "by labels, taints and what is free, a node has room for it"
"""Remark where nodes show no cause: a rule about other pods is one, or a port."""


@dataclass(frozen=True)
class Sight:
    """What was seen around a pod that no node takes."""

    demand: Demand
    nodes: tuple[Node, ...]
    held: Mapping[str, tuple[Holding, ...]] = field(default_factory=dict)
    """What pods hold of each node that was looked at, by the node's name."""

    @cached_property
    def selected(self) -> tuple[Node, ...]:
        """Nodes with the labels that the pod asks for."""
        return tuple(node for node in self.nodes if self.demand.selects(node))

    @cached_property
    def large_enough(self) -> tuple[Node, ...]:
        """Of these, the nodes that could hold the pod if they were empty."""
        wanted = self.demand.requests
        return tuple(
            node
            for node in self.selected
            if all(node.allocatable.get(name, Decimal()) >= amount for name, amount in wanted.items())
        )

    @cached_property
    def open(self) -> tuple[Node, ...]:
        """Of these, the nodes whose taints the pod tolerates."""
        return tuple(node for node in self.large_enough if not self.demand.untolerated(node))

    @cached_property
    def free(self) -> Mapping[str, Mapping[str, Decimal]]:
        """What is free of each open node that was looked at."""
        return {node.name: _free(node, self.held[node.name]) for node in self.open if node.name in self.held}


def nodes_to_look_at(demand: Demand, nodes: tuple[Node, ...]) -> tuple[str, ...]:
    """The nodes of which it has to be known what their pods hold: so many, those with the most devices first."""
    device = demand.device
    by_size = sorted(Sight(demand, nodes).open, key=lambda node: (-node.allocatable.get(device, Decimal()), node.name))
    return tuple(node.name for node in by_size[:MOST_NODES])


def has_no_such_device(sight: Sight) -> Recognized | None:
    """No node of the cluster offers the resource."""
    device = sight.demand.device
    if not device or any(node.capacity.get(device) or node.allocatable.get(device) for node in sight.nodes):
        return None
    found = sorted(
        {name for node in sight.nodes for name, amount in node.capacity.items() if is_device(name) and amount}
    )
    return _cause("NoSuchDevice", resource=device, others=_listed(found))


def asks_for_labels(sight: Sight) -> Recognized | None:
    """No node has a label that the pod asks for, or none has all of them together."""
    if sight.selected:
        return None
    where = "spec.scheduling.nodeSelector"
    for key, value in sorted(sight.demand.selector.items()):
        values = Counter(node.labels[key] for node in sight.nodes if key in node.labels)
        if value not in values:
            others = [f"{key}={found}" for found, _ in values.most_common(_MOST_VALUES)]
            return _cause("NodeLabels", where=where, wanted=f"{key}={value}", others=_listed(others))
    if sight.demand.terms is not None:
        where = "spec.scheduling.affinity" if not sight.demand.selector else f"{where} and affinity"
    wanted = [f"{key}={value}" for key, value in sorted(sight.demand.selector.items())]
    return _cause("NodeLabels", where=where, wanted=_listed(wanted), others="")


def labels_lead_away_from_devices(sight: Sight) -> Recognized | None:
    """The nodes with the labels that the pod asks for have no devices, and others have."""
    device = sight.demand.device
    if not device or any(node.capacity.get(device) or node.allocatable.get(device) for node in sight.selected):
        return None
    wanted = [f"{key}={value}" for key, value in sorted(sight.demand.selector.items())]
    having = [node.name for node in sight.nodes if node.allocatable.get(device)]
    where = "spec.scheduling.nodeSelector" if wanted else "spec.scheduling.affinity"
    wanted_text = f"{_listed(wanted)} and has {device}" if wanted else f"and has {device}"
    return _cause(
        "NodeLabels", where=where, wanted=wanted_text, others=f"{device} on {_listed(having)}" if having else ""
    )


def devices_are_unhealthy(sight: Sight) -> Recognized | None:
    """A node would have enough devices if all of them were well."""
    device = sight.demand.device
    wanted = sight.demand.requests.get(device, Decimal())
    if not device or any(node.allocatable.get(device, Decimal()) >= wanted for node in sight.selected):
        return None
    for node in sight.selected:
        has, well = node.capacity.get(device, Decimal()), node.allocatable.get(device, Decimal())
        if well < wanted <= has:
            return _cause(
                "DevicesUnhealthy", node=node.name, resource=device, capacity=_number(has), exist=_number(well)
            )
    return None


def asks_for_too_many_devices(sight: Sight) -> Recognized | None:
    """No node has as many devices as one pod asks for."""
    device = sight.demand.device
    wanted = sight.demand.requests.get(device, Decimal())
    most = max((node.allocatable.get(device, Decimal()) for node in sight.selected), default=Decimal())
    if not device or wanted <= most:
        return None
    return _cause("NodeTooSmall", resource=device, wanted=_number(wanted), most=_number(most))


def asks_for_too_much(sight: Sight) -> Recognized | None:
    """No node with enough devices has as much CPU or memory as one pod asks for."""
    if sight.large_enough:
        return None
    device = sight.demand.device
    with_devices = [
        node for node in sight.selected if node.allocatable.get(device, Decimal()) >= _wanted(sight, device)
    ]
    return _short_of(sight, {node.name: node.allocatable for node in with_devices}, taken=False)


def nodes_keep_it_away(sight: Sight) -> Recognized | None:
    """Every node that could hold the pod has a taint that it does not tolerate."""
    if sight.open or not sight.large_enough:
        return None
    away = {node.name: sight.demand.untolerated(node) for node in sight.large_enough}
    sick = [name for name, taints in away.items() if all(taint.is_state for taint in taints)]
    if sick:
        states = sorted({taint.key.rpartition("/")[2] for name in sick for taint in away[name]})
        cordoned = all(taint.key == CORDONED for name in sick for taint in away[name])
        are = "is" if len(sick) == 1 else "are"
        state = f"{are} cordoned" if cordoned else f"{are} {' and '.join(states)}"
        return _cause("NodesCordoned", nodes=_nodes(sick), state=state, cordoned=_yes(cordoned))
    taints = Counter(next(taint for taint in taints if not taint.is_state) for taints in away.values())
    taint = taints.most_common(1)[0][0]
    value = f", operator: Equal, value: {taint.value}" if taint.value else ", operator: Exists"
    having = [name for name, found in away.items() if taint in found]
    toleration = f"{{key: {taint.key}{value}, effect: {taint.effect}}}"
    return _cause(
        "NodeTaints", nodes=_nodes(having), one=_yes(len(having) == 1), taint=str(taint), toleration=toleration
    )


def devices_are_taken(sight: Sight) -> Recognized | None:
    """Others hold the devices of the nodes that the pod may use."""
    device, wanted = sight.demand.device, _wanted(sight, sight.demand.device)
    free = {name: amounts.get(device, Decimal()) for name, amounts in sight.free.items()}
    if not device or not free or max(free.values()) >= wanted:
        return None
    looked_at = [node for node in sight.open if node.name in free]
    rest = len(sight.open) - len(looked_at)
    left, most = sum(free.values(), Decimal()), max(free.values())
    return _cause(
        "DevicesTaken",
        resource=device,
        wanted=_number(wanted),
        nodes=f"{_nodes([node.name for node in looked_at])}{f' (of {len(sight.open)})' if rest else ''}",
        one=_yes(len(looked_at) == 1),
        exist=_number(sum((node.allocatable.get(device, Decimal()) for node in looked_at), Decimal())),
        free=_number(left),
        most=_number(most),
        spread=_yes(left != most),
        holders=_holders(device, (one for node in looked_at for one in sight.held[node.name])),
    )


def other_resources_are_taken(sight: Sight) -> Recognized | None:
    """CPU or memory of the nodes that the pod may use, and that have the devices free, is held by others."""
    device = sight.demand.device
    left = {name: free for name, free in sight.free.items() if free.get(device, Decimal()) >= _wanted(sight, device)}
    return _short_of(sight, left, taken=True)


POLICIES: Final[tuple[Callable[[Sight], Recognized | None], ...]] = (
    has_no_such_device,  # the resource counts most: it is why nodes with GPUs are asked for
    asks_for_labels,  # what the pod asks for, before what nodes have left
    labels_lead_away_from_devices,
    devices_are_unhealthy,  # a node that would do is more than one that never would
    asks_for_too_many_devices,
    asks_for_too_much,
    nodes_keep_it_away,
    devices_are_taken,
    other_resources_are_taken,
)


def cause_of_placement(sight: Sight) -> Recognized | None:
    """What keeps a pod from every node; None where nothing of it shows: a rule about other pods, for one."""
    return next((cause for policy in POLICIES if (cause := policy(sight)) is not None), None)


def _short_of(sight: Sight, left: Mapping[str, Mapping[str, Decimal]], *, taken: bool) -> Recognized | None:
    """The first plain resource of which no node has as much as the pod asks for."""
    for name in _PLAIN:
        wanted = _wanted(sight, name)
        most = max((amounts.get(name, Decimal()) for amounts in left.values()), default=wanted)
        if most < wanted:
            texts = {"wanted": _amount(name, wanted), "most": _amount(name, most)}
            return _cause("NodeResources", resource=name, taken=_yes(taken), **texts)
    return None


def _wanted(sight: Sight, resource: str) -> Decimal:
    return sight.demand.requests.get(resource, Decimal())


def _free(node: Node, held: Iterable[Holding]) -> dict[str, Decimal]:
    taken = total(one.requests for one in held)
    return {name: max(Decimal(), amount - taken.get(name, Decimal())) for name, amount in node.allocatable.items()}


def _holders(device: str, held: Iterable[Holding]) -> str:
    """Who holds the most, in words."""
    amounts: Counter[str] = Counter()
    for one in held:
        amounts[one.holder] += int(one.requests.get(device, Decimal()))
    found = [(holder, amount) for holder, amount in sorted(amounts.items()) if amount]
    found.sort(key=lambda pair: -pair[1])
    return _listed([f"{holder} ({amount})" for holder, amount in found], most=MOST_HOLDERS) or "nobody that is seen"


def _listed(texts: list[str], most: int = _MOST_VALUES) -> str:
    """The first few, as far as there is room, and how many more there are."""
    shown = texts[:most]
    while len(shown) > 1 and len(", ".join(shown)) > _MOST_WORDS:
        shown.pop()
    more = len(texts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _nodes(names: list[str]) -> str:
    return f"node {names[0]}" if len(names) == 1 else f"{len(names)} nodes"


def _number(amount: Decimal) -> str:
    return str(int(amount)) if amount == int(amount) else f"{amount.normalize():f}"


def _amount(resource: str, amount: Decimal) -> str:
    """As a spec has it: memory in GiB, CPU in cores."""
    if resource == "cpu":
        return canonical(f"{amount:f}")
    return f"{amount / _GIB:.1f}Gi"


def _yes(holds: bool) -> str:  # noqa: FBT001 # the one thing that it says
    return "yes" if holds else "no"


def _cause(cause_id: str, **groups: str) -> Recognized:
    return Recognized(cause_id, tuple(sorted(groups.items())))
