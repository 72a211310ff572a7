"""One model behind one URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from vllm_client.config import DEFAULT_API_KEY, LOCAL_LIMITS, ClientConfig
from vllm_client.errors import EmptyAnswer

if TYPE_CHECKING:
    from types import TracebackType

    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionUserMessageParam

SAMPLING = {"temperature": 0.1, "max_tokens": 2000, "top_p": 0.9, "frequency_penalty": 0.0, "presence_penalty": 0.0}
"""What `complete` asks for unless told otherwise."""


class VLLMClient:
    """Asks one model for answers; built on the OpenAI client.

    Attributes:
        config: The settings in use.
        openai: The OpenAI client underneath, for everything that `complete` does not do: streams, tools, embeddings.

    Raises:
        ConfigurationError: `base_url` or `model_name` is empty or wrong.
    """

    def __init__(
        self,
        base_url: str,
        model_name: str,
        api_key: str = DEFAULT_API_KEY,
        timeout: float = LOCAL_LIMITS[0],
        max_retries: int = LOCAL_LIMITS[1],
        **openai_options: Any,
    ) -> None:
        self.config = ClientConfig(
            base_url=base_url, model_name=model_name, api_key=api_key, timeout=timeout, max_retries=max_retries
        )
        self.openai = open_client(self.config, openai_options)

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The model's answer to one user message, without white space around it.

        Further arguments go to the chat completion as they are; `top_k`, which only vLLM knows, goes to its extra body.

        Raises:
            VLLMError: The error says which kind, where, and what to do.
            ValueError: `stream` was asked for.
        """
        if kwargs.get("stream"):
            raise ValueError("complete() returns a whole answer: use .openai for streams")
        arguments = {**SAMPLING, **kwargs}
        if "top_k" in arguments:
            arguments["extra_body"] = {"top_k": arguments.pop("top_k"), **(arguments.get("extra_body") or {})}
        message: ChatCompletionUserMessageParam = {"role": "user", "content": prompt}
        try:
            answer = await self.openai.chat.completions.create(
                model=self.config.model_name, messages=[message], **arguments
            )
        except Exception as error:
            raise translated(error, self.config) from error
        text = (answer.choices[0].message.content or "").strip() if answer.choices else ""
        if not text:
            raise EmptyAnswer(
                f"model {self.config.model_name} answered nothing",
                endpoint=self.config.base_url,
                advice="Ask for more tokens, or change the prompt or the sampling",
            )
        return text

    async def close(self) -> None:
        """Close the connections."""
        await self.openai.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def open_client(config: ClientConfig, options: dict[str, Any]) -> AsyncOpenAI:
    """The OpenAI client; it is imported here because that takes half a second."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - see above

    settings = {
        "base_url": config.base_url,
        "api_key": config.api_key,
        "timeout": config.timeout,
        "max_retries": config.max_retries,
    }
    return AsyncOpenAI(**{**settings, **options})


def translated(error: Exception, config: ClientConfig) -> Exception:
    """The error of this library for one of the OpenAI client; any other error as it is."""
    from vllm_client.translate import translate  # noqa: PLC0415 - it imports the OpenAI client

    return translate(error, config)
