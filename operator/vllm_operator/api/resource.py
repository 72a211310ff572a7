"""A VLLMModel as the operator reads it from the API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.api.names import instance_name
from vllm_operator.api.spec import VLLMModelSpec, parse_spec

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class VLLMModel:
    """One resource, its spec read and checked."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: VLLMModelSpec

    @property
    def instance(self) -> str:
        """Name of its Service and Deployment."""
        return instance_name(self.name)

    @property
    def owner_reference(self) -> dict[str, Any]:
        """What ties a child to it, so that garbage collection deletes the child with it."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


def parse_resource(raw: Mapping[str, Any]) -> VLLMModel:
    """Read a resource.

    Raises:
        InvalidSpec: the spec cannot be followed.
    """
    metadata = raw["metadata"]
    return VLLMModel(
        name=metadata["name"],
        namespace=metadata.get("namespace", "default"),
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        spec=parse_spec(raw.get("spec", {})),
    )
