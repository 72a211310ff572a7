"""What a LeaderWorkerSet is made of, beside what its golden file shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.grouped import grouped
from vllm_operator.api import groups
from vllm_operator.api.live import key_of
from vllm_operator.api.resource import parse_resource
from vllm_operator.cli.compose.slots import UnsupportedError
from vllm_operator.cli.render import Form, rendered_text
from vllm_operator.render.children import children


def child(raw: dict[str, Any], kind: str, name: str = "qwen") -> dict[str, Any]:
    """A child as it is rendered."""
    return dict(next(one for one in children(parse_resource(raw)) if key_of(one) == (kind, name)))


def template(raw: dict[str, Any]) -> dict[str, Any]:
    """The template of all pods of a group."""
    found: dict[str, Any] = child(raw, groups.KIND)["spec"]["leaderWorkerTemplate"]["workerTemplate"]
    return found


def test_each_pod_of_a_group_has_its_share_of_the_devices() -> None:
    raw = grouped(nodes=4)
    raw["spec"]["parallelism"] |= {"tensor": 8, "pipeline": 2}
    (engine,) = template(raw)["spec"]["containers"]
    assert engine["resources"]["limits"] == {"nvidia.com/gpu": "4"}


def test_another_template_has_another_hash_and_the_same_one_the_same() -> None:
    one, other = template(grouped()), template(grouped(engine={"seed": 7}))
    assert groups.template_hash_of(one) == groups.template_hash_of(template(grouped()))
    assert groups.template_hash_of(one) != groups.template_hash_of(other)


def test_a_backend_that_is_named_is_not_named_twice() -> None:
    raw = grouped()
    raw["spec"]["parallelism"]["executorBackend"] = "mp"
    (engine,) = template(raw)["spec"]["containers"]
    assert engine["args"].count("--distributed-executor-backend") == 1


def test_the_pods_of_a_group_reach_each_other_on_every_port() -> None:
    policy = child(grouped(network={"allowFrom": []}), "NetworkPolicy")
    everything = [rule for rule in policy["spec"]["ingress"] if "ports" not in rule]
    assert [list(rule["from"][0]) for rule in everything] == [["podSelector"]]


@pytest.mark.parametrize(
    ("given", "pods"),
    [
        ({"minAvailable": 3}, 1),
        ({"minAvailable": "50%"}, 2),
        ({"maxUnavailable": 1}, 1),
        ({"maxUnavailable": "50%"}, 2),
    ],
)
def test_a_budget_lets_as_many_pods_go_as_groups_may(given: dict[str, Any], pods: int) -> None:
    budget = child(grouped(replicas=4, disruption=given), "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == pods
    assert "minAvailable" not in budget["spec"]


@pytest.mark.parametrize("form", [Form.COMMAND, Form.COMPOSE])
def test_a_command_line_of_several_pods_is_refused(form: Form) -> None:
    with pytest.raises(
        UnsupportedError, match=r"qwen: spec\.parallelism\.nodes: `--to .*` starts an engine on one machine"
    ):
        rendered_text([parse_resource(grouped())], form)
