"""The catalogue of a namespace: what it says of each model, that it does not move by itself, and its limit."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from tests.support.resources import as_live, model, resource
from tests.support.specs import chosen
from vllm_operator.api.names import CATALOG_CONFIG_MAP, MANAGED_BY, MANAGER
from vllm_operator.cluster.cache import Cache
from vllm_operator.cluster.kinds import MODEL
from vllm_operator.render import catalog as catalog_module
from vllm_operator.render.catalog import FILE, MAX_BYTES, catalog, entry, is_entered, tokens

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


def test_what_does_not_fit_is_counted_and_models_that_serve_come_first() -> None:
    heavy = {"tasks": [f"{number:02}".ljust(63, "x") for number in range(32)]}
    models = [resource(f"idle-{number:04}", catalog=heavy) for number in range(500)]
    models += [serving(f"serving-{number:04}", catalog=heavy) for number in range(100)]
    found = catalog("team", models)
    content = read(found)
    names = [one["name"] for one in content["models"]]
    assert len(found["data"][FILE].encode()) <= MAX_BYTES + 200 < LARGEST_CONFIG_MAP
    assert content["truncated"] == len(models) - len(names) > 0
    assert sum(name.startswith("serving") for name in names) == 100
    assert names == sorted(names)
    kept = [name for name in names if name.startswith("idle")]
    assert kept == [f"idle-{number:04}" for number in range(len(kept))]


def test_the_entry_of_a_model_is_made_once_as_long_as_the_cache_holds_that_very_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = Cache()
    cache.put(MODEL, as_live(resource("b")))
    cache.put(MODEL, as_live(serving("a")))
    first = catalog("team", cache.models("team"))
    assert first == catalog("team", [resource("b"), serving("a")])
    assert all(map(is_entered, cache.models("team")))
    monkeypatch.setattr(catalog_module, "entry", lambda *_, **__: pytest.fail("made again"))
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
