"""What server-side apply cannot repair by itself in an object of ours. Pure.

Apply keeps the fields and list items that somebody else has added. Where those stand beside ours and cannot (two ports
of one name, a variable with a value and a reference, a probe with two actions), the API server refuses the sum, and
goes on refusing it. What stands in the way has to be replaced, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.meta import FIELD_MANAGER
from vllm_operator.planner.compare import holds, identity, list_keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.planner.compare import Place

_ONE_OF_MANY: Final = frozenset({"startupProbe", "readinessProbe", "livenessProbe", "preStop", "postStart", "strategy"})
"""Fields of which the API server allows one member out of several: a remainder of another one makes it invalid.

Its schema does not say which; its validation does (kubernetes/pkg/apis/core/validation)."""

_LISTS_OF_THEM: Final = frozenset({"env", "volumes"})
"""Lists whose items are such."""

_RIVALS: Final = {"minAvailable": "maxUnavailable", "maxUnavailable": "minAvailable"}


def in_the_way(live: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch that replaces what an apply of `desired` would be refused for; empty where there is nothing."""
    return _difference(live, _mended(live, desired, ("", "")))


def disowned(live: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch that gives up what such a patch made ours beside what we apply.

    Without it, a field that is no longer desired would stay: a manager of the same name still wanted it.
    """
    entries = live["metadata"].get("managedFields", [])
    return {"metadata": {"managedFields": [entry for entry in entries if not _by_patch(entry)]}}


def _by_patch(entry: Mapping[str, Any]) -> bool:
    return bool(entry["manager"] == FIELD_MANAGER and entry["operation"] == "Update")


def _mended(live: Any, desired: Any, place: Place) -> Any:
    """The live part without what stands in the way. What merely differs stays: apply takes it over."""
    if isinstance(live, dict) and isinstance(desired, dict):
        return _mended_choice(live, desired) if place[1] in _ONE_OF_MANY else _mended_members(live, desired, place)
    keys = list_keys(place)
    if isinstance(live, list) and isinstance(desired, list) and keys:
        mended = _mended_ports if place[1] == "ports" else _mended_items
        return mended(live, desired, place, keys)
    return live  # a list that several managers do not share is replaced by apply as a whole


def _mended_choice(live: Mapping[str, Any], desired: Mapping[str, Any]) -> Mapping[str, Any]:
    return live if holds(live, desired) else desired


def _mended_members(live: Mapping[str, Any], desired: Mapping[str, Any], place: Place) -> dict[str, Any]:
    rivals = {_RIVALS[name] for name in desired if name in _RIVALS} - desired.keys()
    return {
        name: _mended(value, desired[name], (place[1], name)) if name in desired else value
        for name, value in live.items()
        if name not in rivals
    }


def _mended_items(
    live: Sequence[Mapping[str, Any]], desired: Sequence[Mapping[str, Any]], place: Place, keys: Sequence[str]
) -> list[Any]:
    ours = {identity(item, keys): item for item in desired}

    def mended(item: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = ours.get(identity(item, keys))
        if wanted is None:
            return item
        return _mended_choice(item, wanted) if place[1] in _LISTS_OF_THEM else _mended_members(item, wanted, place)

    return [mended(item) for item in live]


def _mended_ports(
    live: Sequence[Mapping[str, Any]], desired: Sequence[Mapping[str, Any]], _: Place, keys: Sequence[str]
) -> list[Any]:
    """Apply tells ports apart by number and protocol, and the API server refuses two of one name."""
    ours = {port["name"]: port for port in desired if "name" in port}
    moved = {
        port["name"]: {**port, **ours[port["name"]]}
        for port in live
        if port.get("name") in ours and identity(port, keys) != identity(ours[port["name"]], keys)
    }
    taken = {identity(port, keys) for port in moved.values()}
    return [
        moved.get(port.get("name"), port)
        for port in live
        if port.get("name") in moved or identity(port, keys) not in taken
    ]


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch from one to the other; it replaces lists as a whole."""
    changes: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        known = before.get(name)
        if isinstance(value, dict) and isinstance(known, dict):
            inner = _difference(known, value)
            changes |= {name: inner} if inner else {}
        elif value != known:
            changes[name] = value
    return changes
