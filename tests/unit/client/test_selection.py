"""Which model suits best: what must hold, what is preferred, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_client import CatalogEntry, ConfigurationError
from vllm_client.catalog import COMPLEXITIES
from vllm_client.selection import Need, ranked

LANGUAGES = ("en", "zh", "zh-TW", "zh-CN", "zh-Hant-HK", "de")
TASKS = ("chat", "extraction")
LABELS: tuple[dict[str, str], ...] = ({}, {"tier": "gold"}, {"tier": "gold", "zone": "a"})


def entry(name: str, **fields: Any) -> CatalogEntry:
    """A model that is ready."""
    return CatalogEntry(**{"name": name, "served_names": (name,), "base_url": "http://x/v1", "ready": True, **fields})


def order(models: list[CatalogEntry], **need: Any) -> list[str]:
    """Names of the models that can be chosen, the best first."""
    return [model.name for model in ranked(models, Need(**need))]


def test_the_nearest_language_is_first_and_other_languages_are_not_chosen() -> None:
    models = [entry("other", languages=("en",)), entry("any"), entry("mainland", languages=("zh-CN",))]
    models += [entry("exact", languages=("en", "ZH-tw")), entry("general", languages=("zh",))]
    assert order(models, language="zh-TW") == ["exact", "general", "mainland", "any"]
    assert order(models, language="en-GB") == ["exact", "other", "any"]
    assert order(models, language="fr") == ["any"]
    assert order(models, language="z") == ["any"]


def test_a_tag_with_fewer_parts_to_drop_is_nearer() -> None:
    models = [entry("far", languages=("zh",)), entry("near", languages=("zh-Hant",))]
    assert order(models, language="zh-Hant-HK") == ["near", "far"]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("simple", ["simple", "any", "medium", "complex"]),
        ("medium", ["medium", "any", "complex", "simple"]),
        ("complex", ["complex", "any", "medium", "simple"]),
    ],
)
def test_the_tier_itself_is_first_and_then_the_next_ones_up_before_those_down(asked: str, names: list[str]) -> None:
    models = [entry("any"), *(entry(tier, complexity=(tier,)) for tier in COMPLEXITIES)]
    assert order(models, complexity=asked) == names


def test_a_model_of_several_tiers_counts_by_its_nearest() -> None:
    models = [entry("wide", complexity=("simple", "complex")), entry("complex", complexity=("complex",), weight=1)]
    assert order(models, complexity="medium") == ["wide", "complex"]
    assert order(models, complexity="simple") == ["wide", "complex"]


def test_a_tier_that_this_library_does_not_know_is_the_last_resort() -> None:
    models = [entry("newer", complexity=("superhuman",), weight=1000), entry("simple", complexity=("simple",))]
    assert order(models, complexity="complex") == ["simple", "newer"]


def test_a_misspelt_complexity_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"no complexity 'hard'.*simple, medium, complex"):
        Need(complexity="hard")


def test_a_model_for_other_tasks_is_not_chosen_and_one_that_lists_the_task_is_preferred() -> None:
    models = [entry("any"), entry("chat", tasks=("chat",)), entry("both", tasks=("chat", "extraction"))]
    assert order(models, task="extraction") == ["both", "any"]
    assert order(models, task="translation") == ["any"]


def test_labels_runner_and_exclusion_are_binding() -> None:
    models = [entry("gold", labels={"tier": "gold", "zone": "a"}), entry("plain"), entry("embed", runner="pooling")]
    assert order(models, labels={"tier": "gold"}) == ["gold"]
    assert order(models, labels={"tier": "silver"}) == []
    assert order(models, runner="pooling") == ["embed"]
    assert order(models, exclude={"gold"}) == ["plain"]


def test_an_adapter_is_binding() -> None:
    models = [entry("plain", weight=200), entry("sql", adapters=("text2sql", "legal"))]
    assert order(models, adapter="text2sql") == ["sql"]
    assert order(models, adapter="sql") == []
    assert order(models) == ["plain", "sql"]


def test_readiness_goes_before_everything_and_weight_before_the_name() -> None:
    exact = entry("exact", languages=("en",), complexity=("simple",), tasks=("chat",), ready=False, weight=1000)
    models = [exact, entry("c", weight=5), entry("b", weight=1), entry("a", weight=1)]
    assert order(models, language="en", complexity="simple", task="chat") == ["c", "a", "b", "exact"]


def test_language_goes_before_task_and_task_before_complexity() -> None:
    models = [
        entry("task", tasks=("chat",)),
        entry("tier", complexity=("medium",)),
        entry("language", languages=("en",), complexity=("simple",)),
    ]
    assert order(models, language="en", task="chat", complexity="medium") == ["language", "task", "tier"]


def test_without_a_need_the_heaviest_model_that_is_ready_is_the_best() -> None:
    assert order([entry("a"), entry("b", weight=101), entry("c", ready=False, weight=102)]) == ["b", "a", "c"]


def subsets(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    """Some of them."""
    return st.lists(st.sampled_from(values), unique=True).map(tuple)


entries = st.builds(
    entry,
    st.sampled_from("abcdefgh"),
    ready=st.booleans(),
    runner=st.sampled_from(["generate", "generate", "pooling"]),
    languages=subsets(LANGUAGES),
    complexity=subsets(COMPLEXITIES),
    tasks=subsets(TASKS),
    labels=st.sampled_from(LABELS),
    weight=st.integers(0, 3),
)
catalogs = st.lists(entries, unique_by=lambda model: model.name, max_size=8)
needs = st.fixed_dictionaries(
    {
        "language": st.sampled_from([None, *LANGUAGES, "fr"]),
        "complexity": st.sampled_from([None, *COMPLEXITIES]),
        "task": st.sampled_from([None, *TASKS, "other"]),
        "labels": st.sampled_from([None, *LABELS]),
    }
)


@given(catalogs, needs)
@settings(derandomize=True, deadline=None)
def test_no_model_that_is_not_ready_goes_before_one_that_is(models: list[CatalogEntry], need: dict[str, Any]) -> None:
    ready = [model.ready for model in ranked(models, Need(**need))]
    assert ready == sorted(ready, reverse=True)


@given(catalogs, needs, st.randoms(use_true_random=False))
@settings(derandomize=True, deadline=None)
def test_the_order_of_the_catalogue_plays_no_part(
    models: list[CatalogEntry], need: dict[str, Any], chance: Any
) -> None:
    shuffled = chance.sample(models, len(models))
    assert ranked(shuffled, Need(**need)) == ranked(models, Need(**need))


@given(catalogs, needs)
@settings(derandomize=True, deadline=None)
def test_what_is_chosen_may_be_chosen(models: list[CatalogEntry], need: dict[str, Any]) -> None:
    for model in ranked(models, Need(**need)):
        assert model.runner == "generate"
        assert not model.tasks or need["task"] in (None, *model.tasks)
        assert (need["labels"] or {}).items() <= model.labels.items()
        families = {tag.partition("-")[0] for tag in model.languages}
        assert need["language"] is None or not families or need["language"].partition("-")[0] in families


@given(catalogs, needs)
@settings(derandomize=True, deadline=None)
def test_to_ask_for_less_never_takes_a_choice_away(models: list[CatalogEntry], need: dict[str, Any]) -> None:
    wanted = set(order(models, **need))
    for field in need:
        assert wanted <= set(order(models, **{**need, field: None}))
