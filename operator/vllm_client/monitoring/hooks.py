"""What is told of a request, and whom."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_client.usage import TokenUsage

logger = logging.getLogger("vllm_client")


@dataclass(frozen=True)
class RequestEvent:
    """A request begins.

    Attributes:
        endpoint: The base URL of the client; empty where it does not say.
        model: The served name; empty where the client does not say.
        numbers: The arguments that are numbers: temperature, max_tokens, seed and the like.
        prompt: The prompt, only where texts are asked for; of a conversation its messages, as JSON.
    """

    endpoint: str
    model: str
    numbers: Mapping[str, float]
    prompt: str | None = None

    @property
    def target(self) -> str:
        """Who is asked, for people."""
        return f"{self.model or 'a model'} at {self.endpoint or 'an unknown endpoint'}"


@dataclass(frozen=True)
class ResponseEvent:
    """A request was answered.

    Attributes:
        request: The very event that told its beginning.
        seconds: How long it took.
        usage: How many tokens it took; None where the client does not say, or an answer was remembered.
        text: The answer, only where texts are asked for; of several the first.
    """

    request: RequestEvent
    seconds: float
    usage: TokenUsage | None = None
    text: str | None = None


@dataclass(frozen=True)
class ErrorEvent:
    """A request was not answered.

    Attributes:
        request: The very event that told its beginning.
        seconds: How long it took.
        kind: The name of the error's class; CancelledError where the caller gave up.
        message: The error's text, only where texts are asked for: engines quote the request in it.
    """

    request: RequestEvent
    seconds: float
    kind: str
    message: str | None = None


class MonitoringHook:
    """Is told of requests. Override what you need.

    Each `on_request` is followed by exactly one `on_response` or `on_error`, in the same task. The methods run between
    the caller and the engine, so they must not block.
    """

    def on_request(self, event: RequestEvent) -> None:
        """A request begins."""

    def on_response(self, event: ResponseEvent) -> None:
        """A request was answered."""

    def on_error(self, event: ErrorEvent) -> None:
        """A request was not answered."""


class LogHook(MonitoringHook):
    """Writes a line for each request to the logger `vllm_client`: INFO for answers, WARNING for errors."""

    def on_response(self, event: ResponseEvent) -> None:
        """Log the answer's time."""
        logger.info("%s answered in %.3f s", event.request.target, event.seconds)

    def on_error(self, event: ErrorEvent) -> None:
        """Log the error's kind."""
        logger.warning("%s failed after %.3f s: %s", event.request.target, event.seconds, event.kind)
