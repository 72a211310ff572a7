"""What the client offers beside `complete`, its synchronous face, and its settings from files."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

import vllm_client
from tests.support.servers import free_port, stub_server
from tests.unit.client.conftest import KEY, LENGTH
from vllm_client import (
    FixedEngines,
    SyncVLLMClient,
    VLLMClient,
    VLLMCloudClient,
    VLLMLocalClient,
    check_vllm_availability,
)
from vllm_client.balance.transport import BalancedTransport
from vllm_client.config import read_config

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import EngineServer


class Term(BaseModel):
    """An item of an answer."""

    name: str
    weight: int


class Terms(BaseModel):
    """An answer."""

    terms: list[Term]


def client_of(engine: EngineServer, **settings: Any) -> VLLMClient:
    return VLLMClient(**{"base_url": engine.url, "model_name": "tiny", "api_key": KEY, "max_retries": 0, **settings})


@pytest.mark.parametrize("schema", [Terms, Terms.model_json_schema()], ids=["pydantic", "json"])
async def test_an_answer_fits_its_schema(engine: EngineServer, schema: Any) -> None:
    async with client_of(engine) as client:
        assert Terms.model_validate_json(await client.complete("x", schema=schema)).terms


@pytest.mark.parametrize("answer", ['{"terms": [{"na', '{"terms": [{"name": 1}]}'])
async def test_an_answer_that_does_not_fit_is_an_error(engine: EngineServer, answer: str) -> None:
    engine.faults(answer=answer)
    async with client_of(engine) as client:
        with pytest.raises(vllm_client.InvalidAnswer, match="schema"):
            await client.complete("x", schema=Terms)


@pytest.mark.parametrize("schema", [Terms, Terms.model_json_schema()], ids=["pydantic", "json"])
async def test_an_answer_of_brackets_alone_is_one_that_does_not_fit(engine: EngineServer, schema: Any) -> None:
    engine.faults(answer="[" * 5000)
    async with client_of(engine) as client:
        with pytest.raises(vllm_client.InvalidAnswer, match="schema"):
            await client.complete("x", schema=schema)


async def test_a_batch_keeps_order_and_its_bound(engine: EngineServer) -> None:
    engine.faults(step_seconds=0.02)
    most = 0
    async with client_of(engine) as client:
        under_way = 0
        complete = client.complete

        async def counted(prompt: str, **kwargs: Any) -> str:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await complete(prompt, **kwargs)
            finally:
                under_way -= 1

        client.complete = counted  # type: ignore[method-assign]
        answers = await client.generate_batch([f"{number}" for number in range(20)], concurrency=4)
        assert answers == [f"tiny heard: {number}" for number in range(20)]
        assert most == 4
        assert await client.generate_batch([]) == []
        with pytest.raises(ValueError, match="at least 1"):
            await client.generate_batch(["x"], concurrency=0)


async def test_a_stream_is_the_answer_in_pieces(engine: EngineServer) -> None:
    async with client_of(engine) as client:
        pieces = [piece async for piece in client.stream("one two three")]
    assert len(pieces) > 1
    assert "".join(pieces).strip() == "tiny heard: one two three"


async def test_usage_is_told_to_those_who_listen(engine: EngineServer) -> None:
    from vllm_client.usage import usage_reports  # noqa: PLC0415 - not part of the package's face

    async with client_of(engine) as client:
        with usage_reports() as reports:
            await client.complete("x", max_tokens=2)
            async for _ in client.stream("x", max_tokens=2):
                pass
    assert [report.completion_tokens for report in reports] == [2, 2]


async def test_texts_are_embedded_in_order(tmp_path: Path) -> None:
    with stub_server("--served-model-name", "e", "--convert", "embed", folder=tmp_path) as server:
        async with VLLMClient(server.url, "e") as client:
            both = await client.embed(["a", "b"])
            assert [await client.embed("a"), await client.embed("b")] == [both[:1], both[1:]]
        available, message = check_vllm_availability({"base_url": server.url, "model": "e"})
    assert available
    assert "embeds" in message


async def test_the_models_card_or_why_there_is_none(engine: EngineServer) -> None:
    async with client_of(engine) as client:
        info = await client.get_model_info()
        assert (info["id"], info["object"], info["owned_by"], info["max_model_len"]) == (
            "tiny",
            "model",
            "vllm",
            LENGTH,
        )
        assert "error" not in info
    async with client_of(engine, model_name="nobody") as client:
        info = await client.get_model_info()
    assert info["id"] == "nobody"
    assert "does not serve nobody, but tiny" in info["error"]


async def test_health_is_a_completion(engine: EngineServer) -> None:
    async with client_of(engine, timeout=0.5) as client:
        assert await client.health_check()
        engine.faults(hang_engine=True)
        assert not await client.health_check()


async def test_settings_change_in_place(engine: EngineServer) -> None:
    async with client_of(engine, base_url=f"http://127.0.0.1:{free_port()}", api_key="wrong") as client:
        client.update_config(base_url=engine.url)
        with pytest.raises(vllm_client.Unauthorized):
            await client.complete("x")
        client.update_config(api_key=KEY)
        assert await client.complete("x") == "tiny heard: x"


def test_local_and_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    assert VLLMLocalClient("m", port=9000).config.base_url == "http://localhost:9000/v1"
    monkeypatch.setenv("VLLM_API_KEY", "k")
    cloud = VLLMCloudClient("https://far", "m").config
    assert (cloud.api_key, cloud.timeout, cloud.max_retries) == ("k", 120, 5)


@pytest.mark.usefixtures("bound")
def test_availability_is_proved_by_the_engine(engine: EngineServer) -> None:
    assert check_vllm_availability()[0]
    engine.faults(hang_engine=True)
    available, message = check_vllm_availability(timeout_seconds=0.3)
    assert not available
    assert message.startswith("TimedOut")


def test_availability_says_what_is_missing() -> None:
    available, message = check_vllm_availability()
    assert not available
    assert "VLLM_MODEL_NAME" in message


def test_the_synchronous_face_has_every_method() -> None:
    public = {name for name, _ in inspect.getmembers(VLLMClient, inspect.isfunction) if not name.startswith("_")}
    assert public - {"from_config"} <= set(vars(SyncVLLMClient))


def test_the_synchronous_face_waits(engine: EngineServer) -> None:
    with SyncVLLMClient(client_of(engine)) as client:
        assert client.complete("x") == "tiny heard: x"
        assert client.generate_batch(["a", "b"]) == ["tiny heard: a", "tiny heard: b"]
        assert next(client.stream("x")).strip() == "tiny"
        client.update_config(model_name="nobody")
        with pytest.raises(vllm_client.ModelNotFound):
            client.complete("x")
    with pytest.raises(RuntimeError, match="closed"):
        client.complete("x")


def test_a_file_names_variables(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("vllm:\n  base_url: http://${HOST}:${PORT:-8000}\n  model: m\n  api_key: ${KEY}\n")
    config = read_config(path, {"HOST": "h", "KEY": "a: b"})
    assert (config.base_url, config.api_key) == ("http://h:8000/v1", "a: b")
    with pytest.raises(vllm_client.ConfigurationError, match="HOST") as caught:
        read_config(path, {"KEY": "k"})
    assert caught.value.variable == "HOST"


@pytest.mark.parametrize("text", ["[1]", "a: [", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(vllm_client.ConfigurationError, match=r"c\.yaml"):
        read_config(path, {})


@pytest.mark.parametrize(
    ("given", "engines", "discovery"),
    [
        ({"base_url": "http://a,http://b"}, ("http://a/v1", "http://b/v1"), ""),
        ({"base_url": "http://s", "discovery": ["http://a", "http://b"]}, ("http://a/v1", "http://b/v1"), ""),
        ({"base_url": "http://s", "discovery": "m.ns.svc:8000"}, (), "m.ns.svc:8000"),
        ({"base_url": "http://elsewhere"}, (), ""),
        ({}, (), "bound.ns.svc:8000"),
    ],
)
def test_where_engines_are_looked_for(given: dict[str, Any], engines: tuple[str, ...], discovery: str) -> None:
    bound = {"VLLM_BASE_URL": "http://bound:8000", "VLLM_DISCOVERY": "bound.ns.svc:8000"}
    config = read_config({"model": "m", **given}, bound)
    assert (config.engines, config.discovery) == (engines, discovery)


async def test_https_is_not_taken_apart(caplog: pytest.LogCaptureFixture) -> None:
    async with VLLMClient("https://far", "m", discovery="m.ns.svc:8000") as client:
        transport = client.openai._client._transport  # noqa: SLF001 - the connections are nobody else's business
        assert isinstance(transport, BalancedTransport)
        assert transport.fleet.discovery == FixedEngines(("https://far/v1",))
    assert "certificates" in caplog.text


def test_the_schema_goes_out_as_vllm_reads_it() -> None:
    from vllm_client.schema import response_format  # noqa: PLC0415 - not part of the package's face

    wanted = response_format(Terms)
    assert json.loads(json.dumps(wanted))["json_schema"]["schema"]["required"] == ["terms"]
    assert wanted["json_schema"]["name"] == "Terms"
