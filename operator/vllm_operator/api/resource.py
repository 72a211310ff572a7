"""A VLLMModel as the operator reads it from the API server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import json_text
from vllm_operator.api.bounded import Bounded
from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.api.names import instance_name
from vllm_operator.api.spec import VLLMModelSpec, parse_spec, versions
from vllm_operator.errors import InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
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

    @cached_property
    def version_warnings(self) -> tuple[str, ...]:
        """What the engines' version of vLLM does not know of the spec: told with every status, and found out once."""
        return tuple(versions.warnings(self.spec))

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


@dataclass(frozen=True, slots=True)
class _Reading:
    """What came of reading a resource once."""

    source: bytes | None
    """Digest of what was read, see `_digest`."""
    outcome: VLLMModel | InvalidSpec


def _digest(raw: Mapping[str, Any]) -> bytes | None:
    """What tells whether a resource is still the one that was read; None where it is nested too deeply to tell.

    The generation grows with each change of a spec. Specs are compared besides: that takes microseconds, and no
    generation that starts anew, as after a restore of etcd, can bring an old spec back.
    """
    identity = [raw["metadata"].get(name) for name in _IDENTITY]
    try:
        return hashlib.blake2b(json_text.dumps([identity, raw.get("spec")]), digest_size=16).digest()
    except RecursionError:
        return None


_IDENTITY: Final = ("uid", "generation", "namespace", "name")
_MOST_REMEMBERED: Final = 1024
"""Each takes 8 KB. Reading one again costs a tenth of a millisecond, far less than what follows from it."""

_readings: Final[Bounded[str, _Reading]] = Bounded(_MOST_REMEMBERED)
"""The latest reading of each resource, by its uid. What is deleted is forgotten, see `forget_resource`."""


def parse_resource(raw: Mapping[str, Any]) -> VLLMModel:
    """Read a resource: once for each uid and generation. One without them, as out of a file, is always read.

    Raises:
        InvalidSpec: the spec cannot be followed.
    """
    metadata = raw["metadata"]
    uid = metadata.get("uid")
    if not uid or not metadata.get("generation"):
        return _read(raw)
    known, digest = _readings.get(uid), _digest(raw)
    if known is None or digest is None or known.source != digest:
        known = _Reading(digest, _outcome(raw))
        _readings.put(uid, known)
    if isinstance(known.outcome, InvalidSpec):
        raise InvalidSpec(known.outcome.faults)
    return known.outcome


def is_parsed(raw: Mapping[str, Any]) -> bool:
    """Whether `parse_resource` answers at once, because it has read this generation of the resource before."""
    known = _readings.get(raw["metadata"].get("uid", ""))
    return known is not None and known.source is not None and known.source == _digest(raw)


def forget_resource(uid: str) -> None:
    """Drop what is remembered of a resource that is gone."""
    _readings.forget(uid)


def readable_resource(raw: Mapping[str, Any]) -> VLLMModel | None:
    """As `parse_resource`; None where the spec cannot be followed, for those who leave it to others to tell."""
    try:
        return parse_resource(raw)
    except InvalidSpec:
        return None


def _outcome(raw: Mapping[str, Any]) -> VLLMModel | InvalidSpec:
    try:
        return _read(raw)
    except InvalidSpec as error:
        return InvalidSpec(error.faults)  # without the trace, which would keep all its frames


def _read(raw: Mapping[str, Any]) -> VLLMModel:
    metadata = raw["metadata"]
    return VLLMModel(
        name=metadata["name"],
        namespace=metadata.get("namespace", "default"),
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        spec=parse_spec(raw.get("spec", {})),
    )
