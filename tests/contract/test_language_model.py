"""Where words matter: the real engine with a real language model, and the client library in front of it."""

from __future__ import annotations

import asyncio
import platform
from typing import TYPE_CHECKING

import pytest

from examples.extraction import PRODUCTS, extract
from tests.support.echo_roots import ITEM, STAND_IN, EchoRoots, run_script
from tests.support.models import CAPITAL, COMPACT_JSON, QUESTION
from tests.support.servers import real_server
from tests.support.startups import UNASKED, machine_has_amx, recorder, starts
from vllm_client import VLLMClient
from vllm_operator.startup.sitecustomize import NOT_ASKED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.servers import EngineServer

pytestmark = pytest.mark.real_vllm

SCRIPT_SECONDS = 300.0
"""Twice what its pipeline gives an item, and the start of Python."""
REFUSALS = ("Field required", "Extra inputs", "Input should", "Value error")
"""What pydantic says of an answer that is whole and does not fit."""
TITLES = ("VLLM::EngineCore", "VLLM::Worker")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engine logs, and where its processes tell how they started."""
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[EngineServer]:
    """One engine for all tests of this file."""
    path = recorder(folder / "record")
    flags = ("--served-model-name", "smollm2", *COMPACT_JSON)
    with real_server(*flags, folder=folder, env={"PYTHONPATH": path, **UNASKED}, language=True) as running:
        yield running


@pytest.fixture
async def llm(server: EngineServer) -> AsyncIterator[VLLMClient]:
    """A client as most have it."""
    async with VLLMClient(server.url, "smollm2", timeout=60) as client:
        yield client


def test_every_process_of_the_engine_has_asked_for_amx_before_its_first_prompt(
    server: EngineServer, folder: Path
) -> None:
    found = {start.process: start for start in starts(folder / "record")}
    of_the_engine = {server.process.pid, *(server.child(title) for title in TITLES)}
    assert of_the_engine <= found.keys()
    asked = platform.machine() == "x86_64"
    for start in found.values():
        assert (start.answer != NOT_ASKED, start.allowed) == (asked, machine_has_amx())


async def test_a_question_gets_an_answer_with_sense(llm: VLLMClient) -> None:
    assert CAPITAL in await llm.complete(QUESTION, temperature=0, max_tokens=32)


async def test_attributes_of_products_are_extracted_as_json_that_fits_the_schema(llm: VLLMClient) -> None:
    """Whether a small model is right differs a little between processors; that the answer fits does not."""
    found = await asyncio.gather(*(extract(llm, product) for product in PRODUCTS))
    right = [
        product
        for product, attributes in zip(PRODUCTS, found, strict=True)
        if {attributes.item, attributes.color, attributes.material} <= set(product.lower().replace(",", "").split())
    ]
    assert len(right) > len(PRODUCTS) // 2, found


async def test_the_script_for_echo_roots_finds_in_items_what_its_pipeline_takes(
    server: EngineServer, tmp_path: Path
) -> None:
    """An item is also lost where this small model finds no end of a text; that a whole answer fits does not vary."""
    items = [{**ITEM, "item_id": product, "title": product, "description": ""} for product in PRODUCTS[:3]]
    run = await run_script(
        EchoRoots(STAND_IN), tmp_path, items, url=server.url, model_name="smollm2", seconds=SCRIPT_SECONDS
    )
    assert len(run.lines) > len(items) // 2, run.errors
    assert all(line["attributes"] for line in run.lines)
    assert not [refused for refused in REFUSALS if refused in run.errors], run.errors
