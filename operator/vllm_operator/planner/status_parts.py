"""A status and its parts: what an API server refuses of it, what it keeps, and how one status replaces another. Pure.

Operator and CustomResourceDefinition are installed one after the other, and somebody may have edited the latter: it may
lack a field of the status, which the API server then drops without a word, or allow fewer values, and then it refuses
the whole status, with the path of each part that it does not take.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_STEP: Final = re.compile(r"[^.\[\]]+")
_ROOT: Final = "status"


def without(status: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """The status without the parts that `fields` name, as an API server names them (`status.conditions[3].reason`).

    Where a part is named that is not there, what should hold it goes: it is a required one, which an earlier refusal
    has taken away. What is no part of the status, and the status as a whole, takes nothing away.
    """
    paths = {tuple(_STEP.findall(field)) for field in fields}
    found: dict[str, Any] = _without(status, sorted(path[1:] for path in paths if len(path) > 1 and path[0] == _ROOT))
    return found


def _without(part: Any, paths: Sequence[tuple[str, ...]]) -> Any:
    names = range(len(part)) if isinstance(part, list) else list(part)
    kept: dict[Any, Any] = {}
    for name in names:
        inside = [path[1:] for path in paths if path[0] == str(name)]
        if any(_names_it(part[name], path) for path in inside):
            continue
        kept[name] = _without(part[name], inside) if inside else part[name]
    return list(kept.values()) if isinstance(part, list) else kept


def _names_it(part: Any, path: tuple[str, ...]) -> bool:
    """Whether a path within this part means the part as a whole."""
    if not path or not isinstance(part, dict | list):
        return True
    names = map(str, range(len(part)) if isinstance(part, list) else part)
    return path[0] not in names


def differing(sent: Any, kept: Any, path: str = _ROOT) -> list[str]:
    """Paths of the parts of a status that are not kept as they were sent."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        names = sorted({*sent, *kept})
        return [
            line
            for name in names
            for line in (
                differing(sent[name], kept[name], f"{path}.{name}")
                if name in sent and name in kept
                else [f"{path}.{name}"]
            )
        ]
    if isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        pairs = enumerate(zip(sent, kept, strict=True))
        return [line for number, pair in pairs for line in differing(*pair, f"{path}[{number}]")]
    return [] if sent == kept else [path]


def replacing(before: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch that leaves nothing of an earlier status beside this one: it keeps what it does not name."""
    patch: dict[str, Any] = {**dict.fromkeys(before), **status}
    for name, value in status.items():
        earlier = before.get(name)
        if isinstance(value, dict) and isinstance(earlier, dict):
            patch[name] = replacing(earlier, value)
    return patch


def was_replaced(before: Mapping[str, Any], status: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
    """Whether the patch `replacing(before, status)` named all that is in what it left: the rest came from elsewhere."""
    for name, value in kept.items():
        earlier, sent = before.get(name), status.get(name)
        if name not in status and name not in before:
            return False
        if isinstance(value, dict) and isinstance(sent, dict):
            inside = earlier if isinstance(earlier, dict) else {}
            if not was_replaced(inside, sent, value):
                return False
    return True
