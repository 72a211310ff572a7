"""An engine that runs follows its list of adapters: over real HTTP, with the stub engine."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.servers import EngineServer, stub_server
from tests.support.waiting import until
from vllm_operator.manager.engine import Engine
from vllm_operator.manager.names import ServedNames
from vllm_operator.manager.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "tiny"
ALLOWED = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "GATE_LOOPBACK": "allowed"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """A stub that loads adapters, for all tests of this file."""
    flags = ("--served-model-name", NAME, "--enable-lora", "--max-lora-rank", "16")
    with stub_server(*flags, folder=tmp_path_factory.mktemp("stub"), env=ALLOWED) as running:
        yield running


class World:
    """A server, the list of its adapters, and the one who follows it."""

    def __init__(self, server: EngineServer, folder: Path) -> None:
        self.server = server
        self.file = folder / "adapters.json"
        settings = Settings(gate_port=1, engine_port=server.port, model=NAME, adapters_file=str(self.file))
        self.names = ServedNames(Engine(settings, ALLOWED), settings, may_load=True)

    def write(self, version: str, *required: str, **adapters: str) -> None:
        """Another list."""
        found = [{"name": name, "path": path, "required": name in required} for name, path in adapters.items()]
        self.file.write_text(json.dumps({"version": version, "adapters": found}), encoding="utf-8")

    def served(self) -> dict[str, str]:
        """What the server has."""
        data = self.server.request("GET", "/v1/models").json()["data"]
        return {one["id"]: one["root"] for one in data if one["parent"]}

    def version(self) -> object:
        """Of the list that is followed."""
        return self.names.told["version"]

    @property
    def failed(self) -> dict[str, Any]:
        """What could not be done."""
        found = self.names.told["failed"]
        assert isinstance(found, dict)
        return found


@pytest.fixture
def world(server: EngineServer, tmp_path: Path) -> Iterator[World]:
    """A server without adapters."""
    found = World(server, tmp_path)
    yield found
    server.request("DELETE", "/stub/faults")
    for name in found.served():
        server.request("POST", "/v1/unload_lora_adapter", {"lora_name": name})


def test_adapters_come_change_their_place_and_go(world: World) -> None:
    world.write("v1", sql="org/sql", legal="org/legal")
    assert world.names.ask() == ""
    assert world.served() == {"sql": "org/sql", "legal": "org/legal"}
    assert world.names.told == {"version": "v1", "served": world.served(), "failed": {}}
    world.write("v2", sql="org/sql-2", new="org/new")
    assert world.names.ask(admitted=True) == ""
    assert world.served() == {"sql": "org/sql-2", "new": "org/new"}
    assert world.names.loaded == 4
    world.write("v1", sql="org/sql", legal="org/legal")
    assert world.names.ask(admitted=True) == ""
    assert world.served() == {"sql": "org/sql", "legal": "org/legal"}, "back as it was"


def test_what_others_have_loaded_stays(world: World) -> None:
    world.server.request("POST", "/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": "org/mine"})
    world.write("v1", sql="org/sql")
    assert world.names.ask() == ""
    world.write("v2")
    assert world.names.ask(admitted=True) == ""
    assert world.served() == {"mine": "org/mine"}
    assert world.names.told["served"] == {}


def test_an_adapter_that_is_refused_keeps_no_engine_from_serving_and_is_told_in_the_servers_words(
    world: World, tmp_path: Path
) -> None:
    wide = tmp_path / "wide"
    wide.mkdir()
    (wide / "adapter_config.json").write_text('{"r": 64}')
    world.write("v1", sql="org/sql", missing="/none", wide=str(wide))
    assert world.names.ask() == ""
    assert set(world.served()) == {"sql"}
    assert "No adapter found for /none" in world.failed["missing"]
    assert "LoRA rank 64 is greater than max_lora_rank 16" in world.failed["wide"]
    assert world.names.told["version"] == "v1"
    world.write("v2", sql="org/sql")
    assert world.names.ask(admitted=True) == ""
    assert world.failed == {}, "an edit that takes it back leaves nothing behind"


def test_an_adapter_that_cannot_be_loaded_from_its_new_place_is_served_from_the_old_one(world: World) -> None:
    world.write("v1", "sql", sql="org/sql")
    assert world.names.ask() == ""
    world.write("v2", sql="/none")
    assert world.names.ask(admitted=True) == ""
    assert world.served() == {"sql": "org/sql"}
    assert "No adapter found for /none" in world.failed["sql"]
    world.write("v1", "sql", sql="org/sql")
    assert world.names.ask(admitted=True) == ""
    assert world.failed == {}


def test_an_adapter_that_every_other_engine_has_is_required_of_one_that_comes(world: World) -> None:
    world.write("v1", "missing", missing="/none")
    told = world.names.ask()
    assert told is not None
    assert told.startswith("serves tiny, not missing (")
    assert "No adapter found for /none" in told


def test_one_that_is_lost_is_loaded_again_and_missed_where_that_fails(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    world.write("v1", sql=str(folder))
    assert world.names.ask() == ""
    world.server.faults(lose_adapter="sql")
    assert world.names.ask(admitted=True) == ""
    assert set(world.served()) == {"sql"}
    folder.rmdir()
    world.server.faults(lose_adapter="sql")
    told = world.names.ask(admitted=True)
    assert told is not None
    assert told.startswith("serves tiny, not sql (")


def test_a_list_that_cannot_be_read_lets_nobody_in_and_takes_nobody_out(world: World) -> None:
    told = world.names.ask()
    assert told is not None
    assert "the list of adapters cannot be read" in told
    assert world.names.ask(admitted=True) is None
    world.write("v1", sql="org/sql")
    assert world.names.ask() == ""
    world.file.write_text("{")
    assert world.names.ask(admitted=True) == "", "the one before holds"
    assert "cannot be read" in world.names.trouble
    assert set(world.served()) == {"sql"}


def test_while_an_adapter_is_loaded_that_is_known_and_the_version_is_told_once_all_is_done(world: World) -> None:
    world.write("v1")
    assert world.names.ask() == ""
    world.server.faults(adapter_seconds=1.0)
    world.write("v2", sql="org/sql")
    asking = threading.Thread(target=world.names.ask, kwargs={"admitted": True})
    asking.start()
    until(lambda: world.names.loading, what="loading")
    assert world.version() == "v1"
    asking.join()
    assert (world.names.loading, world.version()) == (False, "v2")


def test_the_next_judge_unloads_what_the_one_before_had_loaded(world: World) -> None:
    world.write("v1", sql="org/sql")
    assert world.names.ask() == ""
    settings = Settings(gate_port=1, engine_port=world.server.port, model=NAME, adapters_file=str(world.file))
    heir = ServedNames(Engine(settings, ALLOWED), settings, may_load=True, ours=world.names.ours)
    world.write("v2")
    assert heir.ask(admitted=True) == ""
    assert world.served() == {}
