"""What an engine's answer is worth: the one place where it is judged, before anybody believes it.

vLLM ends what it has to give up with the status 200 and `finish_reason` "abort", in the middle of a sentence; a stream
that ends without any finish_reason has lost its engine; and what stands between may answer 200 in the engine's place.
All of these are failures of the engine, and may pass. `length` is an answer: the limit was the caller's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_client.completion import Choice, Completion, TokenLogprob, token_logprobs
from vllm_client.errors import EmptyAnswer, EngineFailed, IncompleteAnswer
from vllm_client.finish import GIVEN_UP
from vllm_client.usage import TokenUsage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_client.config import ClientConfig

DELTA: Final = "delta"
"""The field of a choice that is a part of one; a whole one has a `message`, or, of a text, all by itself."""
_LONGEST_SHOWN: Final = 200
_REASONING: Final = ("reasoning", "reasoning_content")
"""Fields in which engines put what the model thinks; the second one is of vLLM before 0.12."""
_ADVICE: Final = "Try again; if it stays, read the engine's log"
_IN_BETWEEN: Final = "Something between here and the engine answers in its place: check VLLM_BASE_URL"
_MORE: Final = "Ask for more tokens, or change the prompt or the sampling"
_THINKS: Final = (
    "Raise max_tokens, or have it think less (with many models by "
    'extra_body={"chat_template_kwargs": {"enable_thinking": False}})'
)
_CALLS: Final = "Use .openai for tools: what is asked for here is a text"


@dataclass(slots=True)
class PartialChoice:
    """One of the answers to a prompt, as it comes in."""

    texts: list[str] = field(default_factory=list)
    reasoning_parts: list[str] = field(default_factory=list)
    tool: str = ""
    """The tool that is called, where one is."""
    finish_reason: str = ""
    logprobs: list[TokenLogprob] | None = None

    @property
    def text(self) -> str:
        """What has come of its text."""
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        """What the model has thought aloud."""
        return "".join(self.reasoning_parts)

    def take(self, choice: Mapping[str, Any]) -> str:
        """Take in a part; its text.

        Raises:
            TypeError, ValueError, LookupError, AttributeError: It is not shaped as one.
        """
        said = choice[DELTA] if DELTA in choice else choice.get("message", choice)
        said = {} if said is None else said
        text = _text(said.get("content") or said.get("text"))
        self.texts.append(text)
        for name in _REASONING:
            if part := said.get(name):
                self.reasoning_parts.append(_text(part))
                break
        for call in said.get("tool_calls") or ():
            self.tool = self.tool or _text((call.get("function") or {}).get("name"))
        self.finish_reason = _text(choice.get("finish_reason")) or self.finish_reason
        logprobs = token_logprobs(choice.get("logprobs"))
        if logprobs is not None:
            self.logprobs = self.logprobs or []
            self.logprobs.extend(logprobs)
        return text

    def choice(self, index: int) -> Choice:
        """The answer, now that it is whole."""
        logprobs = None if self.logprobs is None else tuple(self.logprobs)
        return Choice(self.text, self.finish_reason, index, logprobs, self.reasoning)


class Answer:
    """What is answered to a prompt, as it comes in: one answer or several.

    Args:
        config: Whose answer it is, for the words of errors.
        wanted: How many answers were asked for.
    """

    def __init__(self, config: ClientConfig, wanted: int = 1) -> None:
        self.usage: TokenUsage | None = None
        self._config = config
        self._wanted = wanted
        self._model = ""
        self._choices: dict[int, PartialChoice] = {}

    @property
    def text(self) -> str:
        """The text of the first answer."""
        return self._first.text

    @property
    def finish_reason(self) -> str:
        """Why the first answer ends."""
        return self._first.finish_reason

    @property
    def _first(self) -> PartialChoice:
        return self._choices[min(self._choices)]

    def take(self, part: object) -> str:
        """Take in a part as the engine sends it, a chunk or a completion; the text that it adds to the first answer.

        Of the usage the last one counts: engines that tell it with every part tell running totals.

        Raises:
            EngineFailed: It is no part of an answer.
            IncompleteAnswer: The engine has given up.
        """
        if not isinstance(part, dict):
            raise self._no_completion(part)
        if part.get("object") == "error":  # the event of vLLM before 0.10
            raise self._incomplete(f"the stream broke off: {part.get('message', part)}")
        try:
            return self._take(part)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise self._no_completion(part) from error

    def _take(self, part: Mapping[str, Any]) -> str:
        text = ""
        self.usage = usage_of(part.get("usage")) or self.usage
        self._model = _text(part.get("model")) or self._model
        for choice in part["choices"]:
            index = choice.get("index") or 0
            partial = self._choices.get(index)
            if partial is None:
                partial = self._choices[index] = PartialChoice()
            elif DELTA not in choice:
                raise ValueError(f"there are two answers {index}")
            if not isinstance(index, int):
                raise TypeError(f"an answer has the place {index!r}")
            added = partial.take(choice)
            if partial.finish_reason in GIVEN_UP:
                raise self._incomplete(f"the engine gave the answer up (finish_reason {partial.finish_reason})")
            if index == 0:
                text = added
        return text

    def end(self) -> None:
        """Take in that nothing more comes.

        Raises:
            IncompleteAnswer: An answer has no end, or is missing.
            EmptyAnswer: None has a text; the error says what there is instead.
        """
        if not all(partial.finish_reason for partial in self._choices.values()) or not self._choices:
            raise self._incomplete("the answer has no end (no finish_reason)")
        if len(self._choices) < self._wanted:
            raise self._incomplete(f"{len(self._choices)} of {self._wanted} answers have come")
        if not any(partial.text.strip() for partial in self._choices.values()):
            instead, advice = _instead(self._first)
            problem = f"model {self._config.model_name} answered {instead or 'nothing'}"
            problem += f" (finish_reason {self._first.finish_reason})"
            raise EmptyAnswer(problem, endpoint=self._config.base_url, advice=advice, instead=instead)

    def completion(self, engine: str) -> Completion:
        """All of it, once `end` has found that it is whole."""
        choices = tuple(partial.choice(index) for index, partial in sorted(self._choices.items()))
        return Completion(choices, self.usage, self._model or self._config.model_name, engine)

    def _no_completion(self, part: object) -> EngineFailed:
        return _somebody_elses("completion", part, self._config)

    def _incomplete(self, problem: str) -> IncompleteAnswer:
        whole = f"model {self._config.model_name}: {problem}"
        return IncompleteAnswer(whole, endpoint=self._config.base_url, advice=_ADVICE)


def vectors_of(answer: Any, wanted: int, config: ClientConfig) -> list[list[float]]:
    """The vectors of an answer, one for each text, in their order.

    Raises:
        EngineFailed: There are others, or none.
    """
    try:
        entries = sorted(answer["data"], key=lambda entry: entry["index"])
        places = [entry["index"] for entry in entries]
        vectors = [list(map(float, entry["embedding"])) for entry in entries]
    except (TypeError, ValueError, LookupError, AttributeError):
        places, vectors = [], []
    if places != list(range(wanted)) or not all(vectors):
        raise _somebody_elses(f"list of {wanted} vectors", answer, config)
    return vectors


def models_of(answer: Any, config: ClientConfig) -> dict[str, dict[str, Any]]:
    """What an engine serves, by the name under which it does.

    Raises:
        EngineFailed: The answer is no such list.
    """
    try:
        return {_text(card["id"]): dict(card) for card in answer["data"]}
    except (TypeError, ValueError, LookupError) as error:
        raise _somebody_elses("list of models", answer, config) from error


def content_of(body: bytes) -> object:
    """What an answer holds; what is no JSON, as text."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")


def _somebody_elses(expected: str, found: object, config: ClientConfig) -> EngineFailed:
    """The error for a 200 with something else than what was asked for."""
    problem = f"model {config.model_name}: the answer is no {expected}: {str(found)[:_LONGEST_SHOWN]}"
    return EngineFailed(problem, endpoint=config.base_url, advice=_IN_BETWEEN)


def _text(value: Any) -> str:
    """A field that is a text, or is not there.

    Raises:
        TypeError: It is something else.
    """
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(f"{value!r} is no text")


def _instead(partial: PartialChoice) -> tuple[str, str]:
    """What an answer without a text has, and what to do about it."""
    if partial.tool:
        return f"a call of the tool {partial.tool}", _CALLS
    return ("nothing but its reasoning", _THINKS) if partial.reasoning else ("", _MORE)


def usage_of(usage: object) -> TokenUsage | None:
    """What the engine counted, as far as it says; what it leaves out is 0. None where it says nothing."""
    if not isinstance(usage, dict):
        return None
    return TokenUsage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
