"""What the manager relies on in a vLLM server, checked on the stub and on the real engine by the same tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.servers import EngineServer, eventually
from vllm_operator.manager import evidence
from vllm_operator.manager.engine import FEW_METRICS, Engine, EngineError
from vllm_operator.manager.log import Log
from vllm_operator.manager.metrics import read_ranks
from vllm_operator.manager.settings import POLLED_PATHS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine_kinds import Kind

KEY = "key-1"
NAME = "tiny"
FLAGS = ("--served-model-name", NAME, "--disable-access-log-for-endpoints", ",".join(POLLED_PATHS))
ENVIRONMENT = {"VLLM_API_KEY": KEY, "VLLM_SERVER_DEV_MODE": "1", "GATE_LOOPBACK": "allowed"}
MANY = {"prompt": "a", "max_tokens": 600, "ignore_eos": True}


@pytest.fixture(scope="module")
def server(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """The server that all tests share."""
    folder = tmp_path_factory.mktemp("engine")
    with kind.start(*FLAGS, folder=folder, env={"VLLM_SERVER_DEV_MODE": "1"}, api_key=KEY) as running:
        yield running


@pytest.fixture
def engine(server: EngineServer) -> Iterator[Engine]:
    """The manager's view of it."""
    found = engine_at(server)
    yield found
    found.close()


def engine_at(server: EngineServer, *, key: str = KEY, **fields: Any) -> Engine:
    """The manager's view, with other settings."""
    settings = Settings(gate_port=1, engine_port=server.port, **{"model": NAME, **fields})
    return Engine(settings, {**ENVIRONMENT, "VLLM_API_KEY": key})


def steps(engine: Engine) -> float:
    """Steps as of a new sample."""
    ranks = engine.sample(20).ranks
    assert ranks is not None
    return ranks["0"].steps


def test_metrics_that_are_selected_by_name_say_the_same_in_a_tenth_of_the_text(server: EngineServer) -> None:
    whole, few = server.request("GET", "/metrics").body, server.request("GET", FEW_METRICS).body
    assert read_ranks(few) == read_ranks(whole)
    assert len(few) * 4 < len(whole)


def test_the_log_of_a_start_tells_for_how_much_its_kv_cache_has_room(server: EngineServer) -> None:
    log = Log({})
    log.feed(server.log().encode(), 1.0)
    found = log.capacity
    assert (found.kv_cache_gib, found.kv_cache_tokens, found.max_model_len, found.max_concurrency) == (
        0.06,
        65536,
        1024,
        64.0,
    )


def test_what_is_asked_each_second_is_not_logged(server: EngineServer, engine: Engine) -> None:
    assert engine.sample(20).server == evidence.ANSWERS
    server.request("GET", "/version")
    assert eventually(lambda: "GET /version" in server.log())
    assert FEW_METRICS not in server.log()


def test_a_canary_makes_one_step_which_the_next_sample_shows(engine: Engine) -> None:
    engine.check_names(20)
    before = steps(engine)
    engine.complete(60)
    assert eventually(lambda: steps(engine) == before + 1)


def test_work_in_flight_shows_in_a_sample(kind: Kind, server: EngineServer, engine: Engine) -> None:
    with kind.paced(server):
        call = server.request_later("POST", "/v1/completions", MANY)
        assert eventually(lambda: (engine.sample(20).ranks or {})["0"].running == 1)
    assert call.result().status == 200


def test_a_path_that_is_not_there_and_a_model_that_is_not_are_told_apart(server: EngineServer) -> None:
    for fields, cause in (
        ({"canary": "pooling"}, "NoEndpoint"),
        ({"canary": "transcription"}, "NoEndpoint"),
        ({"model": "other"}, "WrongModel"),
        ({"key": "wrong"}, "Unauthorized"),
    ):
        with pytest.raises(EngineError) as caught:
            engine_at(server, **fields).complete(20)
        assert caught.value.cause == cause


def test_a_hung_core_is_silent_to_a_canary_and_a_server_that_stands_still_to_everything(
    kind: Kind, server: EngineServer, engine: Engine
) -> None:
    with kind.hung_engine(server):
        assert engine.sample(20).server == evidence.ANSWERS
        with pytest.raises(EngineError) as caught:
            engine.complete(1)
        assert caught.value.cause == "Silent"
    with kind.hung_server(server):
        assert engine.sample(1).server == evidence.SILENT
    assert eventually(lambda: engine.sample(20).ranks is not None)


def test_a_pause_is_told(server: EngineServer, engine: Engine) -> None:
    server.request("POST", "/pause")
    assert engine.sample(20).paused
    server.request("POST", "/resume")
    assert not engine.sample(20).paused


def test_a_killed_core_is_said_to_be_dead_or_refuses_and_its_server_may_never_end(
    kind: Kind, server: EngineServer, engine: Engine
) -> None:
    """The last test of the file: it ends the server.

    The real server says that it is dead until its watchdog looks, for 0 to 5 s. Then it waits for the request that the
    core had been asked and never answers, so that its process stays: somebody else has to end it.
    """
    assert engine.sample(20).server == evidence.ANSWERS
    with kind.hung_engine(server):
        server.request_later("GET", "/is_paused")
        time.sleep(1)
        kind.kill_engine(server)
    assert eventually(lambda: engine.sample(5).server in (evidence.SAYS_DEAD, evidence.REFUSES))
    assert eventually(lambda: engine.sample(5).server == evidence.REFUSES, 30)
    if kind.real:
        assert not eventually(lambda: server.process.poll() is not None, 5)
