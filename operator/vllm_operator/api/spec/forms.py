"""How a field's value is said to `vllm serve`, in the words of the version that is to read them.

Most arguments have kept their form. The exceptions stand here: switches that were turned off otherwise, numbers that
had no unit, arguments that had another name, or were variables of the environment. Where the version is not known, the
words are those of the newest release.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.quantity import quantity
from vllm_operator.api.vllm_releases import (
    arguments_of,
    kv_cache_memory_on_cpu_since,
    releases,
    threads_unbound_on_cpu_since,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vllm_operator.api.spec.flag import Flag
    from vllm_operator.api.spec.root import VLLMModelSpec
    from vllm_operator.api.vllm_releases import Argument, Version

_GIB: Final = 2**30
_FACTORS: Final = {"": 1} | {
    letter: base**power
    for letters, base in (("kmgt", 1000), ("KMGT", 1024))
    for power, letter in enumerate(letters, start=1)
}
"""What the letters of vLLM's numbers stand for."""

_KV_CACHE_MEMORY: Final = "--kv-cache-memory-bytes"
_REASONING: Final = "--enable-reasoning"
"""Without it, vLLM before 0.9.0 ignored its parser of reasoning."""


class Unsayable(Exception):  # noqa: N818 # named for what the value is
    """A version has no words for a value. The message says why, and is empty where it has no such argument."""


def words_of(spec: VLLMModelSpec, flag: Flag, value: Any, version: Version | None) -> list[str]:
    """The words of the command line for a field that is set; none where it is left out, or said in the environment.

    Raises:
        Unsayable: the version cannot be told.
    """
    if version is None:
        return _words(flag, value)
    known = arguments_of(version)
    if flag.name == _KV_CACHE_MEMORY and kv_cache_space(spec, version):
        return []
    argument = known.get(flag.name)
    if argument is None:
        instead = _INSTEAD.get(flag.name)
        if instead is None and value is False and not flag.off:
            return []
        if instead is None:
            raise Unsayable
        return instead(spec, value, known)
    return [*_before(flag, known), *_words(flag, value, argument)]


def environment_of(spec: VLLMModelSpec, version: Version | None) -> dict[str, str]:
    """Variables by which the version takes what newer ones take as arguments, and what no argument says.

    Raises:
        Unsayable: a value has no form there.
    """
    if version is None:
        return {}
    found = {}
    backend = spec.engine.attention_backend
    if backend and "--attention-backend" not in arguments_of(version):
        found["VLLM_ATTENTION_BACKEND"] = backend
    space = kv_cache_space(spec, version)
    return found | ({"VLLM_CPU_KVCACHE_SPACE": space} if space else {}) | _threads(spec, version)


def _threads(spec: VLLMModelSpec, version: Version) -> dict[str, str]:
    """Variables for an engine on CPU that has a limit: as many threads as it may use, bound to no cores.

    By itself vLLM has a thread for each core of the node but one and binds it there, whatever the limit. Engines on one
    node compute on the same cores then (https://github.com/vllm-project/vllm/pull/27953), and threads that wait for
    each other stand still as soon as the kernel stops one of them: one thread too many is enough, so what is left of
    the limit is rounded down. As where it binds them, a core is left to the scheduler, and threads that have nothing to
    do sleep soon (vllm/utils/ompmultiprocessing.py of 0.32.0). An engine of several workers is left to vLLM, which
    gives each a NUMA node of its own.
    """
    limit = (spec.resources.limits or {}).get("cpu")
    several = spec.parallelism.processes_of_a_pod > 1
    if spec.accelerator.profile != "cpu" or limit is None or several or version < threads_unbound_on_cpu_since():
        return {}
    threads = max(1, math.floor(quantity(limit)) - 1)
    return {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads), "KMP_BLOCKTIME": "1"}


def kv_cache_space(spec: VLLMModelSpec, version: Version) -> str:
    """GiB of the KV cache for an engine on CPU that heeds the variable alone; empty where the argument is heeded.

    Raises:
        Unsayable: the variable takes whole GiB, and the spec says another size.
    """
    size = spec.engine.kv_cache_memory
    if size is None or spec.accelerator.profile != "cpu" or version >= kv_cache_memory_on_cpu_since():
        return ""
    gib, rest = divmod(whole_number(size), _GIB)
    if rest or not gib:
        raise Unsayable(f"takes whole GiB on CPU before vLLM {kv_cache_memory_on_cpu_since()}, such as `8G`")
    return str(gib)


def whole_number(text: int | str) -> int:
    """A number as vLLM reads it: `32k` is 32,000, `32K` is 32,768."""
    written = re.fullmatch(r"([0-9.]+)([kmgtKMGT]?)", str(text))
    if written is None:
        raise ValueError(f"{text!r} is no number with a unit")
    return int(Decimal(written[1]) * _FACTORS[written[2]])


def _before(flag: Flag, known: Mapping[str, Argument]) -> list[str]:
    """What an argument needs beside it in this version."""
    return [_REASONING] if flag.name == "--reasoning-parser" and _REASONING in known else []


def _words(flag: Flag, value: Any, argument: Argument | None = None) -> list[str]:
    if isinstance(value, bool):
        return [flag.name] if value else _off(flag, argument)
    if isinstance(value, list):
        return [flag.name, *value]
    return [flag.name, _text(value, argument)]


def _off(flag: Flag, argument: Argument | None) -> list[str]:
    """What turns a switch off: nothing where leaving it out does, or where the version has no word for it."""
    if argument is None or flag.off in ("", *argument.off):
        return [flag.off] if flag.off else []
    if argument.type != "switch":
        return [flag.name, "False"]
    return list(argument.off[:1])


def _text(value: float | str | dict[str, Any], argument: Argument | None) -> str:
    """A number as its shortest text: `4`, not `4.0`, and never in scientific notation; a table as JSON."""
    kind = argument.type if argument else ""
    if isinstance(value, float):
        return format(Decimal(str(value)), "f").removesuffix(".0")
    if isinstance(value, dict):
        return _pairs(value) if kind == "KEY=VALUE" else json.dumps(value, sort_keys=True)
    if kind.startswith("integer") and not str(value).isdigit():
        return _number(str(value), argument)
    return str(value)


def _pairs(value: Mapping[str, Any]) -> str:
    if any(isinstance(one, dict | list) for one in value.values()):
        raise Unsayable("takes plain values there, and no objects in objects")
    return ",".join(f"{key}={one}" for key, one in value.items())


def _number(text: str, argument: Argument | None) -> str:
    """A number with a unit, or `auto`, as far as the argument takes it."""
    kind = argument.type if argument else ""
    if text == "auto":
        if not kind.endswith("or auto"):
            raise Unsayable(f"`auto` needs vLLM {_first_of_type(argument, 'or auto')} or newer")
        return text
    return text if "unit" in kind else str(whole_number(text))


def _first_of_type(argument: Argument | None, kind: str) -> str:
    name = argument.name if argument else ""
    newer = (one for one in releases() if name in (known := arguments_of(one)) and known[name].type.endswith(kind))
    return str(next(newer, "of another version"))


def _left_out(*_: Any) -> list[str]:
    """For what an engine does without."""
    return []


def _task_of_runner(spec: VLLMModelSpec, value: str, known: Mapping[str, Argument]) -> list[str]:
    """`--task`, which told runner and conversion in one."""
    if "--task" not in known:
        raise Unsayable
    if value == "auto" or spec.model.convert in _TASKS or _says_task(spec):
        return []
    if value == "pooling":
        raise Unsayable(
            "this vLLM has --task in its place: set spec.model.convert to embed or classify as well, or name the task "
            "in spec.engine.extraArgs"
        )
    return ["--task", value]


def _task_of_conversion(spec: VLLMModelSpec, value: str, known: Mapping[str, Argument]) -> list[str]:
    if "--task" not in known:
        raise Unsayable
    return ["--task", value] if value in _TASKS and not _says_task(spec) else []


_TASKS: Final = ("embed", "classify")
"""Conversions that are tasks as well."""


def _says_task(spec: VLLMModelSpec) -> bool:
    return any(word.partition("=")[0] == "--task" for word in spec.engine.extra_args or ())


def _quiet(_: VLLMModelSpec, value: bool, known: Mapping[str, Argument]) -> list[str]:  # noqa: FBT001 # a field's value
    """Each request was logged unless this said otherwise."""
    if "--disable-log-requests" not in known:
        raise Unsayable
    return [] if value else ["--disable-log-requests"]


_INSTEAD: Final[dict[str, Callable[[VLLMModelSpec, Any, Mapping[str, Argument]], list[str]]]] = {
    "--attention-backend": _left_out,
    "--convert": _task_of_conversion,
    "--enable-log-requests": _quiet,
    "--runner": _task_of_runner,
    "--shutdown-timeout": _left_out,
}
"""What is said to a version that does not know an argument; the first one by a variable, see `environment_of`."""
