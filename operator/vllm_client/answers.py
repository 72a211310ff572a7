"""What an engine's answer is worth: the one place where it is judged, before anybody believes it.

vLLM ends what it has to give up with the status 200 and `finish_reason` "abort", in the middle of a sentence; a stream
that ends without any finish_reason has lost its engine; and what stands between may answer 200 in the engine's place.
All of these are failures of the engine, and may pass. `length` is an answer: the limit was the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_client.errors import EmptyAnswer, EngineFailed, IncompleteAnswer
from vllm_client.finish import GIVEN_UP
from vllm_client.usage import TokenUsage

if TYPE_CHECKING:
    from vllm_client.config import ClientConfig

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


@dataclass(frozen=True, slots=True)
class Piece:
    """What one part of an answer adds: a whole answer has one part, a stream many."""

    text: str = ""
    reasons: bool = False
    """Whether the model has thought aloud."""
    tool: str = ""
    """The tool that is called, where one is."""
    finish_reason: str = ""
    usage: TokenUsage | None = None


class Answer:
    """An answer as it comes in, piece by piece.

    Args:
        config: Whose answer it is, for the words of errors.
    """

    def __init__(self, config: ClientConfig) -> None:
        self.usage: TokenUsage | None = None
        self._config = config
        self._text = False
        self._reasons = False
        self._tool = ""
        self._finish_reason = ""

    def take(self, part: Any) -> str:
        """Take in a part as the OpenAI client gives it, a chunk or a completion; its text.

        Of the usage the last one counts: engines that tell it with every part tell running totals.

        Raises:
            EngineFailed: It is no part of an answer.
            IncompleteAnswer: The engine has given up.
        """
        piece = self._read(part)
        self.usage = piece.usage or self.usage
        self._text = self._text or bool(piece.text.strip())
        self._reasons = self._reasons or piece.reasons
        self._tool = self._tool or piece.tool
        self._finish_reason = piece.finish_reason or self._finish_reason
        if piece.finish_reason in GIVEN_UP:
            raise self._incomplete(f"the engine gave the answer up (finish_reason {piece.finish_reason})")
        return piece.text

    def end(self) -> None:
        """Take in that nothing more comes.

        Raises:
            IncompleteAnswer: The answer has no end.
            EmptyAnswer: It has no text; the error says what it has instead.
        """
        if not self._finish_reason:
            raise self._incomplete("the answer has no end (no finish_reason)")
        if not self._text:
            instead, advice = self._instead()
            problem = f"model {self._config.model_name} answered {instead or 'nothing'}"
            problem += f" (finish_reason {self._finish_reason})"
            raise EmptyAnswer(problem, endpoint=self._config.base_url, advice=advice, instead=instead)

    def _instead(self) -> tuple[str, str]:
        if self._tool:
            return f"a call of the tool {self._tool}", _CALLS
        return ("nothing but its reasoning", _THINKS) if self._reasons else ("", _MORE)

    def _read(self, part: Any) -> Piece:
        choices = getattr(part, "choices", None)
        if getattr(part, "object", None) == "error":  # the event of vLLM before 0.10
            raise self._incomplete(f"the stream broke off: {getattr(part, 'message', part)}")
        if not isinstance(choices, list):
            problem = f"model {self._config.model_name}: the answer is no completion: {str(part)[:_LONGEST_SHOWN]}"
            raise EngineFailed(problem, endpoint=self._config.base_url, advice=_IN_BETWEEN)
        usage = usage_of(part)
        if not choices:
            return Piece(usage=usage)
        choice = choices[0]
        said = getattr(choice, "delta", None) or getattr(choice, "message", None)
        tools = getattr(said, "tool_calls", None) or ()
        return Piece(
            text=getattr(said, "content", None) or "",
            reasons=any(getattr(said, name, None) for name in _REASONING),
            tool=next((name for call in tools if (name := _name_of(call))), ""),
            finish_reason=choice.finish_reason or "",
            usage=usage,
        )

    def _incomplete(self, problem: str) -> IncompleteAnswer:
        whole = f"model {self._config.model_name}: {problem}"
        return IncompleteAnswer(whole, endpoint=self._config.base_url, advice=_ADVICE)


def usage_of(part: Any) -> TokenUsage | None:
    """What the engine counted, as far as it says; what it leaves out is 0. None where it says nothing."""
    usage = getattr(part, "usage", None)
    if usage is None:
        return None
    return TokenUsage(*(getattr(usage, name, None) or 0 for name in ("prompt_tokens", "completion_tokens")))


def _name_of(call: Any) -> str:
    return str(getattr(getattr(call, "function", None), "name", None) or "")
