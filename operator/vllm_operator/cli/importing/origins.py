"""What the comments of a rendered command line or Compose file say of the variables that only a cluster knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.importing.shell import mark, variables_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_IN_COMPOSE: Final = re.compile(r"Set (\w+) \(in \.env or in the shell\)(, if you want it)?: (.+)\.")
_IN_COMMAND: Final = re.compile(r"(\w+): (.+)\. Set it (before|if you want it)\.")
_KEY: Final = re.compile(r"key (\S+) of (Secret|ConfigMap) (\S+)")
_FIELD: Final = re.compile(r"field (\S+) of the pod")
_RESOURCE: Final = re.compile(r"(\S+) of the container")
_EXPORTED: Final = re.compile(r"Export the keys of (Secret|ConfigMap) (\S+?)(?:, with (\S+) before each)?\.")
_CHOSEN: Final = "an API key of your choice"
_TITLE: Final = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?): (\S+)")
_PLACE: Final = re.compile(r"(\S+) is there in a pod only: put (.+) there\.")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the value of a variable comes from."""

    value_from: dict[str, Any]
    generated: bool = False
    """Whether it is an API key that the operator makes."""


def origins_of(comments: Iterable[str]) -> dict[str, Origin]:
    """Where variables come from, by the names that a shell has for them."""
    found: dict[str, Origin] = {}
    for line in comments:
        in_compose, in_command = _IN_COMPOSE.fullmatch(line), _IN_COMMAND.fullmatch(line)
        if in_compose:
            name, told, optional = in_compose[1], in_compose[3], bool(in_compose[2])
        elif in_command:
            name, told, optional = in_command[1], in_command[2], in_command[3] != "before"
        else:
            continue
        origin = _origin(told, optional=optional)
        if origin:
            found[name] = origin
    return found


def _origin(told: str, *, optional: bool) -> Origin | None:
    key, field, resource = _KEY.fullmatch(told), _FIELD.fullmatch(told), _RESOURCE.fullmatch(told)
    if told.startswith(_CHOSEN):
        return Origin({}, generated=True)
    if key:
        reference: dict[str, Any] = {"name": key[3], "key": key[1]} | ({"optional": True} if optional else {})
        return Origin({"secretKeyRef" if key[2] == "Secret" else "configMapKeyRef": reference})
    if field:
        return Origin({"fieldRef": {"fieldPath": field[1]}})
    return Origin({"resourceFieldRef": {"resource": resource[1]}}) if resource else None


def env_from_of(comments: Iterable[str]) -> list[dict[str, Any]]:
    """The Secrets and ConfigMaps whose keys all become variables."""
    found = []
    for line in comments:
        exported = _EXPORTED.fullmatch(line)
        if exported:
            reference = {"secretRef" if exported[1] == "Secret" else "configMapRef": {"name": exported[2]}}
            found.append(reference | ({"prefix": exported[3]} if exported[3] else {}))
    return found


def title_of(comments: Sequence[str]) -> str:
    """Name of the model that the first comment of a rendered command tells; empty where it is none."""
    found = _TITLE.fullmatch(comments[0]) if comments else None
    return found[1] if found else ""


def places_of(comments: Iterable[str]) -> dict[str, str]:
    """What has to be in which folder, as the comments of a rendered command tell."""
    return {found[1]: found[2] for found in map(_PLACE.fullmatch, comments) if found}


def restored(env: Sequence[Mapping[str, Any]], origins: Mapping[str, Origin]) -> list[dict[str, Any]]:
    """The variables of a container with their origins, where the comments tell them."""
    whole = {
        names[0]: str(variable["name"])
        for variable in env
        for names in [variables_in(str(variable.get("value") or ""))]
        if names and variable.get("value") == mark(names[0])
    }
    found: list[dict[str, Any]] = []
    for variable in env:
        value = str(variable.get("value") or "")
        names = variables_in(value)
        origin = origins.get(names[0]) if names and value == mark(names[0]) else None
        if origin and origin.value_from:
            found.append({"name": variable["name"], "valueFrom": origin.value_from})
            continue
        for name in names:
            if name in whole and value != mark(name):
                value = value.replace(mark(name), f"$({whole[name]})")
        found.append({**variable, "value": value} if names and not origin else dict(variable))
    return found
