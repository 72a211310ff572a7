"""The user's last escape hatch: a strategic merge patch on the pod template, as `kubectl patch` would apply it.

What is merged and by which key is said by the API's schema (`x-kubernetes-patch-strategy`, `-merge-key`), from which
the table is generated; a contract test holds the outcome against that of a real API server. Two differences are meant.
What would have no effect, without a word, is refused: unknown directives, and those in a list that is replaced as a
whole. And directives and nulls in what is new or replaced act as on nothing: `$patch: replace` sets a map that was not
there, where the API server drops it, and a null there is no empty text.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.kubernetes_schema import MERGED_LISTS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

_Path = tuple[str | int, ...]

_PRIMITIVE: Final = ""
"""Key of a merged list of words, in the generated table."""

_PATCH: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_DELETE_FROM: Final = "$deleteFromPrimitiveList/"
_ORDER: Final = "$setElementOrder/"


class PatchError(ValueError):
    """The patch is wrong; the message starts with the path inside of it."""

    def __init__(self, path: _Path, message: str) -> None:
        super().__init__(f"{_text(path)}: {message}")


def strategic_merge(template: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A pod template (`metadata` and `spec`) with a strategic merge patch applied. Neither argument is changed.

    Raises:
        PatchError: the patch is no strategic merge patch of a pod template.
    """
    for name, value in patch.items():
        if name not in {"metadata", "spec"}:
            raise PatchError((name,), "a pod template has no such field: put it under `spec` or `metadata`")
        if not isinstance(value, Mapping):
            raise PatchError((name,), f"must be a map, not {_kind(value)}")
    return _merge_map(template, patch, ())


def _merge_map(live: Mapping[str, Any], patch: Mapping[str, Any], path: _Path) -> dict[str, Any]:
    if _PATCH in patch:
        return _replaced(patch, path)
    fields = _fields(patch, path)
    merged = copy.deepcopy(_retained(live, patch, path))
    for name in fields:
        _merge_field(merged, name, patch, (*path, name))
    return merged


def _replaced(patch: Mapping[str, Any], path: _Path) -> dict[str, Any]:
    """What a map with a directive of its own leaves."""
    directive = patch[_PATCH]
    if directive == "delete":
        return {}
    if directive == "replace":
        return _merge_map({}, {name: value for name, value in patch.items() if name != _PATCH}, path)
    raise PatchError((*path, _PATCH), f"must be `delete` or `replace`, not {directive!r}: to merge, leave it out")


def _fields(patch: Mapping[str, Any], path: _Path) -> list[str]:
    """Names of the fields that a map changes, each once, also where only a directive speaks of them."""
    found: dict[str, None] = {}
    for name in patch:
        if not isinstance(name, str):
            raise PatchError((*path, str(name)), "must be text")
        if not name.startswith("$"):
            found[name] = None
        elif name.startswith((_DELETE_FROM, _ORDER)):
            found[name.partition("/")[2]] = None
        elif name != _RETAIN:
            known = ", ".join(
                f"`{directive}`" for directive in (_PATCH, _RETAIN, f"{_DELETE_FROM}FIELD", f"{_ORDER}FIELD")
            )
            raise PatchError((*path, name), f"is no directive: there are {known}")
    return list(found)


def _retained(live: Mapping[str, Any], patch: Mapping[str, Any], path: _Path) -> dict[str, Any]:
    """The fields that stay where the patch names those that may."""
    if _RETAIN not in patch:
        return dict(live)
    names = _list(patch[_RETAIN], (*path, _RETAIN))
    for name, value in patch.items():
        if not name.startswith("$") and value is not None and name not in names:
            raise PatchError((*path, name), f"is set, but not among `{_RETAIN}`: add it there")
    return {name: value for name, value in live.items() if name in names}


def _merge_field(merged: dict[str, Any], name: str, patch: Mapping[str, Any], path: _Path) -> None:
    """Change one field of a map, in place: first delete words, then merge, then set the order."""
    before = merged.get(name)
    deleted = _list(patch.get(_DELETE_FROM + name, []), (*path[:-1], _DELETE_FROM + name))
    if deleted and before is not None:
        merged[name] = [item for item in _list(before, path) if item not in deleted]
    if name in patch:
        _set_field(merged, name, patch[name], path)
    if _ORDER + name in patch and name in merged:
        merged[name] = _in_wanted_order(merged[name], patch, name, before or [], path)


def _set_field(merged: dict[str, Any], name: str, value: Any, path: _Path) -> None:
    live = merged.get(name)
    if value is None or (live is None and _is_deletion(value)):
        merged.pop(name, None)
    elif live is None:
        merged[name] = _fresh(value, path)
    else:
        merged[name] = _merge_value(live, value, path)


def _is_deletion(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get(_PATCH) == "delete"


def _merge_value(live: Any, value: Any, path: _Path) -> Any:
    if _kind(live) != _kind(value):
        raise PatchError(path, f"must be {_kind(live)}, not {_kind(value)}")
    if isinstance(value, Mapping):
        return _merge_map(live, value, path)
    if isinstance(value, list) and _merge_key(path) is not None:
        return _merge_list(live, value, path)
    return _fresh(value, path)


def _merge_list(live: Sequence[Any], patch: Sequence[Any], path: _Path) -> list[Any]:
    key = _merge_key(path)
    if key == _PRIMITIVE:
        merged = list(dict.fromkeys([*live, *_fresh(patch, path)]))
        return _in_order(merged, patch, live)
    items = [(_identity(item, (*path, number)), item, (*path, number)) for number, item in enumerate(patch)]
    directives = [item.get(_PATCH) for _, item, _ in items]
    if "replace" in directives:
        return _list(_fresh(patch, path), path)
    deleted = [identity for identity, item, _ in items if item.get(_PATCH) == "delete"]
    kept = [item for item in live if item.get(key) not in deleted]
    plain = [found for found in items if _PATCH not in found[1]]
    wanted = [identity for identity, _, _ in plain]
    merged = list(kept)
    for identity, item, place in plain:
        _merge_item(merged, str(key), identity, item, place)
    return _in_order(merged, wanted, [item.get(key) for item in kept], key)


def _merge_item(merged: list[Any], key: str, identity: Hashable, item: Mapping[str, Any], path: _Path) -> None:
    """Merge an item into the first one of its key, or append it; in place."""
    for number, live in enumerate(merged):
        if live.get(key) == identity:
            merged[number] = _merge_map(live, item, path)
            return
    merged.append(_merge_map({}, item, path))


def _in_wanted_order(merged: Any, patch: Mapping[str, Any], name: str, before: Sequence[Any], path: _Path) -> list[Any]:
    """A merged list in the order that `$setElementOrder` asks for."""
    place, key = (*path[:-1], _ORDER + name), _merge_key(path)
    if key is None:
        raise PatchError(place, "has no effect: the list is replaced as a whole, so write it in its order")
    order = _list(patch[_ORDER + name], place)
    wanted = [_key_of(item, key, (*place, number)) for number, item in enumerate(order)]
    changed = [item for item in patch.get(name) or [] if not isinstance(item, Mapping) or _PATCH not in item]
    rest = iter(wanted)
    if not all(any(_name_of(item, key) == identity for identity in rest) for item in changed):
        raise PatchError(place, f"must name all items of `{name}`, in their order")
    return _in_order(merged, wanted, [_name_of(item, key) for item in before], key)


def _in_order(
    items: Iterable[Any], wanted: Sequence[Any], live: Sequence[Any], key: str | None = _PRIMITIVE
) -> list[Any]:
    """The items named in `wanted`, in that order; the others stay before those that they stood before.

    `wanted` and `live` are names of items, those of the list as it was in `live`.
    """
    named = sorted(
        (item for item in items if _name_of(item, key) in wanted), key=lambda item: wanted.index(_name_of(item, key))
    )
    others = [item for item in items if _name_of(item, key) not in wanted]
    ordered: list[Any] = []
    while named and others:
        first, other = _name_of(named[0], key), _name_of(others[0], key)
        earlier = first in live and other in live and live.index(other) < live.index(first)
        ordered.append(others.pop(0) if earlier else named.pop(0))
    return ordered + named + others


def _fresh(value: Any, path: _Path) -> Any:
    """A value of the patch where nothing was: without directives and nulls."""
    if isinstance(value, Mapping):
        return _merge_map({}, value, path)
    key = _merge_key(path)
    if key is not None:
        items = [(item, (*path, number)) for number, item in enumerate(_list(value, path))]
        return [_fresh_item(item, place) for item, place in items if key == _PRIMITIVE or not _marked(item, place)]
    if isinstance(value, list):
        return [_fresh_item(item, (*path, number)) for number, item in enumerate(value)]
    return value


def _fresh_item(item: Any, path: _Path) -> Any:
    if item is None:
        raise PatchError(path, "must not be null: leave the item out")
    if isinstance(item, Mapping) and _PATCH in item:
        raise PatchError((*path, _PATCH), "has no effect: the list is replaced as a whole")
    if _merge_key(path[:-1]) == _PRIMITIVE and isinstance(item, Mapping | list):
        raise PatchError(path, f"must be a single value, not {_kind(item)}")
    return _fresh(item, path)


def _marked(item: Any, path: _Path) -> bool:
    """Whether an item of a merged list is a directive and no item; checks the item."""
    _identity(item, path)
    return _PATCH in item


def _identity(item: Any, path: _Path) -> Any:
    """What tells an item of a merged list apart; None for the mark that replaces the list."""
    if not isinstance(item, Mapping):
        raise PatchError(path, f"must be a map, not {_kind(item)}")
    directive = item.get(_PATCH)
    if _PATCH in item and directive not in ("delete", "replace"):
        raise PatchError((*path, _PATCH), f"must be `delete` or `replace`, not {directive!r}: to merge, leave it out")
    return None if directive == "replace" else _key_of(item, str(_merge_key(path[:-1])), path)


def _key_of(item: Any, key: str, path: _Path) -> Any:
    if key == _PRIMITIVE:
        return item
    if not isinstance(item, Mapping):
        raise PatchError(path, f"must be a map, not {_kind(item)}")
    found = item.get(key)
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise PatchError((*path, key), f"must be set: `{key}` tells the items of this list apart")
    return found


def _name_of(item: Any, key: str | None) -> Any:
    return item.get(key) if key else item


def _merge_key(path: _Path) -> str | None:
    """The key of a merged list; None where a path is not that of one. A path with a number at its end is an item's."""
    if path and isinstance(path[-1], int):
        return None
    return MERGED_LISTS.get(tuple(name for name in path if isinstance(name, str)))


def _list(value: Any, path: _Path) -> list[Any]:
    if not isinstance(value, list):
        raise PatchError(path, f"must be a list, not {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, list):
        return "a list"
    return "null" if value is None else "a single value"


def _text(path: _Path) -> str:
    """A path as people write it: `spec.containers[0].env`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
