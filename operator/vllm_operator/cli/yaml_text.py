"""YAML for people: several lines stay several lines, and the order is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable


def yaml_text(documents: Iterable[Any], *, allow_unicode: bool = False) -> str:
    """The documents, one after the other; letters beyond ASCII as they are where that is allowed, else as escapes."""
    return yaml.dump_all(documents, Dumper=_Readable, sort_keys=False, allow_unicode=allow_unicode)


class _Readable(yaml.SafeDumper):
    """Writes text of several lines as it is."""


def _text(dumper: _Readable, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)
