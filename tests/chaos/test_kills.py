"""The operator is killed again and again while many models are made, edited, rolled and deleted.

In the end nothing is lost, nothing is there twice, and nothing is left of what was deleted. CHAOS_KILLS says how often
it is killed (`make chaos`: 200 times), and how many models there are.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

from tests.chaos import snapshot
from tests.chaos.operators import SETTLE_SECONDS, until
from tests.chaos.scenario import CREATED, EDITED, NAME, ROLLED, apply
from tests.chaos.test_returns import standing
from tests.support.api import Api, done
from tests.support.api_proxy import Loss
from vllm_operator.cluster.kinds import CHILDREN, CONTROLLER_REVISION, MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tests.chaos.operators import Operators
    from tests.chaos.snapshot import Snapshot
    from tests.cluster import OwnCluster
    from tests.support.api_proxy import ApiProxy, Call, Fault

pytestmark = pytest.mark.api_server

KILLS: Final = int(os.environ.get("CHAOS_KILLS", "6"))
MODELS: Final = KILLS
"""As many as kills."""

SPECS: Final = (CREATED, EDITED, ROLLED)
DELETED: Final = len(SPECS)
"""What becomes of a model beside the specs."""

EDIT_SECONDS: Final = 0.05
MOST_WRITES: Final = 40
"""Of an operator, before it is killed."""

SEED: Final = 20261126


def become(api: Api, namespace: str, fate: int) -> None:
    """Give the model of a namespace a spec, or delete it."""
    if fate == DELETED:
        api.call("DELETE", MODEL.path(namespace, NAME))
    else:
        apply(SPECS[fate])(api, namespace)


def collect(api: Api) -> None:
    """Do what the controllers do that this API server is without: delete what has lost its owner, let claims go."""
    children = [(kind, one) for kind in CHILDREN for one in _all(api, kind.path(), kind.kind)]
    owners = {one["metadata"]["uid"] for one in _all(api, MODEL.path(), MODEL.kind)}
    for kind, one in children:
        metadata = one["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        guard = {name: metadata[name] for name in ("uid", "resourceVersion")}
        if "deletionTimestamp" in metadata:
            body = {"metadata": {"uid": metadata["uid"], "finalizers": None}}
            api.call("PATCH", path, body, "application/merge-patch+json")
        elif (found := metadata.get("ownerReferences")) and not any(owner["uid"] in owners for owner in found):
            api.call("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": guard})


def _all(api: Api, path: str, kind: str) -> list[dict[str, Any]]:
    return [{**one, "kind": kind} for one in done(api.call("GET", path))["items"] or ()]


class Users:
    """They edit models all the time, and make those again that they have deleted; garbage is collected meanwhile."""

    def __init__(self, kubeconfig: Path, namespaces: list[str]) -> None:
        self._kubeconfig = kubeconfig
        self._namespaces = namespaces
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._edit, name="users")
        self.edits = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _edit(self) -> None:
        api, chance = Api(self._kubeconfig), random.Random(SEED)  # noqa: S311 # chooses edits
        while not self._over.wait(EDIT_SECONDS):
            become(api, chance.choice(self._namespaces), chance.randint(0, DELETED))
            self.edits += 1
            if self.edits % len(self._namespaces) == 0:
                collect(api)
        api.close()


class Killer:
    """Kills the operator at one of its writes: before it reaches the API server, or before its answer is back."""

    def __init__(self, proxy: ApiProxy) -> None:
        self.killed = asyncio.Event()
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._chance = random.Random(SEED)  # noqa: S311 # chooses when
        self._left = self._chance.randint(1, MOST_WRITES)
        self._last: Call | None = None
        proxy.fault = self._fault
        proxy.answered = lambda answered: self._kill() if answered.call is self._last else None

    def end(self) -> None:
        """Kill no more."""
        self._proxy.fault, self._proxy.answered = lambda _: None, lambda _: None

    def _fault(self, call: Call) -> Fault:
        if not call.writes or call.event:
            return None
        self._left -= 1
        if self._left:
            return None
        self._left = self._chance.randint(1, MOST_WRITES)
        if self._chance.randint(0, 1):
            self._last = call
            return None
        self._kill()
        return Loss.REQUEST

    def _kill(self) -> None:
        self._proxy.cut_off()
        self._loop.call_soon_threadsafe(self.killed.set)


def children(api: Api, kinds: list[tuple[str, str, str]], namespace: str) -> Snapshot:
    """What stands beside the model, whose status tells how it came about."""
    found = standing(api, kinds, namespace)
    return {name: one for name, one in found.items() if not name.startswith(MODEL.kind)}


def doubles(found: Iterable[dict[str, Any]]) -> list[str]:
    """Revisions of one namespace that keep the same."""
    counts = Counter(
        json.dumps(one["data"], sort_keys=True) for one in found if one["kind"] == CONTROLLER_REVISION.kind
    )
    return [text for text, count in counts.items() if count > 1]


async def end(api: Api, operators: Operators, fates: Mapping[str, int]) -> None:
    """Give each model its last fate, from the same beginning, and wait until nothing is left to do."""
    for step in (dict.fromkeys(fates, 0), fates):
        for namespace, fate in step.items():
            become(api, namespace, fate)
        for _ in range(2):  # what is made while its owner goes is garbage too
            await operators.settle()
            collect(api)
        await operators.settle()


async def test_an_operator_that_is_killed_all_the_time_loses_nothing_doubles_nothing_and_leaves_nothing(
    api: Api,
    kinds: list[tuple[str, str, str]],
    operators: Operators,
    lonely_server: OwnCluster,
    new_namespace: Callable[[], str],
) -> None:
    proxy = operators.proxy
    references = {new_namespace(): fate for fate in range(DELETED + 1)}
    namespaces = [new_namespace() for _ in range(MODELS)]
    fates = {namespace: number % (DELETED + 1) for number, namespace in enumerate(namespaces)}
    async with operators:
        await end(api, operators, references)
        wanted = {fate: children(api, kinds, namespace) for namespace, fate in references.items()}
        assert not wanted[DELETED]
        killer = Killer(proxy)
        with Users(lonely_server.kubeconfig, namespaces) as users:
            for number in range(KILLS):
                await until(killer.killed.is_set, f"write to be killed at, {number}", SETTLE_SECONDS)
                killer.killed.clear()
                await operators.stop()
                await operators.launch()  # it may be killed before anybody has seen it ready
        killer.end()
        await operators.stop()
        await operators.start()
        await end(api, operators, fates)
        print(f"{KILLS} kills, {MODELS} models, {users.edits} edits, {len(proxy.done)} writes")
        wrong = []
        for namespace, fate in fates.items():
            found = snapshot.differences(children(api, kinds, namespace), wanted[fate])
            wrong += [f"{namespace}, fate {fate}: {line}" for line in found]
            wrong += [f"{namespace}: doubled: {text}" for text in doubles(snapshot.objects(api, namespace, kinds))]
        assert not wrong, "\n".join(wrong)
        written = len(proxy.done)
        await operators.stop()
        await operators.start()
        await operators.settle()
        assert len(proxy.done) == written, "an operator that starts in the end finds nothing to do"
