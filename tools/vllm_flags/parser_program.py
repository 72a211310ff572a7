"""The argument parser of `vllm serve` of any release, out of its Python sources alone: no torch, no CUDA, no engine.

    python -I parser_program.py FOLDER    # prints as JSON what each argument is

FOLDER holds the package `vllm`. vLLM builds its parser out of types, docstrings and defaults of its configurations, so
that nothing but its own code makes the same parser. That code runs here as it is. What it imports beside, and what has
no part in the parser (torch, transformers, kernels), is a stand-in, on which every attribute is another stand-in. Where
one of them gets into the parser after all, as a default or a choice, reading ends with an error that names it: then the
module that it stands for has to become one of `_OWN_CODE`.

This runs in a process of its own, since one process can hold one vLLM, and imports nothing of this repository.
"""

from __future__ import annotations

import argparse
import enum
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import json
import re
import sys
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pydantic
import pydantic.dataclasses
import typing_extensions  # noqa: F401 # vLLM's code takes the real one, which has to be loaded before the stand-ins are
import yaml  # noqa: F401 # as above

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_OWN_CODE: Final = re.compile(
    r"vllm\.("
    r"engine\.arg_utils|config(\..*)?|envs|version|ray\.lazy_utils|utils(\..*)?|logging_utils(\..*)?"
    r"|entrypoints\.(cli\.(serve|types)|utils|constants|chat_utils|.*cli_args|.*utils\.constants)"
    r"|entrypoints\.common\.(startup|constants)|entrypoints\.openai\.(serving_models|models|models\.protocol)"
    r"|(entrypoints\.openai\.)?(tool_parsers|reasoning_parsers)(\..*)?|reasoning(\..*)?"
    r"|model_executor\.layers\.quantization|transformers_utils\.config|v1\.attention\.backends\.registry"
    r")"
)
"""Modules of vLLM whose own code runs."""

_REAL_PACKAGES: Final = frozenset(
    {"annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection", "yaml"}
)
"""Beside Python's own: these make parts of the parser."""


def is_own_code(module: str) -> bool:
    """Whether the code of a module has a part in the parser."""
    return bool(_OWN_CODE.fullmatch(module))


class StandInUsedError(Exception):
    """A stand-in has got into the parser."""


class _StandInType(type(typing.Protocol)):  # type: ignore[misc] # a class may derive from a stand-in and a protocol
    """The type of stand-ins: classes that can be called, subscripted, compared, entered, and used as decorators."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return _stand_in(f"{cls.__qualname__}.{name}")

    def __call__(cls, *given: Any, **named: Any) -> Any:
        if not _is_stand_in(cls):
            return super().__call__(*given, **named)
        decorates = len(given) == 1 and not named and isinstance(given[0], types.FunctionType | type)
        return given[0] if decorates else cls

    def __getitem__(cls, _: Any) -> Any:
        return cls

    def __iter__(cls) -> Iterator[Any]:
        raise StandInUsedError(f"the items of {cls.__qualname__} are not known")

    def __bool__(cls) -> bool:
        return True

    def __contains__(cls, _: object) -> bool:
        return False

    def __lt__(cls, _: object) -> bool:
        return False

    __gt__ = __le__ = __ge__ = __lt__

    def __enter__(cls) -> Any:
        return cls

    def __exit__(cls, *_: object) -> None:
        """Leave a block that a stand-in guards."""

    def __instancecheck__(cls, instance: object) -> bool:
        return _is_stand_in(instance) if _is_stand_in(cls) else type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, other: type) -> bool:
        return _is_stand_in(other) if _is_stand_in(cls) else type.__subclasscheck__(cls, other)


class _Base:
    """What classes inherit that derive from a stand-in."""

    def __init_subclass__(cls, **_: Any) -> None:
        """Take whatever the real class takes."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: Any) -> Any:
        return pydantic.TypeAdapter(Any).core_schema


def _stand_in(name: str) -> Any:
    return _StandInType(name, (_Base,), {"_stands_in": True, "__module__": "stand_in"})


def _is_stand_in(value: object) -> bool:
    return isinstance(value, type) and "_stands_in" in value.__dict__


class _Module(types.ModuleType):
    """A module of stand-ins."""

    __version__ = "99.0.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        made = _stand_in(f"{self.__name__}.{name}")
        setattr(self, name, made)
        return made


class _Cuda:
    """vLLM's platform of the images that most people run."""

    device_type = "cuda"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("is_"):
            return lambda *_, **__: name in {"is_cuda", "is_cuda_alike"}
        return _stand_in(f"current_platform.{name}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins for all modules but those of Python, `_REAL_PACKAGES` and `_OWN_CODE`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top in sys.stdlib_module_names or top in _REAL_PACKAGES:
            return None
        if is_own_code(fullname) and self._is_there(fullname):
            return importlib.machinery.PathFinder.find_spec(fullname, path, target)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        if spec.name == "regex":
            return re
        made = _Module(spec.name)
        made.__path__ = [str(self._folder.joinpath(*spec.name.split(".")))]
        if spec.name == "vllm.platforms":
            vars(made)["current_platform"] = _Cuda()
        return made

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is to be run."""

    def _is_there(self, name: str) -> bool:
        place = self._folder.joinpath(*name.split("."))
        return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def build(folder: Path) -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], None]]:
    """The parser of `vllm`, which has the subcommand `serve`, and vLLM's check of what it has parsed.

    From then on this process imports stand-ins.
    """
    sys.meta_path.insert(0, _Finder(folder))
    vars(importlib.metadata)["version"] = lambda _: _Module.__version__  # of packages that are stand-ins
    serve = importlib.import_module("vllm.entrypoints.cli.serve")
    command = serve.ServeSubcommand()
    root = serve.FlexibleArgumentParser(prog="vllm")
    command.subparser_init(root.add_subparsers(required=False, dest="subparser"))
    return root, command.validate


def facts(root: argparse.ArgumentParser) -> dict[str, dict[str, Any]]:
    """What each argument of `vllm serve` is, by its full name.

    Raises:
        StandInUsedError: A default or a choice is a stand-in.
    """
    (subparsers,) = (one for one in root._actions if isinstance(one, argparse._SubParsersAction))  # noqa: SLF001 # nothing public tells
    spellings: dict[int, list[str]] = {}
    actions = {}
    for spelling, action in subparsers.choices["serve"]._option_string_actions.items():  # noqa: SLF001 # nothing tells
        spellings.setdefault(id(action), []).append(spelling)
        actions[id(action)] = action
    return dict(_facts(actions[key], found) for key, found in spellings.items() if "--help" not in found)


def _facts(action: argparse.Action, spellings: list[str]) -> tuple[str, dict[str, Any]]:
    off = [one for one in spellings if action.nargs == 0 and _switches_off(action, one)]
    on = [one for one in spellings if one not in off]
    name = next((one for one in on if one.startswith("--")), on[0] if on else off[0])
    found: dict[str, Any] = {"type": "switch" if action.nargs == 0 else _kind(action)}
    others = [one for one in on if one != name]
    if others:
        found["aliases"] = others
    if off:
        found["off"] = off
    if action.nargs not in (None, 0):
        found["nargs"] = str(action.nargs)
    if isinstance(action, argparse._AppendAction):  # noqa: SLF001
        found["nargs"] = "repeated"
    if action.choices is not None:
        found["choices"] = _choices(name, action.choices)
    default = _default(name, action.default)
    return name, found if default is None else found | {"default": default}


def _switches_off(action: argparse.Action, spelling: str) -> bool:
    """Whether a switch in this spelling means false, by vLLM's own code."""
    parsed = argparse.Namespace(**{action.dest: None})
    action(argparse.ArgumentParser(), parsed, [], spelling)
    return getattr(parsed, action.dest) is False and not isinstance(action, argparse._StoreFalseAction)  # noqa: SLF001


def _kind(action: argparse.Action) -> str:
    """What texts the argument takes, by trying some."""
    if action.type is None:
        return "text"
    took = {text: _reads(action.type, text) for text in ("word", "{}", "image=1", "2k", "auto", "1.5", "7")}
    if took["word"] is not None:
        structured = isinstance(took["word"], str) and not isinstance(took["{}"], str | type(None))
        return "text or JSON" if structured else "text"
    pairs = took["image=1"] is not None
    if took["{}"] is not None or pairs:
        return " or ".join([*(["JSON"] if took["{}"] is not None else []), *(["KEY=VALUE"] if pairs else [])])
    if took["2k"] is not None:
        return "integer with unit" + (" or auto" if took["auto"] is not None else "")
    return "number" if took["1.5"] is not None else "integer" if took["7"] is not None else "text"


def _reads(kind: Any, text: str) -> Any:
    """What a type of an argument makes of a text; None where it refuses it."""
    try:
        return kind(text)
    except Exception:  # noqa: BLE001 # types refuse by exceptions of many kinds
        return None


def _choices(name: str, choices: Any) -> list[str]:
    texts = {str(_plain(name, one)) for one in choices if one is not None} - {"None"}
    found = sorted(texts, key=lambda text: (int(text) if text.isdigit() else 0, text))
    if not found:
        raise StandInUsedError(f"{name} has no choices: they are made by a module that is a stand-in")
    return found


def _default(name: str, default: Any) -> Any:
    """The default where it is a plain value; None where it is none, or an object of many parts."""
    if default is argparse.SUPPRESS:
        return None
    plain = _plain(name, default)
    if isinstance(plain, list) and all(isinstance(one, str | int | float) for one in plain):
        return plain or None
    return plain if isinstance(plain, str | int | float) and plain != "" else None


def _plain(name: str, value: Any) -> Any:
    if _is_stand_in(value):
        raise StandInUsedError(f"{name} has {value.__qualname__} as its default or a choice, which is a stand-in")
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, str) else value.name.lower()
    return value


if __name__ == "__main__":
    json.dump(facts(build(Path(sys.argv[1]))[0]), sys.stdout)
