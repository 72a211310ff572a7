"""docs/reference/flags.md: for who knows `vllm serve` and looks for the field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tools.page import anchor, page
from vllm_operator.api.spec import VLLMModelSpec
from vllm_operator.api.spec.arguments import OWNED, REMOVED, UNSUITED
from vllm_operator.api.spec.flag import flagged_fields
from vllm_operator.api.vllm_releases import (
    arguments_of,
    first_with,
    gone_since,
    kv_cache_memory_on_cpu_since,
    releases,
    renamed,
    threads_unbound_on_cpu_since,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.api.spec.flag import Flag, FlaggedField
    from vllm_operator.api.vllm_releases import Argument, Version

API_PAGE: Final = "api.md"
UNKNOWN: Final = "?"
"""Stands where nobody has looked a fact up."""

OWNED_FACTS: Final = {
    "--api-key": ("none", "0.3.0"),
    "--config": ("none", "0.6.0"),
    "--data-parallel-external-lb": ("false", "0.11.1"),
    "--data-parallel-hybrid-lb": ("false", "0.10.0"),
    "--data-parallel-multi-port-external-lb": ("false", "0.22.0"),
    "--data-parallel-rank": ("none", "0.9.2"),
    "--data-parallel-size-local": ("as --data-parallel-size", "0.9.0"),
    "--data-parallel-start-rank": ("none", "0.9.0"),
    "--disable-log-stats": ("false", "0.0.1"),
    "--enable-lora": ("false", "0.3.0"),
    "--enable-ssl-refresh": ("false", "0.8.0"),
    "--grpc": ("false", "0.18.0"),
    "--headless": ("false", "0.9.0"),
    "--hf-token": ("HF_TOKEN", "0.8.4"),
    "--master-addr": ("127.0.0.1", "0.11.1"),
    "--mm-encoder-only": ("false", "0.15.0"),
    "--node-rank": ("0", "0.11.1"),
    "--skip-tokenizer-init": ("false", "0.4.1"),
    "--spec-method": ("none", "0.22.0"),
    "--spec-model": ("none", "0.22.0"),
    "--spec-tokens": ("none", "0.22.0"),
    "--ssl-ca-certs": ("none", "0.4.1"),
    "--ssl-cert-reqs": ("0", "0.4.1"),
    "--ssl-certfile": ("none", "0.2.7"),
    "--ssl-keyfile": ("none", "0.2.7"),
    "--tokens-only": ("false", "0.11.1"),
    "--uds": ("none", "0.10.1"),
    "-dpe": ("false", "0.11.1"),
    "-dph": ("false", "0.11.1"),
    "-dpl": ("as --data-parallel-size", "0.9.0"),
    "-dpm": ("false", "0.22.0"),
    "-dpn": ("none", "0.9.2"),
    "-dpr": ("none", "0.9.0"),
    "-r": ("0", "0.11.1"),
}
"""vLLM's default, and since which vLLM, of the arguments that have no field of the same meaning."""


@dataclass(frozen=True, slots=True)
class Line:
    """An argument of `vllm serve`."""

    names: tuple[str, ...]
    field: str
    default: str
    since: str


@dataclass(frozen=True, slots=True)
class Other:
    """An argument that has no field."""

    names: tuple[str, ...]
    takes: str
    since: str
    gone: str
    now: str


TRIED: Final = ("0.8.3", "0.10.2", "0.18.1", "0.33.0")
"""Releases whose parsers tests ask."""


def flags_page() -> str:
    """The page."""
    lines = sorted((*_typed(), *_owned()), key=lambda line: line.names[0].lstrip("-"))
    removed = sorted((name, since, _sentence(advice)) for name, (since, advice) in REMOVED.items())
    return page(
        "flags.md.j2",
        lines=lines,
        removed=removed,
        others=_others({name for line in lines for name in line.names} | REMOVED.keys()),
        otherwise=list(_otherwise()),
        oldest=releases()[0],
        newest=releases()[-1],
        count=len(releases()),
        listed=", ".join(map(str, releases())),
        tried=", ".join(TRIED[:-1]) + f" and {TRIED[-1]}",
        threads_unbound_since=threads_unbound_on_cpu_since(),
    )


def _typed() -> Iterator[Line]:
    for found in flagged_fields(VLLMModelSpec):
        yield Line(_names(found.flag), _field(found), found.flag.default, found.flag.since)


def _owned() -> Iterator[Line]:
    for name, advice in (*OWNED.items(), *UNSUITED.items()):
        default, since = OWNED_FACTS.get(name, (UNKNOWN, UNKNOWN))
        yield Line((name,), _sentence(advice), default, since)


def _others(told: set[str]) -> list[Other]:
    """Arguments that no other table of the page has."""
    latest: dict[str, Argument] = {}
    for release in releases():
        latest |= {one.name: one for one in arguments_of(release).values()}
    return [_other(latest[name]) for name in sorted(latest, key=lambda name: name.lstrip("-")) if name not in told]


def _other(argument: Argument) -> Other:
    newest = releases()[-1]
    takes = "nothing" if argument.type == "switch" else argument.type
    several = " (several)" if argument.nargs in {"+", "*", "repeated"} else ""
    return Other(
        names=(argument.name, *argument.aliases),
        takes=takes + several,
        since=str(first_with(argument.name)),
        gone=str(gone_since(argument.name, newest) or ""),
        now=f"`{renamed(argument.name)}`" if renamed(argument.name) else "",
    )


def _otherwise() -> Iterator[tuple[str, str, str]]:
    """What the operator writes otherwise for older versions: the field, for which versions, and in which form."""
    fields = {found.flag.name: found for found in flagged_fields(VLLMModelSpec)}
    for name, form in _OTHERWISE.items():
        yield _field(fields[name]), f"before {first_with(name)}", form
    for name, kind, form in _TYPES:
        yield _field(fields[name]), f"before {_first_of_type(name, kind)}", form
    reasoning = gone_since("--enable-reasoning", releases()[-1])
    yield _field(fields["--reasoning-parser"]), f"before {reasoning}", "`--enable-reasoning` beside it."
    memory = _field(fields["--kv-cache-memory-bytes"])
    since = kv_cache_memory_on_cpu_since()
    yield memory, f"on CPU, before {since}", "`VLLM_CPU_KVCACHE_SPACE`; whole GiB alone."


def _first_of_type(name: str, kind: str) -> Version:
    """The first release in which an argument is of a type that ends so."""
    known = ((release, arguments_of(release).get(name)) for release in releases())
    return next(release for release, argument in known if argument and argument.type.endswith(kind))


_TYPES: Final = (
    ("--enable-chunked-prefill", "switch", "`--enable-chunked-prefill False` for `false`."),
    ("--limit-mm-per-prompt", "JSON or KEY=VALUE", "`image=4,video=0`."),
    ("--max-model-len", "unit", "The number without a unit."),
    ("--max-model-len", "or auto", "`auto` is refused."),
)
"""Arguments that took another form before they were of a type."""


_OTHERWISE: Final = {
    "--runner": "`--task generate`, unless the conversion says the task.",
    "--convert": "`--task embed` or `--task classify`.",
    "--enable-log-requests": "`--disable-log-requests` for `false`; each request is logged by default there.",
    "--attention-backend": "The variable `VLLM_ATTENTION_BACKEND`.",
    "--shutdown-timeout": "Nothing; `status.warnings` says that requests in flight may be aborted.",
}
"""Forms of arguments that older versions do not know, see `vllm_operator.api.spec.forms`."""


def _names(flag: Flag) -> tuple[str, ...]:
    return (flag.name, *flag.short, *((flag.off,) if flag.off else ()))


def _field(found: FlaggedField) -> str:
    return _to_field(("spec", *found.path))


def _to_field(path: tuple[str, ...]) -> str:
    """A field's path, with a link to the table that it stands in."""
    group = path if len(path) == len(("spec", "GROUP")) else path[:-1]
    return f"[`{'.'.join(path)}`]({API_PAGE}#{anchor('.'.join(group))})"


def _sentence(advice: str) -> str:
    """Advice of an error message, as a sentence with links to the fields that it names."""
    linked = re.sub(r"\bspec(\.\w+)+", lambda found: _to_field(tuple(found[0].split("."))), advice)
    marked = re.sub(r"--[a-z-]+", lambda found: f"`{found[0]}`", linked)
    return f"{marked[0].upper()}{marked[1:]}."
