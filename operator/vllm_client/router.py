"""Choose a model by what a request needs, and go on with the next one where it has no engine.

    router = ModelRouter.from_catalog()
    entry = router.best(language="zh-TW", complexity="complex")
    async with router.client(task="extraction") as llm:
        print(await llm.complete("..."))

`vllm_client.selection` says which model is the best, `vllm_client.sources` where the catalogue comes from.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack

from vllm_client.client import VLLMClient
from vllm_client.closing import Closing
from vllm_client.config import LOCAL_LIMITS
from vllm_client.errors import ContextLengthExceeded, NoModel, NotReachable, NotReady, TimedOut, VLLMError
from vllm_client.selection import Need, Needs, ranked
from vllm_client.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from vllm_client.catalog import Catalog, CatalogEntry
    from vllm_client.completion import Completion
    from vllm_client.sources import CatalogSource

T = TypeVar("T")

KEY_VARIABLE = "VLLM_API_KEY"
CA_VARIABLE = "VLLM_CA_FILE"
FALLS_BACK: Final[Mapping[type[VLLMError], bool]] = {
    NotReachable: True,
    NotReady: True,
    TimedOut: False,
    ContextLengthExceeded: False,
}
"""The errors of one model after which the next one is asked, and whether they set the model aside for other requests.

Nobody is there: that is so for all requests. One that took too long may only be long itself, and a model that hangs
loses its engines by their gates, so that it is not set aside for it. A context that is too short is so for this
request, and only a model with a longer one is asked then.

After no other error: what the engine refuses, another one would refuse too (RefusedInput, Unauthorized,
ModelNotFound); what two engines have failed to compute may be what makes them fail (EngineFailed, IncompleteAnswer); a
load that is too much for one model would be too much for the next one, and for those that ask that (Overloaded); and
what a model answers is its answer (InvalidAnswer, EmptyAnswer)."""
TIMEOUTS_IN_ALL: Final = 2
"""How many timeouts of one model a request may take over all of them, unless `deadline_seconds` says it."""
SET_ASIDE_SECONDS = 10.0
"""How long a model that did not answer is asked after the others; the catalogue may be behind the truth."""
ROUTED_RETRIES = 1
"""Further attempts with a model before the next one is asked: waiting longer would cost more than changing over."""
READ_AGAIN_SECONDS = 1.0
"""How long a routed client goes by what it has read, so that a request costs no look at the catalogue."""
_MOST_NAMED = 20


class ModelRouter:
    """Chooses among the models of a catalogue. Any thread may use it.

    Args:
        source: Where the catalogue is read; it is asked before each choice.
        api_keys: The API key of each model, by name; VLLM_API_KEY goes to all others that ask for one.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        source: CatalogSource,
        *,
        api_keys: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._api_keys = dict(api_keys or {})
        self.clock = clock
        self._set_aside_until: dict[str, float] = {}

    @classmethod
    def from_catalog(
        cls,
        source: CatalogSource | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        api_keys: Mapping[str, str] | None = None,
    ) -> Self:
        """A router over a mounted file, the content of one, or whatever `vllm_client.sources` finds by itself.

        Raises:
            VLLMError: There is no catalogue; the message says where it was looked for.
        """
        router = cls(open_source(source), api_keys=api_keys)
        router.catalog()
        return router

    def catalog(self) -> Catalog:
        """The catalogue as it is now, without what this router knows beyond it.

        Raises:
            VLLMError: It cannot be read, and never could.
        """
        return self._source.read()

    def best(self, **need: Unpack[Needs]) -> CatalogEntry:
        """The model that suits best; one that is not ready only where none that is ready can be chosen.

        Takes the fields of `Need` by name: language, complexity, task, labels, adapter, runner, exclude.

        Raises:
            NoModel: There is none; the message names what was asked for and what there is.
            ConfigurationError: There is no such complexity.
        """
        return self.ranked(**need)[0]

    def ranked(self, **need: Unpack[Needs]) -> tuple[CatalogEntry, ...]:
        """Every model that can be chosen, the best first; arguments and errors are those of `best`."""
        return self.in_order(self.suiting(Need(**need)))

    def client(
        self,
        client_options: Mapping[str, Any] | None = None,
        *,
        deadline_seconds: float | None = None,
        **need: Unpack[Needs],
    ) -> RoutedClient:
        """A client that asks the best model, and the next one where that has no engine, or takes too long.

        Args:
            client_options: Go to each `VLLMClient`, such as `timeout`, which is what one model may take, and
                `max_retries` (ROUTED_RETRIES unless given).
            deadline_seconds: What a request may take over all models; twice the `timeout` unless given.
            need: The arguments of `best`.

        Raises:
            ConfigurationError: There is no such complexity.
        """
        return RoutedClient(self, Need(**need), client_options or {}, deadline_seconds)

    def suiting(self, need: Need) -> tuple[CatalogEntry, ...]:
        """The models that suit, the best first, as far as the catalogue knows. Reads it, which may block.

        Raises:
            NoModel: There is none.
        """
        catalog = self.catalog()
        found = ranked(catalog.models, need)
        if not found:
            raise _no_model(need, catalog)
        return found

    def in_order(self, models: tuple[CatalogEntry, ...]) -> tuple[CatalogEntry, ...]:
        """Ranked models with those set aside behind the others that are ready."""
        now = self.clock()
        aside = {name for name, until in self._set_aside_until.copy().items() if now < until}
        if not aside:
            return models
        return tuple(sorted(models, key=lambda model: (not model.ready, model.name in aside)))

    def set_aside(self, name: str) -> None:
        """Have a model asked after the others for a while: it was asked, and no engine of it answered."""
        self._set_aside_until[name] = self.clock() + SET_ASIDE_SECONDS

    def api_key(self, entry: CatalogEntry) -> str | None:
        """The key to send to a model; None where it asks for none, or none is known."""
        shared = os.environ.get(KEY_VARIABLE) if entry.key_secret else None
        return self._api_keys.get(entry.name) or shared or None


class RoutedClient(Closing):
    """Asks the model that suits a need best at the time of each request. It satisfies `LLMClient`.

    FALLS_BACK says because of which errors it changes over to the next model; any other one is raised as it is.
    """

    def __init__(
        self,
        router: ModelRouter,
        need: Need,
        client_options: Mapping[str, Any],
        deadline_seconds: float | None = None,
    ) -> None:
        self._router = router
        self._need = need
        authorities = os.environ.get(CA_VARIABLE) or ""
        self._options = {"max_retries": ROUTED_RETRIES, "ca_file": authorities, **client_options}
        self._deadline_seconds = deadline_seconds
        self._clients: dict[tuple[str, str], VLLMClient] = {}
        self._suiting: tuple[CatalogEntry, ...] = ()
        self._read_again_at = -math.inf

    async def complete(self, prompt: str, **kwargs: Any) -> str:
        """The answer of the best model that gives one; arguments and errors are those of `VLLMClient.complete`.

        Raises:
            NoModel: No model suits.
            NotReady: No model that suits has an engine; the message names each and what it answered.
            TimedOut: No model has answered in time; likewise.
            VLLMError: The model that was asked failed in another way.
        """
        return await self._first_answer(lambda client: client.complete(prompt, **kwargs), self._timeout(kwargs))

    async def parse(self, /, prompt: str | Iterable[Mapping[str, Any]], schema: type[T], **kwargs: Any) -> T:
        """As `VLLMClient.parse`, of the best model that gives an answer; errors also as `complete`."""
        return await self._first_answer(lambda client: client.parse(prompt, schema, **kwargs), self._timeout(kwargs))

    async def completion(self, /, prompt: str | Iterable[Mapping[str, Any]], **kwargs: Any) -> Completion:
        """As `VLLMClient.completion`, of the best model that gives an answer; errors also as `complete`."""
        return await self._first_answer(lambda client: client.completion(prompt, **kwargs), self._timeout(kwargs))

    async def using(self, work: Callable[[VLLMClient], Awaitable[T]]) -> T:
        """Do anything with the client of the best model that has an engine. `work` is called once for each one tried.

        It may take as long as it takes: only whether another model is tried depends on the deadline.

        Raises:
            VLLMError: As `complete`.
        """
        return await self._first_answer(work, None)

    async def _first_answer(self, work: Callable[[VLLMClient], Awaitable[T]], timeout_seconds: float | None) -> T:
        """What the first model brings that does not fall back.

        Args:
            work: What is done with the client of each model.
            timeout_seconds: What each model may take for it, as long as the deadline lasts; None: whatever it takes.
        """
        waiting, failures = await self._models(), dict[str, VLLMError]()
        left = self._deadline(self._timeout({}) if timeout_seconds is None else timeout_seconds)
        deadline = self._router.clock() + left
        while waiting and left > 0:
            model, rest = waiting[0], waiting[1:]
            seconds = math.inf if timeout_seconds is None else min(timeout_seconds, left)
            try:
                return await _bounded(seconds, work, self._client_of(model))
            except tuple(FALLS_BACK) as failure:
                if _sets_aside(failure):
                    self._router.set_aside(model.name)
                failures[model.name] = failure
                waiting = _worth_asking(rest, model, failure)
            left = deadline - self._router.clock()
        raise _all_failed(self._need, failures, waiting) from list(failures.values())[-1]

    def _timeout(self, kwargs: Mapping[str, Any]) -> float:
        """What one model may take for a request, in seconds."""
        given = kwargs.get("timeout", self._options.get("timeout", LOCAL_LIMITS[0]))
        return float(given) if isinstance(given, int | float) else math.inf

    def _deadline(self, timeout_seconds: float) -> float:
        """What all models may take for a request for which each may take so long, in seconds."""
        return TIMEOUTS_IN_ALL * timeout_seconds if self._deadline_seconds is None else self._deadline_seconds

    async def close(self) -> None:
        """Close the connections to all models."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.close()

    async def _models(self) -> tuple[CatalogEntry, ...]:
        """What to ask, in this order. The catalogue is read in a thread, since that may ask the network, and seldom."""
        now = self._router.clock()
        if now >= self._read_again_at:
            self._suiting = await asyncio.to_thread(self._router.suiting, self._need)
            self._read_again_at = now + READ_AGAIN_SECONDS
        return self._router.in_order(self._suiting)

    def _client_of(self, model: CatalogEntry) -> VLLMClient:
        """One client for each model, and so one set of connections; it finds the single engines by itself."""
        asked_as = (model.base_url, self._need.adapter or model.model_name)
        if asked_as not in self._clients:
            key = self._router.api_key(model)
            options = {"discovery": model.discovery, **self._options, **({"api_key": key} if key else {})}
            self._clients[asked_as] = VLLMClient(*asked_as, **options)
        return self._clients[asked_as]


class BestModel(RoutedClient):
    """The model that suits best, ready to be asked; where it has lost its engines, the next one answers.

    Attributes:
        entry: The model of the catalogue.
    """

    def __init__(
        self,
        router: ModelRouter,
        need: Need,
        client_options: Mapping[str, Any],
        deadline_seconds: float | None = None,
    ) -> None:
        super().__init__(router, need, client_options, deadline_seconds)
        self.entry = router.in_order(router.suiting(need))[0]

    @property
    def name(self) -> str:
        """Name of the model in the catalogue."""
        return self.entry.name

    @property
    def model_name(self) -> str:
        """The served name that is asked for: the adapter's where one is needed."""
        return self._need.adapter or self.entry.model_name

    @property
    def base_url(self) -> str:
        """Where the model answers."""
        return self.entry.base_url


def get_best_model(
    language: str | None = None,
    complexity: str | None = None,
    *,
    source: CatalogSource | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    client_options: Mapping[str, Any] | None = None,
    deadline_seconds: float | None = None,
) -> BestModel:
    """The model that suits a language and a complexity best, ready to be asked; options as of `ModelRouter.client`.

        print(await get_best_model("zh-TW", "high").complete("..."))

    Raises:
        NoModel: There is none.
        VLLMError: There is no catalogue.
    """
    need = Need(language=language, complexity=complexity)
    return BestModel(ModelRouter.from_catalog(source), need, client_options or {}, deadline_seconds)


def _no_model(need: Need, catalog: Catalog) -> NoModel:
    named = "; ".join(_told(model) for model in catalog.models[:_MOST_NAMED])
    more = len(catalog.models) - _MOST_NAMED
    there = f"there are {named}{f'; and {more} more' if more > 0 else ''}" if named else "there are none"
    return NoModel(
        f"no model of namespace {catalog.namespace} is for {need}: {there}",
        advice="Ask for less, or set spec.catalog of a VLLMModel: kubectl explain vllmmodel.spec.catalog",
    )


def _told(model: CatalogEntry) -> str:
    """What a model is for, in a few words."""
    labels = [f"{key}={value}" for key, value in model.labels.items()]
    said = {"languages": model.languages, "complexity": model.complexity, "tasks": model.tasks, "labels": labels}
    words = [f"{name} {', '.join(found)}" for name, found in said.items() if found]
    return f"{model.name} ({'; '.join([model.runner, *words])})"


async def _bounded(seconds: float, work: Callable[[VLLMClient], Awaitable[T]], client: VLLMClient) -> T:
    """What a model brings within that time.

    Raises:
        TimedOut: It has brought nothing.
    """
    bound = asyncio.timeout(None if seconds == math.inf else seconds)
    try:
        async with bound:
            return await work(client)
    except TimeoutError as error:
        if isinstance(error, VLLMError) or not bound.expired():
            raise
        raise TimedOut(
            f"no answer within {seconds:.3g} s",
            endpoint=client.base_url,
            advice="Raise the timeout or the deadline, or ask for fewer tokens; look at the engine: kubectl get vllm",
        ) from error


def _sets_aside(failure: VLLMError) -> bool:
    """Whether other requests should ask this model last for a while."""
    return any(aside for kind, aside in FALLS_BACK.items() if isinstance(failure, kind))


def _worth_asking(rest: tuple[CatalogEntry, ...], model: CatalogEntry, failure: VLLMError) -> tuple[CatalogEntry, ...]:
    """Those of the other models that may answer where one has failed."""
    if not isinstance(failure, ContextLengthExceeded) or model.context_length is None:
        return rest
    return tuple(other for other in rest if other.context_length is None or other.context_length > model.context_length)


def _all_failed(need: Need, failures: Mapping[str, VLLMError], not_asked: Sequence[CatalogEntry]) -> VLLMError:
    """The error where no model has answered: of the kind that says most of what trying again would bring."""
    kinds = [type(failure) for failure in failures.values()]
    last = list(failures.values())[-1]
    if all(kind is ContextLengthExceeded for kind in kinds) or (kinds == [TimedOut] and not not_asked):
        return last
    answers = "; ".join(f"{name}: {failure}" for name, failure in failures.items())
    later = f"; not asked, since the time was over: {', '.join(model.name for model in not_asked)}" if not_asked else ""
    if TimedOut in kinds:
        problem = f"none of {len(failures)} models that suit {need} has answered in time: {answers}{later}"
        return TimedOut(
            problem, advice="Raise timeout or deadline_seconds, or look at the models: kubectl get vllmmodels"
        )
    problem = f"none of the {len(failures)} models that suit {need} has an engine: {answers}{later}"
    return NotReady(problem, advice="Look at the models: kubectl get vllmmodels")
