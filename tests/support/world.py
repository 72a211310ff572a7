"""A small world to decide about: what is applied comes back as the API server would have it, and engines start at once.

Quantities come back in canonical form, empty fields are left out, defaults and another manager's fields are added: all
that tempts an operator to write again.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.support.resources import NOW, observation
from vllm_operator.api.live import key_of
from vllm_operator.api.quantity import quantity
from vllm_operator.planner.claims import ClaimsSeen
from vllm_operator.planner.decide import decide
from vllm_operator.planner.template import needs_managed_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.live import ObjectKey
    from vllm_operator.planner.plan import Plan

_BINARY = (("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10))


def canonical(text: str | int) -> str:
    """A quantity as the API server might write it: another text for the same value."""
    value = quantity(text)
    for suffix, power in _BINARY:
        whole = value / 2**power
        if value and whole == whole.to_integral_value():
            return f"{whole:f}".partition(".")[0] + suffix
    if value == value.to_integral_value():
        return f"{value:f}".partition(".")[0]
    return f"{value * Decimal(10**9):f}".partition(".")[0] + "n"


def stored(node: Any, field: str = "") -> Any:
    """What the API server keeps of a part of an object."""
    if isinstance(node, dict):
        inside = field if field in {"limits", "requests"} else ""
        found = {key: stored(value, inside or key) for key, value in node.items()}
        return {
            key: value
            for key, value in found.items()
            if value not in ("", None, []) or key == "emptyDir" or field == "data"
        }
    if isinstance(node, list):
        return [stored(item) for item in node]
    return canonical(node) if field in {"limits", "requests", "sizeLimit"} else node


class World:
    """One model, its children, and what happens when a plan is carried out."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw: dict[str, Any] = copy.deepcopy(dict(raw))
        self.children: dict[ObjectKey, dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.secrets: dict[str, dict[str, Any]] = {}
        self.now = NOW
        self.fresh_key = "made-a-moment-ago"
        self.version = 100
        self.applied_template: Mapping[str, Any] | None = None
        """The pod template that was last applied, as `managedFields` would tell it."""

    def decide(self) -> Plan:
        """What would be done now."""
        around: dict[str, Any] = {
            "pod_monitors": True,
            "fresh_key": self.fresh_key,
            "secrets": self.secrets,
            "claims": ClaimsSeen(mounted_by={}),
        }
        seen = observation(self.raw, self.children, *self.pods, now=self.now, **around)
        if needs_managed_fields(seen):
            seen = replace(seen, applied_template=self.applied_template)
        return decide(seen)

    def carry_out(self, plan: Plan) -> None:
        """Write children and status, and delete what is no longer wanted."""
        for write in plan.writes:
            self.apply(write.desired)
        for deletion in plan.deletions:
            del self.children[deletion.live.key]
        if plan.status is not None:
            self.raw = {**self.raw, "status": copy.deepcopy(dict(plan.status))}

    def apply(self, desired: Mapping[str, Any]) -> None:
        """One object, as it comes back: with an identity, defaults, and the mark of somebody else."""
        self.version += 1
        key = key_of(desired)
        before = self.children.get(key, {"metadata": {}})
        found: dict[str, Any] = stored(copy.deepcopy(dict(desired)))
        if key.kind == "ControllerRevision":
            found["data"] = copy.deepcopy(desired["data"])  # of whatever kind they are, the API server looks at none
        changed = before.get("spec") != found.get("spec")
        generation = before["metadata"].get("generation", 0) + (1 if changed else 0)
        found["metadata"] |= {"uid": f"uid-{key}", "resourceVersion": str(self.version), "generation": generation}
        found["metadata"]["annotations"]["somebody.example.com/else"] = "was here"
        if key.kind == "Service":
            found["spec"] |= {"sessionAffinity": "None", "ipFamilies": ["IPv4"], "clusterIPs": ["10.0.0.1"]}
        if key.kind == "Deployment":
            self.applied_template = copy.deepcopy(desired["spec"]["template"])
            self.default_pods(found["spec"]["template"]["spec"])
            found["status"] = before.get("status", {})
        self.children[key] = found

    @staticmethod
    def default_pods(spec: dict[str, Any]) -> None:
        """What the API server adds to a pod template, and a sidecar that an admission webhook injects."""
        defaults = {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler"}
        spec |= {name: value for name, value in defaults.items() if name not in spec}
        for volume in spec["volumes"]:
            if "configMap" in volume:
                volume["configMap"]["defaultMode"] = 420
        engine = spec["containers"][0]
        engine.setdefault("imagePullPolicy", "IfNotPresent")
        engine["terminationMessagePath"] = "/dev/termination-log"
        engine.setdefault("resources", {})
        engine["env"].insert(0, {"name": "INJECTED", "value": "1"})
        for mount in engine["volumeMounts"]:
            mount.setdefault("recursiveReadOnly", "Disabled")
        spec["containers"].append({"name": "sidecar", "image": "mesh:1"})

    def settle(self, *, ready: int | None = None) -> None:
        """The Deployment's controller does its work, and all engines serve unless told otherwise."""
        for key, found in self.children.items():
            if key.kind == "Deployment":
                wanted = found["spec"]["replicas"]
                serving = wanted if ready is None else ready
                counts = {"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": serving}
                counts |= {"availableReplicas": serving, "unavailableReplicas": wanted - serving}
                found["status"] = {"observedGeneration": found["metadata"]["generation"]} | {
                    name: count for name, count in counts.items() if count
                }
