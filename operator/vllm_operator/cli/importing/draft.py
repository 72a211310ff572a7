"""A VLLMModel that is being written, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.cli.rules import schema
from vllm_operator.cli.schema import field_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

Path = tuple[str, ...]
"""Path of a field below `spec`, as in YAML."""


class NotImportableError(Exception):
    """There is no model in the input, or it cannot be read; the message says why, and what would help."""


class Level(StrEnum):
    """What a remark asks of people."""

    NOTE = "note"
    """It is done in another way, which serves the same end."""
    CHECK = "check"
    """A person has to look: something could not be known."""
    LOST = "lost"
    """It was not carried over."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to say of an import."""

    level: Level
    text: str
    path: Path = ()
    """Field that it is about; a comment stands there. The whole model if empty."""


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A Secret that has to be made, since the input holds its value or names a variable of somebody's shell."""

    name: str
    key: str
    variable: str
    """Variable of the shell that is to hold the value when the command is run."""


@dataclass(slots=True)
class Draft:
    """One model in the making. The functions of this package add to it, each what it has read."""

    name: str = ""
    namespace: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    secrets: list[NewSecret] = field(default_factory=list)
    certificate: tuple[str, str] = ("", "")
    """Files with the certificate and the key with which the server speaks https; empty where it speaks http."""
    pods: int = 1
    """Pods of one engine, where the input itself is a group of them."""
    devices: frozenset[str] = frozenset()
    """Devices of its machine that it used; empty where it was on none."""
    named: list[str] = field(default_factory=list)
    """Places that the arguments name, and no field does."""
    steps: list[str] = field(default_factory=list)
    """Commands that people run besides, for what is no part of the resource."""

    def note(self, text: str, *path: str) -> None:
        """Say what is done in another way."""
        self._remark(Level.NOTE, text, path)

    def check(self, text: str, *path: str) -> None:
        """Ask a person to look."""
        self._remark(Level.CHECK, text, path)

    def lost(self, text: str, *path: str) -> None:
        """Say what was not carried over, and why."""
        self._remark(Level.LOST, text, path)

    def _remark(self, level: Level, text: str, path: Path) -> None:
        remark = Remark(level, text, path)
        if remark not in self.remarks:
            self.remarks.append(remark)

    def get(self, *path: str) -> Any:
        """What stands at a path; None where nothing does."""
        found: Any = self.spec
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def put(self, path: Iterable[str], value: Any) -> None:
        """Set a field. What is the field's default already, or an empty list or map, is left out."""
        steps = tuple(path)
        if value in (None, "", [], {}) or value == default_of(steps):
            return
        self._holder(steps)[steps[-1]] = value

    def put_empty(self, *path: str) -> None:
        """Set a part that means something though nothing is in it, such as `lora: {}`."""
        self._holder(path).setdefault(path[-1], {})

    def append(self, path: Iterable[str], *values: Any) -> None:
        """Add to a list."""
        steps = tuple(path)
        holder = self._holder(steps)
        holder[steps[-1]] = [*holder.get(steps[-1], []), *values]

    def _holder(self, path: Path) -> dict[str, Any]:
        holder = self.spec
        for name in path[:-1]:
            holder = holder.setdefault(name, {})
        return holder

    def document(self) -> dict[str, Any]:
        """The resource, its fields in the order of the schema."""
        metadata = {"name": self.name} | ({"namespace": self.namespace} if self.namespace else {})
        spec = _ordered(self.spec, spec_schema())
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def spec_schema() -> dict[str, Any]:
    """Schema of `spec`."""
    found: dict[str, Any] = schema()["properties"]["spec"]
    return found


def schema_at(path: Iterable[str]) -> dict[str, Any]:
    """Schema of a field; empty where the schema says nothing."""
    node = spec_schema()
    for name in path:
        node = field_schema(node, name) or {}
    return node


def default_of(path: Iterable[str]) -> Any:
    """What the API server sets where a field is left out; None where it sets nothing."""
    return schema_at(path).get("default", _NOTHING)


_NOTHING: Final = object()


def _ordered(value: Any, node: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_ordered(item, node.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    known = [name for name in node.get("properties", {}) if name in value]
    names = [*known, *(name for name in value if name not in known)]
    return {name: _ordered(value[name], field_schema(node, name) or {}) for name in names}
