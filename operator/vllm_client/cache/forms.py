"""How answers are kept as texts, which is what stores hold. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from vllm_client.completion import Choice, Completion, TokenLogprob
from vllm_client.schema import fits
from vllm_client.usage import TokenUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


class Form(NamedTuple, Generic[T]):
    """How an answer becomes a text, and a text an answer.

    Attributes:
        write: The text.
        read: The answer; None where the text is none of today's.
    """

    write: Callable[[T], str]
    read: Callable[[str], T | None]


def text_form(schema: Any) -> Form[str]:
    """A text is kept as it is. It has to fit the schema still: a class's validators may have become stricter."""
    return Form(str, lambda text: text if schema is None or fits(text, schema) else None)


def write_completion(found: Completion) -> str:
    """A completion as JSON: its fields by their names."""
    return json.dumps(asdict(found), separators=(",", ":"))


def read_completion(text: str) -> Completion | None:
    """A completion that says that it is remembered; None where it has other fields than those of this version."""
    try:
        fields = json.loads(text)
        usage, choices = fields["usage"], tuple(map(_choice, fields["choices"]))
        known = {"choices": choices, "usage": usage and TokenUsage(**usage), "cached": True}
        return Completion(**{**fields, **known})
    except (ValueError, TypeError, LookupError):
        return None


COMPLETION_FORM = Form(write_completion, read_completion)


def _choice(fields: Mapping[str, Any]) -> Choice:
    tokens = fields["logprobs"]
    logprobs = None if tokens is None else tuple(map(_logprob, tokens))
    return Choice(**{**fields, "logprobs": logprobs})


def _logprob(fields: Mapping[str, Any]) -> TokenLogprob:
    return TokenLogprob(**{**fields, "top": tuple((token, number) for token, number in fields["top"])})
