"""Why an object is written: the fields in which the live one differs, in words for logs and people. Pure.

The values of Secrets and ConfigMaps are never told, only their keys: a log is no place for either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.names import DESIRED_HASH, POD_SPEC_HASH
from vllm_operator.planner.compare import holds, list_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_operator.planner.compare import Place

MISSING: Final = "missing"
NO_LONGER_WANTED: Final = "no longer wanted"
REMOVED_FIELD: Final = "a field is no longer wanted"
"""The hash of what was desired differs, and everything that is desired now is there."""

_HASHES: Final = frozenset({DESIRED_HASH, POD_SPEC_HASH})
"""They change with what is told anyway."""

_MOST_TOLD: Final = 4
_LONGEST_VALUE: Final = 60
_SECRETIVE: Final = frozenset({"data", "stringData", "binaryData", "value"})
"""Fields whose values are not told: contents of Secrets and ConfigMaps, and values of environment variables."""


def reason(live: Mapping[str, Any] | None, desired: Mapping[str, Any]) -> str:
    """Why `desired` is written over `live`: such as `spec.template: --max-model-len 4096 -> 512`."""
    if live is None:
        return MISSING
    found = differences(live, desired)
    if not found:
        return REMOVED_FIELD
    more = len(found) - _MOST_TOLD
    return ", ".join(found[:_MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def differences(live: Mapping[str, Any], desired: Mapping[str, Any]) -> list[str]:
    """Each field that is desired and not there: its path, what is there, and what is desired."""
    return list(_differences(live, desired, ("", ""), ""))


def _differences(live: Any, desired: Any, place: Place, path: str) -> Iterator[str]:
    if holds(live, desired, place):
        return
    if isinstance(live, dict) and isinstance(desired, dict):
        yield from _in_map(live, desired, place, path)
    elif isinstance(live, list) and isinstance(desired, list):
        yield from _in_list(live, desired, place, path)
    elif place[1] in _SECRETIVE or place[0] in _SECRETIVE:
        yield f"{path} differs"
    else:
        yield f"{path}: {_text(live)} -> {_text(desired)}"


def _in_map(live: Mapping[str, Any], desired: Mapping[str, Any], place: Place, path: str) -> Iterator[str]:
    inside = [key for key in desired if not holds(_only(live, key), _only(desired, key), place)]
    told = [found for key in inside if key not in _HASHES for found in _member(live, desired, key, place, path)]
    if told or inside:
        yield from told
    else:
        yield f"{path} holds what is not wanted"  # a part with one owner: somebody has added to it


def _only(part: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {key: part[key]} if key in part else {}


def _member(live: Mapping[str, Any], desired: Mapping[str, Any], key: str, place: Place, path: str) -> Iterator[str]:
    where = f"{path}.{key}".removeprefix(".")
    if key in live:
        yield from _differences(live[key], desired[key], (place[1], key), where)
    elif place[1] in _SECRETIVE or key in _SECRETIVE:
        yield f"{where} is missing"
    else:
        yield f"{where}: {_text(None)} -> {_text(desired[key])}"


def _in_list(live: Sequence[Any], desired: Sequence[Any], place: Place, path: str) -> Iterator[str]:
    keys = list_keys(place)
    if not keys:
        yield from _in_words(live, desired, path)
        return
    found = {tuple(item.get(key) for key in keys): item for item in live}
    for item in desired:
        identity = tuple(item.get(key) for key in keys)
        where = f"{path}[{identity[0]}]"
        if identity in found:
            yield from _differences(found[identity], item, place, where)
        else:
            yield f"{where} is missing"


def _in_words(live: Sequence[Any], desired: Sequence[Any], path: str) -> Iterator[str]:
    """A list with one owner, as a command line is: what went and what came between the ends that stayed."""
    start = 0
    while start < min(len(live), len(desired)) and live[start] == desired[start]:
        start += 1
    end = 0
    while end < min(len(live), len(desired)) - start and live[-1 - end] == desired[-1 - end]:
        end += 1
    before, after = live[start : len(live) - end], desired[start : len(desired) - end]
    flag = f"{desired[start - 1]} " if start and str(desired[start - 1]).startswith("--") else ""
    yield f"{path}: {flag}{_words(before)} -> {_words(after)}"


def _words(items: Sequence[Any]) -> str:
    return _cut(" ".join(map(str, items))) or "nothing"


def _text(value: Any) -> str:
    return "nothing" if value is None else _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
