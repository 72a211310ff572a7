"""Reading what nobody has checked yet: the template after the user's patch, of which only the API server knows types.

What is of another type than it should be reads as empty here; the API server refuses it, in its own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def part(node: Any, *path: str) -> Mapping[str, Any]:
    """The map at a path of fields; empty where there is none."""
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}


def items(node: Any, *path: str) -> list[Mapping[str, Any]]:
    """The maps in the list at a path of fields; empty where there is none."""
    found = part(node, *path[:-1]).get(path[-1])
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def words(node: Any, name: str) -> list[str]:
    """The words in a field that is a list; empty where there is none."""
    found = part(node).get(name)
    return [word for word in found if isinstance(word, str)] if isinstance(found, list) else []


def named(found: list[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The item of a list with this name; empty where there is none."""
    return next((item for item in found if item.get("name") == name), {})
