"""Which arguments `vllm serve` has, in each release of vLLM.

    version = Version.read("v0.10.2")
    arguments_of(version)["-tp"].name == "--tensor-parallel-size"
    first_with("--shutdown-timeout")            # 0.18.0

The table, vllm_arguments.json, is read out of the parsers of the releases themselves (`make release-flags`). A version
that it does not have is taken for the newest release before it, and one that is older than all for the oldest.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE: Final = "vllm_arguments.json"

VERSION_PATTERN: Final = r"v?[0-9]+\.[0-9]+\.[0-9]+(\.[0-9]+|\.post[0-9]+)?"
"""A release of vLLM. A candidate or a build of a branch is none: which arguments it has is not known."""


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """A release of vLLM; they are ordered by their numbers."""

    numbers: tuple[int, ...]
    text: str = field(compare=False)
    """As vLLM writes it: `0.10.2`, `0.9.0.1`, `0.8.5.post1`."""

    @classmethod
    def read(cls, text: str) -> Version | None:
        """Read a release with or without its `v`; None where the text is none."""
        if not re.fullmatch(VERSION_PATTERN, text):
            return None
        plain = text.removeprefix("v")
        return cls(tuple(map(int, re.findall(r"[0-9]+", plain))), plain)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of `vllm serve` in one release."""

    name: str
    """Its full name."""
    type: str
    """What it takes: `switch` for nothing, `text`, `integer`, `number`, `integer with unit`, `JSON`, `KEY=VALUE`."""
    aliases: tuple[str, ...] = ()
    """Other spellings of the same meaning."""
    off: tuple[str, ...] = ()
    """Spellings that turn a switch off."""
    nargs: str = ""
    """`+`, `*` or `?` for several values or an optional one, `repeated` where each value has the name before it."""
    choices: tuple[str, ...] = ()
    """All values that it takes; empty where the parser does not limit them."""
    default: Any = None
    """vLLM's own default; None where there is none, or one that is no plain value."""

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every name under which the parser knows it."""
        return (self.name, *self.aliases, *self.off)


@cache
def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = json.loads((files("vllm_operator.api") / FILE).read_text(encoding="utf-8"))
    return table


def _known(text: str) -> Version:
    version = Version.read(text)
    if version is None:
        raise ValueError(f"{FILE} has {text!r}, which is no release of vLLM")
    return version


@cache
def releases() -> tuple[Version, ...]:
    """Every release that the table has, the oldest first."""
    return tuple(map(_known, _table()["releases"]))


def is_covered(version: Version) -> bool:
    """Whether the table tells all arguments of a version: it is not older or newer than all releases in it."""
    return releases()[0] <= version <= releases()[-1]


@lru_cache(maxsize=256)
def arguments_of(version: Version) -> Mapping[str, Argument]:
    """The arguments that a version knows, by each of their spellings: `--tensor-parallel-size`, `-tp`, `--no-...`."""
    return _arguments_at(max(bisect_right(releases(), version) - 1, 0))


@cache
def _arguments_at(place: int) -> Mapping[str, Argument]:
    release = releases()[place]
    latest = (_at(release, history) for history in _histories())
    return MappingProxyType({spelling: one for one in latest if one for spelling in one.spellings})


_History = tuple[tuple[Version, Argument | None], ...]
"""What an argument is from each of these releases on; None from one on that has not got it."""


@cache
def _histories() -> tuple[_History, ...]:
    return tuple(tuple(_changes(name, changes)) for name, changes in _table()["arguments"].items())


def _changes(name: str, changes: list[dict[str, Any]]) -> Iterator[tuple[Version, Argument | None]]:
    facts: dict[str, Any] = {}
    for change in changes:
        facts = {} if change.get("gone") else {**facts, **change}
        told = {key: _frozen(value) for key, value in facts.items() if value is not None and key != "since"}
        yield _known(change["since"]), Argument(name, **told) if told else None


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _at(release: Version, history: _History) -> Argument | None:
    return next((argument for since, argument in reversed(history) if since <= release), None)


def first_with(spelling: str, *, after: Version | None = None) -> Version | None:
    """The oldest release in the table, or the oldest after a version, that knows an argument; None where none does."""
    candidates = (one for one in releases() if after is None or one > after)
    return next((one for one in candidates if spelling in arguments_of(one)), None)


def gone_since(spelling: str, version: Version) -> Version | None:
    """With which release, up to a version, an argument was dropped; None where it is there, or never was before."""
    dropped = None
    for release in reversed([one for one in releases() if one <= version]):
        if spelling in arguments_of(release):
            return dropped
        dropped = release
    return None


def renamed(name: str) -> str:
    """What an argument that is gone has become; empty where nothing has taken its place, or nobody looked."""
    return next((str(change["renamed"]) for change in _table()["arguments"].get(name, ()) if "renamed" in change), "")


def kv_cache_memory_on_cpu_since() -> Version:
    """The oldest release whose engine on CPU heeds --kv-cache-memory-bytes."""
    return _known(_table()["kvCacheMemoryOnCpuSince"])


def threads_unbound_on_cpu_since() -> Version:
    """The oldest release whose engine on CPU can be told to bind its threads to no cores."""
    return _known(_table()["threadsUnboundOnCpuSince"])
