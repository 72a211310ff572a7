"""Lists of a real API server, in watches and in pages: what went while nobody watched is gone after the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.operators import until
from tests.chaos.scenario import CREATED, NAME, apply, delete
from tests.support.api import done
from tests.support.api_proxy import NO_STREAMED_LISTS
from vllm_operator.cluster.kinds import CONFIG_MAP, MODEL, WATCHED
from vllm_operator.cluster.watches import Place
from vllm_operator.controller import app
from vllm_operator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.operators import Operators
    from tests.support.api import Api
    from tests.support.api_proxy import ApiProxy, Call, Fault

pytestmark = pytest.mark.api_server

MODELS = Place(MODEL)
PAGE = str(app.kopf_settings(Settings()).watching.chunk_size)
"""By which the lists that precede watches differ from those of the operator's own client."""


@pytest.mark.parametrize("streamed", [True, False], ids=["in watches", "in pages"])
async def test_what_was_deleted_while_nobody_watched_is_gone_after_the_next_list(
    api: Api,
    operators: Operators,
    proxy: ApiProxy,
    new_namespace: Callable[[], str],
    caplog: pytest.LogCaptureFixture,
    *,
    streamed: bool,
) -> None:
    kept, lost = new_namespace(), new_namespace()
    in_watches: list[Place | None] = []
    in_pages: list[Place | None] = []
    dropped: list[bytes] = []

    def fault(call: Call) -> Fault:
        if call.streams_list:
            in_watches.append(call.place)
            return None if streamed else NO_STREAMED_LISTS
        if call.query.get("limit") == PAGE:
            in_pages.append(call.place)
        return None

    def lose(call: Call, line: bytes) -> bytes | None:
        if call.place != MODELS:
            return line
        dropped.append(line)
        return None

    def settled(namespace: str) -> bool:
        """Whether nothing is written any more about the model, by which its end would be noticed."""
        return "observedGeneration" in done(api.call("GET", MODEL.path(namespace, NAME))).get("status", {})

    proxy.fault = fault
    caplog.set_level("INFO", "vllm_operator")
    async with operators:
        for namespace in (kept, lost):
            apply(CREATED)(api, namespace)
        await until(lambda: settled(kept) and settled(lost), "the models")
        assert len(in_watches) == len(WATCHED), "each kind was asked for so once"
        assert streamed is not any(place == MODELS for place in in_pages)
        asked = len(in_pages)
        proxy.event = lose
        delete(api, lost)
        await until(lambda: any(b'"DELETED"' in line for line in dropped), "the deletion that is not told")
        proxy.event = lambda _, line: line
        proxy.send({"type": "ERROR", "object": {"code": 410, "message": "too old resource version: 1 (2)"}}, MODELS)
        gone = f"VLLMModel {lost}/{NAME} is gone, and no watch said so"
        await until(lambda: gone in caplog.messages, "the list that no longer has the model")
        catalog = CONFIG_MAP.path(lost, "vllm-catalog")
        await until(lambda: api.call("GET", catalog).code == 404, "the end of the catalogue that it was in")
        assert in_watches[len(WATCHED) :] == ([MODELS] if streamed else [])
        assert streamed is not (MODELS in in_pages[asked:])
        assert settled(kept)
