"""The operator is killed at each of its writes: what stands in the end is what would stand without it.

The request of the write is lost, or its answer is: in both cases the next operator knows no more than what the API
server holds. Each case has a namespace, and all of them are one storm: in each of them operators end at many other
moments too.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.chaos.operators import SETTLE_SECONDS, until
from tests.chaos.scenario import STEPS, ending, undisturbed
from tests.chaos.snapshot import differences
from tests.support.api_proxy import Loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.operators import Operators
    from tests.chaos.scenario import Ending
    from tests.support.api import Api
    from tests.support.api_proxy import ApiProxy, Call, Done, Fault

pytestmark = pytest.mark.api_server

EVERY = int(os.environ.get("CHAOS_EVERY", "5"))
"""Every which write is one to be killed at; 1 for all of them."""


class Case(NamedTuple):
    """When an operator is killed."""

    step: str
    write: int
    """The how manieth write of the step, from 1 on."""
    loss: Loss


class Storm:
    """Kills the operator at the write of each case, each in its namespace."""

    def __init__(self, proxy: ApiProxy, cases: dict[str, Case]) -> None:
        self.left = dict(cases)
        self.killed = asyncio.Event()
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._counts = dict.fromkeys(cases, 0)
        self._last: Call | None = None
        proxy.fault, proxy.answered = self._fault, self._answered

    def end(self) -> None:
        """Kill no more."""
        self._proxy.fault, self._proxy.answered = lambda _: None, lambda _: None

    def _fault(self, call: Call) -> Fault:
        if not call.writes or call.event or call.namespace not in self._counts:
            return None
        self._counts[call.namespace] += 1
        case = self.left.get(call.namespace)
        if case is None or self._counts[call.namespace] < case.write:
            return None
        del self.left[call.namespace]
        if case.loss is Loss.ANSWER:
            self._last = call
            return None
        self._kill()
        return Loss.REQUEST

    def _answered(self, done: Done) -> None:
        if done.call is self._last:
            self._kill()

    def _kill(self) -> None:
        self._proxy.cut_off()
        self._loop.call_soon_threadsafe(self.killed.set)


def cases_of(wanted: dict[str, Ending], step: str) -> list[Case]:
    """When to kill the operator during a step."""
    writes = sum(wanted[step].writes.values()) + wanted[step].told
    every = [Case(step, number, loss) for number in range(1, writes + 1) for loss in (Loss.REQUEST, Loss.ANSWER)]
    offset = list(STEPS).index(step)
    return every[offset % EVERY :: EVERY]


async def test_an_operator_that_is_killed_at_any_write_is_followed_by_one_that_ends_where_it_would_have(
    api: Api,
    kinds: list[tuple[str, str, str]],
    operators: Operators,
    proxy: ApiProxy,
    new_namespace: Callable[[], str],
) -> None:
    async with operators:
        wanted = await undisturbed(api, kinds, operators, new_namespace())
        namespaces = {step: {new_namespace(): case for case in cases_of(wanted, step)} for step in STEPS}
        wrong: list[str] = []
        for number, step in enumerate(STEPS):
            later = itertools.chain.from_iterable(namespaces[name] for name in list(STEPS)[number + 1 :])
            before = {namespace: len(proxy.applied(namespace)) for namespace in namespaces[step]}
            storm = Storm(proxy, namespaces[step])
            for namespace in (*namespaces[step], *later):
                STEPS[step](api, namespace)
            while storm.left or storm.killed.is_set():
                await until(storm.killed.is_set, f"a write of {storm.left}", SETTLE_SECONDS)
                storm.killed.clear()
                await operators.stop()
                await operators.launch()  # it may be killed at a write before it follows everything
            await operators.ready()
            await operators.settle()
            storm.end()
            for namespace, case in namespaces[step].items():
                found = ending(api, kinds, namespace, proxy.applied(namespace)[before[namespace] :])
                wrong += [f"{case}: {line}" for line in differences(found.objects, wanted[step].objects)]
                wrong += [f"{case}: written twice: {write}" for write in found.writes - wanted[step].writes]
                wrong += [f"{case}: not written: {write}" for write in wanted[step].writes - found.writes]
    assert not wrong, "\n".join(wrong)
