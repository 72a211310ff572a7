"""The router over real (stub) engines: the best model answers, and the next one where it has no engine."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.servers import EngineServer, free_port, stub_server
from tests.unit.client.conftest import KEY
from vllm_client import (
    ConfigurationError,
    ContextLengthExceeded,
    EngineFailed,
    LLMClient,
    ModelRouter,
    NoModel,
    NotReachable,
    NotReady,
    Overloaded,
    RefusedInput,
    RoutedClient,
    TimedOut,
    Unauthorized,
    VLLMClient,
    VLLMError,
    get_best_model,
)
from vllm_client.router import READ_AGAIN_SECONDS, SET_ASIDE_SECONDS
from vllm_client.sources import FixedSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = {"max_retries": 0}


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """Another engine, which asks for no key."""
    with stub_server("--served-model-name", "spare", folder=tmp_path_factory.mktemp("spare")) as server:
        yield server


def listing(name: str, url: str, **fields: Any) -> dict[str, Any]:
    """A model of a catalogue, ready."""
    return {"name": name, "served_names": [name], "base_url": f"{url}/v1", "ready": True, **fields}


def content(*models: dict[str, Any]) -> dict[str, Any]:
    """A catalogue."""
    return {"version": 1, "namespace": "team", "models": list(models)}


@pytest.fixture
def both(engine: EngineServer, spare: EngineServer) -> dict[str, Any]:
    """A catalogue of two models: `tiny`, which is preferred and asks for a key, and `spare`."""
    tiny = listing("tiny", engine.url, weight=200, languages=["en"], key_secret="tiny-binding")  # noqa: S106 # a name
    return content(tiny, listing("spare", spare.url))


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds so far."""
        return self.now


async def test_the_best_model_answers(both: dict[str, Any]) -> None:
    router = ModelRouter.from_catalog(both, api_keys={"tiny": KEY})
    async with router.client(language="en") as llm:
        assert isinstance(llm, LLMClient)
        assert await llm.complete("hello", max_tokens=20) == "tiny heard: hello"
    async with router.client(language="de") as llm:
        assert await llm.complete("hallo", max_tokens=20) == "spare heard: hallo"


async def test_an_adapter_is_asked_for_by_its_own_name(
    engine: EngineServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    flags = ("--served-model-name", "base", "--enable-lora", "--lora-modules", "text2sql=org/text2sql")
    with stub_server(*flags, folder=tmp_path_factory.mktemp("adapters")) as server:
        found = content(listing("tiny", engine.url), listing("base", server.url, adapters=["text2sql"]))
        async with ModelRouter.from_catalog(found).client(adapter="text2sql") as llm:
            assert (await llm.completion("hello", max_tokens=20)).model == "text2sql"
        with pytest.raises(NoModel, match="adapter='legal'"):
            ModelRouter.from_catalog(found).best(adapter="legal")


async def test_a_model_that_cannot_be_reached_is_stepped_over(spare: EngineServer) -> None:
    gone = listing("gone", f"http://127.0.0.1:{free_port()}", weight=200)
    router = ModelRouter.from_catalog(content(gone, listing("spare", spare.url)))
    assert router.best().name == "gone"
    async with router.client(SOON) as llm:
        assert await llm.complete("hello") == "spare heard: hello"
    assert router.best().name == "spare"


async def test_a_model_without_a_ready_engine_is_asked_last_for_a_while(
    both: dict[str, Any], engine: EngineServer
) -> None:
    clock, asked = Clock(), []

    async def ask(client: VLLMClient) -> str:
        asked.append(client.config.model_name)
        return await client.complete("hello")

    router = ModelRouter(FixedSource(both), api_keys={"tiny": KEY}, clock=clock)
    engine.faults(fail={"status": 503, "body": "no endpoints"})
    async with router.client(SOON) as llm:
        assert await llm.using(ask) == "spare heard: hello"
        engine.request("DELETE", "/stub/faults")
        clock.now = SET_ASIDE_SECONDS - 0.1
        assert await llm.using(ask) == "spare heard: hello"
        clock.now = SET_ASIDE_SECONDS
        assert await llm.using(ask) == "tiny heard: hello"
    assert asked == ["tiny", "spare", "spare", "tiny"]


async def test_a_model_that_is_set_aside_still_goes_before_one_that_is_not_ready(spare: EngineServer) -> None:
    models = content(listing("spare", spare.url), {**listing("unready", spare.url), "ready": False})
    router = ModelRouter.from_catalog(models)
    router.set_aside("spare")
    assert [model.name for model in router.ranked()] == ["spare", "unready"]


async def test_where_no_model_has_an_engine_each_is_named_with_its_answer() -> None:
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    router = ModelRouter.from_catalog(content(listing("a", urls[0]), listing("b", urls[1])))
    async with router.client(SOON, task="chat") as llm:
        with pytest.raises(NotReady, match="none of the 2 models that suit task='chat'") as caught:
            await llm.complete("hello")
    assert "a: cannot reach the engine" in str(caught.value)
    assert "b: cannot reach the engine" in str(caught.value)
    assert isinstance(caught.value.__cause__, NotReachable)


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ({"fail": {"status": 429, "message": "slow down"}}, Overloaded),
        ({"fail": {"status": 401, "message": "Unauthorized"}}, Unauthorized),
        ({"fail": {"status": 500, "message": "EngineCore failed"}}, EngineFailed),
        ({"fail": {"status": 400, "message": "bad parameter"}}, RefusedInput),
    ],
)
async def test_other_errors_are_raised_and_no_other_model_is_asked(
    both: dict[str, Any], engine: EngineServer, faults: dict[str, Any], error: type[Exception]
) -> None:
    router = ModelRouter.from_catalog(both, api_keys={"tiny": KEY})
    engine.faults(**faults)
    async with router.client(SOON, language="en") as llm:
        with pytest.raises(error):
            await llm.complete("hello")
    assert router.best(language="en").name == "tiny"


async def test_a_model_that_takes_too_long_is_left_for_the_next_one_and_stays_the_best(
    both: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(client: VLLMClient, prompt: str, **_: Any) -> str:
        if client.model_name == "tiny":
            await asyncio.Event().wait()
        return f"{client.model_name} heard: {prompt}"

    for method in ("complete", "completion", "parse"):
        monkeypatch.setattr(VLLMClient, method, answer)
    router = ModelRouter.from_catalog(both, api_keys={"tiny": KEY})
    async with router.client({"timeout": 0.05}, deadline_seconds=600) as llm:
        assert await llm.complete("hello") == "spare heard: hello"
        assert str(await llm.completion("hello")) == "spare heard: hello"
        assert router.best().name == "tiny", "one long answer says nothing of other requests"
    async with router.client({"timeout": 300}, deadline_seconds=600) as llm:
        assert await llm.complete("hello", timeout=0.05) == "spare heard: hello"


async def test_what_the_clients_own_timeout_ends_falls_back_too(both: dict[str, Any]) -> None:
    async def ask(client: VLLMClient) -> str:
        if client.model_name == "tiny":
            raise TimedOut("no answer within 60 s")
        return await client.complete("hello")

    async with ModelRouter.from_catalog(both, api_keys={"tiny": KEY}).client() as llm:
        assert await llm.using(ask) == "spare heard: hello"


async def test_the_deadline_bounds_all_models_together(both: dict[str, Any], engine: EngineServer) -> None:
    router = ModelRouter.from_catalog(both, api_keys={"tiny": KEY})
    engine.faults(hang_engine=True)
    async with router.client({**SOON, "timeout": 60}, deadline_seconds=0.3) as llm:
        with pytest.raises(TimedOut, match=r"none of 1 models.*tiny: no answer.*not asked.*: spare"):
            await llm.complete("hello")
    async with router.client({**SOON, "timeout": 0.3}, exclude=["spare"]) as llm:
        with pytest.raises(TimedOut, match=r"^no answer within 0.3 s"):
            await llm.complete("hello")


async def test_work_of_ones_own_may_take_as_long_as_it_takes(both: dict[str, Any]) -> None:
    done = asyncio.Event()

    async def long_work(client: VLLMClient) -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(done.wait(), 0.05)
        return client.model_name

    router = ModelRouter.from_catalog(both, api_keys={"tiny": KEY})
    async with router.client({"timeout": 0.01}, deadline_seconds=0.01) as llm:
        assert await llm.using(long_work) == "tiny"


async def test_a_caller_that_is_cancelled_asks_no_other_model(both: dict[str, Any], engine: EngineServer) -> None:
    router = ModelRouter.from_catalog(both, api_keys={"tiny": KEY})
    engine.faults(hang_engine=True)
    async with router.client(SOON) as llm:
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(llm.complete("hello"), 0.3)
    assert not isinstance(caught.value, VLLMError)


@pytest.mark.parametrize(
    ("lengths", "asked"),
    [
        ((64, None), ["tiny", "spare"]),
        ((64, 128), ["tiny", "spare"]),
        ((64, 64), ["tiny"]),
        ((None, 1), ["tiny", "spare"]),
    ],
)
async def test_a_prompt_that_is_too_long_goes_to_models_with_a_longer_context(
    both: dict[str, Any], engine: EngineServer, lengths: tuple[int | None, int | None], asked: list[str]
) -> None:
    for model, length in zip(both["models"], lengths, strict=True):
        model.update({"context_length": length} if length else {})
    engine.faults(fail={"status": 400, "message": "This model's maximum context length is 64 tokens. However, ..."})
    seen = []

    async def ask(client: VLLMClient) -> str:
        seen.append(client.model_name)
        return await client.complete("hello")

    router = ModelRouter.from_catalog(both, api_keys={"tiny": KEY})
    async with router.client(SOON) as llm:
        if len(asked) > 1:
            assert await llm.using(ask) == "spare heard: hello"
        else:
            with pytest.raises(ContextLengthExceeded, match="ask a model with a longer context"):
                await llm.using(ask)
    assert seen == asked
    assert router.best().name == "tiny"


async def test_the_key_of_the_environment_goes_only_to_models_that_ask_for_one(
    both: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    router = ModelRouter.from_catalog(both)
    tiny, spare = router.ranked(language="en")
    assert (router.api_key(tiny), router.api_key(spare)) == (KEY, None)
    async with router.client(language="en") as llm:
        assert await llm.complete("hello") == "tiny heard: hello"


async def test_an_update_of_the_catalogue_reaches_a_client_that_is_open(both: dict[str, Any], tmp_path: Path) -> None:
    file, clock = tmp_path / "catalog.json", Clock()
    file.write_text(json.dumps(both), encoding="utf-8")
    router = ModelRouter.from_catalog(file, api_keys={"tiny": KEY})
    router.clock = clock
    async with router.client() as llm:
        assert await llm.complete("hello") == "tiny heard: hello"
        both["models"][0]["ready"] = False
        file.write_text(json.dumps(both), encoding="utf-8")
        clock.now = READ_AGAIN_SECONDS
        assert await llm.complete("hello") == "spare heard: hello"


async def test_one_client_is_kept_for_each_model_and_closed_with_the_others(both: dict[str, Any]) -> None:
    async def itself(client: VLLMClient) -> VLLMClient:
        return client

    llm = ModelRouter.from_catalog(both, api_keys={"tiny": KEY}).client({"timeout": 7.0})
    first, second = await llm.using(itself), await llm.using(itself)
    assert first is second
    assert (first.config.timeout, first.config.max_retries, first.config.api_key) == (7.0, 1, KEY)
    await llm.close()
    assert first.openai.is_closed()


def test_no_model_is_told_with_what_was_asked_for_and_what_there_is() -> None:
    models = content(
        listing("a", "http://a", languages=["en", "de"], complexity=["simple"], labels={"tier": "gold"}),
        listing("b", "http://b", runner="pooling", tasks=["search"]),
    )
    with pytest.raises(NoModel) as caught:
        ModelRouter.from_catalog(models).best(language="fr", task="chat")
    assert str(caught.value).startswith(
        "no model of namespace team is for language='fr', task='chat', runner='generate': there are "
        "a (generate; languages en, de; complexity simple; labels tier=gold); b (pooling; tasks search). Ask for less"
    )


def test_an_empty_and_a_long_catalogue_are_told_in_few_words() -> None:
    with pytest.raises(NoModel, match="there are none"):
        ModelRouter.from_catalog(content()).best()
    many = content(*(listing(f"model-{number}", "http://a") for number in range(25)))
    with pytest.raises(NoModel, match="; and 5 more"):
        ModelRouter.from_catalog(many).best(labels={"tier": "gold"})


def test_the_guides_function_chooses_by_language_and_complexity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = content(
        listing("small", "http://a", complexity=["simple"]),
        listing("large", "http://b", languages=["zh-TW"], complexity=["complex"]),
    )
    assert get_best_model("zh-TW", "complex", source=models).name == "large"
    assert get_best_model(language="en", source=models).name == "small"
    (tmp_path / "catalog.json").write_text(json.dumps(models), encoding="utf-8")
    monkeypatch.setenv("VLLM_CATALOG", str(tmp_path))
    best = get_best_model("zh-TW")
    assert (best.model_name, best.base_url) == ("large", "http://b/v1")


async def test_the_best_model_can_be_asked_and_tiers_have_other_names(engine: EngineServer) -> None:
    models = content(
        listing("small", engine.url, complexity=["simple"]), listing("tiny", engine.url, complexity=["complex"])
    )
    assert get_best_model(complexity="low", source=models).name == "small"
    async with get_best_model(complexity="high", source=models, client_options={"api_key": KEY}) as best:
        assert await best.complete("hello") == "tiny heard: hello"


def test_a_misspelt_complexity_is_refused_when_the_client_is_made() -> None:
    router = ModelRouter.from_catalog(content())
    with pytest.raises(ConfigurationError, match="no complexity 'hard'"):
        router.client(complexity="hard")
    assert isinstance(router.client(complexity="simple"), RoutedClient)
