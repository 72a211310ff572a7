"""The first API key: kept once it is made, read from the user's Secret, and never guessed."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.resources import condition, observation, pod, resource
from tests.support.world import World
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import KEY_ORIGIN, KEYS_CHANGED_AT
from vllm_operator.api.resource import parse_resource
from vllm_operator.planner import api_keys
from vllm_operator.planner.decide import decide
from vllm_operator.render.binding import binding_secret
from vllm_operator.render.context import RenderContext

if TYPE_CHECKING:
    from vllm_operator.planner.plan import Observation

BINDING = ObjectKey("Secret", "qwen-binding")
DEPLOYMENT = ObjectKey("Deployment", "qwen")
FRESH = "made-a-moment-ago"
READ: dict[str, Any] = {"keys": [{"name": "team-key", "key": "token"}, {"name": "other", "key": "token"}]}


def encoded(text: str) -> str:
    """As in a Secret."""
    return base64.b64encode(text.encode()).decode()


def raw(**auth: Any) -> dict[str, Any]:
    """A model with that `spec.auth`."""
    return resource(auth=auth) if auth else resource()


def binding(**data: str) -> dict[str, Any]:
    """The live binding Secret."""
    owner = parse_resource(resource()).owner_reference
    metadata = {"name": "qwen-binding", "namespace": "team", "uid": "u", "resourceVersion": "1"}
    return {"kind": "Secret", "metadata": {**metadata, "ownerReferences": [owner]}, "data": data}


def look(
    found: dict[str, Any] | None = None, secrets: dict[str, dict[str, Any]] | None = None, **auth: Any
) -> Observation:
    """What is observed of a model with that `spec.auth`."""
    seen = observation(raw(**auth), {BINDING: found} if found else {})
    return replace(seen, secrets=secrets or {}, fresh_key=FRESH)


def secret(text: str) -> dict[str, Any]:
    """A Secret with a key."""
    return {"data": {"token": encoded(text)}}


def test_a_model_without_auth_has_no_key_and_reads_no_secret() -> None:
    assert api_keys.standing(look()) == api_keys.Standing()
    assert api_keys.secrets_to_read(raw()) == ()
    assert not api_keys.is_generated(raw())


def test_a_generated_key_is_made_once_and_then_kept() -> None:
    assert api_keys.standing(look(generate=True)).client_key == FRESH
    assert api_keys.standing(look(binding(VLLM_API_KEY=encoded("first")), generate=True)).client_key == "first"


@pytest.mark.parametrize(
    "found",
    [
        binding(),
        binding(VLLM_API_KEY=""),
        binding(VLLM_API_KEY="no base64"),
        {**binding(VLLM_API_KEY=encoded("first")), "metadata": {"name": "qwen-binding"}},
    ],
    ids=["no key", "empty", "damaged", "somebody else's"],
)
def test_a_key_that_is_not_there_or_not_ours_is_made_anew(found: dict[str, Any]) -> None:
    assert api_keys.standing(look(found, generate=True)).client_key == FRESH


def test_a_key_that_the_user_named_before_is_not_taken_for_a_generated_one() -> None:
    found = binding(VLLM_API_KEY=encoded("named"))
    found["metadata"]["annotations"] = {KEY_ORIGIN: "named"}
    assert api_keys.standing(look(found, generate=True)).client_key == FRESH


def test_the_binding_says_whether_its_key_was_generated() -> None:
    def origin(**auth: Any) -> str | None:
        rendered = binding_secret(parse_resource(raw(**auth)), RenderContext(api_key="k" if auth else ""))
        found: str | None = rendered["metadata"]["annotations"].get(KEY_ORIGIN)
        return found

    assert origin(generate=True) == "generated"
    assert origin(**READ) == "named"
    assert origin() is None


def test_a_generated_key_comes_before_the_users_and_all_secrets_are_read() -> None:
    assert api_keys.secrets_to_read(raw(generate=True, **READ)) == ("team-key", "other")
    assert api_keys.standing(look(generate=True, **READ)).client_key == FRESH


def test_the_first_of_the_users_keys_is_for_clients() -> None:
    found = api_keys.standing(look(secrets={"team-key": secret("s3cret"), "other": secret("more")}, **READ))
    assert (found.client_key, found.problems, found.sentence) == ("s3cret", (), "")


UNUSABLE = [
    (None, "there is no Secret team-key that the operator may read"),
    ({}, "Secret team-key has no key token"),
    ({"data": {"other": ""}}, "Secret team-key has no key token"),
    ({"data": {"token": ""}}, "is empty"),
    ({"data": {"token": encoded("s3cret\n")}}, "such as a line break at its end"),
    ({"data": {"token": encoded("schlüssel")}}, "what no HTTP header can"),
    ({"data": {"token": "/w=="}}, "is empty"),
]


@pytest.mark.parametrize(
    ("unusable", "problem"),
    UNUSABLE,
    ids=["no Secret", "no data", "no key", "empty", "line break", "not ASCII", "no text"],
)
def test_a_key_that_cannot_be_used_is_told_with_its_path_and_never_shown(
    unusable: dict[str, Any] | None, problem: str
) -> None:
    found = api_keys.standing(look(secrets={"team-key": unusable} if unusable is not None else {}, **READ))
    assert found.client_key == ""
    assert found.problems[0].startswith("spec.auth.keys[0]: ")
    assert problem in found.problems[0]
    assert found.problems[0].endswith(": clients get no key through the binding")
    assert "s3cret" not in repr(found)
    assert found.problems[1].startswith("spec.auth.keys[1]: there is no Secret other")
    assert found.problems[1].endswith(": engines that start now cannot take it")


def test_a_key_that_cannot_be_read_any_more_stays_in_the_binding_as_it_stays_in_the_engines() -> None:
    found = api_keys.standing(look(binding(VLLM_API_KEY=encoded("first")), **READ))
    assert (found.client_key, found.held) == ("first", False)
    assert found.problems[0].endswith(": clients get no other key through the binding")


def test_no_key_shows_where_an_observation_is_printed() -> None:
    seen = look(secrets={"team-key": secret("s3cret")}, **READ)
    found = api_keys.standing(seen)
    assert found.record is not None
    shown = repr((seen, found))
    for text in (FRESH, "s3cret", encoded("s3cret"), *filter(None, found.record.digests.values())):
        assert text not in shown


@pytest.mark.parametrize("key", ["first", "second"])
def test_no_metadata_depends_on_a_key(key: str) -> None:
    def metadata(text: str) -> list[dict[str, Any]]:
        around = {"team-key": secret(text), "other": secret(text)}
        return [write.desired["metadata"] for write in decide(look(secrets=around, **READ)).writes]

    assert metadata(key) == metadata("another")


class Fleet:
    """Three engines of a world, replaced one at a time, each with the keys that its environment had at its start."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.started = 0
        self.accepted: dict[str, frozenset[str]] = {}
        self.revisions: dict[str, str] = {}

    def template(self) -> dict[str, Any]:
        """The pod template as it is now."""
        found: dict[str, Any] = self.world.children[DEPLOYMENT]["spec"]["template"]
        return found

    def start(self) -> None:
        """Start an engine from the template."""
        self.started += 1
        template, made = self.template(), pod(f"qwen-{self.started}", ready=True)
        made["metadata"]["annotations"] = template["metadata"]["annotations"]
        name = made["metadata"]["name"]
        references = [
            one["valueFrom"]["secretKeyRef"]
            for one in template["spec"]["containers"][0]["env"]
            if "secretKeyRef" in one.get("valueFrom", ())
        ]
        self.accepted[name] = frozenset(self.value(one) for one in references)
        self.revisions[name] = repr(template)
        self.world.pods.append(made)

    def value(self, reference: dict[str, str]) -> str:
        """A key of a Secret, as kubelet reads it now."""
        name, key = reference["name"], reference["key"]
        found = self.world.secrets.get(name) or self.world.children[ObjectKey("Secret", name)]
        return base64.b64decode(found["data"][key]).decode()

    def step(self) -> None:
        """The Deployment's controller replaces one engine of an older template, and reports."""
        old = [one for one in self.world.pods if self.revisions[one["metadata"]["name"]] != repr(self.template())]
        if old:
            self.world.pods.remove(old[0])
            del self.accepted[old[0]["metadata"]["name"]]
        while len(self.world.pods) < 3:
            self.start()
        current = sum(self.revisions[one["metadata"]["name"]] == repr(self.template()) for one in self.world.pods)
        live = self.world.children[DEPLOYMENT]
        live["status"] = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": 3,
            "updatedReplicas": current,
            "readyReplicas": 3,
        }

    def refuses(self, key: str) -> bool:
        """Whether some engine does not take the key; without keys of its own an engine takes any."""
        return any(accepted and key not in accepted for accepted in self.accepted.values())


def follow(fleet: Fleet, steps: int) -> list[str]:
    """Let the operator and the controller take turns; what the status said on the way, by reason."""
    world, told = fleet.world, []
    for _ in range(steps):
        world.now += timedelta(seconds=1)
        world.carry_out(world.decide())
        status = world.decide().status  # what is told after the writes
        if status is not None:
            world.raw = {**world.raw, "status": dict(status)}
        ready = condition(world.raw["status"], "Ready")
        key = base64.b64decode(world.children[BINDING]["data"].get("VLLM_API_KEY", "")).decode()
        assert not (ready["status"] == "True" and fleet.refuses(key)), "ready, and an engine refuses the binding's key"
        told.append(ready["reason"])
        fleet.step()
    return told


def named(*names: str) -> dict[str, Any]:
    """`spec.auth` with the keys of those Secrets."""
    return {"keys": [{"name": name, "key": "token"} for name in names]}


def keep_binding(world: World) -> None:
    """Nothing but the user's Secrets changes."""
    assert BINDING in world.children


def delete_binding(world: World) -> None:
    """The user deletes the generated key."""
    del world.children[BINDING]
    world.fresh_key = "made-anew"


def edit_binding(world: World) -> None:
    """Somebody writes another key over the generated one."""
    world.children[BINDING]["data"]["VLLM_API_KEY"] = encoded("written-by-hand")


def delete_record(world: World) -> None:
    """Somebody deletes what the operator remembers."""
    del world.children[ObjectKey("Secret", "qwen-key-record")]


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str], Any, str]] = {
    "the first key": (named("a", "b"), named("a", "b"), {"a": "a2"}, keep_binding, "a2"),
    "another key": (named("a", "b"), named("a", "b"), {"b": "b2"}, keep_binding, "a1"),
    "beside a generated one": (
        {"generate": True, **named("b")},
        {"generate": True, **named("b")},
        {"b": "b2"},
        keep_binding,
        FRESH,
    ),
    "the order": (named("a", "b"), named("b", "a"), {}, keep_binding, "b1"),
    "another Secret": (named("a"), named("b"), {}, keep_binding, "b1"),
    "named, then generated": (named("a"), {"generate": True}, {}, keep_binding, FRESH),
    "generated, then named": ({"generate": True}, named("a"), {}, keep_binding, "a1"),
    "a generated key deleted": ({"generate": True}, {"generate": True}, {}, delete_binding, "made-anew"),
    "a generated key edited": ({"generate": True}, {"generate": True}, {}, edit_binding, "written-by-hand"),
    "auth added": ({}, named("a"), {}, keep_binding, "a1"),
    "auth added, generated": ({}, {"generate": True}, {}, keep_binding, FRESH),
    "auth removed": (named("a"), {}, {}, keep_binding, ""),
    "auth removed from a generated key": ({"generate": True}, {}, {}, keep_binding, ""),
}
"""How keys change: `spec.auth` before and after, Secrets that change, what else is done, and the binding's key then."""


@pytest.mark.parametrize("change", CHANGES)
def test_however_keys_change_no_model_is_ready_while_an_engine_refuses_the_bindings_key(change: str) -> None:
    before, after, changed, act, wanted = CHANGES[change]
    world = World({**raw(**before), "spec": {**raw(**before)["spec"], "replicas": 3}})
    world.fresh_key = FRESH
    world.secrets = {name: secret(f"{name}1") for name in "abc"}
    fleet = Fleet(world)
    assert follow(fleet, 6)[-1] == "AllEnginesServe"
    started = fleet.started
    world.secrets |= {name: secret(text) for name, text in changed.items()}
    act(world)
    world.raw["spec"] = {**world.raw["spec"], "auth": after}
    if not after:
        del world.raw["spec"]["auth"]
    told = follow(fleet, 12)
    assert told[-1] == "AllEnginesServe"
    assert "RollingOut" in told, "the engines have to be replaced"
    assert fleet.started == started + 3, "each engine is replaced, and once"
    assert base64.b64decode(world.children[BINDING]["data"].get("VLLM_API_KEY", "")).decode() == wanted
    assert all(wanted in accepted for accepted in fleet.accepted.values() if wanted)
    assert "warnings" not in world.raw["status"]
    assert world.decide().writes == ()


def test_a_key_that_is_replaced_beside_the_old_one_leaves_no_moment_in_which_an_engine_refuses_the_bindings_key() -> (
    None
):
    world = World({**raw(**named("a")), "spec": {**raw(**named("a"))["spec"], "replicas": 3}})
    world.secrets = {name: secret(f"{name}1") for name in "ab"}
    fleet = Fleet(world)
    follow(fleet, 6)
    for auth in (named("b", "a"), named("b")):
        world.raw["spec"] = {**world.raw["spec"], "auth": auth}
        for _ in range(12):
            follow(fleet, 1)
            assert not fleet.refuses(base64.b64decode(world.children[BINDING]["data"]["VLLM_API_KEY"]).decode())
    assert set(fleet.accepted.values()) == {frozenset({"b1"})}


def delete_both(world: World) -> None:
    """Somebody deletes all that the operator knows."""
    delete_record(world)
    del world.children[BINDING]


@pytest.mark.parametrize("lost", [delete_record, delete_both])
def test_no_engine_is_replaced_because_the_record_was_lost_or_never_written(lost: Any) -> None:
    world = World({**raw(**named("a", "b")), "spec": {**raw(**named("a", "b"))["spec"], "replicas": 3}})
    world.secrets = {name: secret(f"{name}1") for name in "ab"}
    fleet = Fleet(world)
    follow(fleet, 6)
    started = fleet.started
    lost(world)
    assert follow(fleet, 6)[-1] == "AllEnginesServe"
    assert fleet.started == started
    world.secrets["b"] = secret("b2")
    follow(fleet, 8)
    assert fleet.started == started + 3


@pytest.mark.parametrize("auth", [{"generate": True}, named("a", "b")], ids=["generated", "named"])
def test_no_engine_is_replaced_because_its_model_was_made_again(auth: dict[str, Any]) -> None:
    """After `kubectl delete --cascade=orphan`, or from a backup: the children have lost their owner."""
    world = World({**raw(**auth), "spec": {**raw(**auth)["spec"], "replicas": 3}})
    world.secrets = {name: secret(f"{name}1") for name in "ab"}
    fleet = Fleet(world)
    follow(fleet, 6)
    started = fleet.started
    metadata = {**world.raw["metadata"], "uid": "another"}
    world.raw = {**{key: value for key, value in world.raw.items() if key != "status"}, "metadata": metadata}
    for child in world.children.values():
        child["metadata"].pop("ownerReferences", None)
    world.fresh_key = "made-anew"
    assert follow(fleet, 6)[-1] == "AllEnginesServe"
    assert fleet.started == started
    key = {"generate": FRESH}.get(next(iter(auth)), "a1")
    assert base64.b64decode(world.children[BINDING]["data"]["VLLM_API_KEY"]).decode() == key


def test_keys_that_change_before_there_is_an_engine_leave_no_mark() -> None:
    """As when the operator is killed between the record and the binding: the next one makes another key."""
    world = World(raw(generate=True))
    world.carry_out(world.decide())
    del world.children[BINDING], world.children[DEPLOYMENT]
    world.fresh_key = "made-anew"
    world.carry_out(world.decide())
    world.carry_out(world.decide())
    assert base64.b64decode(world.children[BINDING]["data"]["VLLM_API_KEY"]).decode() == "made-anew"
    template = world.children[DEPLOYMENT]["spec"]["template"]
    assert KEYS_CHANGED_AT not in template["metadata"]["annotations"]
    assert world.decide().writes == ()


def test_a_first_key_that_changed_while_nothing_was_remembered_is_noticed_by_the_binding() -> None:
    world = World({**raw(**named("a")), "spec": {**raw(**named("a"))["spec"], "replicas": 3}})
    world.secrets = {"a": secret("a1")}
    fleet = Fleet(world)
    follow(fleet, 6)
    started = fleet.started
    delete_record(world)
    world.secrets = {"a": secret("a2")}
    assert follow(fleet, 8)[-1] == "AllEnginesServe"
    assert fleet.started == started + 3


def test_a_change_is_told_with_its_time_and_with_what_each_end_has_until_it_is_through() -> None:
    world = World({**raw(**named("a")), "spec": {**raw(**named("a"))["spec"], "replicas": 3}})
    world.secrets = {"a": secret("a1")}
    fleet = Fleet(world)
    follow(fleet, 6)
    world.secrets = {"a": secret("a2")}
    seen = world.now + timedelta(seconds=1)
    follow(fleet, 1)
    told = []
    for _ in range(4):
        follow(fleet, 1)
        told.append(world.raw["status"].get("warnings"))
    stamp = seen.isoformat(timespec="milliseconds")
    expected = (
        f"spec.auth: the API keys changed at {stamp}: engines that were started before take the old ones until the "
        "rollout has replaced them, and the binding keeps the key of before until none of them is left"
    )
    assert told[0] == [expected]
    assert told[1] == told[0], "the text stays, or each look would write a status"
    assert told[-1] is None


def test_a_change_is_looked_for_every_minute_and_remembered_before_it_is_followed() -> None:
    world = World({**raw(**named("a")), "spec": {**raw(**named("a"))["spec"], "replicas": 3}})
    world.secrets = {"a": secret("a1")}
    fleet = Fleet(world)
    follow(fleet, 6)
    assert world.decide().look_again_at == world.now + timedelta(seconds=60)
    world.secrets = {"a": secret("a2")}
    for name in ("qwen-key-record", "qwen"):
        plan = world.decide()
        assert [write.desired["metadata"]["name"] for write in plan.writes] == [name]
        world.carry_out(plan)
    assert world.decide().writes == ()


@pytest.mark.parametrize("gone", [{"phase": "Failed"}, {"phase": "Succeeded"}, {"deleted": True}])
def test_a_pod_that_never_runs_again_keeps_nobody_from_being_ready(gone: dict[str, Any]) -> None:
    world = World({**raw(**named("a")), "spec": {**raw(**named("a"))["spec"], "replicas": 3}})
    world.secrets = {"a": secret("a1")}
    fleet = Fleet(world)
    follow(fleet, 6)
    world.secrets = {"a": secret("a2")}
    follow(fleet, 8)
    evicted = pod("evicted", **({"phase": gone["phase"]} if "phase" in gone else {}))
    if "deleted" in gone:
        evicted["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    fleet.revisions["evicted"] = repr(fleet.template())
    world.pods.append(evicted)
    assert not api_keys.standing(observation(world.raw, world.children, *world.pods, secrets=world.secrets)).differ
