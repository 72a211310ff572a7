"""docs/reference/flags.md: for who knows `vllm serve` and looks for the field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tools.page import anchor, page
from vllm_operator.api.spec import VLLMModelSpec
from vllm_operator.api.spec.arguments import OWNED, REMOVED, UNSUITED
from vllm_operator.api.spec.flag import flagged_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.api.spec.flag import Flag, FlaggedField

API_PAGE: Final = "api.md"
UNKNOWN: Final = "?"
"""Stands where nobody has looked a fact up."""

_OWNED_FACTS: Final = {
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
    "--mm-encoder-only": ("false", "0.16.0"),
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


def flags_page() -> str:
    """The page."""
    lines = sorted((*_typed(), *_owned()), key=lambda line: line.names[0].lstrip("-"))
    removed = sorted((name, since, _sentence(advice)) for name, (since, advice) in REMOVED.items())
    return page("flags.md.j2", lines=lines, removed=removed)


def _typed() -> Iterator[Line]:
    for found in flagged_fields(VLLMModelSpec):
        yield Line(_names(found.flag), _field(found), found.flag.default, found.flag.since)


def _owned() -> Iterator[Line]:
    for name, advice in (*OWNED.items(), *UNSUITED.items()):
        default, since = _OWNED_FACTS.get(name, (UNKNOWN, UNKNOWN))
        yield Line((name,), _sentence(advice), default, since)


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
