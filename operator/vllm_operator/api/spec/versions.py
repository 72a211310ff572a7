"""Which vLLM the engines of a spec are, and what of the spec that version does not take.

Where nothing tells the version, as with an image by its digest alone or one of the user's own, nothing is judged by it.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

from vllm_operator.api.names import ENGINE_CONTAINER
from vllm_operator.api.spec.arguments import REMOVED
from vllm_operator.api.spec.flag import FlaggedField, flagged_fields, is_left_out, value_of
from vllm_operator.api.spec.forms import Unsayable, words_of
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.api.vllm_releases import (
    VERSION_PATTERN,
    Version,
    arguments_of,
    first_with,
    gone_since,
    is_covered,
    releases,
    renamed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.api.spec.root import VLLMModelSpec
    from vllm_operator.api.vllm_releases import Argument

_REPOSITORIES: Final = re.compile(r"(.*/)?(vllm/vllm-(openai(-[a-z0-9]+)?|tpu)|vllm-cpu-release-repo)")
"""Images that vLLM publishes, and mirrors of them that keep their names. Their tags are vLLM's versions."""

_TAG: Final = re.compile(rf"({VERSION_PATTERN})([-_+](?!rc|dev|pre|nightly|alpha|beta).*)?")
_NAMED_IN_TAG: Final = re.compile(rf"(?:.*[-_.])?vllm[-_.]?({VERSION_PATTERN})([-_+](?!rc|dev|pre|alpha|beta).*)?")
"""A tag that says itself which of its numbers is vLLM's, as those of AMD do: rocm7.0_ubuntu22.04_vllm_0.11.2."""

_OPTIMIZATION: Final = re.compile(r"-O([^-]|$)")
"""vLLM reads -O3 before its parser does, in each version in another way."""

_MOST_TOLD: Final = 5
"""Words of extraArgs that one warning names."""

_CLOSE: Final = 0.75
"""How alike two names are at least for one to be told for the other, see difflib."""


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """The version of the engines, and what tells it."""

    version: Version
    source: str

    @property
    def arguments(self) -> Mapping[str, Argument]:
        """What `vllm serve` knows there, by every spelling."""
        return arguments_of(self.version)


class Finding(NamedTuple):
    """Something in a spec that the engines' version does not take."""

    path: tuple[str | int, ...]
    """Path of the field below `spec`."""
    message: str
    refused: bool
    """Whether the engine certainly ends at it; else it is for people to judge."""


def engine_version(spec: VLLMModelSpec) -> EngineVersion | None:
    """The version that spec.engine.version says, or the tag of the image; None where neither does."""
    said = spec.engine.version and Version.read(spec.engine.version)
    if said:
        return EngineVersion(said, "spec.engine.version")
    patched = str(_patched_container(spec).get("image") or "")
    given = patched or spec.engine.image
    found = image_version(given or PROFILES[spec.accelerator.profile].image)
    if found is None:
        return None
    place = "in spec.pod.patch" if patched else "in spec.engine.image" if given else "of spec.accelerator.profile"
    return EngineVersion(found, f"the tag of the image {place}")


def version_of(spec: VLLMModelSpec) -> Version | None:
    """The version of the engines; None where nothing tells it."""
    found = engine_version(spec)
    return found.version if found else None


def image_version(image: str) -> Version | None:
    """The vLLM that an image's name tells; None where it tells none."""
    name, _, tag = image.partition("@")[0].rpartition(":")
    if "/" in tag:  # the colon was that of the registry's port
        return None
    named = _NAMED_IN_TAG.fullmatch(tag)
    if named is None and not _REPOSITORIES.fullmatch(name):
        return None
    found = named or _TAG.fullmatch(tag)
    return Version.read(found[1]) if found else None


def _patched_container(spec: VLLMModelSpec) -> Mapping[str, Any]:
    """What the user's patch says of the engine's container, which nobody has checked yet; empty for nothing."""
    pod = (spec.pod.patch or {}).get("spec")
    containers = pod.get("containers") if isinstance(pod, dict) else None
    found = (one for one in (containers if isinstance(containers, list) else ()) if isinstance(one, dict))
    return next((one for one in found if one.get("name") == ENGINE_CONTAINER), {})


@cache
def _fields(model: type[VLLMModelSpec]) -> dict[str, FlaggedField]:
    """The fields of a spec that become arguments, by these."""
    return {found.flag.name: found for found in flagged_fields(model)}


def findings(spec: VLLMModelSpec) -> Iterator[Finding]:
    """Fields whose argument, or whose value, the engines' version does not take.

    Where a patch of the pod has the whole command line, none of them reaches it.
    """
    engine = engine_version(spec)
    if engine is None or "args" in _patched_container(spec):
        return
    for found in _fields(type(spec)).values():
        value = value_of(spec, found)
        unsaid = found.flag.composed and str(value) == found.flag.default  # a reserved field, with all that it takes
        if unsaid or is_left_out(found.field, found.flag, value):
            continue
        try:
            words_of(spec, found.flag, value, engine.version)
        except Unsayable as error:
            yield Finding(found.path, _told(found, engine, str(error)), refused=True)
        else:
            yield from _choice(found, value, engine)


def _told(found: FlaggedField, engine: EngineVersion, reason: str) -> str:
    """Why a field cannot be said to a version: in the words of who knows more, or by the releases that know it."""
    this = f"this is {engine.version}, by {engine.source}"
    if reason:
        return f"{reason}; {this}"
    newer = first_with(found.flag.name, after=engine.version)
    gone = gone_since(found.flag.name, engine.version)
    if newer:
        return f"needs vLLM {newer} or newer; {this}: leave it out, or take a newer image{_correct(engine)}"
    if gone:
        return f"{found.flag.name} is gone since vLLM {gone}; {this}: leave it out, or take an older image"
    return f"vLLM has no {found.flag.name}; {this}: leave it out"


def _correct(engine: EngineVersion) -> str:
    return "" if engine.source == "spec.engine.version" else "; if it is another version, say so in spec.engine.version"


def _choice(found: FlaggedField, value: object, engine: EngineVersion) -> Iterator[Finding]:
    """A value that is not among those that the version's parser takes.

    Where the field takes any word, plug-ins may have brought more: then it is told, and not refused.
    """
    argument = engine.arguments.get(found.flag.name) if is_covered(engine.version) else None
    if argument is None or not argument.choices or not isinstance(value, str | int | float) or isinstance(value, bool):
        return
    if str(value) not in argument.choices:
        takes = f"vLLM {engine.version} takes {', '.join(argument.choices)}, and no {value}"
        yield Finding(found.path, takes, refused=not isinstance(value, str) or _is_closed(found))


def _is_closed(found: FlaggedField) -> bool:
    """Whether the field has a list of values itself."""
    annotation = found.field.annotation
    choices = (annotation, *get_args(annotation))
    return any(getattr(one, "__origin__", None) is Literal for one in choices)


def warnings(spec: VLLMModelSpec) -> list[str]:
    """What of a spec its version most likely ends at, a sentence for each."""
    engine = engine_version(spec)
    if engine is None:
        return []
    told = [f"spec.{'.'.join(map(str, one.path))}: {one.message}" for one in findings(spec) if not one.refused]
    unknown = list(_unknown_words(spec, engine))
    if unknown:
        more = len(unknown) - _MOST_TOLD
        said = "; ".join(unknown[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
        told.append(f"spec.engine.extraArgs: {said}. The engine is vLLM {engine.version}, by {engine.source}")
    return told


def _unknown_words(spec: VLLMModelSpec, engine: EngineVersion) -> Iterator[str]:
    """Words of extraArgs that the version does not know, each with what comes nearest; and those that undo a field."""
    if not is_covered(engine.version):
        return
    known = engine.arguments
    fields = _fields(type(spec))
    for word in spec.engine.extra_args or ():
        name = argument_name(word, known)
        if not name:
            continue
        argument = known.get(name)
        field = fields.get(argument.name) if argument else None
        if argument is None:
            yield f"{name} {_unknown(name, engine.version)}"
        elif field and name not in (field.flag.name, field.flag.off, *field.flag.short):
            yield f"{name} is another spelling of {field.flag.name}: set {'.'.join(('spec', *field.path))}"


def argument_name(word: str, known: Mapping[str, object]) -> str:
    """The argument that a word of the command line names, as vLLM reads it; empty where it is a value.

    vLLM reads `_` as `-`, a value after `=`, a key after `.`, and completes the beginning of a name.
    """
    if not re.match(r"--?[A-Za-z]", word) or _OPTIMIZATION.match(word):
        return ""
    name = word.partition("=")[0].partition(".")[0]
    if name.startswith("--"):
        name = name.replace("_", "-")
    elif name not in known and name[:2] in known:  # the value of an argument of one letter may follow it at once
        return name[:2]
    completed = [one for one in known if one.startswith(name)]
    return completed[0] if name not in known and len(completed) == 1 else name


@lru_cache(maxsize=1024)
def _unknown(name: str, version: Version) -> str:
    """Why a version does not know an argument, and what to write in its place."""
    gone = gone_since(name, version)
    if name in REMOVED and (gone or first_with(name) is None):
        return f"is gone since vLLM {gone or releases()[0]}: {REMOVED[name][1]}"
    if gone:
        instead = f": {renamed(name)} has taken its place" if renamed(name) else ""
        return f"is gone since vLLM {gone}{instead}"
    newer = first_with(name, after=version)
    if newer:
        return f"needs vLLM {newer} or newer"
    near = difflib.get_close_matches(name, list(arguments_of(version)), n=1, cutoff=_CLOSE)
    return f"is unknown: is {near[0]} meant?" if near else "is unknown"
