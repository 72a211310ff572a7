"""How much a model is compiled, in the words of each vLLM.

`-O3` set a key of the compilation config before 0.12.0, and is an argument of its own since. That key was called
`level` before 0.11.1 and is called `mode` since. Before 0.9.2 the config might be a mere number, which was the level.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from vllm_operator.api.vllm_releases import Version
from vllm_operator.cli.importing.arguments import object_of
from vllm_operator.cli.importing.draft import Level

if TYPE_CHECKING:
    from vllm_operator.cli.importing.arguments import Option

_LEVEL: Final = re.compile("[0-3]")
_SHORT: Final = re.compile(r"-O=?([0-3])")
_NAMED: Final = re.compile("[oO]?([0-3])")
_MODE_INSTEAD_OF_LEVEL: Final = Version((0, 11, 1), "0.11.1")
_OBJECT_ALONE: Final = Version((0, 9, 2), "0.9.2")


class Reworded(NamedTuple):
    """An argument as the version reads it, and what is to be said of it, if anything."""

    option: Option
    level: Level | None = None
    told: str = ""


def level_in(name: str, text: str) -> str:
    """The number in `-O3`, `-O=3` or `-O 3`; empty for anything else."""
    found = _SHORT.fullmatch(f"{name}{text}" if name == "-O" else name)
    return found[1] if found else ""


def number_of(level: str) -> str:
    """A level of optimization by its number, which vLLM takes by its name too, such as `O2`."""
    found = _NAMED.fullmatch(level)
    return found[1] if found else level


def key_of_level(version: Version | None) -> str:
    """How the compilation config calls what `-O3` sets in older releases; as the newest does where none is known."""
    return "level" if version and version < _MODE_INSTEAD_OF_LEVEL else "mode"


def reworded(option: Option, version: Version | None) -> Reworded:
    """A compilation config in the words of the vLLM that is to read it."""
    key = key_of_level(version)
    if not option.key and _LEVEL.fullmatch(option.text):
        return _of_number(option, key, version)
    if version is None or key == "level" or not _says_level(option):
        return Reworded(option)
    told = f"level has become {key}, as vLLM {version} calls it"
    if option.key:
        return Reworded(replace(option, key=key), Level.NOTE, told)
    config = {key if name == "level" else name: value for name, value in object_of(option).items()}
    return Reworded(replace(option, values=[json.dumps(config)]), Level.NOTE, told)


def _of_number(option: Option, key: str, version: Version | None) -> Reworded:
    made = replace(option, key=key)
    told = f"has become {{{key}: {option.text}}}"
    if version is None:
        unknown = "the image's name does not tell which vLLM it is, and before 0.11.1 this is called level"
        return Reworded(made, Level.CHECK, f"{told}: {unknown}")
    if version < _OBJECT_ALONE:
        return Reworded(made)
    return Reworded(made, Level.NOTE, f"{told}: vLLM {version} takes no number there")


def _says_level(option: Option) -> bool:
    try:
        return "level" in object_of(option)
    except ValueError:  # the field's own reader tells of it
        return False
