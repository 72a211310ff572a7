"""One event of the watches is lost, whichever it is, or the operator starts from a list of an older moment.

What stands in the end is what would stand without: the next resync finds it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.operators import until
from tests.chaos.scenario import CREATED, EDITED, STEPS, Ending, apply, delete, ending
from tests.chaos.snapshot import differences
from tests.support.api import done
from tests.support.api_proxy import Refusal
from vllm_operator.cluster.kinds import WATCHED
from vllm_operator.cluster.scope import EVERYTHING
from vllm_operator.cluster.watches import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.chaos.operators import Operators
    from tests.support.api import Api
    from tests.support.api_proxy import ApiProxy, Call, Fault

pytestmark = pytest.mark.api_server

EVERY = int(os.environ.get("CHAOS_EVERY", "5"))
"""Every which event is one to be lost; 1 for all of them."""

GIVEN: Mapping[str, Any] = {
    "resync_seconds": 4.0,
    "lease_duration_seconds": 30,
    "renew_deadline_seconds": 20,
    "retry_period_seconds": 2,
}
"""Of the operators here. None of them is killed: a Lease that lasts lets them work on a machine that is busy."""


class Losses:
    """Counts the events of namespaces, and loses one of each that it is told to."""

    def __init__(self, proxy: ApiProxy, cases: Mapping[str, int] | None = None) -> None:
        self.left = dict(cases or {})
        """The how manieth event of each namespace is yet to be lost, from 1 on."""
        self.lost: dict[str, str] = {}
        """What was lost, for the reader of a failed test."""
        self.counts = Counter[str]()
        proxy.event = self._event

    def _event(self, _: Call, line: bytes) -> bytes | None:
        event = json.loads(line)
        metadata = event["object"].get("metadata", {})
        namespace = metadata.get("namespace", "")
        self.counts[namespace] += 1
        if self.left.get(namespace) != self.counts[namespace]:
            return line
        del self.left[namespace]
        self.lost[namespace] = f"{event['type']} {event['object']['kind']} {metadata['name']}"
        return None


async def resynced(operators: Operators) -> None:
    """Until whatever was lost before has been found, and what comes of that is written."""
    calls = operators.proxy.calls
    begun = calls["pods", "list"]  # of the last kind: each resync asks for it once
    await until(lambda: calls["pods", "list"] >= begun + 3, "resyncs")
    await operators.settle()


async def test_whichever_event_is_lost_what_stands_in_the_end_is_what_would_stand_without(
    api: Api,
    kinds: list[tuple[str, str, str]],
    operators: Operators,
    proxy: ApiProxy,
    new_namespace: Callable[[], str],
) -> None:
    operators.given |= GIVEN
    async with operators:
        wanted, cases = dict[str, Ending](), dict[str, dict[str, int]]()
        undisturbed = new_namespace()
        for number, (name, step) in enumerate(STEPS.items()):
            events, before = Losses(proxy).counts, len(proxy.applied(undisturbed))
            step(api, undisturbed)
            await operators.settle()
            wanted[name] = ending(api, kinds, undisturbed, proxy.applied(undisturbed)[before:])
            chosen = range(1, events[undisturbed] + 1)[number % EVERY :: EVERY]
            cases[name] = {new_namespace(): which for which in chosen}
        wrong: list[str] = []
        for number, (name, step) in enumerate(STEPS.items()):
            losses = Losses(proxy, cases[name])
            before_of = {namespace: len(proxy.applied(namespace)) for namespace in cases[name]}
            for later in list(STEPS)[number:]:
                for namespace in cases[later]:
                    step(api, namespace)
            await operators.settle()
            await resynced(operators)
            assert len(losses.lost) >= len(cases[name]) - 1, "events that did not come: the last one may be one fewer"
            for namespace in losses.lost:
                found = ending(api, kinds, namespace, proxy.applied(namespace)[before_of[namespace] :])
                case = f"{name} without {losses.lost[namespace]}"
                wrong += [f"{case}: {line}" for line in differences(found.objects, wanted[name].objects)]
                wrong += [f"{case}: written twice: {write}" for write in found.writes - wanted[name].writes]
                wrong += [f"{case}: not written: {write}" for write in wanted[name].writes - found.writes]
        assert not operators.ended
    assert not wrong, "\n".join(wrong)


class Snapshot:
    """The lists of all kinds as they are now, to be shown to an operator later."""

    def __init__(self, api: Api, *, claiming_to_be_newest: bool) -> None:
        self._api = api
        self._newest = claiming_to_be_newest
        self.pages: dict[Place, dict[str, Any]] = {}
        """Those that were not shown yet."""
        for kind in WATCHED:
            selector = EVERYTHING.selector(kind)
            self.pages[Place(kind)] = done(api.call("GET", kind.path(), labelSelector=selector))

    def fault(self, call: Call) -> Fault:
        """The first list of each kind is that of the snapshot."""
        if call.place not in self.pages:
            return None
        if call.query.get("sendInitialEvents") == "true":
            return Refusal(422, "sendInitialEvents is forbidden", reason="Invalid")  # so that it lists instead
        if not call.lists:
            return None
        page = self.pages.pop(call.place)
        if self._newest:
            now = done(self._api.call("GET", call.path, limit="1"))["metadata"]["resourceVersion"]
            page = {**page, "metadata": {**page["metadata"], "resourceVersion": now}}
        return Refusal(200, page=json.dumps(page).encode())


async def test_an_operator_that_starts_from_an_older_list_and_watches_from_there_ends_where_it_would_have(
    api: Api,
    kinds: list[tuple[str, str, str]],
    operators: Operators,
    new_namespace: Callable[[], str],
) -> None:
    await _start_from_an_older_list(api, kinds, operators, new_namespace, lost=False)


async def test_an_operator_that_starts_from_an_older_list_and_never_sees_the_events_since_ends_where_it_would_have(
    api: Api,
    kinds: list[tuple[str, str, str]],
    operators: Operators,
    new_namespace: Callable[[], str],
) -> None:
    await _start_from_an_older_list(api, kinds, operators, new_namespace, lost=True)


async def _start_from_an_older_list(
    api: Api,
    kinds: list[tuple[str, str, str]],
    operators: Operators,
    new_namespace: Callable[[], str],
    *,
    lost: bool,
) -> None:
    operators.given |= GIVEN
    edited, deleted, created = (new_namespace() for _ in range(3))
    async with operators:
        for namespace in (edited, deleted):
            apply(CREATED)(api, namespace)
        await operators.settle()
        snapshot = Snapshot(api, claiming_to_be_newest=lost)
        apply(EDITED)(api, edited)
        delete(api, deleted)
        apply(CREATED)(api, created)
        await operators.settle()
        wanted = {name: ending(api, kinds, name, []).objects for name in (edited, deleted, created)}
        await operators.stop()
        operators.proxy.fault = snapshot.fault
        await operators.start()
        assert not snapshot.pages, "every kind was shown as it was"
        await resynced(operators)
        wrong = [line for name in wanted for line in differences(ending(api, kinds, name, []).objects, wanted[name])]
        assert not operators.ended
    assert not wrong, "\n".join(wrong)


async def test_a_list_of_an_older_moment_ends_nothing_and_is_not_believed(
    api: Api,
    kinds: list[tuple[str, str, str]],
    operators: Operators,
    proxy: ApiProxy,
    new_namespace: Callable[[], str],
) -> None:
    """As of an API server whose watch cache is behind, where it shows that to those who ask for the newest state."""
    operators.given |= GIVEN
    edited, created = new_namespace(), new_namespace()
    async with operators:
        apply(CREATED)(api, edited)
        await operators.settle()
        snapshot = Snapshot(api, claiming_to_be_newest=False)
        apply(EDITED)(api, edited)
        apply(CREATED)(api, created)
        await operators.settle()
        wanted = {name: ending(api, kinds, name, []).objects for name in (edited, created)}
        written = len(proxy.done)
        proxy.fault = snapshot.fault
        await until(lambda: not snapshot.pages, "a resync that is shown the older lists")
        await resynced(operators)
        assert not operators.ended
        assert len(proxy.done) == written, "nothing is written for it"
        wrong = [line for name in wanted for line in differences(ending(api, kinds, name, []).objects, wanted[name])]
    assert not wrong, "\n".join(wrong)
