"""What the API server last said: fed by watches, and at once by the answers to our own writes."""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vllm_operator.api.claims import claims_of_spec
from vllm_operator.api.live import Controller
from vllm_operator.api.names import INSTANCE, KEPT_FOR, instance_name
from vllm_operator.api.resource import forget_resource
from vllm_operator.cluster.kinds import MODEL, POD
from vllm_operator.cluster.packed import Packer
from vllm_operator.diagnosis.facts import DEFAULT_SCHEDULER, gate_port
from vllm_operator.planner.owners import controlling_model
from vllm_operator.planner.replicas import entries_of
from vllm_operator.render.manager import PORT_NAME
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.kinds import Kind

_REMEMBERED_DELETIONS: Final = 4096


class Key(NamedTuple):
    """Namespace and name of an object; of a model, if nothing else is said."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """As kubectl and logs have it."""
        return f"{self.namespace}/{self.name}"


class _Kept(NamedTuple):
    """An object as it is kept, and where it is found."""

    live: LiveObject
    """Packed. Reading it here would keep it unpacked: only copies are given out."""
    places: tuple[Key, ...]
    """Of a child or a pod the models that it may belong to, the one of its label first; of a model the claims that it
    mounts by their names."""


class Cache:
    """Live objects by kind, namespace and name. Objects in it are never changed, only replaced.

    They are kept packed (see `packed.py`) and given out as copies that are unpacked when they are read.
    """

    def __init__(self) -> None:
        self._objects: defaultdict[Kind, dict[Key, _Kept]] = defaultdict(dict)
        self._packers: defaultdict[Kind, Packer] = defaultdict(Packer)
        self._models_by_instance: dict[Key, str] = {}
        self._models_by_namespace: defaultdict[str, set[str]] = defaultdict(set)
        self._parts_by_instance: defaultdict[Key, dict[tuple[Kind, str], None]] = defaultdict(dict)
        self._models_by_claim: defaultdict[Key, set[str]] = defaultdict(set)
        self._served: set[Kind] = set()
        self._listed: set[tuple[Kind, str | None]] = set()
        self._deleted: OrderedDict[str, int] = OrderedDict()

    def put(self, kind: Kind, live: LiveObject) -> bool:
        """Take in an object, unless what is here is as new. Returns whether anything changed."""
        key = _key(live.namespace, live.name)
        known = self._objects[kind].get(key)
        if live.resource_version <= self._deleted.get(live.uid, 0):
            return False
        if known is not None:
            if live.resource_version <= known.live.resource_version:
                return False
            self._unindex(kind, key, known)  # its labels may say another model than before
        packed = self._packers[kind].pack(_slim(kind, live.body))
        head = replace(
            live,
            kind=kind.kind,
            namespace=key.namespace,
            name=key.name,
            controller=_interned(live.controller),
            content=packed,
        )
        kept = self._objects[kind][key] = _Kept(head, _places(kind, live))
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
        if known is None or known.live.uid != gone.uid or known.live.resource_version > gone.resource_version:
            return False
        self._unindex(kind, key, known)
        del self._objects[kind][key]
        if kind is MODEL:
            forget_resource(gone.uid)
        return True

    def deletions(self) -> Mapping[str, int]:
        """The versions in which the last deleted objects were last seen, by their uids, as they are now."""
        return dict(self._deleted)

    def holds(self, kind: Kind, key: Key, uid: str, version: int) -> bool:
        """Whether what is known of this name is at least as new as a version of this object."""
        known = self._objects[kind].get(key)
        return self._deleted.get(uid, 0) > version or (known is not None and known.live.resource_version >= version)

    def revive(self, live: LiveObject) -> None:
        """Take in that an object is there in the very version in which it was taken for deleted."""
        if self._deleted.get(live.uid) == live.resource_version:
            del self._deleted[live.uid]

    def get(self, kind: Kind, key: Key) -> LiveObject | None:
        """One object."""
        kept = self._objects[kind].get(key)
        return kept.live.copy() if kept else None

    def has(self, kind: Kind, key: Key, uid: str) -> bool:
        """Whether this very object is here, or known to be deleted."""
        known = self._objects[kind].get(key)
        return uid in self._deleted or (known is not None and known.live.uid == uid)

    def has_any(self, kind: Kind, namespace: str) -> bool:
        """Whether there is an object of a kind in a namespace: asked only where there is hardly any left."""
        return any(key.namespace == namespace for key in self._objects[kind])

    def items(self, kind: Kind) -> Iterator[tuple[Key, LiveObject]]:
        """All objects of a kind, as they are now."""
        return ((key, kept.live.copy()) for key, kept in list(self._objects[kind].items()))

    def pods(self, namespace: str, instance: str) -> tuple[LiveObject, ...]:
        """Pods of one model's engines."""
        return tuple(self._parts(namespace, instance, pods=True))

    def children(self, namespace: str, instance: str) -> tuple[LiveObject, ...]:
        """Objects that belong to one model by their label or by their owner."""
        return tuple(self._parts(namespace, instance, pods=False))

    def _parts(self, namespace: str, instance: str, *, pods: bool) -> Iterator[LiveObject]:
        for kind, name in self._parts_by_instance.get(Key(namespace, instance), ()):
            if (kind is POD) is pods:
                yield self._objects[kind][Key(namespace, name)].live.copy()

    def serves(self, kind: Kind) -> bool:
        """Whether the API server knew an optional kind when it was last asked."""
        return kind in self._served

    def set_served(self, kind: Kind, *, served: bool) -> bool:
        """Remember that. Returns whether it is news."""
        news = served is not self.serves(kind)
        (self._served.add if served else self._served.discard)(kind)
        return news

    def is_listed(self, kind: Kind, namespace: str | None) -> bool:
        """Whether everything is here that there was of a kind, in one namespace or in all, when it was last listed."""
        return (kind, namespace) in self._listed

    def set_listed(self, kind: Kind, namespace: str | None, *, listed: bool) -> None:
        """Remember that; it is not so from the beginning of a list to its end."""
        (self._listed.add if listed else self._listed.discard)((kind, namespace))

    def model_of(self, live: LiveObject) -> Key | None:
        """The model that a child or a pod belongs to; None where there is none (any more)."""
        return self._model(_instance(live))

    def model_at(self, kind: Kind, key: Key) -> Key | None:
        """The model that the child or the pod of this name belongs to; None where there is none of either."""
        kept = self._objects[kind].get(key)
        return self._model(kept.places[0]) if kept else None

    def _model(self, instance: Key) -> Key | None:
        name = self._models_by_instance.get(instance)
        return None if name is None else Key(instance.namespace, name)

    def models(self, namespace: str) -> tuple[LiveObject, ...]:
        """Models of a namespace, in no order."""
        known = self._objects[MODEL]
        return tuple(known[Key(namespace, name)].live.copy() for name in self._models_by_namespace.get(namespace, ()))

    def has_models(self, namespace: str) -> bool:
        """Whether there is a model in a namespace."""
        return namespace in self._models_by_namespace

    def namespaces_left(self) -> set[str]:
        """Namespaces of the children whose model is gone, and of what models share."""
        return {instance.namespace for instance in self._parts_by_instance if instance not in self._models_by_instance}

    def claims_of(self, model: Key) -> frozenset[str]:
        """The claims that a model mounts by their names; none where there is no such model."""
        kept = self._objects[MODEL].get(model)
        return frozenset(claim.name for claim in kept.places) if kept else frozenset()

    def models_mounting(self, namespace: str, claim: str) -> frozenset[str]:
        """Names of the models whose spec mounts a claim by its name, without those that are being deleted."""
        known = self._objects[MODEL]
        found = self._models_by_claim.get(Key(namespace, claim), ())
        return frozenset(name for name in found if not known[Key(namespace, name)].live.leaving)

    def _index(self, kind: Kind, key: Key, kept: _Kept) -> None:
        if kind is MODEL:
            for claim in kept.places:
                self._models_by_claim[claim].add(key.name)
            self._models_by_instance[Key(key.namespace, instance_name(key.name))] = key.name
            self._models_by_namespace[key.namespace].add(key.name)
            return
        for instance in kept.places:
            self._parts_by_instance[instance][kind, key.name] = None

    def _unindex(self, kind: Kind, key: Key, known: _Kept) -> None:
        if kind is MODEL:
            for claim in known.places:
                self._models_by_claim[claim].discard(key.name)
                if not self._models_by_claim[claim]:
                    del self._models_by_claim[claim]
            self._models_by_instance.pop(Key(key.namespace, instance_name(key.name)), None)
            self._models_by_namespace[key.namespace].discard(key.name)
            if not self._models_by_namespace[key.namespace]:
                del self._models_by_namespace[key.namespace]
            return
        for instance in known.places:
            parts = self._parts_by_instance[instance]
            parts.pop((kind, key.name), None)
            if not parts:
                del self._parts_by_instance[instance]


def _key(namespace: str, name: str) -> Key:
    """A key of texts that all that is called so have in common: each object comes with its own of all of them."""
    return Key(sys.intern(namespace), sys.intern(name))


def _interned(controller: Controller | None) -> Controller | None:
    """A child's owner, of the texts that its siblings have too."""
    if controller is None:
        return None
    return Controller(sys.intern(controller.kind), sys.intern(controller.name), sys.intern(controller.uid))


def _instance(live: LiveObject) -> Key:
    return _key(live.namespace, live.labels.get(INSTANCE) or live.labels.get(KEPT_FOR, ""))


def _places(kind: Kind, live: LiveObject) -> tuple[Key, ...]:
    """Where an object is found. Somebody may have changed a child's label, but hardly its owner too."""
    if kind is MODEL:
        return tuple(Key(live.namespace, claim) for claim in sorted(claims_of_spec(live.body.get("spec"))))
    named, owner = _instance(live), controlling_model(live)
    owned = _key(live.namespace, instance_name(owner)) if owner else named
    return (named,) if owned == named else (named, owned)


def _slim(kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what no decision reads: most of the bookkeeping of field managers, and of the spec of pods."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    if kind is MODEL and "autoscaling" in (body.get("spec") or {}) and (writers := entries_of(body)):
        metadata["managedFields"] = writers
    rest = {name: value for name, value in body.items() if name != "metadata"}
    if kind is POD:
        rest["spec"] = _slim_pod_spec(body.get("spec", {}))
    return {"apiVersion": kind.api_version, "kind": kind.kind, **rest, "metadata": metadata}


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
        "resourceClaims": spec.get("resourceClaims"),
        "initContainers": sidecars,
        "containers": _gate_alone(gate_port(spec)),
    }
    return {name: value for name, value in kept.items() if value}


@functools.cache
def _gate_alone(port: int) -> list[dict[str, Any]]:
    """The engine's container with nothing but its gate port: one object for the pods of all models."""
    return [{"name": CONTAINER_NAME, "ports": [{"name": PORT_NAME, "containerPort": port}]}] if port else []
