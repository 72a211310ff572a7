"""Which adapters engines are told of, which names clients are, and what the status says of each."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.resources import (
    NOW,
    as_desired,
    child_of,
    condition,
    deployment_status,
    live,
    observation,
    pod,
    resource,
)
from vllm_operator.api.live import ObjectKey, key_of, live_object
from vllm_operator.diagnosis.cause import Lookup
from vllm_operator.diagnosis.engine_status import AdapterReport, EngineStatus, engine_status
from vllm_operator.diagnosis.lookups import after_lookup, planned_lookup
from vllm_operator.planner.adapters import LEAVING_SECONDS
from vllm_operator.planner.decide import decide
from vllm_operator.render.adapters import FILE, SEEN, read_list
from vllm_operator.render.catalog import catalog, listed_adapters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.planner.plan import Plan

LIST = ObjectKey("ConfigMap", "qwen-adapters")
CLIENT = ObjectKey("ConfigMap", "qwen-client")
DEPLOYMENT = ObjectKey("Deployment", "qwen")
GATE = {"containers": [{"name": "vllm", "ports": [{"name": "gate", "containerPort": 8480}]}]}
LONG_AFTER = NOW + timedelta(seconds=LEAVING_SECONDS)


def adapters(**places: str) -> dict[str, Any]:
    """spec.lora with these adapters."""
    return {"runtimeUpdates": True, "adapters": [{"name": name, "source": place} for name, place in places.items()]}


class World:
    """A model whose adapters change at run time, in a cluster that does what plans say."""

    def __init__(self, engines: int = 2, lora: Mapping[str, Any] | None = None, **places: str) -> None:
        self.raw = resource(lora=dict(adapters(**places) if lora is None else lora), replicas=engines)
        self.children = as_desired(self.raw)
        self.children[DEPLOYMENT]["status"] = deployment_status(engines)
        self.pods = [{**pod(f"qwen-{number}", ready=True, podIP="10.0.0.1"), "spec": GATE} for number in range(engines)]
        self.reports: dict[str, AdapterReport] = {}
        self.catalogued: frozenset[str] = frozenset()

    @property
    def listed(self) -> dict[str, bool]:
        """The list that engines are told: whether each adapter is required."""
        return {one.name: one.required for one in read_list(self.children[LIST]).adapters}

    @property
    def version(self) -> str:
        """Of that list."""
        return read_list(self.children[LIST]).version

    def edit(self, **places: str) -> None:
        """Another spec.lora.adapters."""
        self.raw["spec"]["lora"] = adapters(**places)

    def report(self, number: int, served: Mapping[str, str], **failed: str) -> None:
        """What the manager of an engine says, having read the list of now."""
        told = AdapterReport(self.version, tuple(sorted(served.items())), tuple(sorted(failed.items())))
        self.reports[f"qwen-{number}"] = told

    def all_serve(self) -> None:
        """Every engine follows the list of now."""
        paths = {one.name: one.path for one in read_list(self.children[LIST]).adapters}
        for number in range(len(self.pods)):
            self.report(number, paths)

    def look(self, now: Any = NOW) -> Plan:
        """Decide until nothing is left to do, as the operator does, and keep what was written."""
        for _ in range(6):
            lookups = {
                one["metadata"]["uid"]: after_lookup(
                    one, None, EngineStatus("serving", adapters=self.reports[one["metadata"]["name"]]), now
                )
                for one in self.pods
                if one["metadata"]["name"] in self.reports
            }
            plan = decide(
                observation(
                    copy.deepcopy(self.raw),
                    self.children,
                    *self.pods,
                    now=now,
                    lookups=lookups,
                    catalogued=self.catalogued,
                )
            )
            for write in plan.writes:
                status = self.children.get(key_of(write.desired), {}).get("status", {})
                self.children[key_of(write.desired)] = live(write.desired, **status)
            if plan.status is not None:
                self.raw["status"] = json.loads(json.dumps(plan.status))
            if not plan.writes and plan.status is None:
                return plan
        raise AssertionError("it never comes to rest")

    @property
    def told(self) -> dict[str, tuple[str, bool]]:
        """State of each adapter, and whether clients are told of it."""
        return {one["name"]: (one["state"], one["served"]) for one in self.raw["status"].get("adapters", ())}

    @property
    def loaded(self) -> tuple[str, str, str]:
        """The condition."""
        found = condition(self.raw["status"], "AdaptersLoaded")
        return found["status"], found["reason"], found["message"]

    @property
    def client_names(self) -> str:
        """What the client's ConfigMap says."""
        return str(self.children[CLIENT]["data"].get("VLLM_ADAPTER_NAMES", ""))

    @property
    def in_catalog(self) -> list[str]:
        """What the catalogue says."""
        (part,) = catalog("team", [live_object(self.raw)])
        return sorted(listed_adapters([part], "qwen"))


def served(**places: str) -> World:
    """A model that serves these adapters, and has told clients of them."""
    world = World(lora=adapters(**places))
    world.look()
    world.all_serve()
    world.look()
    world.catalogued = frozenset(places)
    return world


# --- an adapter that comes


def test_a_name_is_told_to_clients_once_every_engine_that_serves_has_it() -> None:
    world = World(sql="org/sql")
    world.look()
    assert (world.listed, world.told) == ({"sql": False}, {"sql": ("Loading", False)})
    assert world.loaded == (
        "False",
        "AdaptersLoading",
        "spec.lora.adapters[0] (sql): 0 of 2 engines serve it; the managers of 2 do not say",
    )
    world.report(0, {"sql": "org/sql"})
    world.report(1, {})
    world.look()
    assert (world.told["sql"], world.client_names, world.in_catalog) == (("Loading", False), "", [])
    world.report(1, {"sql": "org/sql"})
    world.look()
    assert world.told["sql"] == ("Serving", True)
    assert world.loaded == ("True", "AdaptersServe", "adapters: 1")
    assert (world.listed, world.client_names, world.in_catalog) == ({"sql": True}, "sql", ["sql"])


def test_an_edit_writes_the_list_alone_and_no_engine_is_replaced() -> None:
    world = served(sql="org/sql")
    before = copy.deepcopy(world.children[DEPLOYMENT])
    world.edit(sql="org/sql", legal="org/legal")
    world.look()
    assert world.children[DEPLOYMENT] == before
    assert world.listed == {"sql": True, "legal": False}
    revisions = [key for key in world.children if key.kind == "ControllerRevision"]
    assert len(revisions) == 1


def test_an_engine_that_was_not_asked_since_it_came_has_what_its_gate_requires() -> None:
    world = served(sql="org/sql")
    world.pods.append({**pod("qwen-2", ready=True, podIP="10.0.0.3"), "spec": GATE})
    world.look()
    assert world.told["sql"] == ("Serving", True)
    world.report(2, {})
    world.look()
    assert world.told["sql"] == ("Loading", False), "now it is known better"


def test_while_no_engine_serves_no_name_is_served() -> None:
    world = served(sql="org/sql")
    world.pods = [{**pod("qwen-0", podIP="10.0.0.1"), "spec": GATE}]
    world.look()
    assert world.told["sql"] == ("Loading", False)
    assert world.loaded == ("False", "AdaptersLoading", "no engine serves")


# --- one that goes


def test_a_name_leaves_the_catalogue_first_and_is_unloaded_after() -> None:
    world = served(sql="org/sql", legal="org/legal")
    world.edit(sql="org/sql")
    plan = world.look()
    assert (world.client_names, world.in_catalog) == ("sql", ["sql"])
    assert world.told["legal"] == ("Leaving", False)
    assert world.listed == {"sql": True, "legal": False}, "the engines keep it"
    assert plan.look_again_at is not None
    world.look(LONG_AFTER)
    assert "legal" in world.listed, "the live catalogue has it still"
    world.catalogued = frozenset({"sql"})
    world.look(LONG_AFTER - timedelta(seconds=1))
    assert "legal" in world.listed, "those who have read it may not have heard"
    world.look(LONG_AFTER)
    assert (world.listed, world.told) == ({"sql": True}, {"sql": ("Serving", True)})
    assert world.loaded[2] == "2 of 2 engines have not unloaded yet what has gone"
    world.all_serve()
    world.look(LONG_AFTER)
    assert world.loaded[0] == "True"


def test_one_that_was_never_served_goes_at_once_and_one_that_comes_back_stays() -> None:
    world = served(sql="org/sql")
    world.edit(sql="org/sql", legal="org/legal")
    world.look()
    world.edit()
    world.look()
    assert world.listed == {"sql": False}
    world.edit(sql="org/sql")
    world.look()
    assert (world.told, world.listed) == ({"sql": ("Serving", True)}, {"sql": True})


def test_an_edit_that_is_taken_back_leaves_what_there_was() -> None:
    world = served(sql="org/sql")
    before = copy.deepcopy(world.children)
    world.edit(sql="org/sql-2", legal="org/legal")
    world.look()
    world.report(0, {"sql": "org/sql-2"})
    world.report(1, {"sql": "org/sql"}, legal="no")
    world.look()
    world.edit(sql="org/sql")
    world.all_serve()
    world.look()
    world.all_serve()
    world.look()
    assert world.children == before
    assert world.told == {"sql": ("Serving", True)}


# --- one that cannot be loaded


def test_what_an_engine_cannot_load_is_told_by_its_field_in_its_own_words_with_what_to_do() -> None:
    world = served(sql="org/sql")
    world.edit(sql="org/sql", wide="org/wide")
    world.look()
    words = "/v1/load_lora_adapter: HTTP 500: LoRA rank 64 is greater than max_lora_rank 16."
    for number in range(2):
        world.report(number, {"sql": "org/sql"}, wide=words)
    world.look()
    status, reason, message = world.loaded
    assert (status, reason) == ("False", "AdapterFails")
    assert message == (
        f"spec.lora.adapters[1] (wide): qwen-0: {words}: an adapter has rank 64, and the engine takes up to 16: raise "
        "spec.lora.maxRank to 64 or the next allowed number; and 1 more engines; 0 of 2 engines serve it"
    )
    assert condition(world.raw["status"], "Ready")["status"] == "True", "the engines serve the rest"
    told = world.raw["status"]["diagnosis"][0]
    assert (told["id"], told["field"], told["value"]) == ("LoraRank", "spec.lora.maxRank", "64")
    world.edit(sql="org/sql")
    world.look()
    world.all_serve()
    world.look()
    assert world.loaded[0] == "True"
    assert "diagnosis" not in world.raw["status"]


def test_an_adapter_that_fails_in_a_new_place_is_served_from_the_old_one_and_required_of_nobody() -> None:
    world = served(sql="org/sql")
    world.edit(sql="org/none")
    world.look()
    for number in range(2):
        world.report(number, {"sql": "org/sql"}, sql="No adapter found")
    world.look()
    assert world.told["sql"] == ("Failing", True)
    assert world.listed == {"sql": False}


def test_an_engine_that_comes_is_not_let_in_without_what_the_others_serve() -> None:
    world = served(sql="org/sql")
    world.pods.append({**pod("qwen-2", podIP="10.0.0.3"), "spec": GATE})
    world.report(2, {}, sql="No adapter found")
    world.look()
    assert world.told["sql"] == ("Failing", True)
    assert world.loaded[2].startswith("spec.lora.adapters[0] (sql): qwen-2: No adapter found")
    assert world.listed == {"sql": True}


def test_a_spec_that_cannot_be_followed_leaves_what_is_told_of_adapters() -> None:
    world = served(sql="org/sql")
    before = world.told
    world.raw["spec"]["model"]["chatTemplate"] = {"inline": "{% if %}"}
    world.look()
    assert condition(world.raw["status"], "Ready")["reason"] == "InvalidSpec"
    assert world.told == before


# --- the engines' side


def test_pods_whose_managers_follow_another_list_are_called_once() -> None:
    world = served(sql="org/sql")
    assert world.look().to_call == ()
    world.edit(sql="org/sql", legal="org/legal")
    plan = world.look()
    seen = {SEEN: world.version}
    assert {mark.pod.name: mark.annotations for mark in plan.to_call} == {"qwen-0": seen, "qwen-1": seen}
    for one in world.pods:
        one["metadata"]["annotations"] = {SEEN: world.version}
    assert world.look().to_call == ()


def test_managers_are_asked_soon_until_they_follow_the_list() -> None:
    engine = {**pod("qwen-0", ready=True, podIP="10.0.0.1"), "spec": GATE}
    behind = after_lookup(engine, None, EngineStatus("serving", adapters=AdapterReport("v1")), NOW)
    follows = after_lookup(engine, None, EngineStatus("serving", adapters=AdapterReport("v2")), NOW)
    soon, later = (planned_lookup(engine, last, adapters="v2") for last in (behind, follows))
    assert soon is not None
    assert later is not None
    assert (soon.kind, later.kind) == (Lookup.ADAPTERS, Lookup.SERVING)
    assert soon.at < later.at
    never = planned_lookup(engine, behind)
    assert never is not None
    assert never.kind is Lookup.SERVING, "where there is no list"


def test_what_a_manager_says_of_adapters_is_read_with_care() -> None:
    told = {"version": "v1", "served": {"sql": "/a/sql", "odd": 1}, "failed": {"wide": "no\n" * 999}}
    found = engine_status({"verdict": "serving", "adapters": told})
    assert found is not None
    assert found.adapters is not None
    assert (found.adapters.version, found.adapters.served) == ("v1", (("sql", "/a/sql"),))
    assert len(found.adapters.failed[0][1]) <= 300
    oddities: tuple[Any, ...] = ({}, None, [], {"version": 1}, {"served": {}})
    for odd in oddities:
        status = engine_status({"verdict": "serving", "adapters": odd})
        assert status is not None
        assert status.adapters is None


def test_the_list_stays_as_long_as_a_pod_of_an_earlier_template_mounts_it() -> None:
    world = served(sql="org/sql")
    volume = {"name": "adapters", "configMap": {"name": "qwen-adapters"}}
    world.raw["spec"]["lora"] = {"adapters": [{"name": "sql", "source": "org/sql"}]}
    for one in world.pods:
        one["spec"] = {**GATE, "volumes": [volume]}
    assert LIST not in {found.live.key for found in world.look().deletions}
    for one in world.pods:
        one["spec"] = GATE
    assert LIST in {found.live.key for found in decide(observation(world.raw, world.children, *world.pods)).deletions}


# --- adapters that are part of the pods


def test_without_updates_a_name_is_told_once_all_engines_are_of_the_spec_and_stays_while_they_are_replaced() -> None:
    world = World(lora={"adapters": [{"name": "sql", "source": "org/sql"}]})
    assert LIST not in world.children
    world.look()
    assert (world.told, world.client_names) == ({"sql": ("Serving", True)}, "sql")
    world.raw["spec"]["lora"]["adapters"].append({"name": "legal", "source": "org/legal"})
    world.children[DEPLOYMENT]["status"] = deployment_status(2, updated=1)
    world.look()
    assert world.told == {"sql": ("Serving", True), "legal": ("Loading", False)}
    assert world.in_catalog == ["sql"]
    assert all(found["type"] != "AdaptersLoaded" for found in world.raw["status"]["conditions"])
    world.raw["spec"]["lora"]["adapters"].pop(0)
    world.look()
    assert world.in_catalog == []


@pytest.mark.parametrize("data", [None, {}, {FILE: "{"}, {FILE: "[]"}, {FILE: '{"adapters": [1]}'}])
def test_a_list_that_somebody_has_made_unreadable_is_written_anew(data: dict[str, str] | None) -> None:
    world = served(sql="org/sql")
    wanted = copy.deepcopy(world.children[LIST])
    world.children[LIST]["data"] = data
    assert read_list(world.children[LIST]).adapters == ()
    world.look()
    assert world.children[LIST]["data"] == wanted["data"]


def test_the_list_is_rendered_before_anything_is_known_of_engines() -> None:
    raw = resource(lora={**adapters(sql="pvc://a/sql", legal="org/legal"), "claims": ["a"]})
    assert json.loads(child_of(raw, "ConfigMap", suffix="-adapters")["data"][FILE]) == {
        "version": read_list(child_of(raw, "ConfigMap", suffix="-adapters")).version,
        "adapters": [{"name": "sql", "path": "/mnt/claims/a/sql"}, {"name": "legal", "path": "org/legal"}],
    }
