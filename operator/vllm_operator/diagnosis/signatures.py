"""Known failures of an engine: by which words its log tells of them, what they mean, and what to do. Pure.

They are data, in `signatures.yaml`, with their texts in each language. The patterns travel into the engines' pods as a
table (`table_json`), where the manager finds the root cause of a failure among the lines of its log
(`manager/matching.py`); what it finds comes back as an id and what the pattern has captured, and `explain` makes
sentences of these.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

import yaml
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from vllm_operator.diagnosis.cause import quoted
from vllm_operator.diagnosis.patterns import literal_of
from vllm_operator.errors import SignaturesError
from vllm_operator.manager.matching import FORMAT, LONGEST_GROUP, Table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Language = Literal["en", "zh-TW"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh-TW")
ENGLISH: Final[Language] = "en"

_FILE: Final = "signatures.yaml"

Word = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Texts = dict[Language, Annotated[str, StringConstraints(min_length=1, max_length=600, strip_whitespace=True)]]


class Signature(BaseModel):
    """One known failure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]{2,40}$")]
    kind: Literal["cause", "consequence", "wrapper", "symptom"] = "cause"
    """How much it weighs beside others: see `manager/matching.py`."""
    patterns: Annotated[tuple[Word, ...], Field(min_length=1)] = ()
    """Regular expressions, of which one has to be found in a line. See `patterns.py` for what they may be made of. None
    where no line tells of it, and something else has to be looked at."""
    samples: Annotated[tuple[Word, ...], Field(min_length=1)] = ()
    """Lines that were really written, one for each pattern."""
    example: dict[str, Word] = Field(default_factory=dict)
    """What its texts may be filled with where that is not captured; for the documentation, and for tests."""
    field: Annotated[str, StringConstraints(pattern=r"^spec(\.[a-z][A-Za-z]*)+$")] | None = None
    """The field of the resource to change first; None where the remedy is no field."""
    value: Word | None = None
    """The value to try there; a template, which may come out empty."""
    anywhere: bool = False
    """Whether it counts in a line that is no error, where no cause stands in one that is. Symptoms always do."""
    permanent: bool = False
    """Whether starting the engine again cannot mend it: nothing changes until somebody acts."""
    reproduced: bool = False
    """Whether a real vLLM has said it to us."""
    source: Word
    """Where the text comes from."""
    cause: Texts
    """What has happened, a clause; a template."""
    advice: Texts
    """What to do, a clause; a template."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a failure means, in one language."""

    id: str
    kind: str
    """Cause, consequence, wrapper or symptom."""
    cause: str
    advice: str
    field: str
    """The field to change first; empty where the remedy is none."""
    value: str
    """The value to try there; empty where none is known."""
    permanent: bool

    @property
    def sentence(self) -> str:
        """Both on one line."""
        return f"{self.cause}: {self.advice}"


T = TypeVar("T")

_ALL: Final = TypeAdapter(tuple[Signature, ...])
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C takes a tenth of the time; it is missing where PyYAML was built without libyaml."""

_TEMPLATES: Final = ImmutableSandboxedEnvironment(undefined=StrictUndefined)  # its loops are bounded


def load(text: str) -> tuple[Signature, ...]:
    """Signatures out of their YAML.

    Raises:
        SignaturesError: something has another form than it must have.
    """
    return read_yaml(_ALL, text, _FILE)


def read_yaml(form: TypeAdapter[T], text: str, name: str) -> T:
    """What a file of this name says, of this form.

    Raises:
        SignaturesError: something has another form than it must have.
    """
    try:
        return form.validate_python(yaml.load(text, Loader=_LOADER))  # noqa: S506 # one of two safe loaders
    except (yaml.YAMLError, ValidationError) as error:
        raise SignaturesError([f"{name}: {error}"]) from None


@cache
def signatures() -> tuple[Signature, ...]:
    """Those of this operator."""
    return load(files(__package__).joinpath(_FILE).read_text(encoding="utf-8"))


def table_json(known: Iterable[Signature]) -> str:
    """The table that the manager reads in the pods: no more than it takes to find which signature counts."""
    entries = [
        {
            "id": one.id,
            "kind": one.kind,
            "anywhere": one.anywhere or one.kind == "symptom",
            "patterns": [[literal_of(pattern), pattern] for pattern in one.patterns],
        }
        for one in known
        if one.patterns
    ]
    return json.dumps({"format": FORMAT, "signatures": entries}, indent=1, ensure_ascii=False) + "\n"


@cache
def table() -> Table:
    """The same table for texts that come here with no manager's word on them."""
    return table_of(table_json(signatures()))


def explain(signature_id: str, groups: Mapping[str, str], language: Language = ENGLISH) -> Explanation | None:
    """What a failure means.

    Args:
        signature_id: Its id.
        groups: What its pattern has captured, as the pod says it: they are somebody else's text.
        language: Of the sentences.

    Returns:
        None where there is no such signature here, or its texts need what was not captured: a manager may be of another
        version than the operator.
    """
    found = _by_id().get(signature_id)
    return explain_with(found, groups, language) if found else None


def explain_with(one: Signature, groups: Mapping[str, str], language: Language = ENGLISH) -> Explanation | None:
    """The same of a signature; None where its texts need what was not captured."""
    values = {name: _told(value) for name, value in groups.items()}
    try:
        cause, advice = (_filled(texts[language], values) for texts in (one.cause, one.advice))
        value = _filled(one.value or "", values)
    except (TemplateError, ArithmeticError, ValueError, TypeError):
        return None
    return Explanation(one.id, one.kind, cause, advice, one.field or "", value, one.permanent)


def explained(lines: Iterable[str]) -> Explanation | None:
    """The same of the root cause that a text tells of; None where it tells of none that is known."""
    match = table().root(lines)
    return explain(match.id, match.groups) if match else None


@cache
def _by_id() -> dict[str, Signature]:
    return {one.id: one for one in signatures()}


@cache
def _template(text: str) -> Template:
    return _TEMPLATES.from_string(text)


def _filled(text: str, values: Mapping[str, str]) -> str:
    return " ".join(_template(text).render(values).split())


def _told(value: str) -> str:
    """What was captured, as part of a sentence: on one line, bounded, and without what stands between two causes."""
    return quoted(value)[:LONGEST_GROUP].replace(";", ",")
