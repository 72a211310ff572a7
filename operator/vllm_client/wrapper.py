"""What clients that stand around another client have in common, and what they can know of it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from vllm_client.closing import Closing, close
from vllm_client.errors import ConfigurationError, InvalidAnswer, MissingExtra
from vllm_client.schema import DoesNotFit, excerpt, value_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_client.completion import Completion
    from vllm_client.protocol import LLMClient

Conversation: TypeAlias = "str | Iterable[Mapping[str, Any]]"
"""One message of a user, or several of both sides."""
T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """Who answers; both are empty where the client does not say.

    Attributes:
        endpoint: The base URL.
        model_name: The served name.
    """

    endpoint: str = ""
    model_name: str = ""


class ClientWrapper(Closing):
    """A client around another one. What it does not do itself is done by `.llm`.

    Attributes:
        llm: The client inside.
    """

    def __init__(self, llm: LLMClient) -> None:
        self.llm = llm

    @property
    def config(self) -> object | None:
        """The settings of the client inside, so that wrappers can be put around each other; None if it has none."""
        return getattr(self.llm, "config", None)

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The answer of the client inside."""
        return await self.llm.complete(prompt, **kwargs)

    async def parse(self, /, prompt: str, schema: type[T], **kwargs: Any) -> T:
        """The answer as an instance of a class, as `VLLMClient.parse`; the client inside has to take `schema`.

        It is asked by the `complete` of this one, so that what a wrapper does is done: a text that fits is remembered,
        and both questions count as one request.

        Raises:
            InvalidAnswer: It does not fit.
            Exception: What the client inside raises.
        """
        text = await self.complete(prompt, schema=schema, reask=True, **kwargs)
        try:
            value: T = value_of(text, schema)
        except DoesNotFit as problem:  # of a client that does not check it
            place = target_of(self.llm)
            problem_text = f"{place.model_name or type(self.llm).__name__} did not answer as its schema says: {problem}"
            raise InvalidAnswer(
                f"{problem_text}: {excerpt(text)}", endpoint=place.endpoint, answers=(text,)
            ) from problem
        return value

    async def close(self) -> None:
        """Close the client inside, if it can be closed."""
        await close(self.llm)


def target_of(llm: LLMClient) -> Target:
    """Whom the client asks, by its `config`; read anew for each request, because settings can be changed."""
    config = getattr(llm, "config", None)
    return Target(str(getattr(config, "base_url", "") or ""), str(getattr(config, "model_name", "") or ""))


async def completion_of(llm: LLMClient, prompt: Conversation, arguments: Mapping[str, Any]) -> Completion:
    """The `completion` of a client that has one.

    Raises:
        ConfigurationError: It has none.
    """
    ask = getattr(llm, "completion", None)
    if ask is None:
        advice = "Use complete(), or put it around a client that has one, such as VLLMClient"
        raise ConfigurationError(f"{type(llm).__name__} has no completion()", variable="llm", advice=advice)
    found: Completion = await ask(prompt, **arguments)
    return found


def held(prompt: Conversation) -> Conversation:
    """The prompt as something that may be read more than once."""
    return prompt if isinstance(prompt, str) else list(prompt)


def require(module: str, *, extra: str, purpose: str) -> Any:
    """A module that only an extra installs.

    Raises:
        MissingExtra: It is not installed; the error says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{purpose} needs the module {error.name}", advice=f"Install it: pip install 'vllm-operator[{extra}]'"
        ) from error
