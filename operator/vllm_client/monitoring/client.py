"""The client that tells what it does."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from vllm_client.monitoring.hooks import ErrorEvent, MonitoringHook, RequestEvent, ResponseEvent
from vllm_client.usage import TokenUsage, usage_reports
from vllm_client.wrapper import ClientWrapper, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vllm_client.protocol import LLMClient

logger = logging.getLogger("vllm_client")


class MonitoredClient(ClientWrapper):
    """Tells hooks of every `complete`.

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
        request = self._begun(prompt, kwargs)
        started_seconds = self._clock()
        try:
            with usage_reports() as reports:
                answer = await self.llm.complete(prompt, **kwargs)
        except BaseException as error:
            message = str(error) if self._include_text else None
            failed = ErrorEvent(request, self._clock() - started_seconds, type(error).__name__, message)
            for hook in reversed(self._hooks):
                told(hook.on_error, failed)
            raise
        shown = answer if self._include_text else None
        done = ResponseEvent(request, self._clock() - started_seconds, total(reports), shown)
        for hook in reversed(self._hooks):
            told(hook.on_response, done)
        return answer

    def _begun(self, prompt: str, arguments: Mapping[str, Any]) -> RequestEvent:
        """Tell the hooks that a request begins."""
        target = target_of(self.llm)
        model = str(arguments.get("model") or target.model_name)
        shown = prompt if self._include_text else None
        request = RequestEvent(target.endpoint, model, numbers_of(arguments), shown)
        for hook in self._hooks:
            told(hook.on_request, request)
        return request


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
