"""A live Kubernetes object, read once at the cluster's border: what decisions ask of every object has a typed name.

The rest of an object (`spec`, `status`, `data`) stays the mapping that the API server sent, in `body`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


class ObjectKey(NamedTuple):
    """Kind and name of an object; the namespace is that of whoever asks."""

    kind: str
    name: str


class ObjectVersion(NamedTuple):
    """One state of one object."""

    uid: str
    resource_version: int


@dataclass(frozen=True, slots=True)
class Controller:
    """The owner reference that is marked as the controller."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, eq=False)
class LiveObject:
    """One namespaced object as the API server has it. It is never changed, only replaced by a newer one."""

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: int
    """Grows with every change, also across objects of one name (KEP-5504, Kubernetes 1.35)."""
    generation: int
    """Grows with every change of the spec; 0 for kinds that have none."""
    leaving: bool
    """Whether it is being deleted (`metadata.deletionTimestamp`)."""
    controller: Controller | None
    content: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(repr=False)
    """The whole object, or what reads it. A Secret's values are in it, so it is never printed."""
    _unpacked: Mapping[str, Any] | None = field(default=None, init=False, repr=False)

    def __eq__(self, other: object) -> bool:
        """Whether it is the same object in the same state, however it is kept."""
        return isinstance(other, LiveObject) and self.kind == other.kind and self.body == other.body

    __hash__ = None  # type: ignore[assignment] # it holds a mapping

    @property
    def body(self) -> Mapping[str, Any]:
        """The whole object; one that is kept packed is unpacked when it is first asked for."""
        if not callable(self.content):
            return self.content
        if self._unpacked is None:
            object.__setattr__(self, "_unpacked", self.content())
        return self._unpacked  # type: ignore[return-value] # it was just read

    def copy(self) -> LiveObject:
        """The same object, whose reader unpacks a copy of its own."""
        return LiveObject(
            self.kind,
            self.namespace,
            self.name,
            self.uid,
            self.resource_version,
            self.generation,
            self.leaving,
            self.controller,
            self.content,
        )

    @property
    def key(self) -> ObjectKey:
        """Kind and name."""
        return ObjectKey(self.kind, self.name)

    @property
    def version(self) -> ObjectVersion:
        """Which state of which object it is."""
        return ObjectVersion(self.uid, self.resource_version)

    @property
    def labels(self) -> Mapping[str, str]:
        """The object's labels; empty where it has none."""
        return self.body["metadata"].get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """The object's annotations; empty where it has none."""
        return self.body["metadata"].get("annotations") or {}

    @property
    def status(self) -> Mapping[str, Any]:
        """The object's status; empty where it has none yet."""
        return self.body.get("status") or {}


class Remembered(Generic[T]):
    """A function of an object's body that is computed once for each state of the object that the cache holds.

    What looks at all models of a namespace of thousands, at each change of one of them, asks it of all of them, and
    unpacks those that are new. An object that is not kept packed is read each time.
    """

    def __init__(self, read: Callable[[Mapping[str, Any]], T]) -> None:
        self._read = read
        self._known: WeakKeyDictionary[object, T] = WeakKeyDictionary()

    def __call__(self, live: LiveObject) -> T:
        """What the function says of the object's body."""
        if self.knows(live):
            return self._known[live.content]
        found = self._read(live.body)
        if callable(live.content):
            self._known[live.content] = found
        return found

    def knows(self, live: LiveObject) -> bool:
        """Whether it answers at once."""
        return callable(live.content) and live.content in self._known


def live_object(raw: Mapping[str, Any], *, kind: str = "") -> LiveObject:
    """Read an object as the API server sent it; `kind` is that of its list, where it is an item and has none itself.

    Raises:
        KeyError: it has no identity: the API server sends none such.
    """
    metadata = raw["metadata"]
    return LiveObject(
        kind=kind or raw["kind"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=int(metadata["resourceVersion"]),
        generation=metadata.get("generation", 0),
        leaving="deletionTimestamp" in metadata,
        controller=_controller(metadata),
        content=raw,
    )


def key_of(body: Mapping[str, Any]) -> ObjectKey:
    """Kind and name of an object that is rendered or sent."""
    return ObjectKey(body["kind"], body["metadata"]["name"])


def _controller(metadata: Mapping[str, Any]) -> Controller | None:
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller"):
            return Controller(reference["kind"], reference["name"], reference["uid"])
    return None
