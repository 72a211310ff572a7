"""Answers that fit a schema: what vLLM is asked for, what is checked, and what is asked where an answer does not fit.

vLLM lets the model choose only tokens that the schema allows, so that an answer which ends by itself fits. What may not
fit all the same: one that is cut off at `max_tokens`, what only a validator of the class knows, and what an engine
answers that does not follow `response_format`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from vllm_client.errors import EmptyAnswer, InvalidAnswer, RefusedInput, VLLMError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pydantic import TypeAdapter

    Schema: TypeAlias = "type[Any] | Mapping[str, Any]"
    """A pydantic model, a dataclass, a TypedDict, or a JSON schema."""

_MOST_PROBLEMS: Final = 10
_SHOWN_AT_BEGINNING: Final = 160
_SHOWN_AT_END: Final = 60
_SIMPLER: Final = "Ask for a simpler schema, or say in the prompt what it cannot say"
_MORE_TOKENS: Final = "Raise max_tokens, or ask for less; where it is filled with white space, see docs/client.md"
_LONGER_CONTEXT: Final = "Shorten the prompt, or ask a model with a longer context"


class DoesNotFit(ValueError):  # noqa: N818 - as in errors.py: the name says what happened
    """A text does not fit a schema; the message says where and why, without what stands there."""


@dataclass(frozen=True)
class Reply:
    """What a model answered.

    Attributes:
        text: Its text.
        finish_reason: How it ends.
        completion_tokens: How many tokens it has; None where the engine does not say.
    """

    text: str
    finish_reason: str = ""
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Question:
    """Whom the answer is of, and what was asked for, for the words of errors.

    Attributes:
        model_name: The served name.
        endpoint: The base URL.
        max_tokens: How long the answer may be.
    """

    model_name: str
    endpoint: str
    max_tokens: int | None = None


def response_format(schema: Schema) -> dict[str, Any]:
    """The `response_format` of a chat completion whose answer fits the schema."""
    document = dict(schema) if isinstance(schema, Mapping) else _adapter(schema).json_schema()
    name = str(document.get("title") or "answer")
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in name)[:64]
    return {"type": "json_schema", "json_schema": {"name": safe, "schema": document, "strict": True}}


def value_of(text: str, schema: Schema) -> Any:
    """What a text of JSON holds: an instance of the class. For a JSON schema only that it is JSON is checked.

    Raises:
        DoesNotFit: It does not fit.
    """
    try:
        return json.loads(text) if isinstance(schema, Mapping) else _adapter(schema).validate_json(text)
    except (ValueError, RecursionError) as error:  # a model that repeats `[` nests more deeply than Python reads
        raise DoesNotFit(_problems(error)) from error


def fits(text: str, schema: Schema) -> bool:
    """Whether a text fits a schema."""
    try:
        value_of(text, schema)
    except DoesNotFit:
        return False
    return True


async def answer_that_fits(
    ask: Callable[[Sequence[Mapping[str, str]]], Awaitable[Reply]], schema: Schema, question: Question, *, reask: bool
) -> tuple[str, Any]:
    """An answer that fits, and what it holds.

    Args:
        ask: Asks the model; with these messages after the given ones.
        schema: What it has to fit.
        question: For the words of errors.
        reask: Whether the model is asked once more where its answer does not fit, with the answer and what is wrong in
            it. One that was cut off is not mended so: the second one would be cut off too.

    Raises:
        InvalidAnswer: It does not fit, nor does the second one; the error has both.
        VLLMError: As `ask` raises them.
    """
    first = await ask(())
    try:
        return first.text, value_of(first.text, schema)
    except DoesNotFit as problem:
        if not reask or first.finish_reason == "length":
            raise _invalid([(first, str(problem))], question) from problem
        return await _second(ask, first, problem, schema, question)


async def _second(
    ask: Callable[[Sequence[Mapping[str, str]]], Awaitable[Reply]],
    first: Reply,
    problem: DoesNotFit,
    schema: Schema,
    question: Question,
) -> tuple[str, Any]:
    """The answer to a second question; see `answer_that_fits`."""
    try:
        second = await ask(_correction(first.text, str(problem)))
    except (RefusedInput, EmptyAnswer) as error:  # of a conversation that the caller has not written
        raise _invalid([(first, str(problem))], question, f"; asked once more: {error}") from error
    except VLLMError as error:
        error.add_note(f"asked once more, since the first answer did not fit: {problem}: {excerpt(first.text)}")
        raise
    try:
        return second.text, value_of(second.text, schema)
    except DoesNotFit as again:
        raise _invalid([(first, str(problem)), (second, str(again))], question) from again


def _correction(text: str, problem: str) -> list[dict[str, str]]:
    """What is said to a model whose answer does not fit."""
    mend = f"That does not fit the schema: {problem}. Answer once more, with the whole JSON and nothing else."
    return [{"role": "assistant", "content": text}, {"role": "user", "content": mend}]


def _invalid(replies: Sequence[tuple[Reply, str]], question: Question, more: str = "") -> InvalidAnswer:
    """The error for answers that do not fit, each with what is wrong in it."""
    last, _ = replies[-1]
    answers = "; asked once more: ".join(f"{problem}: {excerpt(one.text)}" for one, problem in replies)
    cut, advice = _cut_off(last, question) if last.finish_reason == "length" else ("", _SIMPLER)
    return InvalidAnswer(
        f"model {question.model_name} did not answer as its schema says: {cut}{answers}{more}".rstrip("."),
        endpoint=question.endpoint,
        advice=advice,
        answers=tuple(one.text for one, _ in replies),
        finish_reason=last.finish_reason,
    )


def _cut_off(reply: Reply, question: Question) -> tuple[str, str]:
    """Where an answer was cut off, and what to do about it."""
    used, limit = reply.completion_tokens, question.max_tokens
    if limit is None or (used is not None and used < limit):
        return "it was cut off at the end of the model's context; ", _LONGER_CONTEXT
    return f"it was cut off at max_tokens={limit}; ", _MORE_TOKENS


def excerpt(text: str) -> str:
    """A text in one line, of a long one the beginning and the end."""
    if len(text) <= _SHOWN_AT_BEGINNING + _SHOWN_AT_END:
        return repr(text)
    left_out = len(text) - _SHOWN_AT_BEGINNING - _SHOWN_AT_END
    return f"{text[:_SHOWN_AT_BEGINNING]!r} ({left_out} characters) {text[-_SHOWN_AT_END:]!r}"


def _problems(error: Exception) -> str:
    """What is wrong with a text, without the text: what pydantic and the parser of JSON say."""
    found = getattr(error, "errors", None)
    if found is None:
        return str(error) or type(error).__name__
    problems = found(include_url=False, include_context=False, include_input=False)
    shown = [located(one, "the whole") for one in problems[:_MOST_PROBLEMS]]
    more = len(problems) - _MOST_PROBLEMS
    return "; ".join([*shown, *([f"and {more} more"] if more > 0 else [])])


def located(problem: Mapping[str, Any], whole: str) -> str:
    """One of pydantic's errors: where, by the word for the whole document where it is no single field, and what."""
    return f"{'.'.join(map(str, problem['loc'])) or whole}: {problem['msg']}"


def _new_adapter(kind: Any) -> TypeAdapter[Any]:
    """Reads JSON into a class; pydantic is imported here because that takes a while."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - see above

    return TypeAdapter(kind)


_adapter: Callable[[Any], TypeAdapter[Any]] = lru_cache(maxsize=256)(_new_adapter)
