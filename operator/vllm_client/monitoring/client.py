"""The client that tells what it does."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

from vllm_client.monitoring.hooks import ErrorEvent, MonitoringHook, RequestEvent, ResponseEvent
from vllm_client.usage import TokenUsage, usage_reports
from vllm_client.wrapper import ClientWrapper, Conversation, completion_of, held, target_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from vllm_client.completion import Completion
    from vllm_client.protocol import LLMClient

T = TypeVar("T")

logger = logging.getLogger("vllm_client")


class MonitoredClient(ClientWrapper):
    """Tells hooks of every `complete`, `parse` and `completion`.

    A hook that raises is logged and does not fail the request: what watches must not break what it watches. Put it
    around the client itself, inside a `CachedClient`, to see what is asked; around the `CachedClient` to see what the
    application waits for.

    The engine behind a balancing client is not told: the base URL stands for all of them.

    Args:
        llm: The client to ask; closed with this one.
        hooks: Whom to tell, in this order; of the end of a request in the opposite order.
        include_text: Put prompts, answers and the messages of errors into the events.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        llm: LLMClient,
        *hooks: MonitoringHook,
        include_text: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(llm)
        self._hooks = hooks
        self._include_text = include_text
        self._clock = clock

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The answer of the client inside.

        Raises:
            Exception: What the client inside raises.
        """
        return await self._watched(prompt, kwargs, lambda: self.llm.complete(prompt, **kwargs), str)

    async def completion(self, /, prompt: Conversation, **kwargs: Any) -> Completion:
        """All that the client inside says; hooks are told of it as of a `complete` with the text of the first answer.

        Raises:
            ConfigurationError: The client inside has no `completion`.
            Exception: What the client inside raises.
        """
        conversation = held(prompt)
        return await self._watched(
            conversation, kwargs, lambda: completion_of(self.llm, conversation, kwargs), lambda found: found.text
        )

    async def _watched(
        self,
        prompt: Conversation,
        arguments: Mapping[str, Any],
        ask: Callable[[], Awaitable[T]],
        text_of: Callable[[T], str],
    ) -> T:
        """What is answered, told to the hooks from its beginning to its end."""
        request = self._begun(prompt, arguments)
        started_seconds = self._clock()
        try:
            with usage_reports() as reports:
                answer = await ask()
        except BaseException as error:
            message = str(error) if self._include_text else None
            failed = ErrorEvent(request, self._clock() - started_seconds, type(error).__name__, message)
            for hook in reversed(self._hooks):
                told(hook.on_error, failed)
            raise
        shown = text_of(answer) if self._include_text else None
        done = ResponseEvent(request, self._clock() - started_seconds, total(reports), shown)
        for hook in reversed(self._hooks):
            told(hook.on_response, done)
        return answer

    def _begun(self, prompt: Conversation, arguments: Mapping[str, Any]) -> RequestEvent:
        """Tell the hooks that a request begins."""
        target = target_of(self.llm)
        model = str(arguments.get("model") or target.model_name)
        shown = shown_prompt(prompt) if self._include_text else None
        request = RequestEvent(target.endpoint, model, numbers_of(arguments), shown)
        for hook in self._hooks:
            told(hook.on_request, request)
        return request


def shown_prompt(prompt: Conversation) -> str:
    """The text of a prompt; of a conversation its messages, as JSON."""
    return prompt if isinstance(prompt, str) else json.dumps(list(prompt), ensure_ascii=False, default=str)


def total(reports: Sequence[TokenUsage]) -> TokenUsage | None:
    """All tokens that were reported; None if nobody reported any."""
    if not reports:
        return None
    return TokenUsage(sum(one.prompt_tokens for one in reports), sum(one.completion_tokens for one in reports))


def numbers_of(arguments: Mapping[str, Any]) -> dict[str, float]:
    """The arguments that are numbers, and so cannot hold a text."""
    return {
        name: value
        for name, value in arguments.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def told(tell: Callable[[Any], None], event: object) -> None:
    """Tell a hook."""
    try:
        tell(event)
    except Exception:
        logger.exception("a monitoring hook failed: %s", getattr(tell, "__qualname__", tell))
