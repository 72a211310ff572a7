"""Objects of others, such as budgets, are found by the namespace and by the model that they can select."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.cluster.foreign import ForeignObjects
from vllm_operator.planner.budgets import Budget

OF_QWEN = Budget("z-of-qwen", {"matchLabels": {"app.kubernetes.io/instance": "qwen"}})
OF_ALL = Budget("a-of-all", {})


def test_a_model_sees_what_may_select_it_by_name_and_nothing_of_other_models_and_namespaces() -> None:
    budgets = ForeignObjects[Budget]()
    budgets.replace(None, [("team", OF_QWEN), ("team", OF_ALL), ("other", OF_ALL)])
    assert budgets.of("team", "qwen") == (OF_ALL, OF_QWEN)
    assert budgets.of("team", "llama") == (OF_ALL,)
    assert budgets.of("other", "qwen") == (OF_ALL,)
    assert budgets.of("nowhere", "qwen") == ()


def test_a_list_of_one_namespace_leaves_the_others_and_one_of_all_replaces_everything() -> None:
    budgets = ForeignObjects[Budget]()
    budgets.replace("team", [("team", OF_QWEN)])
    budgets.replace("other", [("other", OF_ALL)])
    assert budgets.of("team", "qwen") == (OF_QWEN,)
    budgets.replace("team", [])
    assert budgets.of("team", "qwen") == ()
    assert budgets.of("other", "qwen") == (OF_ALL,)
    budgets.replace(None, [("team", OF_ALL)])
    assert budgets.of("other", "qwen") == ()
    assert budgets.of("team", "qwen") == (OF_ALL,)


def test_a_list_tells_in_which_namespaces_something_has_changed() -> None:
    budgets = ForeignObjects[Budget]()
    assert budgets.replace(None, [("team", OF_QWEN), ("other", OF_ALL)]) == {"team", "other"}
    assert budgets.replace(None, [("team", OF_QWEN), ("other", OF_ALL)]) == frozenset()
    assert budgets.replace("team", [("team", replace(OF_QWEN, min_available=1))]) == {"team"}
    assert budgets.replace("team", []) == {"team"}
    assert budgets.replace("team", []) == frozenset()
    assert budgets.replace(None, []) == {"other"}
