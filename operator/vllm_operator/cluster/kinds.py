"""The kinds that the operator reads and writes, and the paths under which the API server has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vllm_operator.api import meta


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of namespaced object."""

    api_version: str
    kind: str
    plural: str

    @property
    def root(self) -> str:
        """Path of its API group and version."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of all objects, of those in a namespace, of one, or of a part of one."""
        parts = [self.root]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/".join(parts)


MODEL: Final = Kind(meta.API_VERSION, meta.KIND, meta.PLURAL)
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
SERVICE: Final = Kind("v1", "Service", "services")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
POD: Final = Kind("v1", "Pod", "pods")

CHILDREN: Final = (DEPLOYMENT, SERVICE, CONFIG_MAP)
"""What the operator makes, and repairs when somebody else changes it."""

WATCHED: Final = (MODEL, *CHILDREN, POD)

_BY_NAME: Final = {kind.kind: kind for kind in WATCHED}


def kind_of(name: str) -> Kind:
    """The kind with this name.

    Raises:
        KeyError: the operator does not work with it.
    """
    return _BY_NAME[name]
