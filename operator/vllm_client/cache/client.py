"""The client that remembers."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from vllm_client.cache.flight import SingleFlight
from vllm_client.cache.forms import COMPLETION_FORM, Form, text_form
from vllm_client.cache.key import is_deterministic, request_key
from vllm_client.cache.store import MAX_ENTRIES, TTL_SECONDS, AnswerStore, MemoryStore
from vllm_client.closing import close
from vllm_client.errors import ConfigurationError, StoreFailed
from vllm_client.wrapper import ClientWrapper, Conversation, completion_of, held, target_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from vllm_client.completion import Completion
    from vllm_client.protocol import LLMClient

T = TypeVar("T")

logger = logging.getLogger("vllm_client")


@dataclass
class CacheStatistics:
    """What became of the requests.

    Attributes:
        hits: Answered from the store.
        misses: Asked, and remembered if an answer came.
        joined: Waited for an equal request that was under way.
        bypassed: Asked without a look at the store: not deterministic, or with arguments that have no one text.
        store_failures: Reads and writes that the store failed; each is logged.
    """

    hits: int = 0
    misses: int = 0
    joined: int = 0
    bypassed: int = 0
    store_failures: int = 0


class CachedClient(ClientWrapper):
    """Remembers answers, and asks only once what several ask at the same time.

    The key is the SHA-256 of the model, the prompt and every argument. Two requests never share an answer because they
    look alike: what cannot be told apart for sure (an argument that is not JSON and no pydantic class) is asked.

    Which requests are remembered: those that ask for one answer, by `temperature=0` or a `seed`. Nothing less will do:
    the client's own default is temperature 0.1, and who sends the same prompt twice may want two answers. Not even
    these are the same each time on vLLM: a served engine promises that only with VLLM_BATCH_INVARIANT=1, on the same
    hardware and version, since the numbers depend on what else is in the batch. What is remembered is one of the
    answers that the engine gives, and repeating it is what such a request asks for.

    An error is not remembered; it reaches all who wait for that answer. One who is cancelled leaves the others
    waiting; with the last one the request is cancelled.

    Args:
        llm: The client to ask; closed with this one.
        max_entries: How many answers the store in memory keeps (1024).
        ttl_seconds: How long it keeps each (3600).
        store: Another store; it has bounds of its own, and is closed with this client.
        only_deterministic: False: remember every answer.
        model_name: What answers, for clients without a `config.model_name`.
        revision: Which model the name stands for. With it, keys hold no URL: a store can be shared by all who reach
            this model. Without it, a model under another base URL counts as another one.

    Attributes:
        statistics: What became of the requests.

    Raises:
        ConfigurationError: Bounds are given beside a store, or nobody says which model answers.
        ValueError: A bound is not positive.
    """

    def __init__(
        self,
        llm: LLMClient,
        *,
        max_entries: int | None = None,
        ttl_seconds: float | None = None,
        store: AnswerStore | None = None,
        only_deterministic: bool = True,
        model_name: str = "",
        revision: str = "",
    ) -> None:
        super().__init__(llm)
        if store is not None and (max_entries is not None or ttl_seconds is not None):
            advice = "Give max_entries and ttl_seconds to the store"
            raise ConfigurationError("a given store has bounds of its own", variable="store", advice=advice)
        self._store = memory_store(max_entries, ttl_seconds) if store is None else store
        self._only_deterministic = only_deterministic
        self._model_name = model_name
        self._revision = revision
        self._flights: SingleFlight[Any] = SingleFlight()
        self.statistics = CacheStatistics()
        self._model()

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The answer of the client inside, asked or remembered.

        Raises:
            Exception: What the client inside raises.
        """
        form = text_form(kwargs.get("schema"))
        return await self._answer(prompt, kwargs, lambda: self.llm.complete(prompt, **kwargs), form)

    async def completion(self, /, prompt: Conversation, **kwargs: Any) -> Completion:
        """All that the client inside says, asked or remembered with all its answers; `.cached` tells which.

        Raises:
            ConfigurationError: The client inside has no `completion`.
            Exception: What the client inside raises.
        """
        conversation = held(prompt)
        asked = ["completion", conversation]
        return await self._answer(asked, kwargs, lambda: completion_of(self.llm, conversation, kwargs), COMPLETION_FORM)

    async def close(self) -> None:
        """Close the client inside and the store."""
        try:
            await super().close()
        finally:
            await close(self._store)

    async def _answer(
        self, prompt: object, arguments: Mapping[str, Any], ask: Callable[[], Awaitable[T]], form: Form[T]
    ) -> T:
        """The answer to what is asked with these arguments; it is kept in that form."""
        key = None
        if not self._only_deterministic or is_deterministic(arguments):
            key = request_key(self._model(), prompt, arguments)
        if key is None:
            self.statistics.bypassed += 1
            return await ask()
        self.statistics.joined += self._flights.has(key)
        found: T = await self._flights.run(key, lambda: self._remembered_or_asked(key, ask, form))
        return found

    async def _remembered_or_asked(self, key: str, ask: Callable[[], Awaitable[T]], form: Form[T]) -> T:
        """The answer; only one call per key is under way."""
        kept = await self._recall(key)
        found = None if kept is None else form.read(kept)
        if found is not None:
            self.statistics.hits += 1
            return found
        self.statistics.misses += 1
        answer = await ask()
        await self._remember(key, form.write(answer))
        return answer

    async def _recall(self, key: str) -> str | None:
        """The answer in the store; none if the store fails: a cache out of order must not fail what can be asked."""
        try:
            return await self._store.get(key)
        except StoreFailed as error:
            self._note(error)
            return None

    async def _remember(self, key: str, answer: str) -> None:
        """Put the answer into the store; if that fails, it is still an answer."""
        try:
            await self._store.put(key, answer)
        except StoreFailed as error:
            self._note(error)

    def _note(self, error: StoreFailed) -> None:
        """Count and tell a failure of the store."""
        self.statistics.store_failures += 1
        logger.warning("answered without the cache: %s", error)

    def _model(self) -> tuple[str, str, str]:
        """What distinguishes the model, as far as it is known.

        Raises:
            ConfigurationError: Its name is not known.
        """
        target = target_of(self.llm)
        name = target.model_name or self._model_name
        if not name:
            advice = "Give CachedClient a model_name: answers of different models must not be mixed up"
            raise ConfigurationError(f"{type(self.llm).__name__} names no model", variable="model_name", advice=advice)
        return (name, "revision", self._revision) if self._revision else (name, "endpoint", target.endpoint)


def memory_store(max_entries: int | None, ttl_seconds: float | None) -> MemoryStore:
    """The store where none is given."""
    return MemoryStore(
        max_entries=MAX_ENTRIES if max_entries is None else max_entries,
        ttl_seconds=TTL_SECONDS if ttl_seconds is None else ttl_seconds,
    )
