"""How often statuses are written, and how soon they follow: many models at once, with the controllers of a cluster.

Watches are the witness: each write of a status is an event, and so is each change of a Deployment.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api import Api, done
from tests.support.waiting import until
from vllm_operator.cluster.kinds import DEPLOYMENT, MODEL
from vllm_operator.planner.pace import PAUSE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.support.namespace import Namespace
    from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api_server

MODELS = 40
EDITS_AT_ONCE = 8
QUIET_SECONDS = 4.0
"""Without an event for so long, all have said what they had to say: the longest pause of the operator here is 1 s."""
MERGE = "application/merge-patch+json"


@dataclass
class Told:
    """One write of a status."""

    at: float
    status: dict[str, Any]

    @property
    def milestones(self) -> tuple[Any, ...]:
        """What is told at once."""
        conditions = [(one["type"], one["status"]) for one in self.status["conditions"]]
        return (self.status["observedGeneration"], *conditions)


@dataclass
class Witness:
    """What the watches of one namespace have shown."""

    told: defaultdict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    """Of each model, what was written since `forget`."""
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last status of each model, whenever it was written: an edit is an event too, and shows it once more."""
    deployed: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)
    last_event_at: float = field(default_factory=time.monotonic)

    def follow_models(self, events: Iterator[dict[str, Any]]) -> None:
        """Note each status that differs from the one before."""
        for event in events:
            self.last_event_at = now = time.monotonic()
            name, status = event["object"]["metadata"]["name"], event["object"].get("status")
            if status and self.known.get(name) != status:
                self.known[name] = status
                self.told[name].append(Told(now, status))

    def follow_deployments(self, events: Iterator[dict[str, Any]]) -> None:
        """Note when each Deployment last changed."""
        for event in events:
            self.last_event_at = now = time.monotonic()
            self.deployed[event["object"]["metadata"]["name"]] = now, event["object"]

    def forget(self) -> None:
        """Count from now on; only while nothing happens."""
        self.told.clear()

    def lags(self) -> list[float]:
        """Seconds from the last change of each Deployment to the last write of its model's status; 0 where before."""
        return sorted(max(0.0, told[-1].at - self.deployed[name][0]) for name, told in self.told.items())

    def is_quiet(self) -> bool:
        """Whether nothing has happened for a while."""
        return time.monotonic() - self.last_event_at > QUIET_SECONDS


@pytest.fixture
def api(namespace: Namespace) -> Iterator[Api]:
    """Calls without kubectl."""
    found = Api(namespace.cluster.kubeconfig)
    yield found
    found.close()


@pytest.fixture
def witness(api: Api, namespace: Namespace) -> Iterator[Witness]:
    """Watches of the models and the Deployments of the namespace."""
    found = Witness()
    models, deployments = (api.watch(kind.path(namespace.name)) for kind in (MODEL, DEPLOYMENT))
    threads = [
        threading.Thread(target=found.follow_models, args=(iter(models),)),
        threading.Thread(target=found.follow_deployments, args=(iter(deployments),)),
    ]
    for thread in threads:
        thread.start()
    yield found
    models.close()
    deployments.close()
    for thread in threads:
        thread.join()


def together(edit: Callable[[str], object], names: Iterable[str]) -> None:
    """Make many edits at once. The threads end with them: an API server closes connections that nobody uses."""
    with ThreadPoolExecutor(EDITS_AT_ONCE) as pool:
        list(pool.map(edit, names))


def settle(witness: Witness, models: int, generation: int) -> None:
    """Wait until every model has told of a generation, and nothing has happened for a while."""

    def settled() -> bool:
        told = [status["observedGeneration"] for status in list(witness.known.values())]
        return witness.is_quiet() and told.count(generation) == models

    until(settled, what=f"{models} statuses", seconds=600)


def report(witness: Witness, what: str) -> None:
    """Print the figures."""
    counts, lags = [len(told) for told in witness.told.values()], witness.lags()
    print(
        f"{what}: {statistics.mean(counts):.2f} statuses a model (at most {max(counts)}); behind their Deployments "
        f"{statistics.median(lags):.2f} s (median), {lags[-1]:.2f} s (longest)"
    )


def assert_no_write_too_many(witness: Witness, began: float) -> None:
    """Beside what somebody waits for, a model was told of once a second at most; and the last status is true."""
    for name, told in witness.told.items():
        words = sum(after.milestones == before.milestones for before, after in itertools.pairwise(told))
        assert words <= (told[-1].at - began) / PAUSE.total_seconds() + 1, (name, told)
        deployment = witness.deployed[name][1]
        assert told[-1].status["replicas"] == deployment.get("status", {}).get("replicas", 0)


def test_models_that_come_and_are_edited_together_cost_a_status_each_and_one_for_where_that_ends(
    operator: OperatorProcess, namespace: Namespace, api: Api, witness: Witness
) -> None:
    names = [f"model-{number:03}" for number in range(MODELS)]
    began = time.monotonic()
    together(lambda name: api.create_model(namespace.document(name)), names)
    settle(witness, MODELS, 1)
    report(witness, f"{MODELS} models made")
    assert_no_write_too_many(witness, began)
    witness.forget()
    began = time.monotonic()
    patch = {"spec": {"engine": {"maxModelLen": 4096}}}
    paths = [MODEL.path(namespace.name, name) for name in names]
    together(lambda path: done(api.call("PATCH", path, patch, MERGE)), paths)
    settle(witness, MODELS, 2)
    report(witness, f"{MODELS} models edited")
    assert_no_write_too_many(witness, began)
    witness.forget()
    looks = operator.looks()
    together(lambda path: done(api.call("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, MERGE)), paths)
    until(lambda: operator.looks() >= looks + MODELS and witness.is_quiet(), what="a look at each", seconds=600)
    assert not witness.told, "a label that nobody reads is no news"
