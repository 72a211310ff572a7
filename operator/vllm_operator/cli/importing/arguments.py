"""Arguments of `vllm serve`, read into the fields that say the same.

Which argument belongs to which field stands beside the field (`Flag` in api/spec), and is read from there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec import VLLMModelSpec
from vllm_operator.api.spec.arguments import OWNED, REMOVED, UNSUITED
from vllm_operator.api.spec.flag import flagged_fields
from vllm_operator.cli.importing.draft import schema_at
from vllm_operator.cli.importing.shell import shown, variables_in
from vllm_operator.cli.importing.untyped_arguments import stands_alone
from vllm_operator.cli.schema import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vllm_operator.api.spec.flag import Flag
    from vllm_operator.cli.importing.draft import Draft, Path

_OFF: Final = "--no-"
TRUE: Final = frozenset({"true", "1", "yes", "on"})
FALSE: Final = frozenset({"false", "0", "no", "off"})
_DECIMAL: Final = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY: Final = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_HUMAN: Final = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])?")
_AS_MANY_AS_FIT: Final = "-1"
"""A number of tokens that newer releases take for `auto`."""

_NUMBER: Final = re.compile(r"-[0-9]")


@dataclass(slots=True)
class Option:
    """One argument with its values."""

    name: str
    """The name as vLLM reads it: `-` for `_`, without the key after a point."""
    key: str
    """What follows a point: a key of an object, such as `rope_scaling.factor`."""
    values: list[str]
    words: list[str]
    """As it was written."""

    @property
    def text(self) -> str:
        """The value as one text."""
        return " ".join(self.values)


@dataclass(frozen=True, slots=True)
class Field:
    """A field that an argument becomes."""

    path: Path
    flag: Flag


@cache
def fields_by_argument() -> dict[str, Field]:
    """The fields by every name of their arguments."""
    found: dict[str, Field] = {}
    for one in flagged_fields(VLLMModelSpec):
        names = [one.flag.name, *one.flag.short, *([one.flag.off] if one.flag.off else [])]
        found |= {name: Field(one.path, one.flag) for name in names}
    return found


@cache
def known_arguments() -> frozenset[str]:
    """Every argument that something is known of here."""
    return frozenset({*fields_by_argument(), *OWNED, *REMOVED, *UNSUITED})


def options_of(words: Sequence[str]) -> tuple[list[Option], list[str]]:
    """The arguments, and the words that belong to none: the model is the first of them."""
    found: list[Option] = []
    stray: list[str] = []
    for word in words:
        if _is_flag(word):
            found.append(_option(word))
        elif found and (_takes(found[-1]) or _is_truth(word, found[-1])):
            found[-1].values.append(word)
            found[-1].words.append(word)
        else:
            stray.append(word)
    return found, stray


def _is_flag(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and not _NUMBER.match(word)


def _option(word: str) -> Option:
    name, equals, value = word.partition("=")
    if (
        not name.startswith("--") and name not in known_arguments()
    ):  # the value of a short argument may follow it at once
        short = next((one for one in sorted(known_arguments(), key=len, reverse=True) if _joined(one, name)), "")
        if short:
            name, value, equals = short, name[len(short) :] + equals + value, "="
    plain, _, key = name.partition(".")
    if plain.startswith("--"):
        plain = plain.replace("_", "-")
    return Option(_completed(plain), key, [value] if equals else [], [word])


def _joined(short: str, name: str) -> bool:
    return not short.startswith("--") and len(short) == 2 and name.startswith(short)  # noqa: PLR2004 # `-q`


def _completed(name: str) -> str:
    """The whole name of an argument of which only the beginning is written, as vLLM's parser takes it."""
    if not name.startswith("--") or name in known_arguments() or len(name) < _SHORTEST:
        return name
    found = {one for one in known_arguments() if one.startswith(name)}
    return found.pop() if len(found) == 1 else name


_SHORTEST: Final = 8
"""Letters of an abbreviation that is believed."""


def _is_truth(word: str, option: Option) -> bool:
    """Whether a word says of a switch before it whether it is on, as some older releases took it."""
    field = fields_by_argument().get(option.name)
    switch = schema_at(field.path).get("type") == "boolean" if field else stands_alone(option.name)
    return switch and not option.values and word.lower() in {"true", "false"}


def _takes(option: Option) -> bool:
    """Whether one more word belongs to the argument."""
    name = option.name
    if name in {"--api-key", "--served-model-name", "--lora-modules", "--limit-mm-per-prompt", "--middleware"}:
        return True
    field = fields_by_argument().get(name)
    if field:
        node = schema_at(field.path)
        bare = node.get("type") == "boolean" or name == field.flag.off
        if node.get("type") == "array" and not field.flag.composed:
            return True
        return not option.values and (not bare)
    if stands_alone(name):
        return False
    return not option.values or option.words[0] == name


def name_in(words: Sequence[str]) -> str:
    """What names the model in the arguments: its source, or else what clients call it; empty where nothing does."""
    source = model_in(words).rstrip("/")
    if not _POOR_NAME.fullmatch(source.rpartition("/")[2]):
        return source
    served = [option.values for option in options_of(words)[0] if option.name == "--served-model-name"]
    named = [name for names in served for name in names if not variables_in(name)]
    cached = _HUB_CACHE.search(source)
    return next(iter(named), "") or (cached[1].replace("--", "/") if cached else source)


_POOR_NAME: Final = re.compile(r"models?|weights|snapshots?|checkpoints?|hf|base|latest|main|[0-9a-f]{12,64}")
"""Last parts of paths that say nothing of the model."""
_HUB_CACHE: Final = re.compile(r"(?:^|/)models--([^/]+)/snapshots/")


def model_in(words: Sequence[str]) -> str:
    """The model that the arguments name; empty where they name none."""
    options, stray = options_of(words)
    named = [option.text for option in options if option.name == "--model"]
    return (named or stray or [""])[0]


class Reader:
    """Reads arguments into a draft; the pod's own settings are read elsewhere."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def value(self, option: Option, field: Field) -> Any:
        """The value of an argument as the field has it; None, with a remark, where it cannot be."""
        node = schema_at(field.path)
        if variables_in(option.text):
            self._draft.check(
                f"{' '.join(map(shown, option.words))}: nobody has filled in {names_told(option.text)}: set "
                f"spec.{'.'.join(field.path)}",
                *field.path,
            )
            return option.text if node.get("type") == "string" and field.path == ("model", "source") else None
        try:
            value = _typed(option, field, node)
        except (ValueError, InvalidOperation, OverflowError):
            value = _UNREADABLE
        wrong = [] if value is _UNREADABLE else list(faults(node, value, f"spec.{'.'.join(field.path)}"))
        if value is _UNREADABLE or wrong:
            told = f"{wrong[0].path} {wrong[0].message}" if wrong else "vLLM does not read it either"
            self._draft.lost(f"{shown(' '.join(option.words))}: {told}", *field.path)
            return None
        return value


_UNREADABLE: Final = object()


def names_told(text: str) -> str:
    """The variables in a text that nobody has filled in, for people."""
    return ", ".join(f"$({name[1:]})" if name.startswith("(") else f"${{{name}}}" for name in variables_in(text))


def _typed(option: Option, field: Field, node: dict[str, Any]) -> Any:
    kind = node.get("type", "")
    if kind == "boolean":
        given = option.text.lower() not in FALSE
        return given != option.name.startswith(_OFF) if option.name != field.flag.name else given
    if not option.values:
        raise ValueError(option.name)
    if node.get("x-kubernetes-int-or-string"):
        if option.text == _AS_MANY_AS_FIT:
            return "auto"
        return int(option.text) if re.fullmatch(r"[0-9]+", option.text) else option.text
    if kind == "object":
        return object_of(option, numbers="additionalProperties" in node)
    read = _READERS.get(kind)
    return read(option) if read else option.text


def _number(option: Option) -> float:
    number = float(Decimal(option.text))
    return int(number) if number.is_integer() else number


_READERS: Final[dict[str, Callable[[Option], Any]]] = {
    "integer": lambda option: human_number(option.text),
    "number": _number,
    "array": lambda option: [part for word in option.values for part in word.split(",")],
}
"""How a value is read, by the type of its field."""


def human_number(text: str) -> int:
    """A whole number as vLLM reads it: `4096`, `32k` for 32,000, `32K` for 32,768.

    Raises:
        ValueError: it is none.
    """
    found = _HUMAN.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    unit = {**_DECIMAL, **_BINARY}.get(found[2] or "", 1)
    whole = Decimal(found[1]) * unit
    if whole != whole.to_integral_value():
        raise ValueError(text)
    return int(whole)


def object_of(option: Option, *, numbers: bool = False) -> dict[str, Any]:
    """An object as vLLM reads it: JSON, a key behind a point, or `key=value` pairs.

    Raises:
        ValueError: it is none.
    """
    if option.key:
        value: Any = _scalar(option.text)
        for name in reversed(option.key.split(".")):
            value = {name.replace("-", "_"): value}
        return dict(value)
    try:
        found = json.loads(option.text)
    except ValueError:
        if not numbers:
            raise
        pairs = (pair.partition("=") for word in option.values for pair in word.split(","))
        found = {name.strip(): int(value) for name, _, value in pairs}
    if not isinstance(found, dict):
        raise ValueError(option.text)  # noqa: TRY004 # one error for every text that is no object
    return {name: _count(value) for name, value in found.items()} if numbers else found


def _count(value: Any) -> Any:
    """The number in `{"count": 2}`, a form that vLLM takes for `2`."""
    return value["count"] if isinstance(value, dict) and value.keys() == {"count"} else value


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Two objects in one, at every depth."""
    result = dict(base)
    for name, value in more.items():
        known = result.get(name)
        result[name] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result
