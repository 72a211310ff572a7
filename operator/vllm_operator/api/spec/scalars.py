"""Texts and numbers that several parts of the spec are made of, each with its bounds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from vllm_operator.api import quantity
from vllm_operator.api.base import Rule, cel

if TYPE_CHECKING:
    from pydantic.config import JsonDict

_LENGTH_PATTERN = r"^([1-9][0-9]*[kKmMgG]?|auto)$"
_BYTES_PATTERN = r"^([1-9][0-9]*[kmgtKMGT]?|[1-9][0-9]*\.[0-9]+[kmgt])$"
_PERCENT_PATTERN = r"^(100|[1-9]?[0-9])%$"
_LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_LABEL_VALUE_PATTERN = rf"^({_LABEL_NAME})?$"
_SIZE_PATTERN = r"^[1-9][0-9]*(\.[0-9]+)?([KMGTPE]i?|k)?$"
_PATH_PATTERN = r"^/\S*$"
_FILE_PATTERN = r"^[^\s{}-][^\s{}]*$"
_HOST_PATTERN = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_QUALIFIED_NAME_PATTERN = rf"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?{_LABEL_NAME}$"
_DNS_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_DNS_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_REQUEST_PATTERN = r"^[a-z0-9][-a-z0-9/]*$"

WORD_PATTERN: Final = r"^[^\s-]\S*$"
"""One word that vLLM's parser does not take for a flag."""

CLAIM_SOURCE_PATTERN: Final = r"^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[^/]+)*/?$"
"""A source in a PersistentVolumeClaim: `pvc://CLAIM`, or `pvc://CLAIM/PATH`."""


TEXT_FORMS: Final[dict[str, str]] = {
    quantity.PATTERN: "a quantity such as `500m`, `1.5`, `64G` (thousands) or `64Gi`",
    _LENGTH_PATTERN: "a number of tokens such as `32768` or `32k`, or `auto`",
    _BYTES_PATTERN: "a number of bytes such as `1073741824`, `8g` (thousands) or `8G`",
    _PERCENT_PATTERN: "a whole number, or a share such as `50%`",
    _SIZE_PATTERN: "a quantity of storage such as `200Gi`",
    _PATH_PATTERN: "an absolute path",
    _FILE_PATTERN: "the path of a file, without blanks and braces",
    _HOST_PATTERN: "the name of a host such as `llm.example.com`, or `*.example.com` for all below one",
    _REQUEST_PATTERN: "the name of a request such as `gpu`, or of one of its alternatives, such as `gpu/large`",
    _LABEL_VALUE_PATTERN: "the value of a label: letters, digits, `-`, `_` and `.`",
}
"""What a text has to be, in words, by the pattern that says so exactly."""


def _matches(pattern: str) -> AfterValidator:
    """Check text against the pattern of the schema; numbers are checked by their own bounds."""

    def check(value: int | str) -> int | str:
        if isinstance(value, str) and not re.search(pattern, value):
            raise ValueError(f"{value!r} is not {TEXT_FORMS[pattern]}")
        return value

    return AfterValidator(check)


def _int_or_string(pattern: str, longest: int, **bounds: int) -> WithJsonSchema:
    """A schema for numbers and texts. Of a text that does not match, a rule says in words what the pattern wants."""
    matching = f"{pattern}|^[0-9]+$".replace("\\", "\\\\")  # the rule sees the digits of a number
    schema: dict[str, Any] = {
        **cel(Rule(f"string(self).matches('{matching}')", f"must be {TEXT_FORMS[pattern]}")),
        "x-kubernetes-int-or-string": True,
        "pattern": pattern,
        "maxLength": longest,
    }
    return WithJsonSchema(schema | bounds)


def _canonical(value: int | str) -> str:
    try:
        return quantity.canonical(value)
    except ArithmeticError:
        raise ValueError(f"{value!r} is too long a number") from None


Quantity = Annotated[
    int | str, _matches(quantity.PATTERN), AfterValidator(_canonical), _int_or_string(quantity.PATTERN, 64)
]
"""A Kubernetes quantity, such as `500m`, `16Gi` or `4`; once read, in the form that the API server gives it."""

Size = Annotated[str, StringConstraints(max_length=32, pattern=_SIZE_PATTERN)]
"""A quantity of storage that is more than nothing, as text, so that CEL can compare two of them."""

TokenCount = Annotated[
    Annotated[int, Field(ge=1)] | str, _matches(_LENGTH_PATTERN), _int_or_string(_LENGTH_PATTERN, 16, minimum=1)
]
"""A number of tokens as vLLM reads it: `32768`, `32k`, or `auto` for as many as fit into the memory."""

ByteCount = Annotated[
    Annotated[int, Field(ge=1)] | str, _matches(_BYTES_PATTERN), _int_or_string(_BYTES_PATTERN, 24, minimum=1)
]
"""A number of bytes as vLLM reads it: `1073741824`, `8g` for 8,000,000,000, `8G` for 8 GiB."""

CountOrPercent = Annotated[
    Annotated[int, Field(ge=0)] | str, _matches(_PERCENT_PATTERN), _int_or_string(_PERCENT_PATTERN, 4, minimum=0)
]
"""A number of pods, or a share of them such as `50%`."""

ServedName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=WORD_PATTERN)]
Source = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=WORD_PATTERN)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=WORD_PATTERN)]
Path = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=_PATH_PATTERN)]
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=_FILE_PATTERN)]
"""A path that vLLM takes for one: a text with braces is no path to it. A relative one begins where the image works."""

HostName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=_HOST_PATTERN)]
ResourceName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=_QUALIFIED_NAME_PATTERN)]
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=_DNS_NAME_PATTERN)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=_DNS_LABEL_PATTERN)]
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317, pattern=_QUALIFIED_NAME_PATTERN)]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=_LABEL_VALUE_PATTERN)]
DeviceRequest = Annotated[str, StringConstraints(min_length=1, max_length=127, pattern=_REQUEST_PATTERN)]
DeviceExpression = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
"""A CEL expression about a device; only the API server can check it."""
Annotation = Annotated[str, StringConstraints(max_length=65536)]
DataKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Text = Annotated[str, StringConstraints(max_length=1024)]

Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=64)]
Annotations = Annotated[dict[LabelKey, Annotation], Field(max_length=64)]
Quantities = Annotated[dict[ResourceName, Quantity], Field(max_length=16)]

JsonObject = Annotated[
    dict[str, Any],
    Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
]
"""An object that vLLM takes as JSON, with vLLM's own names in it: they change from version to version."""

MAP_BY_NAME: Final[JsonDict] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
SET: Final[JsonDict] = {"x-kubernetes-list-type": "set"}
ATOMIC: Final[JsonDict] = {"x-kubernetes-list-type": "atomic"}
