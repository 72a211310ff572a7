"""Folders and files that an engine finds in its pod only: where they are mounted, and what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.render import amx, files, tls
from vllm_operator.render.manager import PROGRAM_FOLDER, STATE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.cli.engine import Engine

_OWN_STORAGE: Final = frozenset({"home", "cache", "shm"})
_MANAGER: Final = frozenset({PROGRAM_FOLDER, STATE_FOLDER})


@dataclass(frozen=True, slots=True)
class Place:
    """One mount of the engine's container, with its volume."""

    path: str
    mount: Mapping[str, Any]
    volume: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Kind of the volume, as in a pod."""
        return next((key for key in self.volume if key != "name"), "emptyDir")

    @property
    def details(self) -> Mapping[str, Any]:
        """What the pod says of a volume of this kind."""
        found: Mapping[str, Any] = self.volume.get(self.kind) or {}
        return found

    @property
    def content(self) -> str:
        """What is in it, for people."""
        within = f" (below {self.mount['subPath']})" if self.mount.get("subPath") else ""
        return (
            _CONTENTS.get(self.kind, "what the volume {name} holds").format(
                **{"name": self.volume["name"], **_named(self.details)}
            )
            + within
        )


def mounts(engine: Engine) -> Iterator[Place]:
    """Every mount that means something outside a cluster: the manager's own do not."""
    volumes = {volume["name"]: volume for volume in engine.pod.get("volumes", [])}
    for mount in engine.container.get("volumeMounts", []):
        if mount["mountPath"] not in _MANAGER:
            yield Place(mount["mountPath"], mount, volumes.get(mount["name"], {"name": mount["name"]}))


def places(engine: Engine) -> Iterator[Place]:
    """Mounts with something in them that the engine reads."""
    template = engine.model.spec.model.chat_template
    for place in mounts(engine):
        if place.path == files.FOLDER and template and template.inline:
            yield inline_template(place)
        elif place.volume["name"] == amx.VOLUME:
            yield Place(f"{amx.FOLDER}/{amx.FILE}", place.mount, {"name": "", STARTUP: {}})
        elif place.volume["name"] == tls.VOLUME:
            yield Place(tls.COPIES, place.mount, place.volume)  # without a manager, nobody makes the copies
        elif place.volume["name"] not in _OWN_STORAGE:
            yield place


def inline_template(place: Place) -> Place:
    """The file of a chat template that stands in the spec."""
    return Place(f"{files.FOLDER}/{files.TEMPLATE_FILE}", place.mount, {"name": "", INLINE: {}})


INLINE: Final = "inline"
STARTUP: Final = "startup"

_CONTENTS: Final = {
    INLINE: "the text of spec.model.chatTemplate.inline",
    STARTUP: "the file of that name of the ConfigMap vllm-manager (--to manifests shows it)",
    "persistentVolumeClaim": "what the PersistentVolumeClaim {claimName} holds",
    "image": "the content of the image {reference}",
    "configMap": "the files of the ConfigMap {name}",
    "secret": "the files of the Secret {secretName}",
    "hostPath": "what {path} of the node holds",
    "emptyDir": "an empty folder",
}


def _named(details: Mapping[str, Any]) -> dict[str, str]:
    empty = {"claimName": "", "reference": "", "secretName": "", "path": ""}
    return empty | {name: value for name, value in details.items() if isinstance(value, str)}
