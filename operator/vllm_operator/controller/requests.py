"""Asking engines how much they have to do, right before some of them are taken away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from vllm_operator.diagnosis.engine_status import EngineStatus
from vllm_operator.diagnosis.engines import manager_url
from vllm_operator.diagnosis.facts import pod_facts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.engine_status import EngineStatusReader

PATIENCE_SECONDS: Final = 1.0
"""For all answers together: a manager answers from memory, and a write waits for them."""


async def requests_of(
    managers: EngineStatusReader, pods: Iterable[LiveObject], *, patience_seconds: float = PATIENCE_SECONDS
) -> dict[str, float]:
    """Requests that each of these engines has, by its pod's uid. Those that do not say so in time are left out."""
    urls = {pod.uid: manager_url(pod_facts(pod.body)) for pod in pods}
    asked = {asyncio.create_task(managers.read(url)): uid for uid, url in urls.items() if url}
    if not asked:
        return {}
    try:
        done, _ = await asyncio.wait(asked, timeout=patience_seconds)
    finally:
        late = [task for task in asked if not task.done()]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    answers = {asked[task]: task.result() for task in done}
    found = {uid: answer.requests for uid, answer in answers.items() if isinstance(answer, EngineStatus)}
    return {uid: requests for uid, requests in found.items() if requests is not None}
