"""An engine that is loaded by what it is asked: it queues, computes prompts it does not remember slowly, and says so.

It answers whole chats. A prompt's beginning is what stands before its first line break.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.scripted_engine import completion
from vllm_client.balance import load_report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLOTS = 32
KNOWN_SECONDS, NEW_SECONDS, WRITING_SECONDS = 0.002, 0.03, 0.15
"""To compute a prompt whose beginning is remembered, or is not, one prompt after the other; to write an answer, on
average: most are shorter, and some much longer."""
REMEMBERED = 12
BEGINNINGS = 32


@dataclass
class LoadedEngine:
    """An engine, and what was seen of it.

    Attributes:
        url: Its base URL.
        report: Whether it reports its load to those who ask; or else the text that it sends them.
        requests: All of them.
        hits: Those whose beginning it remembered.
        asked: Those that asked for a report.
        first_token_seconds: From the request to the first token, of each.
        outstanding_seconds: Requests without an answer times seconds.
    """

    report: bool | str = True
    url: str = ""
    requests: int = 0
    hits: int = 0
    asked: int = 0
    waiting: int = 0
    running: int = 0
    first_token_seconds: list[float] = field(default_factory=list)
    outstanding_seconds: float = 0.0
    remembered: OrderedDict[str, None] = field(default_factory=OrderedDict)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SLOTS))
    computing: asyncio.Lock = field(default_factory=asyncio.Lock)
    chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - guards nothing

    async def answer(self, request: web.Request) -> web.Response:
        """Take a request, and answer it."""
        began = time.monotonic()
        prompt = (await request.json())["messages"][-1]["content"]
        self.requests += 1
        self.waiting += 1
        async with self.slots:
            self.waiting -= 1
            self.running += 1
            async with self.computing:
                await asyncio.sleep(self.seconds_to_compute(prompt.partition("\n")[0]))
            self.first_token_seconds.append(time.monotonic() - began)
            await asyncio.sleep(self.chance.expovariate(1 / WRITING_SECONDS))
            self.running -= 1
        self.outstanding_seconds += time.monotonic() - began
        wanted = load_report.REQUEST_HEADER in request.headers
        self.asked += wanted
        headers = {load_report.RESPONSE_HEADER: self.told()} if wanted and self.report else {}
        return web.json_response(completion("yes"), headers=headers)

    def seconds_to_compute(self, beginning: str) -> float:
        """Which depends on whether it remembers the beginning; from now on it does, and may forget the oldest."""
        known = beginning in self.remembered
        self.hits += known
        self.remembered[beginning] = None
        self.remembered.move_to_end(beginning)
        if len(self.remembered) > REMEMBERED:
            self.remembered.popitem(last=False)
        return KNOWN_SECONDS if known else NEW_SECONDS

    def told(self) -> str:
        """The report, as vLLM writes it."""
        if isinstance(self.report, str):
            return self.report
        metrics = {"kv_cache_usage_perc": self.running / SLOTS, "num_requests_waiting": float(self.waiting)}
        return f"JSON {json.dumps({'named_metrics': metrics})}"


@asynccontextmanager
async def loaded_engine(*, report: bool | str = True) -> AsyncIterator[LoadedEngine]:
    """One that reports so."""
    engine = LoadedEngine(report)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", engine.answer)
    async with TestServer(app) as server:
        engine.url = str(server.make_url("/v1"))
        yield engine
