"""What is read of a pod step by step, shared by the modules that each read a part of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vllm_operator.cli.importing.secrets import new_secret
from vllm_operator.cli.importing.shell import variables_in
from vllm_operator.cli.importing.workload import is_below
from vllm_operator.render.environment import HOME
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.cli.importing.draft import Draft
    from vllm_operator.cli.importing.secrets import Vault
    from vllm_operator.cli.importing.workload import Workload


@dataclass(slots=True)
class PodParts:
    """One pod, its draft, and what is known by now."""

    workload: Workload
    draft: Draft
    vault: Vault
    variables: list[dict[str, Any]] = field(default_factory=list)
    """Variables that stay variables."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Volumes that are written, or that have become another one, by their old names."""
    moved: dict[str, str] = field(default_factory=dict)
    """Mounts that are elsewhere now, by their old paths."""
    patch: dict[str, Any] = field(default_factory=dict)
    """What of the pod no field says."""
    container_patch: dict[str, Any] = field(default_factory=dict)
    """What of the engine's container no field says."""

    @property
    def pod(self) -> dict[str, Any]:
        """The pod's own spec."""
        found: dict[str, Any] = self.workload.template.get("spec") or {}
        return found

    @property
    def container(self) -> dict[str, Any]:
        """The engine's container."""
        return self.workload.container

    def sidecars(self) -> list[Mapping[str, Any]]:
        """The other containers."""
        return [one for one in items(self.pod, "containers") if one is not self.container]

    def beside(self) -> Iterator[Mapping[str, Any]]:
        """The other containers, and those that run before."""
        yield from items(self.pod, "initContainers")
        yield from self.sidecars()

    def user(self) -> Any:
        """The user that the engine is told to run as; None where nothing is told."""
        pod, own = part(self.pod, "securityContext"), part(self.container, "securityContext")
        return own.get("runAsUser", pod.get("runAsUser"))

    def runs_as_root(self) -> bool:
        """Whether the engine is told to run as root."""
        return bool(self.user() == 0)

    def mounted(self) -> list[str]:
        """Paths in the engine's container at which volumes are mounted."""
        return [str(mount.get("mountPath")).rstrip("/") for mount in items(self.container, "volumeMounts")]

    def is_writable(self, path: str) -> bool:
        """Whether a folder is in a volume, or in one that every image lets everybody write to."""
        return any(is_below(path, one) for one in (*self.mounted(), "/tmp", HOME))  # noqa: S108 # a folder of pods

    def world_size(self) -> int:
        """Devices that a pod of the engine uses."""
        return world_size(self.draft)

    def new_reference(self, name: str, value: str, purpose: str, key: str) -> dict[str, str]:
        """A reference to a Secret that has to be made, in place of the value of a variable."""
        names = variables_in(value)
        if not names:
            self.vault.keep(value)
        shell = names[0] if names and re.fullmatch(r"[A-Za-z_]\w*", names[0]) else name
        return new_secret(self.draft, purpose, key, shell)


def world_size(draft: Draft) -> int:
    """Devices that a pod of the engine uses, as far as the draft says."""
    size = 1
    for name in ("tensor", "pipeline", "data"):
        size *= draft.get("parallelism", name) or 1
    return size // (draft.get("parallelism", "nodes") or 1)
