"""What the vLLM of an engine makes of an argument: it has it, has dropped it, or does not have it yet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vllm_operator.api.spec.profiles import VLLM_VERSION
from vllm_operator.api.spec.versions import image_version
from vllm_operator.api.vllm_releases import Version, arguments_of, first_with, gone_since, releases, renamed
from vllm_operator.cli.importing.draft import Level
from vllm_operator.cli.importing.untyped_arguments import is_known

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEEDS_NOTHING: Final = frozenset(
    {
        *("--tokenizer-pool-size", "--tokenizer-pool-type", "--tokenizer-pool-extra-config"),
        *("--guided-decoding-disable-fallback", "--disable-logprobs-during-spec-decoding"),
        *("--expand-tools-even-if-tool-choice-none", "--speculative-disable-mqa-scorer"),
    }
)
"""Dropped arguments without a field, without which today's vLLM does the same, or does it better by itself."""

_MODULE: Final = re.compile(r"([A-Za-z_]\w*)(\.[A-Za-z_]\w*)+(:[A-Za-z_][\w.]*)?")
_OF_MODULES: Final = frozenset(
    {"--middleware", "--tool-server", "--io-processor-plugin", "--logits-processors"}
    | {"--worker-cls", "--worker-extension-cls", "--scheduler-cls"}
)
"""Arguments whose value may name something in a Python module."""


def version_told(image: str) -> Version | None:
    """The vLLM of an image; that of the operator's own where none is named, and None where the name tells none."""
    return image_version(image) if image else Version.read(VLLM_VERSION)


def has(version: Version | None, name: str) -> bool:
    """Whether a vLLM is known to have an argument."""
    return version is not None and name in arguments_of(version)


def verdict(name: str, version: Version | None) -> tuple[Level, str] | None:
    """What to say of an argument that this vLLM may not have; None where it has it, or no release ever had it.

    With a note or as lost it is left out, with a check it stays.
    """
    judged = version or releases()[-1]
    if name in arguments_of(judged) or not is_known(name):
        return None
    gone = gone_since(name, judged)
    if gone is None:
        return Level.CHECK, f"needs vLLM {first_with(name, after=judged)} or newer, and the image is {judged}"
    if name in _NEEDS_NOTHING or name.startswith("--no-"):
        return Level.NOTE, f"is left out: vLLM dropped it in {gone}, and needs nothing in its place"
    instead = f": {renamed(name)} has taken its place" if renamed(name) else ""
    if version is None:
        told = "and the image's name does not tell which vLLM it is: leave it out unless that is older"
        return Level.CHECK, f"gone since vLLM {gone}{instead}, {told}"
    return Level.LOST, f"gone since vLLM {gone}{instead}"


def modules_in(name: str, values: list[str]) -> Iterator[str]:
    """Python modules that an argument names and that are no part of vLLM."""
    if name not in _OF_MODULES:
        return
    for value in (one for word in values for one in word.split(",")):
        found = _MODULE.fullmatch(value.strip())
        if found and found[1] != "vllm":
            yield value.strip()
