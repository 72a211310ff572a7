"""Which part of the cluster an operator lists and watches."""

from __future__ import annotations

import pytest

from vllm_operator.cluster.kinds import DEPLOYMENT, MODEL, POD
from vllm_operator.cluster.scope import EVERYTHING, Scope, not_waiting
from vllm_operator.settings import Settings

LABEL = "vllm.echo-roots.io/operator"
MANAGED = "app.kubernetes.io/managed-by=vllm-operator"


def test_without_settings_it_is_everything_that_names_no_release() -> None:
    assert Scope.of(Settings()) == EVERYTHING
    assert EVERYTHING.each == (None,)
    assert EVERYTHING.selector(MODEL) == f"!{LABEL}"
    assert EVERYTHING.selector(DEPLOYMENT) == EVERYTHING.selector(POD) == f"{MANAGED},!{LABEL}"


def test_a_named_release_sees_its_own_children_alone() -> None:
    scope = Scope.of(Settings(name="blue"))
    assert scope.selector(DEPLOYMENT) == scope.selector(POD) == f"{MANAGED},{LABEL}=blue"


@pytest.mark.parametrize(
    ("settings", "selector"),
    [
        (Settings(name="blue"), f"{LABEL}=blue"),
        (Settings(name="blue", namespaces="team"), ""),
        (Settings(name="blue", model_selector="shard=1"), "shard=1"),
        (Settings(model_selector="shard in (1, 2)"), f"shard in (1, 2),!{LABEL}"),
        (Settings(namespaces="team"), f"!{LABEL}"),
    ],
    ids=["by name", "by namespace", "by selector", "default by selector", "default by namespace"],
)
def test_a_release_follows_what_names_it_unless_it_is_limited_otherwise(settings: Settings, selector: str) -> None:
    assert Scope.of(settings).selector(MODEL) == selector


def test_a_list_of_namespaces_may_hold_blanks_and_one_twice() -> None:
    scope = Scope.of(Settings(namespaces=" a, b,a "))
    assert scope.each == scope.namespaces == ("a", "b")
    assert not scope.is_clusterwide


def test_a_namespace_that_forbids_its_lists_keeps_nobody_from_following_the_others() -> None:
    troubles = {"pods in a": "pods is forbidden (HTTP 403)", "pods in b": "etcd is down (HTTP 500)"}
    scope = Scope(namespaces=("a", "b"))
    assert not_waiting(troubles, scope, frozenset({"b"})) == {"pods in b": "etcd is down (HTTP 500)"}
    assert not_waiting(troubles, scope, frozenset()) == troubles
    forbidden = {"pods": "pods is forbidden (HTTP 403)"}
    assert not_waiting(forbidden, EVERYTHING, frozenset()) == forbidden
