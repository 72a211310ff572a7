"""The catalogue of a namespace: what it says of each model, that it does not move by itself, and its limit."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from tests.support.catalogs import catalog
from tests.support.resources import as_live, model, resource
from tests.support.specs import chosen
from vllm_operator.api.names import CATALOG_CONFIG_MAP, CATALOG_PARTS, MANAGED_BY, MANAGER, MOST_CATALOG_PARTS
from vllm_operator.cluster.cache import Cache
from vllm_operator.cluster.kinds import MODEL
from vllm_operator.render import catalog as rendered
from vllm_operator.render.catalog import FILE, MAX_BYTES, entry, file_of, is_entered, tokens

LARGEST_CONFIG_MAP = 1 << 20


def read(found: dict[str, Any]) -> dict[str, Any]:
    """What stands in a catalogue."""
    content: dict[str, Any] = orjson.loads(found["data"][FILE])
    return content


def serving(name: str, **spec: Any) -> dict[str, Any]:
    """A model with an engine that serves."""
    raw = resource(name, **spec)
    return {**raw, "status": {"conditions": [{"type": "Available", "status": "True"}]}}


def test_an_entry_says_where_the_model_answers_and_what_it_is_good_for() -> None:
    said = {"languages": ["zh-TW", "en"], "complexity": ["complex", "simple"], "tasks": ["chat"], "weight": 7}
    found = model(
        catalog={**said, "labels": {"b": "2", "a": "1"}},
        engine={"maxModelLen": "32K", "port": 9000},
        service={"port": 80},
        auth={"generate": True},
        model={"source": "org/tiny", "servedNames": ["tiny", "small"]},
    )
    assert entry(found, ready=True) == {
        "name": "qwen",
        "served_names": ["tiny", "small"],
        "base_url": "http://qwen.team.svc:80/v1",
        "discovery": "qwen-engines.team.svc:9000",
        "runner": "generate",
        "ready": True,
        "context_length": 32768,
        "key_secret": "qwen-binding",
        "languages": ["en", "zh-TW"],
        "complexity": ["simple", "complex"],
        "tasks": ["chat"],
        "labels": {"a": "1", "b": "2"},
        "weight": 7,
    }


def test_what_is_not_said_is_left_out() -> None:
    assert entry(model(), ready=False) == {
        "name": "qwen",
        "served_names": ["Qwen/Qwen2.5-0.5B-Instruct"],
        "base_url": "http://qwen.team.svc:8000/v1",
        "discovery": "qwen-engines.team.svc:8000",
        "runner": "generate",
        "ready": False,
        "weight": 100,
    }


@pytest.mark.parametrize(
    ("written", "read_as"),
    [(4096, 4096), ("4096", 4096), ("32k", 32_000), ("32K", 32_768), ("1m", 1_000_000), ("auto", None), (None, None)],
)
def test_a_context_length_is_read_as_vllm_reads_it(written: int | str | None, read_as: int | None) -> None:
    assert tokens(written) == read_as


def test_a_model_that_embeds_is_told_from_one_that_writes() -> None:
    embeds = model(model={"source": "org/tiny", "convert": "embed"})
    assert entry(embeds, ready=True)["runner"] == "pooling"


def test_the_config_map_is_the_operators_and_has_one_model_a_line() -> None:
    found = catalog("team", [serving("b"), resource("a")])
    assert found["metadata"]["name"] == CATALOG_CONFIG_MAP
    assert found["metadata"]["labels"][MANAGED_BY] == MANAGER
    head, first, second, tail = found["data"][FILE].splitlines()
    assert head == '{"version":1,"namespace":"team","truncated":0,"models":['
    assert first.startswith('{"name":"a",')
    assert second.startswith('{"name":"b",')
    assert tail == "]}"


def test_a_catalogue_without_models_is_valid_too() -> None:
    assert read(catalog("team", [])) == {"version": 1, "namespace": "team", "truncated": 0, "models": []}


def test_the_order_in_which_models_and_their_words_come_does_not_matter() -> None:
    one = [serving("a", catalog={"languages": ["en", "de"], "labels": {"x": "1", "y": "2"}}), resource("b")]
    other = [resource("b"), serving("a", catalog={"labels": {"y": "2", "x": "1"}, "languages": ["de", "en"]})]
    assert catalog("team", one) == catalog("team", other)


def test_any_valid_spec_has_an_entry() -> None:
    chance = random.Random(6)  # noqa: S311 # the same specs in every run
    for _ in range(200):
        (found,) = read(catalog("team", [resource(**chosen(chance))]))["models"]
        assert found["name"] == "qwen"


def test_the_entry_of_a_model_is_made_once_as_long_as_the_cache_holds_that_very_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = Cache()
    cache.put(MODEL, as_live(resource("b")))
    cache.put(MODEL, as_live(serving("a")))
    first = catalog("team", cache.models("team"))
    assert first == catalog("team", [resource("b"), serving("a")])
    assert all(map(is_entered, cache.models("team")))
    monkeypatch.setattr(rendered, "entry", lambda *_, **__: pytest.fail("made again"))
    assert catalog("team", cache.models("team")) == first
    monkeypatch.undo()
    changed = serving("b")
    cache.put(MODEL, as_live({**changed, "metadata": {**changed["metadata"], "resourceVersion": "99"}}))
    assert [found["ready"] for found in read(catalog("team", cache.models("team")))["models"]] == [True, True]


def test_a_kept_model_whose_spec_cannot_be_followed_keeps_its_entry_of_before() -> None:
    bad = resource("a", engine={"extraArgs": ["--seed", "1", "--see=1"]})
    before = catalog("team", [resource("a")])
    cache = Cache()
    cache.put(MODEL, as_live(bad))
    for _ in range(2):
        assert read(catalog("team", cache.models("team"), before)) == read(before)
        assert read(catalog("team", cache.models("team")))["models"] == []


HEAVY = {"tasks": [f"{number:02}".ljust(63, "x") for number in range(32)]}
"""Two kilobytes of an entry."""


def parts_of(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What stands in each part, which the largest ConfigMap has room for."""
    found = rendered.catalog("team", models)
    assert [one["metadata"]["name"] for one in found] == list(CATALOG_PARTS[: len(found)])
    texts = [one["data"][file_of(number)] for number, one in enumerate(found, 1)]
    assert all(len(text.encode()) <= MAX_BYTES + 200 < LARGEST_CONFIG_MAP for text in texts)
    return [orjson.loads(text) for text in texts]


def named(part: dict[str, Any]) -> list[str]:
    """The models of a part."""
    return [one["name"] for one in part["models"]]


def test_what_one_config_map_has_no_room_for_is_spread_over_several() -> None:
    models = [resource(f"m-{number:04}", catalog=HEAVY) for number in range(1000)]
    parts = parts_of(models)
    assert 2 < len(parts) < MOST_CATALOG_PARTS
    assert sorted(name for part in parts for name in named(part)) == [raw["metadata"]["name"] for raw in models]
    assert all(named(part) == sorted(named(part)) for part in parts)
    assert (parts[0]["parts"], parts[0]["truncated"]) == (len(parts), 1000 - len(parts[0]["models"]))
    assert [part["truncated"] for part in parts[1:]] == [0] * (len(parts) - 1)


def test_a_change_of_one_model_is_a_change_of_one_part() -> None:
    models = [resource(f"m-{number:04}", catalog=HEAVY) for number in range(1000)]
    edited = [*models[:500], serving("m-0500", catalog=HEAVY), *models[501:]]
    pairs = zip(rendered.catalog("team", models), rendered.catalog("team", edited), strict=True)
    assert sum(one != other for one, other in pairs) == 1


def test_three_thousand_models_without_a_word_in_spec_catalog_are_in_one_part() -> None:
    parts = parts_of([resource(f"model-{number:04}") for number in range(3000)])
    assert [len(part["models"]) for part in parts] == [3000]
    assert "parts" not in parts[0]


def test_of_what_no_part_has_room_for_models_that_serve_come_first() -> None:
    models = [resource(f"idle-{number:04}", catalog=HEAVY) for number in range(3200)]
    models += [serving(f"serving-{number:04}", catalog=HEAVY) for number in range(400)]
    parts = parts_of(models)
    names = {name for part in parts for name in named(part)}
    assert len(parts) == MOST_CATALOG_PARTS
    assert sum(name.startswith("serving") for name in names) == 400
    assert len(names) < 3600
    assert parts[0]["truncated"] == 3600 - len(parts[0]["models"])


def test_a_model_that_cannot_be_followed_keeps_its_entry_in_whichever_part_it_is() -> None:
    models = [resource(f"m-{number:04}", catalog=HEAVY) for number in range(1000)]
    before = rendered.catalog("team", models)
    broken = [resource(raw["metadata"]["name"], engine={"extraArgs": ["--seed", "1", "--see=1"]}) for raw in models]
    assert rendered.catalog("team", broken, before) == before
