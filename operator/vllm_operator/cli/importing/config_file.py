"""The file of `--config`: where a ConfigMap beside the pod holds it, what it says becomes arguments."""

from __future__ import annotations

import json
import posixpath
from typing import TYPE_CHECKING, Any, Final

import yaml

from vllm_operator.cli.importing.arguments import fields_by_argument, model_in, options_of
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_operator.cli.importing.arguments import Option
    from vllm_operator.cli.importing.draft import Draft
    from vllm_operator.cli.importing.workload import Workload

_ARGUMENT: Final = "--config"


def config_files(words: Sequence[str]) -> list[str]:
    """The files that the arguments name for further arguments."""
    return [option.text for option in options_of(words)[0] if option.name == _ARGUMENT and option.text]


def with_config_file(words: list[str], workload: Workload, draft: Draft) -> list[str]:
    """The arguments with those of the file that `--config` names, as they were where the file is not here."""
    files = config_files(words)
    found = _in_config_map(files[-1], workload) if files else None
    if found is None:
        return words
    name, key, mount = found
    values = _values(workload.config_maps[name][key])
    if values is None:
        return words
    draft.note(f"{_ARGUMENT} {files[-1]}: its arguments, from the ConfigMap {name}, stand in the fields of spec")
    own = _without_option(words)
    given = list(_arguments(_left(values, own, draft), draft))
    if set(workload.config_maps[name]) == {key}:
        workload.container["volumeMounts"] = [
            one for one in items(workload.container, "volumeMounts") if one is not mount
        ]
    return [*own, *given]


def _without_option(words: Sequence[str]) -> list[str]:
    """The arguments without `--config` and its value."""
    kept: list[str] = []
    behind = False
    for word in words:
        if not behind and word.partition("=")[0] != _ARGUMENT:
            kept.append(word)
        behind = word == _ARGUMENT
    return kept


def _values(text: str) -> dict[str, Any] | None:
    """What a file says to vLLM, which reads it with PyYAML; None where it is no map."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else None


def _left(values: Mapping[str, Any], own: Sequence[str], draft: Draft) -> dict[str, Any]:
    """What the command line does not say itself, which wins."""
    said = {_meaning(option) for option in options_of(own)[0]}
    if model_in(own):
        said.add("--model")
    left: dict[str, Any] = {}
    for name, value in values.items():
        option = options_of([f"--{name}"])[0][0]
        if _meaning(option) in said:
            draft.note(f"{name} of the file is left out: the command line says {option.name} itself, and wins")
        else:
            left[option.name] = value
    return left


def _meaning(option: Option) -> str:
    """What an argument says, by whichever of its names."""
    name = option.name if option.name in fields_by_argument() else f"--{option.name.removeprefix('--no-').lstrip('-')}"
    field = fields_by_argument().get(name)
    return f"{field.flag.name if field else name}.{option.key}".rstrip(".")


def _arguments(values: Mapping[str, Any], draft: Draft) -> Iterator[str]:
    """The words that vLLM makes of a file."""
    for name, value in values.items():
        if value is False:
            draft.note(f"{name[2:]}: false of the file is left out: vLLM passes over it")
        elif value is True:
            yield name
        elif isinstance(value, list):
            yield from [name, *map(str, value)] if value else []
        elif value is not None:
            yield f"{name}={json.dumps(value) if isinstance(value, dict) else value}"


def _in_config_map(path: str, workload: Workload) -> tuple[str, str, Mapping[str, Any]] | None:
    """The ConfigMap beside the pod that holds a file, the key, and the mount."""
    volumes = {str(one.get("name")): one for one in items(workload.template, "spec", "volumes")}
    for mount in items(workload.container, "volumeMounts"):
        source = part(volumes.get(str(mount.get("name")), {}), "configMap")
        name, folder = str(source.get("name")), str(mount.get("mountPath") or "").rstrip("/")
        below = str(mount.get("subPath") or "")
        if path == folder and below:
            key = below
        elif not below and posixpath.dirname(path) == folder:
            key = posixpath.basename(path)
        else:
            continue
        key = next((str(one.get("key")) for one in items(source, "items") if one.get("path") == key), key)
        if key in workload.config_maps.get(name, {}):
            return name, key, mount
    return None
