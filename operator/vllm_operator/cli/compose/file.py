"""The Compose file as a whole."""

from __future__ import annotations

import math
import re
from functools import cache
from importlib.resources import files as package_files
from typing import TYPE_CHECKING, Any, Final

import jinja2
import yaml

from vllm_operator.cli.compose.notes import notes_of
from vllm_operator.cli.compose.service import service_of
from vllm_operator.cli.compose.slots import slots_of
from vllm_operator.cli.compose.volumes import configs_of, program_configs, volumes_of
from vllm_operator.cli.engine import names_outside
from vllm_operator.cli.outside import comment
from vllm_operator.render.manager import program_sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.cli.engine import Engine

_PLAIN_KEY: Final = re.compile(r"(?!true$|false$|null$)[a-z_]{4,}")

_BLOCK: Final = re.compile(r"(\S.*\n)(.*\n)*.*\S\n")
"""Texts of several lines that YAML can hold as they are, without saying how they begin and end."""


def compose_file(engines: Sequence[Engine], program: Mapping[str, str] | None = None) -> str:
    """The file, for all models together. `program` are the manager's files by their names; this version's by default.

    Raises:
        UnsupportedError: a model cannot run so, or two of them want the same port or name.
    """
    slots, program = slots_of(engines), program or program_sources()
    names = names_outside(variable for engine in engines for variable in engine.outside)
    volumes = {name: body for engine in engines for name, body in volumes_of(engine)}
    configs = {name: body for engine in engines for name, body in configs_of(engine)}
    text = _template().render(
        notes=[comment(note) for note in notes_of(engines, slots, names)],
        services=[service_of(slot, names, tuple(program)) for slot in slots],
        volumes=volumes,
        configs=configs | program_configs(program),
    )
    return f"{text.rstrip()}\n"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)  # noqa: S701 # no HTML
    environment.filters["yaml"] = as_yaml
    source = package_files("vllm_operator.cli.compose") / "templates" / "compose.yaml.j2"
    return environment.from_string(source.read_text(encoding="utf-8"))


def as_yaml(value: Any, indent: int = 0) -> str:
    """A value as it stands behind `key:` in YAML; what has several lines stands below the key, which has the indent.

    All texts are quoted, so that no reader of YAML, old or new, takes `1e3`, `0o14` or `no` for something else.
    """
    text = yaml.dump(value, Dumper=_Quoted, sort_keys=False, allow_unicode=True, width=math.inf)
    text = text.removesuffix("...\n").removesuffix("\n")
    if not isinstance(value, dict | list) or not value:
        return f" {text}"
    return "\n" + "\n".join(f"{' ' * (indent + 2)}{line}" if line else "" for line in text.split("\n"))


class _Quoted(yaml.SafeDumper):
    """Quotes texts, but for the keys that Compose itself has; writes those of several lines as they are."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 # the inherited signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 # inherited
        super().increase_indent(flow, False)  # noqa: FBT003 # items stand deeper than their key

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:  # noqa: FBT001 # inherited
        node = super().represent_mapping(tag, mapping, flow_style)
        for key, _ in node.value:
            if _PLAIN_KEY.fullmatch(key.value):
                key.style = None
        return node


def _text(dumper: _Quoted, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if _BLOCK.fullmatch(text) else '"')


_Quoted.add_representer(str, _text)
