"""One fault of the world after the other: the operator goes on. CHAOS_EVERY=1 has each of them, otherwise some."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from tests.chaos.operators import until, until_true
from tests.chaos.scenario import CREATED, NAME, apply, delete
from tests.support.api import done
from tests.support.api_proxy import CONFLICT, GONE, NO_STREAMED_LISTS, TOO_MANY, UNAUTHORIZED, Loss, Refusal
from vllm_operator.cluster import patience, stream, watches
from vllm_operator.cluster.kinds import CONFIG_MAP, DEPLOYMENT, MODEL, SECRET
from vllm_operator.cluster.watches import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from tests.chaos.operators import Operators
    from tests.support.api import Api
    from tests.support.api_proxy import ApiProxy, Call, Fault

pytestmark = pytest.mark.api_server

T = TypeVar("T")

MODELS = Place(MODEL)

WHOLE: Final = os.environ.get("CHAOS_EVERY") == "1"
SILENT_SECONDS: Final = 30 if WHOLE else 10
WRITE_FAULTS: Final = (
    CONFLICT,
    Loss.ANSWER,
    TOO_MANY,
    Refusal(500, "etcdserver: leader changed"),
    UNAUTHORIZED,
    Loss.REQUEST,
)


def some(cases: Sequence[T], count: int) -> Sequence[T]:
    """The first ones, or all."""
    return cases if WHOLE else cases[:count]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried again late."""
    for module in (watches, patience):
        monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 0.5)


def replicas(api: Api, namespace: str) -> int:
    """Of the Deployment; -1 where there is none."""
    found = api.call("GET", DEPLOYMENT.path(namespace, NAME))
    return -1 if found.refusal else int(found.body["spec"]["replicas"])


def told(api: Api, namespace: str) -> Mapping[str, Any]:
    """The status of the model."""
    found: Mapping[str, Any] = done(api.call("GET", MODEL.path(namespace, NAME))).get("status", {})
    return found


def follows(api: Api, namespace: str, number: int) -> Callable[[], bool]:
    """Whether the Deployment has that many replicas, and the status is about the newest spec."""

    def look() -> bool:
        model = done(api.call("GET", MODEL.path(namespace, NAME)))
        seen = model.get("status", {}).get("observedGeneration") == model["metadata"]["generation"]
        return seen and replicas(api, namespace) == number

    return look


def scale(number: int) -> Callable[[Api, str], None]:
    """A step."""
    return apply({**CREATED, "replicas": number})


class Every:
    """Every n-th request of a sort has a fault."""

    def __init__(self, fault: Fault, every: int, sort: Callable[[Call], bool]) -> None:
        self.hits = 0
        self._fault, self._every, self._sort, self._seen = fault, every, sort, 0

    def __call__(self, call: Call) -> Fault:
        """What happens to a request."""
        if not self._sort(call):
            return None
        self._seen += 1
        if self._seen % self._every:
            return None
        self.hits += 1
        return self._fault


@pytest.mark.parametrize("fault", some(WRITE_FAULTS, 2), ids=lambda fault: str(getattr(fault, "status", fault)))
async def test_every_other_write_fails_and_all_is_written(
    fault: Fault, api: Api, operators: Operators, proxy: ApiProxy, new_namespace: Callable[[], str]
) -> None:
    namespace = new_namespace()
    proxy.fault = faults = Every(fault, 2, lambda call: call.writes and call.namespace == namespace)
    async with operators:
        scale(2)(api, namespace)
        await until(follows(api, namespace, 2), "the model")
        scale(3)(api, namespace)
        await until(follows(api, namespace, 3), "the edit")
        assert faults.hits > 3
        assert (await operators.get("/healthz"))[0] == 200


async def test_what_is_asked_to_be_left_alone_is_left_alone_for_that_time(
    api: Api, operators: Operators, proxy: ApiProxy, new_namespace: Callable[[], str]
) -> None:
    namespace, clock = new_namespace(), asyncio.get_running_loop().time
    asked: list[tuple[float, str]] = []

    def fault(call: Call) -> Fault:
        if not (call.writes and call.namespace == namespace and call.path.endswith("/deployments/qwen")):
            return None
        asked.append((clock(), call.path))
        return Refusal(429, "slow down", {"Retry-After": "3"}) if len(asked) < 3 else None

    proxy.fault = fault
    async with operators:
        scale(2)(api, namespace)
        await until(follows(api, namespace, 2), "the model")
    times = [at for at, _ in asked]
    assert len(times) == 3
    assert min(later - before for before, later in itertools.pairwise(times)) >= 3


@pytest.mark.parametrize("code", some((410, 500, 504, 429), 2))
async def test_an_error_inside_a_watch_has_everything_seen_that_happened_meanwhile(
    code: int, api: Api, operators: Operators, proxy: ApiProxy, new_namespace: Callable[[], str]
) -> None:
    namespace, other = new_namespace(), new_namespace()
    async with operators:
        scale(2)(api, namespace)
        scale(2)(api, other)
        for one in (namespace, other):
            await until(follows(api, one, 2), "the models")
        await operators.settle()
        lists = proxy.calls["vllmmodels", "list"]
        proxy.event = lambda call, line: None if call.place == MODELS else line  # events are lost from here on
        scale(3)(api, namespace)
        delete(api, other)
        await asyncio.sleep(1)
        proxy.event = lambda _, line: line
        proxy.send({"type": "ERROR", "object": {"code": code, "message": "too old resource version: 1 (2)"}}, MODELS)
        await until(follows(api, namespace, 3), "the edit")
        gone = CONFIG_MAP.path(other, "vllm-catalog")
        await until(lambda: api.call("GET", gone).code == 404, "the end of what the deleted model was named in")
        assert proxy.calls["vllmmodels", "list"] > lists
        assert not operators.ended


async def test_watches_that_end_again_and_again_lose_nothing(
    api: Api, operators: Operators, proxy: ApiProxy, new_namespace: Callable[[], str]
) -> None:
    namespace = new_namespace()
    async with operators:
        for number in range(1, 9):
            scale(number)(api, namespace)
            (proxy.end_watches if number % 2 else proxy.break_connections)()
            await until(follows(api, namespace, number), f"edit {number}")
        await until_true(operators.idles, "an operator that is ready again")


async def test_a_watch_that_ends_silently_is_begun_again_where_it_stood(
    api: Api,
    operators: Operators,
    proxy: ApiProxy,
    new_namespace: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when a firewall forgets a connection: neither side hears of the other again."""
    monkeypatch.setattr(stream, "QUIET_SECONDS", 3.0)
    namespace = new_namespace()
    async with operators:
        scale(2)(api, namespace)
        await until(follows(api, namespace, 2), "the model")
        silenced = proxy.streams()
        proxy.event = lambda call, line: None if call in silenced else line
        scale(3)(api, namespace)
        await until(follows(api, namespace, 3), "the edit")


async def test_an_api_server_that_answers_nothing_for_a_while_costs_that_while(
    api: Api, operators: Operators, proxy: ApiProxy, new_namespace: Callable[[], str]
) -> None:
    namespace = new_namespace()
    async with operators:
        scale(2)(api, namespace)
        await until(follows(api, namespace, 2), "the model")
        proxy.fault, proxy.event = (lambda _: Loss.SILENCE), (lambda _, __: None)
        proxy.end_watches()
        scale(3)(api, namespace)
        await asyncio.sleep(SILENT_SECONDS)
        assert (await operators.get("/healthz"))[0] == 200
        proxy.fault, proxy.event = (lambda _: None), (lambda _, line: line)
        await until(follows(api, namespace, 3), "the edit", seconds=75)


async def test_a_list_whose_next_page_has_expired_is_begun_anew(
    api: Api, operators: Operators, proxy: ApiProxy, new_namespace: Callable[[], str]
) -> None:
    namespaces = [new_namespace() for _ in range(3)]
    for namespace in namespaces:
        scale(1)(api, namespace)
    seen: list[str] = []

    def fault(call: Call) -> Fault:
        if call.streams_list:
            return NO_STREAMED_LISTS
        if call.place != MODELS or call.watches or "continue" not in call.query:
            return None
        seen.append(call.query["continue"])
        return GONE if len(seen) <= 4 else None

    proxy.fault, proxy.page_size = fault, 1
    async with operators:
        for namespace in namespaces:
            await until(follows(api, namespace, 1), "the models")
    assert len(seen) > 4


@pytest.mark.parametrize("kind", some((MODEL, DEPLOYMENT, SECRET), 1), ids=lambda kind: kind.plural)
async def test_a_right_that_is_taken_away_and_given_back_is_missed_and_used_again(
    kind: Any, api: Api, operators: Operators, proxy: ApiProxy, new_namespace: Callable[[], str]
) -> None:
    namespace, place = new_namespace(), Place(kind)
    async with operators:
        scale(2)(api, namespace)
        await until(follows(api, namespace, 2), "the model")
        forbidden = Refusal(403, f"{kind.plural} is forbidden", reason="Forbidden")
        proxy.fault = lambda call: forbidden if call.place == place else None
        proxy.end_watches(place)

        async def unready() -> bool:
            return f"cannot watch {kind.plural}: {kind.plural} is forbidden" in (await operators.get("/readyz"))[1]

        await until_true(unready, "an operator that says so")
        assert (await operators.get("/healthz"))[0] == 200
        proxy.fault = lambda _: None
        scale(3)(api, namespace)
        await until(follows(api, namespace, 3), "the edit")


async def test_answers_of_something_else_than_an_api_server_end_nothing(
    api: Api, operators: Operators, proxy: ApiProxy, new_namespace: Callable[[], str]
) -> None:
    """A load balancer's page, with a status of success."""
    namespace = new_namespace()
    async with operators:
        scale(2)(api, namespace)
        await until(follows(api, namespace, 2), "the model")
        page = Refusal(200, headers={"Content-Type": "text/html"}, page=b"<html>sorry</html>")
        proxy.fault = lambda _: page
        proxy.break_connections()
        scale(3)(api, namespace)
        await asyncio.sleep(5)
        assert not operators.ended
        proxy.fault = lambda _: None
        await until(follows(api, namespace, 3), "the edit")
