"""What people read of the values: values.yaml with its comments, and the table of pages."""

from __future__ import annotations

import itertools
import re
import textwrap
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from tools.chart import values
from tools.page import cell
from vllm_operator.api.base import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_WIDTH: Final = 118
_HEAD: Final = """\
# Generated from tools/chart/values.py by `make generate`; do not edit. Other values go into a file of your own.
# yaml-language-server: $schema=values.schema.json
"""
_TABLE: Final = re.compile(r"(?<=<!-- begin values -->\n).*?(?=<!-- end -->)", re.DOTALL)


class Value(NamedTuple):
    """A value that can be set."""

    path: tuple[str, ...]
    default: Any
    description: str


def all_values(group: Model | None = None, path: tuple[str, ...] = ()) -> Iterator[Value]:
    """Every value, in the order of the file."""
    group = group or values.Values()
    for name, field in type(group).model_fields.items():
        here = (*path, str(field.alias))
        default = getattr(group, name)
        if _is_group(default):
            yield from all_values(default, here)
        else:
            yield Value(here, _plain(default), _description(here, field))


def values_text() -> str:
    """values.yaml."""
    text, before = _HEAD, tuple[str, ...]()
    for value in all_values():
        shared = _shared(before, value.path)
        text += "\n" if before and shared == 0 else ""
        for depth, name in enumerate(value.path[:-1]):
            text += f"{'  ' * depth}{name}:\n" if depth >= shared else ""
        indent = "  " * (len(value.path) - 1)
        text += _comment(value.description, indent) + textwrap.indent(_yaml({value.path[-1]: value.default}), indent)
        before = value.path
    return text


def with_table(page: str) -> str:
    """A page with the table of all values where it says so."""
    rows = [
        f"| `{'.'.join(value.path)}` | {_told(value.default)} | {cell(value.description)} |\n" for value in all_values()
    ]
    return _TABLE.sub(lambda _: "| value | default | what it is for |\n|---|---|---|\n" + "".join(rows), page)


def _is_group(default: Any) -> bool:
    return isinstance(default, Model) and type(default).__module__ == values.__name__


def _plain(default: Any) -> Any:
    return default.manifest() if isinstance(default, Model) else default


def _description(path: tuple[str, ...], field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"tools/chart/values.py: say what {'.'.join(path)} is for")
    return field.description


def _shared(before: tuple[str, ...], path: tuple[str, ...]) -> int:
    """How many groups the two are in together."""
    pairs = zip(before[:-1], path[:-1], strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _comment(text: str, indent: str) -> str:
    wrapper = textwrap.TextWrapper(
        width=_WIDTH,
        initial_indent=f"{indent}# -- ",
        subsequent_indent=f"{indent}# ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return wrapper.fill(text) + "\n"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=_WIDTH).replace("''", '""')


def _told(default: Any) -> str:
    if default in ("", [], {}):
        return ""
    text = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=1000).removesuffix("\n...\n").strip()
    return f"`{text}`"
