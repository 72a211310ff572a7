"""One model, behind one URL or several engines."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from vllm_client.answers import Answer, content_of, models_of, vectors_of
from vllm_client.asking import (
    CHAT,
    END,
    TEXT,
    VECTORS,
    Request,
    ask,
    ask_for_models,
    ask_for_stream,
    next_part,
    request,
)
from vllm_client.balance.calls import Call, part_of
from vllm_client.balance.policy import MOST_COMPUTATIONS
from vllm_client.closing import Closing
from vllm_client.completion import ENGINE, Completion, TextStream
from vllm_client.config import CLOUD_LIMITS, DEFAULT_API_KEY, LOCAL_LIMITS, ClientConfig
from vllm_client.connect import open_client
from vllm_client.errors import ClientClosed, IncompleteAnswer, VLLMError
from vllm_client.home import Home
from vllm_client.proof import prove
from vllm_client.sampling import DEFAULTS, answers_wanted, longest_answer, time_left
from vllm_client.schema import Question, Reply, answer_that_fits, response_format
from vllm_client.tasks import end, finish
from vllm_client.usage import report_usage
from vllm_client.values import VARIABLES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

    import httpx2
    from openai import AsyncOpenAI, AsyncStream

    from vllm_client.balance.policy import BalancePolicy
    from vllm_client.discovery import Discovery
    from vllm_client.schema import Schema

T = TypeVar("T")

logger = logging.getLogger(__name__)

BATCH_CONCURRENCY = 16
CONNECTION_SETTINGS = frozenset({"base_url", "engines", "discovery", "balance", "max_retries", "ca_file"})
"""What needs new connections when it changes."""


class VLLMClient(Closing):
    """Asks one model for answers; built on the OpenAI client.

    Args:
        base_url: Where the model answers; `/v1` is added where it is missing.
        model_name: The served name to ask for.
        api_key: The key to send.
        timeout: Seconds until an answer begins.
        max_retries: Further attempts after a failure that may pass.
        engines: The base URLs of the engines to spread requests over.
        discovery: The DNS name by which engines are found, or a source of your own.
        balance: How requests are spread.
        ca_file: The certificates of the authorities to believe, as PEM; empty: those that this machine believes.
        openai_options: Further options of AsyncOpenAI. With an `http_client` of yours nothing is balanced.

    Attributes:
        config: The settings in use.

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
        *,
        engines: Sequence[str] = (),
        discovery: str | Discovery = "",
        balance: BalancePolicy | None = None,
        ca_file: str = "",
        **openai_options: Any,
    ) -> None:
        given: dict[str, Any] = {"balance": balance} if balance else {}
        self.config = ClientConfig(
            base_url=base_url,
            model_name=model_name,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            engines=tuple(engines),
            discovery=discovery if isinstance(discovery, str) else "",
            ca_file=ca_file,
            **given,
        )
        self._source = None if isinstance(discovery, str) else discovery
        self._options = openai_options
        self._home = Home()
        self._openai = open_client(self.config, openai_options, self._source)
        self._retired: list[AsyncOpenAI] = []
        self._closed = False

    @property
    def openai(self) -> AsyncOpenAI:
        """The OpenAI client underneath, for everything that is not here: tools, log probabilities, audio.

        It belongs to the event loop that asks first. Where that loop is closed, or this is a process that was forked
        since, another one takes its place, with connections of its own.

        Raises:
            WrongEventLoop: It belongs to a loop that may still use it.
        """
        if not self._home.enter():
            self._retired.clear()
            self._closed = False
            self._openai = open_client(self.config, self._options, self._source)
        return self._openai

    @staticmethod
    def from_config(config: ClientConfig, **openai_options: Any) -> VLLMClient:
        """A client with these settings."""
        return VLLMClient(
            config.base_url,
            config.model_name,
            config.api_key,
            config.timeout,
            config.max_retries,
            engines=config.engines,
            discovery=config.discovery,
            balance=config.balance,
            ca_file=config.ca_file,
            **openai_options,
        )

    @property
    def base_url(self) -> str:
        """Where the model answers."""
        return self.config.base_url

    @property
    def model_name(self) -> str:
        """The served name that is asked for."""
        return self.config.model_name

    def __repr__(self) -> str:
        """Who is asked; without the key."""
        return f"{type(self).__name__}(base_url={self.base_url!r}, model_name={self.model_name!r})"

    async def complete(
        self, /, prompt: str, *, schema: Schema | None = None, reask: bool = False, **kwargs: Any
    ) -> str:
        """The model's answer to one user message, without white space around it.

        Args:
            prompt: The message.
            schema: A pydantic model, a dataclass or a JSON schema; the answer is then JSON that fits it.
            reask: Whether the model is asked once more where its answer does not fit the schema; `parse` does that.
            kwargs: Arguments of the chat completion, those among them that only vLLM knows: `top_k`, `min_p`,
                `repetition_penalty`, `chat_template_kwargs` and the rest of its ChatCompletionRequest.

        Raises:
            VLLMError: The error says which kind, where, and what to do.
            ValueError: `stream` or more than one answer was asked for.
        """
        return await self.chat([{"role": "user", "content": prompt}], schema=schema, reask=reask, **kwargs)

    async def chat(
        self,
        /,
        messages: Iterable[Mapping[str, Any]],
        *,
        schema: Schema | None = None,
        reask: bool = False,
        **kwargs: Any,
    ) -> str:
        """The model's answer to a conversation; as `complete`."""
        if schema is not None:
            return (await self._fitting(messages, schema, kwargs, reask=reask))[0]
        answer, _ = await self._answered(_for_one(self._chat(messages, kwargs)))
        return answer.text.strip()

    async def parse(self, /, prompt: str | Iterable[Mapping[str, Any]], schema: type[T], **kwargs: Any) -> T:
        """The answer to a message or a conversation as an instance of a class.

            product = await llm.parse("Red cotton shirt, size M", Product)

        The engine is made to answer by the JSON schema of the class. Where the answer does not fit all the same, the
        model is asked once more, with its answer and what is wrong in it, as long as the request's `timeout` lasts. An
        answer that is cut off is not asked for again.

        Args:
            prompt: The message, or the conversation.
            schema: A pydantic model or a dataclass, and whatever else a pydantic.TypeAdapter takes.
            kwargs: As for `complete`.

        Raises:
            InvalidAnswer: Neither answer fits. The error has both, and says where and why they do not.
            VLLMError: As `complete`.
        """
        value: T = (await self._fitting(_conversation(prompt), schema, kwargs, reask=True))[1]
        return value

    async def completion(self, /, prompt: str | Iterable[Mapping[str, Any]], **kwargs: Any) -> Completion:
        """All that the model answers to a message or a conversation: several answers, why each ends, tokens.

            found = await llm.completion("Name a colour", n=3, logprobs=True, top_logprobs=2)
            print([choice.text for choice in found.choices], found.usage, found.engine)

        Args:
            prompt: The message, or the conversation.
            kwargs: As for `complete`.

        Raises:
            VLLMError: As `complete`; also where one of several answers was given up, or has not come.
            ValueError: `stream` was asked for.
        """
        return await self._completion(self._chat(_conversation(prompt), kwargs))

    async def text_completion(self, /, prompt: str, **kwargs: Any) -> Completion:
        """What the model writes after a text, without a chat template: /v1/completions; as `completion`.

        Args:
            prompt: The text.
            kwargs: Arguments of the completion, those included that only vLLM knows. `logprobs` is a number here.

        Raises:
            VLLMError: As `complete`.
            ValueError: `stream` was asked for.
        """
        return await self._completion(self._request(TEXT, {**kwargs, "prompt": prompt}))

    def stream(self, /, prompt: str | Iterable[Mapping[str, Any]], **kwargs: Any) -> TextStream:
        """The answer's text to a message or a conversation, piece by piece, as the engine makes it.

        What comes back is an asynchronous iterator; after its end, `.completion` of it is the whole answer with usage
        and finish_reason. While it goes on, these are raised:

        Raises:
            VLLMError: As `complete`; also in the middle of the answer, where it is too late to ask another engine.
            ValueError: More than one answer was asked for.
        """
        ended: list[Completion] = []
        return TextStream(self._streamed(prompt, kwargs, ended), ended)

    async def embed(self, /, texts: str | Sequence[str], **kwargs: Any) -> list[list[float]]:
        """A vector for each text, in their order; the model has to be one that embeds.

        Raises:
            VLLMError: As `complete`.
        """
        wanted = [texts] if isinstance(texts, str) else list(texts)
        arguments = {"model": self.config.model_name, "encoding_format": "float", **kwargs, "input": wanted}
        asked = request(VECTORS, arguments)
        try:
            response = await ask(self._opened(), asked)
        except Exception as error:
            raise self._translated(error, asked) from error
        return vectors_of(content_of(response.content), len(wanted), self.config)

    async def generate_batch(
        self, /, prompts: Iterable[str], *, concurrency: int = BATCH_CONCURRENCY, **kwargs: Any
    ) -> list[str]:
        """An answer for each prompt, in their order, `concurrency` at a time; `run_batch` does more for long batches.

        Raises:
            VLLMError: That of the first prompt that failed; the others are cancelled.
            ValueError: `concurrency` is less than 1.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}: it has to be at least 1")
        todo = list(enumerate(prompts))
        answers = [""] * len(todo)
        waiting = iter(todo)

        async def work() -> None:
            for at, prompt in waiting:
                answers[at] = await self.complete(prompt, **kwargs)

        workers = [asyncio.create_task(work()) for _ in range(min(concurrency, len(todo)))]
        try:
            await asyncio.gather(*workers)
        finally:
            await end(*workers)
        return answers

    async def get_model_info(self) -> dict[str, Any]:
        """What the engine says of the model: id, object, created, owned_by and more; `error` if it says nothing."""
        name = self.config.model_name
        try:  # of the list, because vLLM answers for no single model
            response = await ask_for_models(self._opened())
            served = models_of(content_of(response.content), self.config)
        except Exception as error:
            problem = self._translated(error)
            if not isinstance(problem, VLLMError):
                raise
            return unknown_model(name, str(problem))
        if name not in served:
            return unknown_model(name, f"{self.config.base_url} does not serve {name}, but {', '.join(served)}")
        return served[name]

    async def health_check(self) -> bool:
        """Whether the model does its work: /health of vLLM answers also while the engine is hung."""
        try:
            await prove(self)
        except VLLMError as error:
            logger.warning("the health check failed: %s", error)
            return False
        return True

    def update_config(self, **changes: Any) -> None:
        """Change settings, named as in `ClientConfig`. Requests that are under way end as they began.

        Raises:
            ConfigurationError: A value is wrong.
            TypeError: There is no such setting.
        """
        self.config = replace(self.config, **changes)
        if CONNECTION_SETTINGS & set(changes):
            self._retired.append(self.openai)
            self._openai = open_client(self.config, self._options, self._source)
        else:
            self._openai = self.openai.with_options(api_key=self.config.api_key, timeout=self.config.timeout)

    async def close(self) -> None:
        """Close the connections. Calls that wait for an answer end with ClientClosed, and so do later ones.

        Closing twice is closing once. Where closing is cancelled, it is done all the same.
        """
        if self._home.is_gone():
            return  # with the loop, or in the process that it was forked from
        self._home.enter()
        self._closed = True
        await finish(self._close_connections())

    async def _close_connections(self) -> None:
        """Close those of every OpenAI client that there was, also where one of them fails."""
        async with AsyncExitStack() as stack:
            for client in [self._openai, *self._retired]:
                stack.push_async_callback(client.close)

    def _opened(self) -> AsyncOpenAI:
        """The OpenAI client underneath, to ask through.

        Raises:
            ClientClosed: This was closed.
            WrongEventLoop: It belongs to another loop.
        """
        client = self.openai
        if self._closed:
            raise self._client_closed()
        return client

    def _client_closed(self) -> ClientClosed:
        return ClientClosed("the client is closed", endpoint=self.base_url, advice="Make a new one, or close it later")

    def _translated(self, error: Exception, asked: Request | None = None, *, begun: bool = False) -> Exception:
        """The error to raise; whatever a closed client's connections say, it is because they were closed."""
        seconds = self.config.timeout if asked is None else asked.wait_seconds(self.config.timeout)
        return self._client_closed() if self._closed else translated(error, self.config, seconds, begun=begun)

    async def _fitting(
        self, messages: Iterable[Mapping[str, Any]], schema: Schema, kwargs: Mapping[str, Any], *, reask: bool
    ) -> tuple[str, Any]:
        """An answer that fits a schema, and what it holds; a second question has what is left of the time."""
        conversation = list(messages)
        began, limit = time.monotonic(), kwargs.get("timeout", self.config.timeout)
        given = {**kwargs, "response_format": response_format(schema)}

        async def reply(added: Sequence[Mapping[str, str]]) -> Reply:
            timeout = {"timeout": time_left(limit, time.monotonic() - began)} if added else {}
            answer, _ = await self._answered(self._chat([*conversation, *added], {**given, **timeout}))
            used = answer.usage.completion_tokens if answer.usage else None
            return Reply(answer.text.strip(), answer.finish_reason, used)

        longest = longest_answer(_for_one(self._chat((), given)).body)
        question = Question(self.config.model_name, self.config.base_url, longest)
        return await answer_that_fits(reply, schema, question, reask=reask)

    async def _completion(self, asked: Request) -> Completion:
        """Whole answers, and the engine that gave them."""
        answer, response = await self._answered(asked)
        return answer.completion(self._engine_of(response))

    async def _answered(self, asked: Request) -> tuple[Answer, httpx2.Response]:
        """A whole answer and its response, asked for again where the engine gives it up."""
        _refuse_stream(asked)
        call = Call()
        while True:
            answer = Answer(self.config, answers_wanted(asked.body))
            try:
                with part_of(call):
                    response = await ask(self._opened(), asked)
                answer.take(content_of(response.content))
                answer.end()
            except IncompleteAnswer:
                if not self._may_compute_once_more(call):
                    raise
            except VLLMError:
                raise
            except Exception as error:
                raise self._translated(error, asked) from error
            else:
                return answer, response
            finally:
                report_usage(answer.usage)

    async def _streamed(
        self, prompt: str | Iterable[Mapping[str, Any]], kwargs: Mapping[str, Any], ended: list[Completion]
    ) -> AsyncGenerator[str, None]:
        """The pieces of an answer, asked for again where the engine gives it up before the first one."""
        asked = _for_one(self._chat(_conversation(prompt), {"stream_options": {"include_usage": True}, **kwargs}))
        begun, call = False, Call()
        while True:
            try:
                async with aclosing(self._pieces(asked, call, ended)) as pieces:
                    async for text in pieces:
                        begun = True
                        yield text
            except IncompleteAnswer:
                if begun or not self._may_compute_once_more(call):
                    raise
            else:
                return

    async def _pieces(self, asked: Request, call: Call, ended: list[Completion]) -> AsyncGenerator[str, None]:
        """The text of an answer, as it comes."""
        answer, begun = Answer(self.config), False
        seconds = asked.wait_seconds(self.config.timeout)
        try:
            async with await self._stream_of(asked, call) as chunks:
                begun = True
                while (part := await next_part(chunks, seconds)) is not END:
                    if text := answer.take(part):
                        yield text
            answer.end()
            ended.append(answer.completion(self._engine_of(chunks.response)))
        except VLLMError:
            raise
        except Exception as error:
            raise self._translated(error, asked, begun=begun) from error
        finally:
            report_usage(answer.usage)

    async def _stream_of(self, asked: Request, call: Call) -> AsyncStream[object]:
        """The chunks of an answer, asked for as a part of that call."""
        with part_of(call):
            return await ask_for_stream(self._opened(), asked)

    def _engine_of(self, response: httpx2.Response) -> str:
        """The base URL of the engine that has answered."""
        return str(response.extensions.get(ENGINE) or self.config.base_url)

    def _may_compute_once_more(self, call: Call) -> bool:
        """Whether a prompt whose answer the engine has given up may be computed again."""
        call.computed += 1
        return call.computed <= min(self.config.max_retries, MOST_COMPUTATIONS - 1)

    def _chat(self, messages: Iterable[Mapping[str, Any]], kwargs: Mapping[str, Any]) -> Request:
        """The request for the answer to a conversation."""
        return self._request(CHAT, {**kwargs, "messages": list(messages)})

    def _request(self, path: str, arguments: Mapping[str, Any]) -> Request:
        """The request for a completion."""
        return request(path, {"model": self.config.model_name, **DEFAULTS, **arguments})


class VLLMLocalClient(VLLMClient):
    """A model on this machine, or on one whose port you know."""

    def __init__(self, model_name: str, port: int = 8000, host: str = "localhost", **kwargs: Any) -> None:
        super().__init__(f"http://{host}:{port}", model_name, **kwargs)


class VLLMCloudClient(VLLMClient):
    """A model behind a network; the key comes from VLLM_API_KEY where none is given."""

    def __init__(
        self,
        base_url: str,
        model_name: str,
        api_key: str | None = None,
        timeout: float = CLOUD_LIMITS[0],
        max_retries: int = CLOUD_LIMITS[1],
        **kwargs: Any,
    ) -> None:
        key = api_key or os.environ.get(VARIABLES["api_key"]) or DEFAULT_API_KEY
        super().__init__(base_url, model_name, key, timeout, max_retries, **kwargs)


def _conversation(prompt: str | Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _refuse_stream(asked: Request) -> None:
    if asked.body.get("stream"):
        raise ValueError("this returns a whole answer: use stream() for text, or .openai for streams of chunks")


def _for_one(asked: Request) -> Request:
    """The request, which asks for one answer, since one text is returned."""
    if (wanted := answers_wanted(asked.body)) > 1:
        raise ValueError(f"n={wanted}, and this returns one text: use completion() for several answers")
    return asked


def unknown_model(name: str, problem: str) -> dict[str, Any]:
    """What stands for a model's card where there is none."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "unknown", "error": problem}


def translated(error: Exception, config: ClientConfig, seconds: float | None, *, begun: bool = False) -> Exception:
    """The error of this library for one of the OpenAI client; any other error as it is. See `translate`."""
    from vllm_client.translate import translate  # noqa: PLC0415 - it imports the OpenAI client

    return translate(error, config, seconds, begun=begun)
