"""A resource costs its reading once, and none is so deep that nobody can be told of it."""

from __future__ import annotations

import copy
import json
from typing import Any
from unittest.mock import Mock

import jinja2
import pytest

from tests.support.catalogs import catalog
from tests.support.resources import SOURCE, condition, observation, resource
from tests.support.specs import SCHEMA
from vllm_operator.api import json_text
from vllm_operator.api import resource as reading
from vllm_operator.api.bounded import Bounded
from vllm_operator.api.live import live_object
from vllm_operator.api.resource import forget_resource, is_parsed, parse_resource
from vllm_operator.api.spec import parse_spec
from vllm_operator.api.spec.checks import MOST_LEVELS, template_fault
from vllm_operator.cluster.cache import Cache
from vllm_operator.cluster.kinds import MODEL
from vllm_operator.errors import InvalidSpec
from vllm_operator.planner.decide import decide


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Counts the specs that are read."""
    counter = Mock(side_effect=parse_spec)
    monkeypatch.setattr(reading, "parse_spec", counter)
    return counter


def again(raw: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """The resource as a later event brings it: other objects, and a newer version."""
    found = copy.deepcopy(raw)
    return {**found, "metadata": {**found["metadata"], "resourceVersion": "11", **metadata}}


def test_a_generation_is_read_once_however_often_it_is_looked_at(parsed: Mock) -> None:
    raw = resource("read-once", replicas=3)
    for _ in range(3):
        decide(observation(again(raw)))
        catalog("team", [again(raw)])
        assert parse_resource(again(raw)).spec.replicas == 3
    assert parsed.call_count == 1


def test_a_faulty_generation_is_read_once_too_and_told_each_time(parsed: Mock) -> None:
    raw = resource("faulty-once", replicas=-1)
    for _ in range(3):
        with pytest.raises(InvalidSpec, match=r"spec\.replicas"):
            parse_resource(again(raw))
    assert parsed.call_count == 1


def test_an_edit_a_successor_and_a_restored_generation_are_read_anew(parsed: Mock) -> None:
    raw = resource("read-anew", replicas=1)
    later = {**raw, "spec": {**raw["spec"], "replicas": 2}}
    for changed in (raw, again(later, generation=2), again(raw, uid="another"), again(later)):
        assert parse_resource(changed).spec.replicas == changed["spec"]["replicas"]
    assert parsed.call_count == 4


def test_a_resource_out_of_a_file_is_not_remembered(parsed: Mock) -> None:
    raw = resource("of-a-file")
    raw["metadata"] = {"name": "of-a-file"}
    parse_resource(raw)
    parse_resource(raw)
    assert parsed.call_count == 2


def test_what_is_deleted_is_forgotten() -> None:
    raw = resource("deleted")
    cache = Cache()
    cache.put(MODEL, live_object(raw))
    parse_resource(raw)
    assert is_parsed(raw)
    cache.remove(MODEL, live_object(again(raw)))
    assert not is_parsed(raw)
    forget_resource("never seen")


def test_a_memory_holds_so_many_and_forgets_what_nobody_asks_for() -> None:
    memory: Bounded[str, int] = Bounded(2)
    memory.put("a", 1)
    memory.put("b", 2)
    assert memory.get("a") == 1
    memory.put("c", 3)
    assert (memory.get("a"), memory.get("b"), memory.get("c"), len(memory)) == (1, None, 3, 2)


def test_a_template_is_parsed_once_whoever_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = Mock(side_effect=jinja2.Environment)
    monkeypatch.setattr(jinja2, "Environment", parser)
    for text, told in (("{{ once }}", ""), ("{% once %}", "line 1 is no valid Jinja")):
        for _ in range(3):
            assert template_fault(text).startswith(told)
    assert parser.call_count == 2


@pytest.mark.parametrize("template", ["{{ " + "1" * 5000 + " }}", "{{" * 9000, "{{ " + "(" * 9000, "\ud800"])
def test_whatever_a_template_holds_it_is_read_or_refused(template: str) -> None:
    assert isinstance(template_fault(template), str)


def nested(levels: int, *, of_lists: bool) -> Any:
    """Maps or lists that stand in each other."""
    found: Any = "x"
    for _ in range(levels):
        found = [found] if of_lists else {"a": found}
    return found


def open_fields(node: dict[str, Any], path: str = "") -> list[str]:
    """Every place whose fields have no schema: anything may stand there."""
    found = [path] if node.get("x-kubernetes-preserve-unknown-fields") else []
    for name, field in node.get("properties", {}).items():
        found += open_fields(field, f"{path}.{name}")
    return found + (open_fields(node["items"], f"{path}[]") if "items" in node else [])


def holding(path: str, value: Any) -> dict[str, Any]:
    """A spec with a value at a path."""
    for name in reversed(path.strip(".").split(".")):
        value = {name.removesuffix("[]"): [value] if name.endswith("[]") else value}
    return {"model": {"source": SOURCE}, **value}


@pytest.mark.parametrize("path", open_fields(SCHEMA))
@pytest.mark.parametrize("levels", [MOST_LEVELS, 400, 3000])
@pytest.mark.parametrize("of_lists", [True, False])
def test_what_is_nested_too_deeply_is_told_in_the_status_with_its_field(path: str, levels: int, of_lists: bool) -> None:  # noqa: FBT001 # a parameter of the test
    value = {"name": "deep", "image": "a", "spec": nested(levels, of_lists=of_lists)}
    raw = resource(f"deep{path}{levels}{of_lists}", **holding(path, value))
    for _ in range(2):
        plan = decide(observation(raw))
        assert plan.status is not None
        ready = condition(plan.status, "Ready")
        assert ready["reason"] == "InvalidSpec"
        assert ready["message"].startswith(f"spec{path.replace('[]', '.0')}")
        assert f"more than {MOST_LEVELS} levels deep" in ready["message"]


def test_there_are_places_where_anything_may_stand() -> None:
    assert {".pod.patch", ".pod.volumes[]", ".pod.initContainers[]", ".pod.sidecars[]"} <= set(open_fields(SCHEMA))


@pytest.mark.parametrize("levels", [100, 2000, 10_000])
def test_json_of_any_depth_is_read_and_its_shallow_parts_stay(levels: int) -> None:
    text = '{"deep": %s, "after": ["]", {"a": "\\"{"}]}' % ("[" * levels + "{}" + "]" * levels)
    found = json_text.loads(text)
    assert found["after"] == ["]", {"a": '"{'}]
    if levels < 500:
        assert found == json.loads(text)


@pytest.mark.parametrize("text", ['{"a": [1, 2.5, null]}', '{"half": "\\ud800"}', '{"n": 100000000000000000000}'])
def test_the_fast_parser_reads_what_the_other_one_does(text: str) -> None:
    assert json_text.parsed(text) == json_text.parsed(text.encode()) == json.loads(text)


def test_what_is_no_json_is_an_error_however_deep_it_is() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        json_text.loads("[" * 3000)
    with pytest.raises(ValueError, match="Expecting"):
        json_text.parsed("[" * 3000)


def test_a_number_of_more_digits_than_64_bits_hold_is_rendered_and_sent() -> None:
    """The API server keeps 1e20 in an open field, and writes it with all its digits."""
    patch = {"spec": {"containers": [{"name": "vllm", "fieldOfANewerServer": 10**20}]}}
    plan = decide(observation(resource("many-digits", pod={"patch": patch})))
    assert "100000000000000000000" in str(json_text.dumps([write.desired for write in plan.writes]))
