"""Health and metrics of the operator itself, over HTTP."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import generate_latest

if TYPE_CHECKING:
    from vllm_operator.settings import Settings
    from vllm_operator.telemetry.metrics import Telemetry

logger = logging.getLogger(__name__)


async def serve(settings: Settings, telemetry: Telemetry) -> None:
    """Serve /healthz, /readyz and /metrics until cancelled.

    /healthz answers as long as the event loop turns, and says no where a watch has ended without a word, by the age of
    its last event, bookmark or try: what kubelet does then, a new process, is the one thing that helps. It says yes
    where the API server does not answer, or takes a right away: a new process could do no more. /readyz tells of that.
    A worker that dies ends the whole process.

    Raises:
        OSError: the port is taken.
    """

    async def healthz(_: web.Request) -> web.Response:
        dead = telemetry.dead()
        if dead:
            logger.error("a new process has to take over: %s", dead)
        return web.Response(status=503 if dead else 200, text=f"{dead or 'ok'}\n")

    async def readyz(_: web.Request) -> web.Response:
        unready = telemetry.unready()
        return web.Response(status=503 if unready else 200, text=f"{unready or 'ok'}\n")

    async def metrics(_: web.Request) -> web.Response:
        text = generate_latest(telemetry.registry)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    application = web.Application()
    routes = [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.listen_host, settings.listen_port).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
