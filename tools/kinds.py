"""What a field takes, in words: out of its schema, with the names of the scalars that the types are made of."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter

from vllm_operator.api.spec import catalog, engine, scalars


class Kind(NamedTuple):
    """A kind of value that has a name of its own."""

    name: str
    meaning: str


_NAMED: Final[tuple[tuple[Any, Kind], ...]] = (
    (scalars.Quantity, Kind("quantity", "a Kubernetes quantity: `4`, `500m`, `16Gi`")),
    (scalars.Size, Kind("size", "a quantity of storage that is more than nothing, as text: `200Gi`")),
    (scalars.TokenCount, Kind("tokens", "a number of tokens: `4096`, `32k` (32,000), `32K` (32,768), or `auto`")),
    (scalars.ByteCount, Kind("bytes", "a number of bytes: `1073741824`, `8g` (8 thousand million), `8G` (8 GiB)")),
    (scalars.CountOrPercent, Kind("count or percent", "a number of pods, or a share of them: `1`, `50%`")),
    (scalars.Word, Kind("word", "text without blanks that does not begin with `-`")),
    (engine.Image, Kind("image", "name of a container image, with its tag or digest")),
    (scalars.Path, Kind("path", "an absolute path without blanks")),
    (scalars.FilePath, Kind("file path", "a path without blanks and braces: absolute, or from where the image works")),
    (scalars.HostName, Kind("host", "name of a host: `llm.example.com`, or `*.example.com` for all below one")),
    (scalars.ObjectName, Kind("object name", "name of a Kubernetes object: small letters, digits, `-` and `.`")),
    (scalars.LabelName, Kind("short name", "small letters, digits and `-`, at most 63 characters")),
    (scalars.ResourceName, Kind("key", "a name, with or without a domain before it: `memory`, `nvidia.com/gpu`")),
    (scalars.LabelValue, Kind("label value", "letters, digits, `-`, `_` and `.`, at most 63 characters, or nothing")),
    (catalog.Language, Kind("language tag", "a BCP 47 tag: `en`, `zh-TW`, `zh-Hant`")),
    (catalog.Task, Kind("task", "letters, digits, `-`, `_` and `.`, at most 63 characters")),
    (scalars.DataKey, Kind("data key", "key in a Secret or ConfigMap: letters, digits, `-`, `_` and `.`")),
)


def _pattern(scalar: Any) -> str:
    return str(TypeAdapter(scalar).json_schema()["pattern"])


_BY_PATTERN: Final = {_pattern(scalar): kind for scalar, kind in _NAMED}

KINDS: Final = tuple(kind for _, kind in _NAMED)
"""Every named kind of value."""


def kind_of(node: dict[str, Any], part: str = "") -> str:
    """What a field takes.

    Args:
        node: Its structural schema.
        part: Link to the type of its value, or of its items, if that is described elsewhere.
    """
    if "enum" in node:
        return _choice(node["enum"])
    kind = node.get("type", "string")
    describe = {"array": _list, "object": _object, "integer": _number, "number": _number}.get(kind)
    if describe:
        return describe(node, part)
    return "true or false" if kind == "boolean" else _text(node)


def _choice(values: list[Any]) -> str:
    *first, last = (f"`{value}`" for value in values)
    return f"{', '.join(first)} or {last}" if first else last


def _list(node: dict[str, Any], part: str) -> str:
    return f"list{_extent(node, 'Items')} of {part or kind_of(node['items'])}"


def _object(node: dict[str, Any], part: str) -> str:
    if part:
        return part
    if "additionalProperties" in node:
        return f"map{_extent(node, 'Properties')} to {kind_of(node['additionalProperties'])}"
    return "object"


def _extent(node: dict[str, Any], of: str) -> str:
    least, most = node.get(f"min{of}"), node.get(f"max{of}")
    if most is None:
        return ""
    return f" ({least} to {most})" if least else f" (up to {most})"


def _number(node: dict[str, Any], _: str) -> str:
    name = "number" if node["type"] == "number" else "whole number"
    least, most = node.get("minimum"), node.get("maximum")
    if node.get("exclusiveMinimum"):
        return f"{name}, more than {least}" + ("" if most is None else f", up to {most}")
    if most is not None:
        return f"{name}, {least} to {most}"
    return name if least is None else f"{name}, at least {least}"


def _text(node: dict[str, Any]) -> str:
    if node.get("format") == "date-time":
        return "date and time"
    pattern = node.get("pattern")
    if pattern is None:
        return f"text, up to {node['maxLength']} characters" if "maxLength" in node else "text"
    named = _BY_PATTERN.get(pattern)
    return named.name if named else f"text that matches `{pattern}`"
