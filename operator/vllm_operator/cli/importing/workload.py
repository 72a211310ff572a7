"""What serves a model, in one form, whatever described it: a pod template, and what stands around it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

_UNFIT: Final = re.compile(r"[^a-z0-9-]+")
_LONGEST_NAME: Final = 53
"""The names of children are longer by a suffix."""


@dataclass(slots=True)
class Workload:
    """A pod that serves a model."""

    origin: str
    """What it is called in messages: `Deployment qwen`."""
    name: str = ""
    """Empty where only the model gives one."""
    namespace: str = ""
    template: dict[str, Any] = field(default_factory=dict)
    """As in a Deployment: `metadata` and `spec`. Its first container is the engine, unless `engine` says another."""
    engine: str = ""
    """Name of the engine's container."""
    replicas: int | None = None
    pods: int = 1
    """Pods of one engine: the size of a LeaderWorkerSet's groups."""
    selector: dict[str, str] = field(default_factory=dict)
    """Labels by which the old workload finds its pods."""
    published: list[tuple[int, int]] = field(default_factory=list)
    """Ports of its machine at which clients reach it, each with the port of the container behind it."""
    devices: int | None = None
    """Devices that it gets, where no extended resource says so; None where nothing is said."""
    device_ids: list[str] | None = None
    """Devices of its machine that it sees; None where it sees all of them."""
    profile: str = ""
    """Profile of its devices, where something else than a resource or the image tells it."""
    on_a_machine: bool = False
    """Whether it ran on a machine with Docker or a shell, and not in a cluster."""
    shared_memory: str = ""
    """Size of /dev/shm, as a quantity."""
    config_maps: dict[str, dict[str, str]] = field(default_factory=dict)
    """Data of the ConfigMaps beside it, by their names."""
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Specs of the claims that it makes for its pods, by the names of their volumes."""
    shares_claims: bool = False
    """Whether its pods share these claims, and not each has its own."""
    volumes_of_machine: dict[str, str] = field(default_factory=dict)
    """Volumes that only a machine has, by their names in the template: what they are there."""
    rendered: bool = False
    """Whether this operator has made it."""

    @property
    def container(self) -> dict[str, Any]:
        """The engine's container."""
        containers: list[dict[str, Any]] = self.template["spec"]["containers"]
        return next((one for one in containers if one.get("name") == self.engine), containers[0])

    def mount_of_node(self, paths: Iterable[str]) -> None:
        """Have folders and files of the node in the engine's container, where they are on the node, to be read."""
        volumes = self.template["spec"].setdefault("volumes", [])
        mounts = self.container.setdefault("volumeMounts", [])
        for path in paths:
            taken = {volume["name"] for volume in volumes}
            name = unused(fit_name(path) or "volume", taken)
            volumes.append({"name": name, "hostPath": {"path": path}})
            mounts.append({"name": name, "mountPath": path, "readOnly": True})


def unused(name: str, taken: Container[str]) -> str:
    """The name, with a number where it is taken."""
    return next(one for one in (name, *(f"{name}-{number}" for number in range(2, 99))) if one not in taken)


def is_below(place: str, path: str) -> bool:
    """Whether a place is a path, or below it."""
    return place == path or place.startswith(f"{path}/")


def texts(value: Any) -> list[str]:
    """The words in a list that nobody has checked yet; one word where a single value stands, none where a map does."""
    found = value if isinstance(value, list) else [value]
    return [_text(word) for word in found if isinstance(word, str | int | float)]


def _text(word: str | float) -> str:
    return str(word).lower() if isinstance(word, bool) else str(word)


def fit_name(text: str) -> str:
    """A name that Kubernetes takes, made of any text; empty where nothing of it can stay."""
    last = text.rstrip("/").rpartition("/")[2].lower()
    return _UNFIT.sub("-", last.replace(".", "-").replace("_", "-")).strip("-")[:_LONGEST_NAME].strip("-")


def fit_model_name(source: str) -> str:
    """A name for a model of which only the source is known."""
    name = fit_name(source)
    return name if not name[:1].isdigit() else f"model-{name}"
