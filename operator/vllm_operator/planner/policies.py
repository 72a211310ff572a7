"""NetworkPolicies of others: whether they keep every client from ready engines. Pure.

Policies add up: what one lets in, another one cannot keep out, and pods that one of them selects are closed to all that
none lets in (networking.k8s.io/v1, NetworkPolicySpec). Kubelet's probes always come through, so an engine is ready
whatever its policies say. Whether they are applied at all is up to the network plug-in, so this is never more than a
warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.api.meta import KIND
from vllm_operator.api.names import INSTANCE
from vllm_operator.render.selectors import selects
from vllm_operator.render.untyped import items, part, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TCP = "TCP"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept of a NetworkPolicy that somebody else made, and that closes pods to clients."""

    name: str
    selector: Mapping[str, Any]
    ports: tuple[tuple[Mapping[str, Any], ...], ...] = ()
    """Of each rule that lets somebody in, the ports; of one that is about all ports, none."""

    @property
    def instance(self) -> str:
        """The one model whose engines it can select, by the value of their label; empty where it may be several."""
        return str(part(self.selector, "matchLabels").get(INSTANCE, ""))

    def opens(self, number: int, name: str) -> bool:
        """Whether it lets somebody reach a port of a pod, whoever that is."""
        return any(not ports or any(_is_about(one, number, name) for one in ports) for ports in self.ports)


def policy_of(raw: Mapping[str, Any]) -> Policy | None:
    """A NetworkPolicy as the API server sent it; None where it is a model's own, or closes nothing to clients."""
    metadata, spec = raw["metadata"], part(raw, "spec")
    owned = any(owner.get("kind") == KIND for owner in items(metadata, "ownerReferences"))
    if owned or "Ingress" not in words(spec, "policyTypes"):
        return None
    rules = tuple(tuple(items(rule, "ports")) for rule in items(spec, "ingress"))
    return Policy(str(metadata["name"]), part(spec, "podSelector"), rules)


def closing(policies: Iterable[Policy], labels: Mapping[str, Any], ports: Iterable[tuple[int, str]]) -> list[str]:
    """Names of the policies that together keep everybody from these ports; empty where somebody may reach one."""
    here = [policy for policy in policies if selects(policy.selector, labels)]
    if any(policy.opens(number, name) for policy in here for number, name in ports):
        return []
    return [policy.name for policy in here]


def _is_about(port: Mapping[str, Any], number: int, name: str) -> bool:
    if port.get("protocol", _TCP) != _TCP:
        return False
    wanted, last = port.get("port"), port.get("endPort")
    if isinstance(wanted, int) and isinstance(last, int):
        return wanted <= number <= last
    return wanted is None or wanted in (number, name)
