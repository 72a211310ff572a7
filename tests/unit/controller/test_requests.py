"""Asking engines how much they have to do: side by side, within one deadline, and without waiting for who hangs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from tests.support.resources import as_live, pod
from vllm_operator.controller.requests import requests_of
from vllm_operator.diagnosis.engine_status import EngineStatus, NoAnswer

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.cluster.engine_status import EngineStatusReader
    from vllm_operator.diagnosis.facts import Finding


class Managers:
    """Managers that answer by their addresses; who is not there hangs."""

    def __init__(self, **answers: Finding) -> None:
        self._answers = answers
        self.ended = 0

    async def read(self, url: str) -> Finding:
        """One answer."""
        name = f"e{url.removeprefix('http://10.0.0.').partition(':')[0]}"
        try:
            return self._answers.get(name) or await asyncio.Future[EngineStatus]()
        finally:
            self.ended += 1


def engine(number: int, *, address: bool = True) -> LiveObject:
    """A pod that serves."""
    found = pod(f"e{number}", ready=True, podIP=f"10.0.0.{number}" if address else None)
    ports = [{"name": "gate", "containerPort": 8480}]
    return as_live({**found, "spec": {"containers": [{"name": "vllm", "ports": ports}]}}, "Pod")


async def test_who_hangs_lies_or_cannot_be_reached_is_left_out() -> None:
    managers = Managers(e1=EngineStatus("serving", requests=4), e2=NoAnswer("nobody"), e3=EngineStatus("serving"))
    pods = [*map(engine, range(1, 5)), engine(5, address=False)]
    found = await requests_of(cast("EngineStatusReader", managers), pods, patience_seconds=0.05)
    assert found == {"uid-of-e1": 4}
    assert managers.ended == 4, "nothing is left running"


async def test_a_pass_that_is_cancelled_leaves_no_question_behind() -> None:
    managers = Managers()
    asking = asyncio.create_task(requests_of(cast("EngineStatusReader", managers), [engine(1)], patience_seconds=60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()
    assert managers.ended == 1


async def test_without_addresses_nobody_is_asked() -> None:
    assert await requests_of(cast("EngineStatusReader", Managers()), [engine(1, address=False)]) == {}
