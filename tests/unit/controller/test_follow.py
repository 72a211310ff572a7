"""The workers: a mistake with one model costs that model a delay, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.resources import as_live, live, resource
from tests.support.tasks import deaf_once
from vllm_operator.api import names
from vllm_operator.api.live import LiveObject, live_object
from vllm_operator.cluster import sync
from vllm_operator.cluster.cache import Cache, Key
from vllm_operator.cluster.client import Identities, Identity
from vllm_operator.cluster.fence import LeaseFence
from vllm_operator.cluster.kinds import (
    CUSTOM_METRICS,
    HORIZONTAL_POD_AUTOSCALER,
    MODEL,
    NETWORK_POLICY,
    POD,
    POD_DISRUPTION_BUDGET,
    POD_MONITOR,
    WATCHED,
)
from vllm_operator.cluster.queue import NamespaceKey, Queue, QueueKey
from vllm_operator.cluster.rights import MissingRight, MissingRights
from vllm_operator.cluster.scope import EVERYTHING, Scope
from vllm_operator.cluster.watches import Place, Watches
from vllm_operator.controller import cancelling, follow
from vllm_operator.errors import (
    ApiError,
    ApiNotFound,
    ApiRefused,
    ApiUnavailable,
    NotLeading,
    OperatorError,
    StoreWentBack,
)
from vllm_operator.planner.autoscalers import Rival
from vllm_operator.settings import Settings
from vllm_operator.telemetry import Telemetry
from vllm_operator.telemetry.metrics import Outcome
from vllm_operator.telemetry.models import model_seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from vllm_operator.cluster.client import Client
    from vllm_operator.cluster.engine_status import EngineStatusReader
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.controller.follow import Reconcilers


class Nothing:
    """A client that lists nothing but PodMonitors; None stands for an API server that does not serve them."""

    def __init__(self, *errors: ApiError, about: Kind = MODEL, scope: Scope = EVERYTHING) -> None:
        self.scope = scope
        self.rights = MissingRights(scope)
        self.answers_to_reviews: list[bool | ApiError] = [ApiUnavailable("POST", "busy"), False]
        self.allowed = asyncio.Event()
        self.errors = list(errors)
        self.about = about
        self.listed = 0
        self.monitors: Exception | list[dict[str, Any]] | None = None
        self.budgets: Exception | list[dict[str, Any]] = []
        self.policies: Exception | list[dict[str, Any]] = []
        self.autoscalers: Exception | list[dict[str, Any]] = []
        self.groups: ApiError | set[str] = set()

    async def objects(self, kind: Kind, _: str | None = None) -> AsyncIterator[LiveObject]:
        """What there is of an optional kind."""
        if kind is not POD_MONITOR or self.monitors is None:
            raise ApiNotFound("GET", "404 page not found")
        if isinstance(self.monitors, Exception):
            raise self.monitors
        for found in self.monitors:
            yield live_object(found, kind="PodMonitor")

    async def others(self, kind: Kind, namespace: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """PodDisruptionBudgets, NetworkPolicies or HorizontalPodAutoscalers that others made."""
        made = {
            POD_DISRUPTION_BUDGET: self.budgets,
            NETWORK_POLICY: self.policies,
            HORIZONTAL_POD_AUTOSCALER: self.autoscalers,
        }[kind]
        if isinstance(made, Exception):
            raise made
        for found in made:
            if namespace in (None, found["metadata"]["namespace"]):
                yield found

    async def may(self, _: MissingRight) -> bool:
        """The next answer, and then yes."""
        if not self.answers_to_reviews:
            self.allowed.set()
            return True
        answer = self.answers_to_reviews.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def served_groups(self) -> frozenset[str]:
        """The API groups that there are."""
        if isinstance(self.groups, ApiError):
            raise self.groups
        return frozenset(self.groups)

    async def check_served(self, kind: Kind, _: str | None = None) -> None:
        """The next error, if it is about this kind."""
        if kind is self.about and self.errors:
            raise self.errors.pop(0)

    async def check_listable(self, kind: Kind, namespace: str | None) -> None:  # noqa: ARG002 # of the client
        """The next error, if it is about this kind."""
        await self.check_served(kind)

    async def identities(self, kind: Kind, _: str | None = None) -> Identities:
        """Nothing, or the next error."""
        self.listed += kind is MODEL
        await self.check_served(kind)
        return Identities(0, ())


class Fickle:
    """A reconciler that answers what it is told to."""

    def __init__(self, *answers: Exception | float | None) -> None:
        self.answers = list(answers)
        self.keys: list[QueueKey] = []

    async def reconcile(self, key: QueueKey) -> float | None:
        """The next answer."""
        self.keys.append(key)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def parts(client: Nothing | None = None) -> follow.Components:
    """The parts of a process, without a cluster."""
    telemetry = Telemetry(asyncio.Event())
    settings = Settings(workers=1)
    watches = Watches()
    cache = Cache()
    for kind in WATCHED:
        watches.succeeded(Place(kind))
        for namespace in (None, *(client.scope.namespaces if client else ())):
            cache.set_listed(kind, namespace, listed=True)
    some = cast("Client", client or Nothing())
    managers = cast("EngineStatusReader", None)  # no test here has a pod
    return follow.Components(settings, some, managers, cache, Queue(), telemetry, watches)


def results(made: follow.Components) -> dict[str, float]:
    """Looks by how they ended, without those that none did."""
    name = "vllm_operator_reconcile_total"
    found = {one: made.telemetry.registry.get_sample_value(name, {"result": one}) for one in Outcome}
    return {str(one): count for one, count in found.items() if count}


async def worked(made: follow.Components, reconciler: Fickle) -> None:
    """One worker, until all answers are given."""
    worker = asyncio.create_task(follow._work(made, cast("Reconcilers", reconciler)))  # noqa: SLF001 # the unit under test
    async with asyncio.timeout(60):
        while reconciler.answers:  # noqa: ASYNC110 # the fake has no event
            await asyncio.sleep(0.005)
    await asyncio.sleep(0)
    assert not worker.done()
    worker.cancel()


@pytest.mark.parametrize(
    ("error", "result"),
    [(ApiUnavailable("PATCH", "down"), "error"), (KeyError("a mistake of ours"), "unexpected")],
    ids=["down", "mistake"],
)
async def test_a_failure_is_counted_and_tried_again(error: Exception, result: str) -> None:
    made = parts()
    reconciler = Fickle(error, None)
    made.queue.add(Key("team", "qwen"))
    await worked(made, reconciler)
    assert reconciler.keys == [Key("team", "qwen")] * 2
    assert made.telemetry.failures._value.get() == 1  # noqa: SLF001 # prometheus_client offers no other way
    assert results(made) == {result: 1, "success": 1}


async def test_an_appointment_is_kept_and_a_success_without_one_ends_it() -> None:
    made = parts()
    reconciler = Fickle(0.01, None)
    made.queue.add(Key("team", "qwen"))
    await worked(made, reconciler)
    assert len(reconciler.keys) == 2
    assert len(made.queue) == 0
    assert results(made) == {"requeue_after": 1, "success": 1}


async def test_following_starts_with_everything_that_exists_and_says_so() -> None:
    made = parts()
    made.cache.put(MODEL, as_live(resource()))
    ready = asyncio.Event()
    task = asyncio.create_task(follow.follow(made, ready))
    async with asyncio.timeout(60):
        await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_right_that_comes_back_has_everything_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_ASK_FOR_RIGHTS_SECONDS", 0.01)
    client = Nothing()
    fence = LeaseFence(lease_duration=15, renew_deadline=10, clock=lambda: 0.0)  # another one leads
    made = replace(parts(client), fence=fence)
    made.cache.put(MODEL, as_live(resource()))
    ready = asyncio.Event()
    task = asyncio.create_task(follow.follow(made, ready))
    async with asyncio.timeout(60):
        await ready.wait()
        user = 'User "system:serviceaccount:vllm-system:vllm-operator"'
        client.rights.refused(f'{user} cannot patch resource "deployments" in API group "apps" in the namespace "team"')
        await client.allowed.wait()
    assert client.rights.missing == ()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.answers_to_reviews == []
    assert len(made.queue) == 2, "the model and its namespace"


def monitor(version: int = 20) -> dict[str, Any]:
    """A live PodMonitor of the model, as a list shows it: without its kind."""
    metadata = {"name": "qwen", "namespace": "team", "labels": names.labels("qwen", "engine")}
    found = live({"kind": "PodMonitor", "metadata": metadata})
    found["metadata"]["resourceVersion"] = str(version)
    del found["kind"]
    return found


async def queued(made: follow.Components) -> set[QueueKey]:
    """What waits to be looked at; it is taken out."""
    found = set()
    while len(made.queue):
        found.add(await made.queue.get())
    for key in found:
        made.queue.done(key)
    return found


QWEN, SHARED = Key("team", "qwen"), NamespaceKey("team")


async def list_optional(made: follow.Components) -> set[QueueKey]:
    """One look at the optional kinds, and which keys it put into the queue."""
    await follow._list_optional(made)  # noqa: SLF001 # the unit under test
    return await queued(made)


async def test_an_optional_kind_is_found_when_it_comes_and_missed_when_it_goes() -> None:
    client = Nothing()
    made = parts(client)
    made.cache.put(MODEL, as_live(resource()))
    assert await list_optional(made) == set()
    assert not made.cache.serves(POD_MONITOR)
    client.monitors = [monitor()]
    assert await list_optional(made) == {QWEN, SHARED}
    assert made.cache.serves(POD_MONITOR)
    (found,) = made.cache.children("team", "qwen")
    assert found.kind == "PodMonitor"
    assert await list_optional(made) == set(), "an unchanged world costs no look"
    client.monitors = None
    assert await list_optional(made) == {QWEN, SHARED}
    assert made.cache.children("team", "qwen") == ()


async def test_an_object_of_an_optional_kind_that_changed_or_went_concerns_its_model() -> None:
    client = Nothing()
    client.monitors = [monitor()]
    made = parts(client)
    made.cache.put(MODEL, as_live(resource()))
    await list_optional(made)
    client.monitors = [monitor(21)]
    assert await list_optional(made) == {QWEN}
    client.monitors = []
    assert await list_optional(made) == {QWEN}
    assert made.cache.children("team", "qwen") == ()


async def test_a_list_of_an_optional_kind_that_fails_changes_nothing() -> None:
    client = Nothing()
    client.monitors = [monitor()]
    made = parts(client)
    await list_optional(made)
    client.monitors = ApiUnavailable("GET", "down")
    assert await list_optional(made) == set()
    assert made.cache.serves(POD_MONITOR)
    assert len(made.cache.children("team", "qwen")) == 1


async def test_an_object_that_was_written_while_the_list_was_on_its_way_is_kept() -> None:
    made = parts()
    made.cache.put(POD_MONITOR, live_object(monitor(), kind="PodMonitor"))
    made.intake.listed(POD_MONITOR, [], set())
    assert len(made.cache.children("team", "qwen")) == 1


def others_autoscaler(kind: str, name: str) -> dict[str, Any]:
    """A HorizontalPodAutoscaler of somebody else that aims at something of this kind and name."""
    version = {"VLLMModel": "vllm.echo-roots.io/v1alpha1", "Deployment": "apps/v1"}[kind]
    target = {"apiVersion": version, "kind": kind, "name": name}
    return {"metadata": {"name": "theirs", "namespace": "team"}, "spec": {"scaleTargetRef": target}}


async def test_autoscalers_of_others_are_known_by_the_model_that_they_aim_at_until_they_go() -> None:
    client = Nothing()
    client.autoscalers = [others_autoscaler("VLLMModel", "qwen"), others_autoscaler("Deployment", "qwen")]
    made = parts(client)
    await follow._list_unwatched(made)  # noqa: SLF001 # the unit under test
    assert made.rivals.of("team", "qwen") == (Rival("HorizontalPodAutoscaler theirs", "qwen"),)
    assert made.rivals.of("team", "llama") == ()
    client.autoscalers = ApiUnavailable("GET", "down")
    await follow._list_unwatched(made)  # noqa: SLF001
    assert made.rivals.of("team", "qwen") == (Rival("HorizontalPodAutoscaler theirs", "qwen"),)
    client.autoscalers = []
    await follow._list_unwatched(made)  # noqa: SLF001
    assert made.rivals.of("team", "qwen") == ()


async def test_custom_metrics_that_come_or_go_have_every_model_looked_at_and_no_answer_changes_nothing() -> None:
    client = Nothing()
    made = parts(client)
    made.cache.put(MODEL, as_live(resource()))
    await queued(made)

    async def looked_for() -> set[QueueKey]:
        await follow._look_for_groups(made)  # noqa: SLF001 # the unit under test
        return await queued(made)

    assert await looked_for() == set()
    client.groups = {"custom.metrics.k8s.io"}
    assert await looked_for() == {QWEN, SHARED}
    assert await looked_for() == set()
    client.groups = ApiUnavailable("GET", "down")
    assert await looked_for() == set()
    assert made.cache.serves(CUSTOM_METRICS)
    client.groups = set()
    assert await looked_for() == {QWEN, SHARED}
    assert not made.cache.serves(CUSTOM_METRICS)


def others_budget(name: str, namespace: str = "team") -> dict[str, Any]:
    """A PodDisruptionBudget that somebody else made for the model's engines."""
    selector = {"matchLabels": names.selector_labels("qwen")}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"selector": selector, "minAvailable": 1}}


def known_budgets(made: follow.Components, namespace: str = "team") -> list[str]:
    """Names of the budgets that a decision about the model would see."""
    return [budget.name for budget in made.budgets.of(namespace, "qwen")]


async def test_budgets_of_others_are_known_from_the_start_and_those_that_went_are_forgotten_at_the_next_look() -> None:
    client = Nothing()
    client.budgets = [others_budget("theirs")]
    made = parts(client)
    await follow._list_unwatched(made)  # noqa: SLF001 # the unit under test
    assert known_budgets(made) == ["theirs"]
    assert [key for key, _ in made.cache.items(POD_DISRUPTION_BUDGET)] == [], "they are no children"
    client.budgets = []
    await follow._list_unwatched(made)  # noqa: SLF001 # the unit under test
    assert known_budgets(made) == []


async def test_budgets_that_cannot_be_listed_stay_as_they_were_known_and_end_nothing() -> None:
    client = Nothing()
    client.budgets = [others_budget("theirs")]
    made = parts(client)
    await follow._list_unwatched(made)  # noqa: SLF001 # the unit under test
    client.budgets = ApiRefused("GET", "poddisruptionbudgets is forbidden")
    await follow._list_unwatched(made)  # noqa: SLF001 # the unit under test
    assert known_budgets(made) == ["theirs"]


async def test_budgets_are_listed_in_the_namespaces_of_a_list_that_can_be_followed() -> None:
    client = Nothing(scope=Scope(namespaces=("team", "not-yet")))
    client.budgets = [others_budget("theirs"), others_budget("unseen", "not-yet"), others_budget("elsewhere", "other")]
    made = parts(client)
    made.followed.add("team")
    await follow._list_unwatched(made)  # noqa: SLF001 # the unit under test
    assert (known_budgets(made), known_budgets(made, "not-yet"), known_budgets(made, "other")) == (["theirs"], [], [])


async def test_network_policies_of_others_are_known_and_one_kind_that_cannot_be_listed_hides_no_other() -> None:
    client = Nothing()
    spec = {"podSelector": {"matchLabels": names.selector_labels("qwen")}, "policyTypes": ["Ingress"]}
    client.policies = [{"metadata": {"name": "deny", "namespace": "team"}, "spec": spec}]
    client.budgets = ApiRefused("GET", "poddisruptionbudgets is forbidden")
    made = parts(client)
    await follow._list_unwatched(made)  # noqa: SLF001 # the unit under test
    assert [policy.name for policy in made.policies.of("team", "qwen")] == ["deny"]
    assert made.policies.of("team", "llama") == ()


async def test_what_others_make_has_the_models_of_its_namespace_looked_at_and_what_stays_costs_no_look() -> None:
    client = Nothing()
    made = parts(client)
    made.cache.put(MODEL, as_live(resource()))
    await queued(made)

    async def looked_at() -> set[QueueKey]:
        await follow._take_in_foreign(made)  # noqa: SLF001 # the unit under test
        return await queued(made)

    client.budgets = [others_budget("elsewhere", "other")]
    assert (await looked_at(), known_budgets(made, "other")) == (set(), ["elsewhere"])
    client.budgets = [others_budget("theirs"), others_budget("elsewhere", "other")]
    assert (await looked_at(), known_budgets(made)) == ({QWEN, SHARED}, ["theirs"])
    assert await looked_at() == set()
    client.budgets = ApiUnavailable("GET", "down")
    assert (await looked_at(), known_budgets(made)) == (set(), ["theirs"])
    client.budgets = []
    assert (await looked_at(), known_budgets(made)) == ({QWEN, SHARED}, [])


UNKNOWN = ApiNotFound("GET", "404 page not found")
FORBIDDEN = ApiRefused("GET", "pods is forbidden")


def impatient(client: Nothing, seconds: float) -> follow.Components:
    """A process that waits so long for what it needs."""
    return replace(parts(client), settings=Settings(workers=1, start_timeout_seconds=seconds))


@pytest.mark.parametrize(
    ("error", "about", "advice"),
    [
        (UNKNOWN, MODEL, "404 page not found: install the CustomResourceDefinition"),
        (FORBIDDEN, POD, "pods is forbidden: give the operator the rights of its role"),
        (ApiUnavailable("GET", "it is down"), POD, "it is down$"),
    ],
    ids=["unknown", "forbidden", "down"],
)
async def test_what_the_start_lacks_for_good_ends_it_with_what_to_do(error: ApiError, about: Kind, advice: str) -> None:
    with pytest.raises(OperatorError, match=advice):
        await follow.wait_until_served(impatient(Nothing(error, about=about), 0))


@pytest.mark.parametrize(
    "error", [UNKNOWN, FORBIDDEN, ApiUnavailable("GET", "429")], ids=["unknown", "forbidden", "down"]
)
async def test_what_the_start_lacks_for_a_moment_is_waited_for_and_told(
    error: ApiError, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = impatient(Nothing(error), 60)
    told: list[str] = []
    monkeypatch.setattr(made.telemetry, "wait_for", told.append)
    await follow.wait_until_served(made)
    assert told == [str(error), ""]


@pytest.mark.parametrize("error", [FORBIDDEN, ApiUnavailable("GET", "429")], ids=["forbidden", "down"])
async def test_one_failed_request_of_the_first_listing_does_not_end_the_start(error: ApiError) -> None:
    client = Nothing(error)
    made = impatient(client, 60)
    made.cache.set_listed(MODEL, None, listed=False)
    ready = asyncio.Event()
    task = asyncio.create_task(follow.follow(made, ready))
    async with asyncio.timeout(60):
        while client.errors:  # noqa: ASYNC110 # the fake has no event
            await asyncio.sleep(0.005)
        assert not ready.is_set()
        made.cache.set_listed(MODEL, None, listed=True)
        await ready.wait()
    task.cancel()


async def test_a_kind_that_nobody_watches_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_BEGUN_WITHIN_SECONDS", 0.0)
    with pytest.raises(OperatorError, match="nothing watches vllmmodels, deployments"):
        await follow.follow(replace(parts(), watches=Watches()), asyncio.Event())


async def test_after_a_time_without_a_watch_lost_deletions_are_looked_for_at_once() -> None:
    made = parts()
    made.cache.put(MODEL, as_live(resource()))
    resync = asyncio.create_task(follow._resync(made))  # noqa: SLF001 # the unit under test
    await asyncio.sleep(0.01)
    assert made.cache.get(MODEL, QWEN)
    for _ in range(2):
        made.watches.failed(Place(MODEL), "HTTP 404")
    made.watches.succeeded(Place(MODEL))
    async with asyncio.timeout(60):
        while made.cache.get(MODEL, QWEN):  # noqa: ASYNC110 # the fake has no event
            await asyncio.sleep(0.005)
    resync.cancel()


class Holding(Nothing):
    """A client that holds models, each in a version."""

    def __init__(self, *models: LiveObject, moment: int = 0) -> None:
        super().__init__()
        self.models = {found.name: found for found in models}
        self.moment = moment

    async def identities(self, kind: Kind, _: str | None = None) -> Identities:
        """What there is."""
        found = self.models.values() if kind is MODEL else ()
        items = (Identity(one.namespace, one.name, one.uid, one.resource_version) for one in found)
        return Identities(self.moment if kind is MODEL else 0, tuple(items))

    async def get(self, kind: Kind, _: str, name: str) -> LiveObject:
        """One of them."""
        assert kind is MODEL
        if name not in self.models:
            raise ApiNotFound("GET", "not found")
        return self.models[name]


def versioned(name: str, version: int) -> LiveObject:
    """A model in a version."""
    raw = resource(name)
    raw["metadata"]["resourceVersion"] = str(version)
    return as_live(raw)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on its way for long."""
    monkeypatch.setattr(sync, "ON_ITS_WAY_SECONDS", 0.0)


@pytest.mark.usefixtures("soon")
async def test_an_addition_and_a_change_that_a_watch_has_lost_are_taken_in_and_looked_at() -> None:
    made = parts(Holding(versioned("qwen", 12), versioned("new", 11), moment=12))
    made.cache.put(MODEL, versioned("qwen", 9))
    assert await follow._hold_against_the_truth(made)  # noqa: SLF001 # the unit under test
    assert await queued(made) == {QWEN, Key("team", "new"), SHARED}
    assert {key.name: live.resource_version for key, live in made.cache.items(MODEL)} == {"qwen": 12, "new": 11}
    assert await follow._hold_against_the_truth(made)  # noqa: SLF001 # the unit under test
    assert await queued(made) == set(), "an unchanged world costs no look"


@pytest.mark.usefixtures("soon")
async def test_an_object_that_was_taken_for_deleted_by_mistake_is_known_again() -> None:
    made = parts(Holding(versioned("qwen", 9), moment=12))
    made.cache.put(MODEL, versioned("qwen", 9))
    made.cache.remove(MODEL, versioned("qwen", 9))
    assert await follow._hold_against_the_truth(made)  # noqa: SLF001 # the unit under test
    assert made.cache.get(MODEL, QWEN) == versioned("qwen", 9)


@pytest.mark.usefixtures("soon")
async def test_more_than_one_look_takes_in_is_taken_in_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "MOST_READ", 2)
    made = parts(Holding(*(versioned(name, 9) for name in "abc")))
    looks = [await follow._hold_against_the_truth(made) for _ in range(2)]  # noqa: SLF001 # the unit under test
    assert looks == [False, True]
    assert len(list(made.cache.items(MODEL))) == 3


async def test_a_list_of_an_older_moment_is_asked_for_again_and_ends_nothing() -> None:
    made = parts(Holding(versioned("qwen", 12), moment=9))
    made.cache.put(MODEL, versioned("qwen", 12))
    assert not await follow._hold_against_the_truth(made)  # noqa: SLF001 # the unit under test
    assert made.cache.get(MODEL, QWEN)


async def test_a_store_that_went_back_in_time_ends_the_process_with_what_to_do() -> None:
    client = Holding(versioned("qwen", 5), moment=6)
    made, ready = parts(client), asyncio.Event()
    made.cache.put(MODEL, versioned("qwen", 12))
    following = asyncio.create_task(follow.follow(made, ready))
    await ready.wait()
    made.watches.recovered.set()
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(60):
            await following
    assert raised.group_contains(StoreWentBack, match="went back in time.*Start the operator again")


async def test_a_lost_deletion_that_could_not_be_looked_for_is_looked_for_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_LIST_AGAIN_SECONDS", 0.01)
    client = Nothing(ApiUnavailable("GET", "down"))
    made = parts(client)
    made.watches.recovered.set()
    resync = asyncio.create_task(follow._resync(made))  # noqa: SLF001 # the unit under test
    async with asyncio.timeout(60):
        while client.listed < 2:  # noqa: ASYNC110 # the fake has no event
            await asyncio.sleep(0.005)
    resync.cancel()


async def test_a_look_that_the_api_server_puts_off_is_not_taken_earlier() -> None:
    made = parts()
    reconciler = Fickle(ApiUnavailable("PATCH", "429", retry_after_seconds=100))
    made.queue.add(QWEN)
    await worked(made, reconciler)
    assert made.queue._timers[QWEN].when() > asyncio.get_running_loop().time() + 90  # noqa: SLF001 # the appointment
    made.queue.cancel_delayed(QWEN)


async def test_a_look_that_may_not_write_any_more_is_no_failure_and_is_taken_again() -> None:
    made = parts()
    reconciler = Fickle(NotLeading("another one leads"), None)
    made.queue.add(QWEN)
    await worked(made, reconciler)
    assert reconciler.keys == [QWEN] * 2
    assert made.telemetry.failures._value.get() == 0  # noqa: SLF001 # prometheus_client offers no other way
    assert results(made) == {"not_leading": 1, "success": 1}


async def test_one_that_stands_by_is_ready_and_looks_at_nothing_until_it_leads_and_at_everything_in_each_term(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fence = LeaseFence(lease_duration=15, renew_deadline=10, clock=lambda: 0.0)
    made = replace(parts(), fence=fence)
    made.cache.put(MODEL, as_live(resource()))
    terms: list[list[QueueKey]] = []

    def begin(_: object) -> Reconcilers:
        terms.append([])
        return cast("Reconcilers", Noting(terms[-1]))

    monkeypatch.setattr(follow.Reconcilers, "of", begin)
    ready = asyncio.Event()
    task = asyncio.create_task(follow.follow(made, ready))
    async with asyncio.timeout(60):
        await ready.wait()
        assert terms == []
        for number in (1, 2):
            fence.renewed(0.0)
            while len(terms) < number or set(terms[-1]) != {QWEN, SHARED}:  # noqa: ASYNC110 # the fake has no event
                await asyncio.sleep(0.005)
            assert made.telemetry.leader._value.get() == 1  # noqa: SLF001 # as above
            fence.lost()
            while made.telemetry.leader._value.get():  # noqa: ASYNC110, SLF001 # as above
                await asyncio.sleep(0.005)
        made.queue.add(Key("team", "late"))
        await asyncio.sleep(0.01)
    assert Key("team", "late") not in terms[-1], "nobody works while another one leads"
    task.cancel()


class Noting:
    """Reconcilers of a term that note what they look at."""

    def __init__(self, looked: list[QueueKey]) -> None:
        self.looked = looked
        self.model = self
        self.lookups = self

    async def reconcile(self, key: QueueKey) -> None:
        """One look."""
        self.looked.append(key)

    async def close(self) -> None:
        """The end of the term's lookups."""


class Spaces(Nothing):
    """A client of an operator that follows two namespaces, and what each of them answers to its lists."""

    def __init__(self, **answers: ApiError | None) -> None:
        super().__init__(scope=Scope(namespaces=tuple(answers)))
        self.answers = answers
        self.written: set[str] = set()
        """Namespaces that a write was tried in."""

    async def apply(self, desired: Mapping[str, Any], *, force: bool) -> LiveObject:
        """No write goes through."""
        self.written.add(desired["metadata"]["namespace"])
        raise ApiUnavailable("PATCH", f"down, force={force}")

    async def check_listable(self, kind: Kind, namespace: str | None) -> None:  # noqa: ARG002 # of the client
        """Whether the namespace lets itself be listed."""
        assert namespace is not None
        if error := self.answers[namespace]:
            raise error

    async def identities(self, kind: Kind, namespace: str | None = None) -> Identities:
        """One model in each namespace that lets itself be listed."""
        assert namespace is not None
        if error := self.answers[namespace]:
            raise error
        found = (Identity(namespace, "qwen", f"uid-of-{namespace}", 10),) if kind is MODEL else ()
        return Identities(0, found)


def model_in(namespace: str) -> LiveObject:
    """The model there."""
    raw = resource(namespace=namespace)
    raw["metadata"]["uid"] = f"uid-of-{namespace}"
    return as_live(raw)


async def seen(look: Callable[[], object]) -> None:
    """Until it is so."""
    async with asyncio.timeout(60):
        while not look():  # noqa: ASYNC110 # the fake has no event
            await asyncio.sleep(0.005)


async def test_nothing_is_decided_in_a_namespace_before_all_of_it_is_known() -> None:
    made = parts(Spaces(team=None))
    reconciler = Fickle(None)
    made.queue.add(QWEN)
    worker = asyncio.create_task(follow._work(made, cast("Reconcilers", reconciler)))  # noqa: SLF001 # the unit under test
    await seen(lambda: not len(made.queue))
    assert reconciler.keys == []
    made.followed.add("team")
    made.queue.add(QWEN)
    await seen(lambda: reconciler.keys == [QWEN])
    worker.cancel()


async def test_a_namespace_that_cannot_be_listed_is_followed_once_it_can_be_and_the_others_at_once() -> None:
    client = Spaces(here=None, later=FORBIDDEN)
    made, ready = parts(client), asyncio.Event()
    for namespace in client.answers:
        made.cache.put(MODEL, model_in(namespace))
    following = asyncio.create_task(follow.follow(made, ready))
    await seen(ready.is_set)
    await seen(lambda: client.written == {"here"})
    assert made.unfollowed == ["later"]
    client.answers["later"] = None
    await seen(lambda: client.written == {"here", "later"})
    assert not made.unfollowed
    client.answers["later"] = FORBIDDEN
    made.watches.recovered.set()
    await seen(lambda: made.unfollowed == ["later"])
    client.answers["later"] = None
    await seen(lambda: not made.unfollowed)
    following.cancel()


async def test_an_operator_whose_namespaces_all_forbid_their_lists_says_so_and_waits() -> None:
    client = Spaces(here=FORBIDDEN)
    made, ready = parts(client), asyncio.Event()
    following = asyncio.create_task(follow.follow(made, ready))
    await seen(lambda: "cannot follow namespace here" in made.telemetry.unready())
    assert not ready.is_set()
    made.cache.put(MODEL, model_in("here"))
    client.answers["here"] = None
    await seen(ready.is_set)
    following.cancel()


async def test_what_is_gone_is_looked_for_in_each_namespace_by_itself() -> None:
    client = Spaces(here=None, there=None)
    made = parts(client)
    for namespace in client.answers:
        made.cache.put(MODEL, model_in(namespace))
        made.followed.add(namespace)
    gone = resource("gone", namespace="there")
    made.cache.put(MODEL, as_live(gone))
    client.answers["here"] = FORBIDDEN
    assert await follow._hold_against_the_truth(made)  # noqa: SLF001 # the unit under test
    assert made.cache.get(MODEL, Key("there", "gone")) is None
    assert made.cache.get(MODEL, Key("here", "qwen")), "nobody said that it is gone"
    assert made.unfollowed == ["here"]


async def test_a_term_that_is_cancelled_ends_also_where_a_worker_loses_its_first_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cancelling, "_CANCEL_AGAIN_SECONDS", 0.01)
    begun = asyncio.Event()
    monkeypatch.setattr(follow, "_work", lambda *_: deaf_once(begun))
    term = asyncio.create_task(follow._lead(parts(), asyncio.Event()))  # noqa: SLF001 # the unit under test
    await begun.wait()
    term.cancel()
    done, _ = await asyncio.wait({term}, timeout=60)
    assert done


async def test_models_of_a_namespace_that_is_not_followed_are_measured_no_more() -> None:
    made = parts(Nothing(scope=Scope(namespaces=("here", "there"))))
    made.followed.add("here")
    for namespace in ("here", "there"):
        made.telemetry.models.see((namespace, "qwen"), model_seen((), {"conditions": []}, pending=True))
    reconciler = Fickle()
    made.queue.add(Key("there", "qwen"))
    worker = asyncio.create_task(follow._work(made, cast("Reconcilers", reconciler)))  # noqa: SLF001 # the unit under test
    async with asyncio.timeout(60):
        while not results(made):  # noqa: ASYNC110 # as above
            await asyncio.sleep(0.005)
    worker.cancel()
    assert results(made) == {"not_followed": 1}
    assert made.telemetry.registry.get_sample_value("vllm_operator_template_updates_pending") == 1
