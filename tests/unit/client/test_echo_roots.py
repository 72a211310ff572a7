"""The client for echo-roots' pipeline: what it takes is kept, what it would lose is asked for again or told."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.doc_blocks import run_page
from tests.support.echo_roots import (
    DOMAIN,
    DOMAINS,
    ITEM,
    PAGE,
    STAND_IN,
    EchoRoots,
    Says,
    all_checks,
    answer,
    attribute,
    extracting,
    lost,
    run_script,
    term,
)
from tests.support.llms import HeldLLM, settle
from tests.support.scripted_engine import Whole, completion, scripted_engine
from vllm_client import CachedClient, ConfigurationError, InvalidAnswer, VLLMClient
from vllm_client.echo_roots import ExtractionClient, extraction_schema

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

GOOD = Whole(completion(answer(attribute(), terms=[term()])))
UNSURE = Whole(completion(answer(attribute(confidence=None))))
"""What a model answers that does just as the pipeline's prompt says."""


@pytest.fixture(scope="module")
def echo() -> EchoRoots:
    """The stand-in."""
    return EchoRoots(STAND_IN)


async def test_what_is_tried_with_a_checkout_holds_for_the_stand_in(echo: EchoRoots) -> None:
    otherwise = [told async for told, well in all_checks(echo) if not well]
    assert otherwise == []


async def test_an_answer_that_does_not_fit_is_asked_for_again_which_the_pipeline_alone_does_not(
    echo: EchoRoots,
) -> None:
    async with scripted_engine(UNSURE, GOOD) as engine, VLLMClient(engine.url, "m") as plain:
        (alone,) = await echo.extract(plain)
        assert (lost(alone), len(engine.bodies)) == (True, 1)
    async with scripted_engine(UNSURE, GOOD) as engine, extracting(echo, engine) as llm:
        (found,) = await echo.extract(llm)
        assert (lost(found), len(engine.bodies)) == (False, 2)
    assert [one.value for one in found.attributes] == ["red"]


async def test_the_surest_of_two_attributes_with_one_name_stays(echo: EchoRoots) -> None:
    said = [attribute(value="blue", confidence=0.3), attribute(name="weight", value="2"), attribute(confidence=0.8)]
    async with scripted_engine(Whole(completion(answer(*said)))) as engine, extracting(echo, engine) as llm:
        (found,) = await echo.extract(llm)
    assert [(one.name, one.value) for one in found.attributes] == [("color", "red"), ("weight", "2")]


async def test_a_fence_within_a_text_arrives_as_it_was(echo: EchoRoots) -> None:
    said = answer(attribute(evidence="as ```json {}``` says"))
    async with scripted_engine(Whole(completion(said))) as engine, extracting(echo, engine) as llm:
        (found,) = await echo.extract(llm)
    assert found.attributes[0].evidence == "as ```json {}``` says"


async def test_a_cache_answers_the_pipelines_own_calls_and_keeps_nothing_that_does_not_fit(echo: EchoRoots) -> None:
    async with scripted_engine(UNSURE, GOOD) as engine:
        cache = CachedClient(VLLMClient(engine.url, "m"), only_deterministic=False)
        async with ExtractionClient(cache, echo.domain()) as llm:
            results = [await echo.extract(llm) for _ in range(3)]
        assert [body["temperature"] for body in engine.bodies] == [0.1, 0.1]
    assert not any(lost(result) for (result,) in results)
    assert (cache.statistics.hits, cache.statistics.misses, cache.statistics.bypassed) == (2, 2, 0)


async def test_the_pipelines_temperature_is_not_remembered_unless_that_is_asked_for(echo: EchoRoots) -> None:
    async with scripted_engine(GOOD) as engine:
        cache = CachedClient(VLLMClient(engine.url, "m"))
        async with ExtractionClient(cache, echo.domain()) as llm:
            for _ in range(2):
                await echo.extract(llm)
        assert len(engine.bodies) == cache.statistics.bypassed == 2


# ---------------------------------------------------------------------------------------------------- what is asked for


def sent_schema(body: dict[str, Any]) -> Any:
    """What vLLM is told to keep to."""
    return body["response_format"]["json_schema"]["schema"]


async def test_vllm_is_told_the_names_and_values_of_the_domain(echo: EchoRoots) -> None:
    async with scripted_engine(GOOD) as engine, extracting(echo, engine) as llm:
        await echo.extract(llm)
        schema = sent_schema(engine.bodies[0])
    attributes = schema["properties"]["attributes"]
    asked = {one["properties"]["name"]["const"]: one["properties"]["value"] for one in attributes["items"]["anyOf"]}
    assert list(asked) == ["brand", "color", "sku", "weight", "waterproof"]
    assert attributes["maxItems"] == 5
    assert asked["color"] == {"enum": ["black", "blue", "brown", "green", "grey", "red", "white"]}
    assert asked["waterproof"] == {"enum": ["true", "false"]}
    assert (asked["brand"]["maxLength"], asked["sku"]["pattern"]) == (20, "[A-Z]{2}-[0-9]+$")
    assert all("confidence" in one["required"] for one in attributes["items"]["anyOf"])


def value_schema(**rule: Any) -> dict[str, Any]:
    """What vLLM is told of the values of an attribute with this rule."""
    schema = extraction_schema({"output_schema": {"attributes": [{"key": "a", **rule}]}}).model_json_schema()
    (item,) = schema["properties"]["attributes"]["items"]["anyOf"]
    return dict(item["properties"]["value"])


@pytest.mark.parametrize(
    ("pattern", "sent"),
    [
        (r"^\d{3}(?:/\d+)?$", True),
        (r"^(US|EU) [0-9.]+$", True),
        (r"^(?=.*x)a", False),
        (r"(?i)abc", False),
        (r"(a)\1", False),
        (r"\bred", False),
    ],
)
def test_a_pattern_that_only_python_knows_is_not_sent_but_told_and_checked(pattern: str, *, sent: bool) -> None:
    schema = value_schema(type="text", pattern=pattern)
    assert ("pattern" in schema, pattern in schema["description"]) == (sent, True)
    assert ("minLength" in schema) is not sent


@pytest.mark.parametrize(("length", "sent"), [(64, True), (65, False), (5000, False)])
def test_engines_are_made_to_count_short_texts_only(length: int, *, sent: bool) -> None:
    assert ("maxLength" in value_schema(type="text", max_length=length)) is sent


def test_other_rules_make_another_schema_also_where_they_are_only_checked() -> None:
    """So that a cache inside does not answer by the rules of yesterday."""
    schemas = [value_schema(type="text", **rule) for rule in ({}, {"max_length": 99}, {"pattern": r"\bred"})]
    assert len({json.dumps(schema) for schema in schemas}) == 3


def test_a_limit_of_terms_is_sent() -> None:
    terms = extraction_schema(max_terms=3).model_json_schema()["properties"]["terms"]
    assert (terms["maxItems"], extraction_schema(max_terms=3) is extraction_schema()) == (3, False)


def test_the_file_of_a_domain_says_the_same_as_the_pack_that_is_read_from_it(echo: EchoRoots) -> None:
    told = yaml.safe_load((DOMAINS / DOMAIN / "domain.yaml").read_text(encoding="utf-8"))
    by_file, by_pack = extraction_schema(told), extraction_schema(echo.domain())
    assert by_file.model_json_schema() == by_pack.model_json_schema() != extraction_schema().model_json_schema()


def test_white_space_around_a_rule_counts_as_little_as_there() -> None:
    rule = {"key": "size", "type": "categorical", "allow_values": [" S", "M "]}
    schema = extraction_schema({"output_schema": {"attributes": [rule]}, "attribute_hints": {"size": None}})
    found = schema.model_validate_json(answer(attribute(name="size", value="S ")))
    assert found.attributes[0].value == "S"


@pytest.mark.parametrize("attributes", [None, []])
def test_a_domain_without_attributes_allows_any(attributes: object) -> None:
    assert extraction_schema({"output_schema": {"attributes": attributes}, "attribute_hints": None}) is (
        extraction_schema()
    )


@pytest.mark.parametrize(
    "rule",
    [
        {"type": "colour"},
        {},
        {"type": "categorical", "allow_values": [True, "maybe"]},
        {"type": "text", "pattern": "["},
    ],
    ids=["unknown type", "no type", "yes of YAML", "broken pattern"],
)
def test_a_rule_that_echo_roots_would_leave_out_or_fail_by_is_told(rule: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"attribute size .*domain\.yaml"):
        extraction_schema({"output_schema": {"attributes": [{"key": "size", **rule}]}})


# --------------------------------------------------------------------------------------------------------- what is told


async def test_why_an_item_of_a_list_is_lost_is_in_the_log(echo: EchoRoots, caplog: pytest.LogCaptureFixture) -> None:
    async with scripted_engine(UNSURE) as engine, extracting(echo, engine) as llm:
        with caplog.at_level(logging.WARNING, "vllm_client"):
            (result,) = await echo.extract(llm, retry_attempts=0)
        (message,) = caplog.messages
    assert lost(result)
    assert message.startswith("no extraction: InvalidAnswer: model m ")
    assert "confidence" in message
    assert engine.url in message


async def test_a_client_that_checks_nothing_is_checked() -> None:
    with pytest.raises(InvalidAnswer, match="max_tokens of ExtractorConfig"):
        await ExtractionClient(Says("{")).complete("a")


async def test_a_client_that_knows_no_schema_is_in_the_log(echo: EchoRoots, caplog: pytest.LogCaptureFixture) -> None:
    class Other:
        """A client that is not ours."""

        async def complete(self, prompt: str) -> str:
            """Nothing."""
            return prompt

    with caplog.at_level(logging.WARNING, "vllm_client"):
        (result,) = await echo.extract(ExtractionClient(Other()), retry_attempts=0)  # type: ignore[arg-type] # so it is
    assert lost(result)
    assert "no extraction: TypeError:" in caplog.text


async def test_an_item_that_is_given_up_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    inside = HeldLLM()
    asked = asyncio.create_task(ExtractionClient(inside).complete("a"))
    await inside.asked(1)
    with caplog.at_level(logging.WARNING, "vllm_client"):
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    await settle()
    assert inside.calls[0].cancelled
    assert "by timeout_seconds" in caplog.text


# ----------------------------------------------------------------------------------------------------------- the script


@pytest.mark.usefixtures("bound", "echo")
async def test_every_block_of_the_page_runs() -> None:
    await run_page(PAGE)


async def test_the_script_of_the_page_tries_what_failed_once_more(echo: EchoRoots, tmp_path: Path) -> None:
    items = [{**ITEM, "item_id": f"item-{number}"} for number in range(3)]
    async with scripted_engine(UNSURE, GOOD) as engine:
        run = await run_script(echo, tmp_path, items, url=engine.url, model_name="m")
    assert (run.code, len(engine.bodies)) == (0, 4)
    assert sorted(line["item_id"] for line in run.lines) == ["item-0", "item-1", "item-2"]
    assert all(line["metadata"]["model"] == "m" for line in run.lines)


async def test_the_script_of_the_page_says_which_items_are_lost_and_why(echo: EchoRoots, tmp_path: Path) -> None:
    async with scripted_engine(UNSURE) as engine:
        run = await run_script(echo, tmp_path, [ITEM], url=engine.url, model_name="m")
    assert (run.code, run.lines, len(engine.bodies)) == (1, [], 2)
    assert "nothing is known of item 1" in run.errors
    assert "confidence" in run.errors
