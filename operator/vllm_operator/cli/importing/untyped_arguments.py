"""Arguments of `vllm serve` that have no field: which of them stand alone, and which are slips of the pen.

An import does not ask for vLLM's version: what one of the releases knows is an argument.
"""

from __future__ import annotations

import difflib
from functools import cache
from typing import TYPE_CHECKING, Final

from vllm_operator.api.vllm_releases import arguments_of, releases

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEAR: Final = 0.88
"""How like a known name has to be to be meant: `--gpu-memory-utilisation`, and not `--enable-foo`."""


@cache
def _switches() -> frozenset[str]:
    """Every spelling of what takes no value in some release."""
    return frozenset(
        spelling
        for release in releases()
        for spelling, argument in arguments_of(release).items()
        if argument.type == "switch"
    )


@cache
def _known() -> frozenset[str]:
    """Every spelling that some release knows."""
    return frozenset(spelling for release in releases() for spelling in arguments_of(release))


def stands_alone(name: str) -> bool:
    """Whether a word behind an argument without a field is the model, and not its value."""
    return name.startswith("--no-") or name in _switches()


def is_known(name: str) -> bool:
    """Whether some release has this argument."""
    return name in _known()


def meant(name: str, known: Iterable[str]) -> str:
    """The argument that a name was meant to be, one of vLLM or of these; empty where it is one, or none is near."""
    if is_known(name):
        return ""
    candidates = sorted(one for one in {*known, *_known()} if one.startswith("--"))
    found = difflib.get_close_matches(name, candidates, n=1, cutoff=_NEAR)
    return found[0] if found else ""
