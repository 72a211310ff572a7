"""What the API server last said: fed by watches, and at once by the answers to our own writes."""

from __future__ import annotations

import functools
import sys
import zlib
from collections import OrderedDict, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vllm_operator.api import json_text
from vllm_operator.api.claims import claims_of_spec
from vllm_operator.api.names import INSTANCE, KEPT_FOR, instance_name
from vllm_operator.api.resource import forget_resource
from vllm_operator.cluster.kinds import CONTROLLER_REVISION, MODEL, POD
from vllm_operator.diagnosis.facts import DEFAULT_SCHEDULER, gate_port
from vllm_operator.planner.owners import controlling_model
from vllm_operator.render.manager import PORT_NAME
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.kinds import Kind

_REMEMBERED_DELETIONS: Final = 4096
_COMPRESSION: Final = 6
"""Level of zlib for what is kept as compressed text."""


class Key(NamedTuple):
    """Namespace and name of an object; of a model, if nothing else is said."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """As kubectl and logs have it."""
        return f"{self.namespace}/{self.name}"


class Cache:
    """Live objects by kind, namespace and name. Objects in it are never changed, only replaced.

    `get` and `items` give revisions with their data as compressed text, as they are kept; `children` gives them whole.
    """

    def __init__(self) -> None:
        self._objects: defaultdict[Kind, dict[Key, LiveObject]] = defaultdict(dict)
        self._models_by_instance: dict[Key, str] = {}
        self._models_by_namespace: defaultdict[str, set[str]] = defaultdict(set)
        self._parts_by_instance: defaultdict[Key, dict[tuple[Kind, str], LiveObject]] = defaultdict(dict)
        self._models_by_claim: defaultdict[Key, set[str]] = defaultdict(set)
        self._served: set[Kind] = set()
        self._deleted: OrderedDict[str, int] = OrderedDict()

    def put(self, kind: Kind, live: LiveObject) -> bool:
        """Take in an object, unless what is here is as new. Returns whether anything changed."""
        key = Key(live.namespace, live.name)
        known = self._objects[kind].get(key)
        if live.resource_version <= self._deleted.get(live.uid, 0):
            return False
        if known is not None:
            if live.resource_version <= known.resource_version:
                return False
            self._unindex(kind, key, known)  # its labels may say another model than before
        kept = self._objects[kind][key] = _slim(kind, live)
        self._index(kind, key, kept)
        return True

    def remove(self, kind: Kind, gone: LiveObject) -> bool:
        """Forget an object that was deleted, unless a newer one has its name. Returns whether anything changed.

        An object that lost the operator's label is reported as deleted too, and comes back with a newer version when
        the label does.
        """
        # an answer to an earlier write may be on its way, and must not revive it
        self._deleted[gone.uid] = gone.resource_version
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)
        key = Key(gone.namespace, gone.name)
        known = self._objects[kind].get(key)
        if known is None or known.uid != gone.uid or known.resource_version > gone.resource_version:
            return False
        self._unindex(kind, key, known)
        del self._objects[kind][key]
        if kind is MODEL:
            forget_resource(gone.uid)
        return True

    def get(self, kind: Kind, key: Key) -> LiveObject | None:
        """One object."""
        return self._objects[kind].get(key)

    def has(self, kind: Kind, key: Key, uid: str) -> bool:
        """Whether this very object is here, or known to be deleted."""
        known = self._objects[kind].get(key)
        return uid in self._deleted or (known is not None and known.uid == uid)

    def has_any(self, kind: Kind, namespace: str) -> bool:
        """Whether there is an object of a kind in a namespace: asked only where there is hardly any left."""
        return any(key.namespace == namespace for key in self._objects[kind])

    def items(self, kind: Kind) -> Iterator[tuple[Key, LiveObject]]:
        """All objects of a kind, as they are now."""
        return iter(list(self._objects[kind].items()))

    def pods(self, namespace: str, instance: str) -> tuple[LiveObject, ...]:
        """Pods of one model's engines."""
        parts = self._parts_by_instance.get(Key(namespace, instance), {})
        return tuple(live for (kind, _), live in parts.items() if kind is POD)

    def children(self, namespace: str, instance: str) -> tuple[LiveObject, ...]:
        """Objects that belong to one model by their label or by their owner."""
        parts = self._parts_by_instance.get(Key(namespace, instance), {})
        return tuple(_unpacked(kind, live) for (kind, _), live in parts.items() if kind is not POD)

    def serves(self, kind: Kind) -> bool:
        """Whether the API server knew an optional kind when it was last asked."""
        return kind in self._served

    def set_served(self, kind: Kind, *, served: bool) -> bool:
        """Remember that. Returns whether it is news."""
        news = served is not self.serves(kind)
        (self._served.add if served else self._served.discard)(kind)
        return news

    def model_of(self, live: LiveObject) -> Key | None:
        """The model that a child or a pod belongs to; None where there is none (any more)."""
        instance = _instance(live)
        name = self._models_by_instance.get(instance)
        return None if name is None else Key(instance.namespace, name)

    def models(self, namespace: str) -> tuple[LiveObject, ...]:
        """Models of a namespace, in no order."""
        known = self._objects[MODEL]
        return tuple(known[Key(namespace, name)] for name in self._models_by_namespace.get(namespace, ()))

    def models_mounting(self, namespace: str, claim: str) -> frozenset[str]:
        """Names of the models whose spec mounts a claim by its name, without those that are being deleted."""
        known = self._objects[MODEL]
        found = self._models_by_claim.get(Key(namespace, claim), ())
        return frozenset(name for name in found if not known[Key(namespace, name)].leaving)

    def _index(self, kind: Kind, key: Key, live: LiveObject) -> None:
        if kind is MODEL:
            for claim in claims_of_spec(live.body.get("spec")):
                self._models_by_claim[Key(key.namespace, claim)].add(key.name)
            self._models_by_instance[Key(key.namespace, instance_name(key.name))] = key.name
            self._models_by_namespace[key.namespace].add(key.name)
            return
        for instance in _instances(live):
            self._parts_by_instance[instance][kind, key.name] = live

    def _unindex(self, kind: Kind, key: Key, known: LiveObject) -> None:
        if kind is MODEL:
            for claim in (Key(key.namespace, name) for name in claims_of_spec(known.body.get("spec"))):
                self._models_by_claim[claim].discard(key.name)
                if not self._models_by_claim[claim]:
                    del self._models_by_claim[claim]
            self._models_by_instance.pop(Key(key.namespace, instance_name(key.name)), None)
            self._models_by_namespace[key.namespace].discard(key.name)
            if not self._models_by_namespace[key.namespace]:
                del self._models_by_namespace[key.namespace]
            return
        for instance in _instances(known):
            parts = self._parts_by_instance[instance]
            parts.pop((kind, key.name), None)
            if not parts:
                del self._parts_by_instance[instance]


def _instance(live: LiveObject) -> Key:
    return Key(live.namespace, live.labels.get(INSTANCE) or live.labels.get(KEPT_FOR, ""))


def _instances(live: LiveObject) -> set[Key]:
    """The models that an object may belong to. Somebody may have changed its label, but hardly its owner too."""
    owner = controlling_model(live)
    by_owner = {Key(live.namespace, instance_name(owner))} if owner else set()
    return by_owner | {_instance(live)}


def _slim(kind: Kind, live: LiveObject) -> LiveObject:
    """Drop what no decision reads: the bookkeeping of field managers, and most of the spec of pods."""
    metadata = {name: value for name, value in live.body["metadata"].items() if name != "managedFields"}
    rest = {name: value for name, value in live.body.items() if name != "metadata"}
    if kind is POD:
        rest["spec"] = _slim_pod_spec(live.body.get("spec", {}))
    if kind is CONTROLLER_REVISION and "data" in rest:
        rest["data"] = zlib.compress(json_text.dumps(rest["data"]), _COMPRESSION)
    return replace(live, body={"apiVersion": kind.api_version, "kind": kind.kind, **rest, "metadata": metadata})


def _unpacked(kind: Kind, live: LiveObject) -> LiveObject:
    """A child as the API server has it. The data of a revision are kept as compressed text.

    Most looks at a model read one revision, and as objects of Python it would take twenty times the memory.
    """
    data = live.body.get("data")
    if kind is not CONTROLLER_REVISION or not isinstance(data, bytes):
        return live
    return replace(live, body={**live.body, "data": json_text.loads(zlib.decompress(data))})


def _slim_pod_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What explains why a pod does not run: its node, its scheduler, its gates, and which init containers are sidecars.

    And where its manager answers. For most pods that is the name of the node and a port that all have in common: 144
    bytes (measured) beside a status of several thousand.
    """
    sidecars = [
        {"name": container["name"], "restartPolicy": "Always"}
        for container in spec.get("initContainers", [])
        if container.get("restartPolicy") == "Always"
    ]
    scheduler = spec.get("schedulerName", DEFAULT_SCHEDULER)
    kept = {
        "nodeName": sys.intern(spec.get("nodeName", "")),
        "schedulerName": scheduler if scheduler != DEFAULT_SCHEDULER else "",
        "schedulingGates": spec.get("schedulingGates"),
        "initContainers": sidecars,
        "containers": _gate_alone(gate_port(spec)),
    }
    return {name: value for name, value in kept.items() if value}


@functools.cache
def _gate_alone(port: int) -> list[dict[str, Any]]:
    """The engine's container with nothing but its gate port: one object for the pods of all models."""
    return [{"name": CONTAINER_NAME, "ports": [{"name": PORT_NAME, "containerPort": port}]}] if port else []
