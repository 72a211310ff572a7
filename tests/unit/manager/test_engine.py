"""The manager's view of the server, against the stub engine and against servers that misbehave, over real sockets."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.processes import stop
from tests.support.scripted_server import ScriptedServer, response, scripted_server
from tests.support.servers import EngineServer, free_port, stub_server
from tests.support.waiting import until
from vllm_operator.manager import evidence, holders
from vllm_operator.manager.engine import Engine, EngineError, outcome_of
from vllm_operator.manager.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

KEY = "sesame-open"
NAME = "tiny"
ENVIRONMENT = {"VLLM_API_KEY": KEY, "GATE_LOOPBACK": "allowed"}
METRICS = 'vllm:iteration_tokens_total_count{engine="0"} %d\nvllm:num_requests_running{engine="0"} 1\n'
SLOW_MACHINE_SECONDS = 20.0
"""What a deadline of a second or less may take on a machine that does other things as well."""
SCALING = {"error": "The model is currently scaling. Please try again later."}
_ENGINES: list[Engine] = []
"""Those of the test that runs."""
COMPLETION = {"choices": [{"text": "a"}], "usage": {"completion_tokens": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """A stub with a key, two ranks and adapters, for all tests of this file."""
    flags = ("--served-model-name", NAME, "--data-parallel-size", "2", "--enable-lora", "--lora-modules", "one=org/one")
    env = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_SERVER_DEV_MODE": "1"}
    with stub_server(*flags, folder=tmp_path_factory.mktemp("stub"), env=env, api_key=KEY) as running:
        yield running


@pytest.fixture(autouse=True)
def _sound(server: EngineServer) -> Iterator[None]:
    """Every test starts and ends with an engine that nothing is wrong with, and with no connection to it."""
    yield
    while _ENGINES:
        _ENGINES.pop().close()
    server.request("DELETE", "/stub/faults")
    server.request("POST", "/resume")


def engine_at(port: int, environment: dict[str, str] | None = None, **fields: Any) -> Engine:
    """The manager's view of a server on that port."""
    settings = Settings(gate_port=1, engine_port=port, **{"model": NAME, **fields})
    _ENGINES.append(Engine(settings, ENVIRONMENT if environment is None else environment))
    return _ENGINES[-1]


def failure(ask: Callable[[], object]) -> EngineError:
    """The error that a question ends with."""
    with pytest.raises(EngineError) as caught:
        ask()
    assert KEY not in str(caught.value)
    return caught.value


# -------------------------------------------------------------------------------------------------------------- samples


def test_a_sample_has_every_rank_with_its_steps(server: EngineServer) -> None:
    engine = engine_at(server.port)
    server.complete()
    before = engine.sample(20).ranks
    server.complete()
    server.complete()
    after = engine.sample(20)
    assert before is not None
    assert after.ranks is not None
    assert after.server == evidence.ANSWERS
    assert set(after.ranks) == {"0", "1"}
    assert sum(rank.steps for rank in after.ranks.values()) == sum(rank.steps for rank in before.values()) + 2


def test_samples_share_a_connection_and_health_is_asked_only_where_no_step_shows() -> None:
    steps = iter((1, 2, 3, 3))
    with scripted_server(
        answers=lambda path, _: response("" if path == "/health" else METRICS % next(steps))
    ) as server:
        engine = engine_at(server.port)
        for _ in range(4):
            assert engine.sample(20).server == evidence.ANSWERS
        asked = [head.split()[1].partition("?")[0] for head in server.heads]
    assert server.connections == 1
    assert asked == ["/metrics/", "/health", "/metrics/", "/metrics/", "/metrics/", "/health"]


def test_only_the_metrics_that_are_read_are_asked_for_and_all_where_the_server_cannot_select() -> None:
    def answer(path: str, _: bytes) -> bytes:
        return response("") if path.startswith("/metrics/") else response(METRICS % 1)

    with scripted_server(answers=answer) as server:
        engine = engine_at(server.port)
        for _ in range(2):
            assert engine.sample(20).ranks is not None
        asked = [head.split()[1].partition("?")[0] for head in server.heads]
    assert asked == ["/metrics/", "/metrics", "/health", "/metrics", "/health"]


def test_a_connection_that_the_server_has_closed_between_samples_is_no_trouble() -> None:
    def one_answer(server: ScriptedServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(response(METRICS % 1))

    with scripted_server(one_answer) as server:
        engine = engine_at(server.port)
        for _ in range(5):
            sample = engine.sample(20)
            assert (sample.server, sample.trouble) == (evidence.ANSWERS, "")


def test_a_connection_that_is_closed_at_the_very_moment_of_a_question_is_no_trouble() -> None:
    """The race that no look at the connection beforehand can win: the request goes out, and the end comes back."""

    def answer_once_then_close_at_a_request(server: ScriptedServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(response(METRICS % 1))
        server.read_request(connection)

    with scripted_server(answer_once_then_close_at_a_request) as server:
        engine = engine_at(server.port)
        for _ in range(3):
            sample = engine.sample(20)
            assert (sample.ranks is not None, sample.trouble) == (True, "")


def test_chunked_answers_and_answers_that_end_with_the_connection_are_read() -> None:
    text = (METRICS % 1).encode()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x;x=y\r\n%c\r\n" % (1, byte) for byte in text) + b"0\r\nTrailer: x\r\n\r\n"
    with scripted_server(answers=lambda *_: b"HTTP/1.1 100 Continue\r\n\r\n" + head + chunks) as server:
        engine = engine_at(server.port)
        assert engine.sample(20).ranks is not None
        assert engine.sample(20).ranks is not None
        assert server.connections == 1

    def until_the_end(server: ScriptedServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + text)

    with scripted_server(until_the_end) as server:
        assert engine_at(server.port).sample(20).ranks is not None


def test_nothing_listens_is_told_as_refusal() -> None:
    sample = engine_at(port := free_port()).sample(20)
    assert (sample.server, sample.trouble) == (evidence.REFUSES, f"nothing listens on port {port}")


def test_a_server_that_takes_the_connection_and_never_answers_is_silent_within_the_deadline() -> None:
    with scripted_server(ScriptedServer.wait_for_end) as server:
        began = time.monotonic()
        sample = engine_at(server.port).sample(1.0)
        assert time.monotonic() - began < SLOW_MACHINE_SECONDS
    assert (sample.server, sample.trouble) == (evidence.SILENT, "/metrics/ does not answer within 1 s")


def test_a_stopped_process_is_silent_though_the_kernel_takes_its_connections(server: EngineServer) -> None:
    engine = engine_at(server.port)
    assert engine.sample(20).server == evidence.ANSWERS
    stop(server.process.pid)
    try:
        assert engine.sample(1.0).server == evidence.SILENT
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert engine.sample(20).server == evidence.ANSWERS


def half(server: ScriptedServer, connection: socket.socket) -> None:
    """Half an answer, then nothing."""
    server.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nvllm:")
    server.ended.wait()


def endless_head(server: ScriptedServer, connection: socket.socket) -> None:
    """Headers without end, slowly enough for no single read to be late."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not server.ended.wait(0.05):
        connection.sendall(b"X-More: yes\r\n")


@pytest.mark.parametrize("script", [half, endless_head])
def test_an_answer_that_does_not_end_is_given_up_at_the_deadline(
    script: Callable[[ScriptedServer, socket.socket], None],
) -> None:
    with scripted_server(script) as server:
        began = time.monotonic()
        sample = engine_at(server.port).sample(1.0)
        assert time.monotonic() - began < SLOW_MACHINE_SECONDS
    assert sample.ranks is None
    assert sample.server == evidence.SILENT


def early_end(server: ScriptedServer, connection: socket.socket) -> None:
    """No answer at all."""
    server.read_request(connection)


def early_reset(server: ScriptedServer, connection: socket.socket) -> None:
    """A reset instead of an answer."""
    server.read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def half_then_end(server: ScriptedServer, connection: socket.socket) -> None:
    """An answer that breaks off."""
    server.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nvllm:")


def nonsense(server: ScriptedServer, connection: socket.socket) -> None:
    """Another protocol."""
    del server
    connection.sendall(b"220 mail.example.com ESMTP\r\n\r\n")
    connection.recv(1)


def fast_head(server: ScriptedServer, connection: socket.socket) -> None:
    """Headers without end, as fast as they go."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not server.ended.is_set():
        connection.sendall(b"X-More: yes\r\n" * 1000)


def huge_body(server: ScriptedServer, connection: socket.socket) -> None:
    """100 MB, told beforehand."""
    server.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    for _ in range(100):
        connection.sendall(bytes(1000000))


def huge_chunks(server: ScriptedServer, connection: socket.socket) -> None:
    """100 MB in chunks."""
    server.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"f4240\r\n" + bytes(1000000) + b"\r\n")


def huge_untold(server: ScriptedServer, connection: socket.socket) -> None:
    """100 MB until the connection ends."""
    server.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(100):
        connection.sendall(bytes(1000000))


def bad_length(server: ScriptedServer, connection: socket.socket) -> None:
    """A length that is none."""
    server.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")
    connection.recv(1)


def bad_chunks(server: ScriptedServer, connection: socket.socket) -> None:
    """Chunks whose sizes are none."""
    server.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n")
    connection.recv(1)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (early_end, "the connection ended without an answer"),
        (early_reset, "the connection ended without an answer"),
        (half_then_end, "the connection ended within the answer"),
        (nonsense, "what listens there does not speak HTTP"),
        (fast_head, "the head of the answer does not end"),
        (huge_body, "the answer is larger than 4 MB"),
        (huge_chunks, "the answer is larger than 4 MB"),
        (huge_untold, "the answer is larger than 4 MB"),
        (bad_length, "the answer is not understood"),
        (bad_chunks, "the answer is not understood"),
    ],
)
def test_a_broken_answer_is_told_and_says_neither_silent_nor_refused_nor_dead(
    script: Callable[[ScriptedServer, socket.socket], None], words: str
) -> None:
    with scripted_server(script) as server:
        sample = engine_at(server.port).sample(20)
        error = failure(lambda: engine_at(server.port).complete(20))
    assert sample.server == evidence.ANSWERS
    assert sample.ranks is None
    assert words in sample.trouble
    assert words in str(error)
    assert outcome_of(error) == evidence.FAILED


def test_slow_metrics_say_nothing_of_a_server_whose_health_answers(server: EngineServer) -> None:
    server.faults(metrics_seconds=30)
    sample = engine_at(server.port).sample(2.0)
    assert (sample.server, sample.ranks) == (evidence.ANSWERS, None)
    assert "does not answer" in sample.trouble


def test_metrics_under_other_names_are_told_with_the_possible_reasons(server: EngineServer) -> None:
    server.faults(metrics_prefix="vllm2:")
    sample = engine_at(server.port).sample(20)
    assert (sample.server, sample.ranks) == (evidence.ANSWERS, None)
    assert "--disable-log-stats" in sample.trouble


def test_a_dead_core_is_what_health_says_of_it(server: EngineServer) -> None:
    server.faults(health_status=503)
    assert engine_at(server.port).sample(20).server == evidence.SAYS_DEAD


def test_a_server_that_scales_is_not_taken_for_dead() -> None:
    with scripted_server(answers=lambda *_: response(SCALING, 503)) as server:
        engine = engine_at(server.port)
        sample = engine.sample(20)
        error = failure(lambda: engine.complete(20))
        names = failure(lambda: engine.check_names(20))
    assert sample.server == evidence.SCALING
    assert (error.cause, outcome_of(error), names.cause) == ("Scaling", evidence.BUSY, "Scaling")


def test_a_server_that_scales_only_by_the_time_of_its_health_is_told_as_that() -> None:
    def answer(path: str, _: bytes) -> bytes:
        return response(SCALING, 503) if path == "/health" else response(METRICS % 1)

    with scripted_server(answers=answer) as server:
        assert engine_at(server.port).sample(20).server == evidence.SCALING


def test_a_pause_is_told_in_development_mode_and_remembered_while_the_core_does_not_say(server: EngineServer) -> None:
    environment = {**ENVIRONMENT, "VLLM_SERVER_DEV_MODE": "1"}
    engine, other = engine_at(server.port, environment), engine_at(server.port)
    assert not engine.sample(20).paused
    server.request("POST", "/pause")
    assert engine.sample(20).paused
    server.faults(hang_engine=True)
    assert engine.sample(20).paused
    assert not other.sample(20).paused
    server.faults(hang_engine=False)
    server.request("POST", "/resume")
    assert not engine.sample(20).paused


def test_a_pause_that_empties_the_cache_is_not_taken_for_its_own_end() -> None:
    usage = iter((0.5, 0.5, 0.0, 0.0))

    def answer(path: str, _: bytes) -> bytes:
        if path == "/is_paused":
            return response({"is_paused": True})
        cache = 'vllm:kv_cache_usage_perc{engine="0"} %f\n'
        return response(METRICS % 1 + cache % next(usage) if "metrics" in path else "")

    with scripted_server(answers=answer) as server:
        engine = engine_at(server.port, {**ENVIRONMENT, "VLLM_SERVER_DEV_MODE": "1"})
        assert [engine.sample(20).paused for _ in range(4)] == [True] * 4


def test_connections_of_others_are_counted_where_the_metrics_do_not_come() -> None:
    with scripted_server(ScriptedServer.wait_for_end) as server:
        engine = engine_at(server.port)
        with socket.create_connection(("127.0.0.1", server.port)):
            assert engine.sample(0.5).connections == 1
        until(lambda: engine.sample(0.5).connections == 0, what="no connection")


def test_two_servers_on_one_port_of_which_one_hangs_are_sampled_through_the_other() -> None:
    """As with --api-server-count: the kernel gives a connection to one of the processes, and kept ones stay there."""
    stuck: list[socket.socket] = []
    hang = threading.Event()

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        first = not stuck
        stuck.append(connection)
        while (request := server.read_request(connection)) is not None:
            if first and hang.is_set():
                server.ended.wait()
                return
            connection.sendall(response(METRICS % 1) if "metrics" in request[0] else response(""))

    with scripted_server(script) as server:
        engine = engine_at(server.port)
        assert engine.sample(20).ranks is not None
        hang.set()
        assert engine.sample(2.0).server == evidence.ANSWERS
        assert engine.sample(20).ranks is not None


def test_proxies_of_the_environment_are_not_asked(server: EngineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    engine = engine_at(server.port)
    assert engine.sample(20).ranks is not None
    engine.complete(20)


def test_a_lack_of_file_descriptors_of_our_own_is_held_against_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    engine = engine_at(free_port())
    monkeypatch.setattr("vllm_operator.manager.listeners.socket.socket", exhausted)
    sample = engine.sample(5)
    error = failure(lambda: engine.complete(5))
    assert (sample.server, sample.ranks) == (evidence.ANSWERS, None)
    assert (error.cause, outcome_of(error)) == ("Unasked", evidence.BUSY)


# ------------------------------------------------------------------------------------------------- where clients ask


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::", "127.0.0.7"])  # noqa: S104
def test_a_server_is_found_wherever_it_listens(address: str) -> None:
    with scripted_server(answers=lambda *_: response(METRICS % 1), address=address) as server:
        assert engine_at(server.port).sample(20).ranks is not None


def test_a_server_on_one_address_is_found_though_it_refused_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllm_operator.manager.listeners.SEARCH_SECONDS", 0.1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.7", 0))
        engine = engine_at(listener.getsockname()[1])
        assert engine.sample(20).server == evidence.REFUSES
        listener.listen()
        until(lambda: engine.sample(0.5).server == evidence.SILENT, what="a connection that is taken")


def test_a_server_that_ends_is_told_as_refusal_wherever_it_was() -> None:
    with scripted_server(answers=lambda *_: response(METRICS % 1), address="127.0.0.7") as server:
        engine = engine_at(server.port)
        assert engine.sample(20).server == evidence.ANSWERS
    until(lambda: engine.sample(20).server == evidence.REFUSES, what="a refusal")


def test_canaries_and_samples_on_many_threads_do_not_meet(server: EngineServer) -> None:
    engine = engine_at(server.port)
    with ThreadPoolExecutor(8) as pool:
        canaries = [pool.submit(engine.complete, 60, rank) for rank in ("0", "1", None) * 10]
        while not all(canary.done() for canary in canaries):
            assert engine.sample(60).ranks is not None
    assert all(canary.exception() is None for canary in canaries)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_server_that_listens_on_a_loopback_alone_is_never_admitted_and_told_why(address: str) -> None:
    def answer(path: str, _: bytes) -> bytes:
        return response({"data": [{"id": NAME}]} if path == "/v1/models" else COMPLETION)

    with scripted_server(answers=answer, address=address) as server:
        engine = engine_at(server.port, {})
        for error in (failure(lambda: engine.check_names(20)), failure(lambda: engine.complete(20))):
            assert (error.cause, outcome_of(error)) == ("LoopbackOnly", evidence.REFUSED)
            assert f"listens on {address} only, where no client reaches it" in str(error)
        allowed = engine_at(server.port, {"GATE_LOOPBACK": "allowed"})
        allowed.check_names(20)
        allowed.complete(20)


@pytest.mark.parametrize(
    ("status", "document"),
    [(404, {"detail": "Not Found"}), (401, {}), (400, {}), (500, {}), (200, {}), (200, {"data": [{"id": "other"}]})],
)
def test_what_another_container_answers_on_the_port_is_no_word_of_the_engine(
    status: int, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_server(answers=lambda *_: response(document, status), address="127.0.0.1") as server:
        ours = failure(lambda: engine_at(server.port, {}).complete(20))
        assert ours.cause != "PortTaken", "a process that is seen from here has the port"
        monkeypatch.setattr(holders, "held_sockets", lambda _: set[int]())
        engine = engine_at(server.port, {})
        taken = failure(lambda: engine.complete(20))
        assert (taken.cause, outcome_of(taken)) == ("PortTaken", evidence.REFUSED)
        assert f"what listens on port {server.port} is no process of this container" in str(taken)
        assert failure(lambda: engine.check_names(20)).cause == "PortTaken"
        assert failure(lambda: engine_at(server.port).complete(20)).cause == "Loading", "a proxy rightly has it"


def test_an_engine_that_was_within_reach_has_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((response(COMPLETION), response({}, 500)))
    with scripted_server(answers=lambda *_: next(answers), address="0.0.0.0") as server:  # noqa: S104
        engine = engine_at(server.port, {})
        engine.complete(20)
        monkeypatch.setattr(holders, "held_sockets", lambda _: set[int]())
        assert failure(lambda: engine.complete(20)).cause == "Failing"


def test_a_server_that_all_can_reach_is_admitted() -> None:
    with scripted_server(answers=lambda *_: response(COMPLETION), address="0.0.0.0") as server:  # noqa: S104
        engine_at(server.port, {}).complete(20)


def test_a_chat_that_is_refused_is_told_and_one_that_is_taken_or_unknown_is_not(server: EngineServer) -> None:
    engine = engine_at(server.port)
    assert not engine.completes_texts, "nothing is known of it yet"
    engine.complete(20)
    assert engine.completes_texts
    assert engine.chat_refusal(20) == ""
    server.faults(fail={"status": 400, "message": "no chat template", "path": "/v1/chat/completions"})
    assert engine.chat_refusal(20) == "/v1/chat/completions: HTTP 400: no chat template"
    server.faults(fail={"status": 404, "body": {"detail": "Not Found"}, "path": "/v1/chat/completions"})
    assert engine.chat_refusal(20) == ""
    server.faults(fail={"status": 503, "message": "busy", "path": "/v1/chat/completions"})
    assert failure(lambda: engine.chat_refusal(20)).cause == "Busy"


# ---------------------------------------------------------------------------------------------------- names, adapters


def test_the_served_name_and_the_adapters_are_checked(server: EngineServer) -> None:
    engine_at(server.port, adapters=(("one", "org/one"),)).check_names(20)
    error = failure(lambda: engine_at(server.port, model="other").check_names(20))
    assert (error.cause, str(error)) == ("WrongModel", "serves tiny, one, not other")


def test_a_wrong_key_is_told_by_the_variable_that_holds_it_and_never_by_its_value(server: EngineServer) -> None:
    engine = engine_at(server.port, {**ENVIRONMENT, "VLLM_API_KEY": "wrong-key"})
    for error in (failure(lambda: engine.check_names(20)), failure(lambda: engine.complete(20))):
        assert (error.cause, outcome_of(error)) == ("Unauthorized", evidence.REFUSED)
        assert "VLLM_API_KEY of this container is not a key of the server" in str(error)
        assert "wrong-key" not in str(error)


def test_a_key_that_no_header_can_carry_is_told_as_that(server: EngineServer) -> None:
    engine = engine_at(server.port, {**ENVIRONMENT, "VLLM_API_KEY": f"{KEY}\n"})
    error = failure(lambda: engine.complete(20))
    assert error.cause == "Unauthorized"
    assert "no client can send such a key" in str(error)


def test_an_answer_that_repeats_the_key_is_told_without_it() -> None:
    with scripted_server(answers=lambda *_: response(f"what is {KEY}?", 500)) as server:
        assert str(failure(lambda: engine_at(server.port).complete(20))) == "/v1/completions: HTTP 500: what is ***?"
    with scripted_server(answers=lambda *_: response(f"[{KEY}")) as server:
        assert "as vLLM does: [***" in str(failure(lambda: engine_at(server.port).check_names(20)))


def test_an_adapter_that_is_gone_is_found_and_loaded_again(server: EngineServer) -> None:
    environment = {**ENVIRONMENT, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    engine = engine_at(server.port, environment, adapters=(("one", "org/one"), ("two", "org/two")))
    assert engine.missing_adapters(20) == ("two",)
    engine.load_adapter("two", "org/two", 20)
    assert engine.missing_adapters(20) == ()
    engine.load_adapter("two", "org/two", 20)
    server.request("POST", "/v1/unload_lora_adapter", {"lora_name": "two"})


def test_an_adapter_that_cannot_be_loaded_is_told_with_the_reason(server: EngineServer) -> None:
    environment = {**ENVIRONMENT, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    engine = engine_at(server.port, environment)
    error = failure(lambda: engine.load_adapter("three", "/no/such/folder", 20))
    assert error.cause == "Refused"
    assert "No adapter found for /no/such/folder" in str(error)
    assert failure(lambda: engine.load_adapter("three", "", 20)).cause == "Refused"
    not_allowed = failure(lambda: engine_at(server.port).load_adapter("three", "org/three", 20))
    assert not_allowed.cause == "NoEndpoint"
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING is not set" in str(not_allowed)


def test_a_server_without_the_route_for_adapters_is_told_as_that() -> None:
    environment = {**ENVIRONMENT, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    with scripted_server(answers=lambda *_: response({"detail": "Not Found"}, 404)) as server:
        error = failure(lambda: engine_at(server.port, environment).load_adapter("one", "org/one", 20))
    assert error.cause == "NoEndpoint"


def test_without_adapters_nobody_is_asked_for_them() -> None:
    assert engine_at(free_port()).missing_adapters(1) == ()


# ------------------------------------------------------------------------------------------------------------- canaries


def test_a_completion_proves_the_engine_and_is_of_one_token(server: EngineServer) -> None:
    before = server.metric("generation_tokens_total")
    engine_at(server.port).complete(20)
    until(lambda: server.metric("generation_tokens_total") == before + 1, what="one token more")


def test_a_rank_completes_the_canary_that_is_meant_for_it(server: EngineServer) -> None:
    engine = engine_at(server.port)
    engine.sample(20)
    before = server.metric("iteration_tokens_total_count", engine="1")
    for _ in range(3):
        engine.complete(20, "1")
    until(lambda: server.metric("iteration_tokens_total_count", engine="1") == before + 3, what="the steps of rank 1")


def test_ranks_with_high_names_are_asked_by_their_place_among_the_servers_own() -> None:
    metrics = "".join(f'vllm:iteration_tokens_total_count{{engine="{rank}"}} 1\n' for rank in (4, 5, 6, 7))

    def answer(path: str, _: bytes) -> bytes:
        return response(metrics if "metrics" in path else COMPLETION)

    with scripted_server(answers=answer) as server:
        engine = engine_at(server.port)
        engine.sample(20)
        engine.complete(20, "6")
        engine.complete(20)
        assert "\r\nX-data-parallel-rank: 2\r\n" in f"{server.heads[-2]}\r\n"
        assert "data-parallel-rank" not in server.heads[-1]


def test_a_server_that_numbers_its_ranks_otherwise_chooses_one_itself() -> None:
    metrics = "".join(f'vllm:iteration_tokens_total_count{{engine="{rank}"}} 1\n' for rank in (0, 1))
    refusal = {"error": {"message": "data_parallel_rank 1 is out of range [0, 1).", "code": 400}}

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        while (request := server.read_request(connection)) is not None:
            named = "data-parallel-rank" in server.heads[-1]
            text = metrics if "metrics" in request[0] else refusal if named else COMPLETION
            connection.sendall(response(text, 400 if named else 200))

    with scripted_server(script) as server:
        engine = engine_at(server.port)
        engine.sample(20)
        engine.complete(20, "1")


def test_a_hung_engine_does_not_complete_within_the_deadline(server: EngineServer) -> None:
    server.faults(hang_engine=True)
    began = time.monotonic()
    error = failure(lambda: engine_at(server.port).complete(1))
    assert time.monotonic() - began < SLOW_MACHINE_SECONDS
    assert (error.cause, outcome_of(error)) == ("Silent", evidence.UNANSWERED)
    assert str(error) == "/v1/completions does not answer within 1 s"


@pytest.mark.parametrize(
    ("status", "cause", "outcome"),
    [
        (400, "Refused", evidence.REFUSED),
        (429, "Busy", evidence.BUSY),
        (500, "Failing", evidence.FAILED),
        (503, "Busy", evidence.BUSY),
    ],
)
def test_a_failed_completion_is_told_by_what_it_means(
    server: EngineServer, status: int, cause: str, outcome: str
) -> None:
    server.faults(fail={"status": status, "message": "no luck"})
    error = failure(lambda: engine_at(server.port).complete(20))
    assert (error.cause, outcome_of(error)) == (cause, outcome)
    assert f"HTTP {status}" in str(error)
    assert "no luck" in str(error)


def test_an_empty_completion_is_a_failure(server: EngineServer) -> None:
    server.faults(answer="")
    error = failure(lambda: engine_at(server.port, canary="completions").complete(20))
    assert (error.cause, outcome_of(error)) == ("Empty", evidence.FAILED)


def test_a_missing_model_is_not_taken_for_a_missing_endpoint(server: EngineServer) -> None:
    error = failure(lambda: engine_at(server.port, model="other").complete(20))
    assert (error.cause, outcome_of(error)) == ("WrongModel", evidence.REFUSED)
    assert str(error).startswith("/v1/completions: HTTP 404: The model `other` does not exist.")


def serving(*paths: str, missing: bytes | None = None) -> Callable[[str, bytes], bytes]:
    """A server that has these endpoints and no others."""
    answers = {
        "/v1/completions": COMPLETION,
        "/v1/chat/completions": COMPLETION,
        "/pooling": {"data": [{"data": [0.5]}]},
        "/v1/embeddings": {"data": [{"embedding": [0.5]}]},
        "/classify": {"data": [{"probs": [0.5]}]},
        "/v1/audio/transcriptions": {"text": "", "usage": {"type": "duration", "seconds": 1}},
    }
    not_found = response({"detail": "Not Found"}, 404) if missing is None else missing

    def answer(path: str, body: bytes) -> bytes:
        assert NAME.encode() in body or path not in answers
        return response(answers[path]) if path in paths else not_found

    return answer


@pytest.mark.parametrize(
    "path",
    ["/v1/completions", "/v1/chat/completions", "/pooling", "/v1/embeddings", "/classify", "/v1/audio/transcriptions"],
)
@pytest.mark.parametrize(
    "missing",
    [
        response({"detail": "Not Found"}, 404),
        response({"error": {"message": "Not Found", "type": "Not Found", "code": 404}}, 404),
        response("<html>no</html>", 404),
        response({"error": {"message": "The model does not support Completions API", "code": 501}}, 501),
    ],
)
def test_auto_finds_out_what_is_served_and_remembers_it(path: str, missing: bytes) -> None:
    with scripted_server(answers=serving(path, missing=missing)) as server:
        engine = engine_at(server.port)
        engine.complete(20)
        found = len(server.heads)
        engine.complete(20)
        assert [head.split()[1] for head in server.heads[found:]] == [path]


def test_auto_looks_anew_where_what_was_served_is_no_longer() -> None:
    served = [serving("/v1/chat/completions")]

    def answer(path: str, body: bytes) -> bytes:
        return served[-1](path, body)

    with scripted_server(answers=answer) as server:
        engine = engine_at(server.port)
        engine.complete(20)
        served.append(serving("/pooling"))
        engine.complete(20)
        assert server.heads[-1].split()[1] == "/pooling"


def test_a_server_with_nothing_to_complete_is_never_admitted_and_the_way_out_is_told() -> None:
    with scripted_server(answers=serving()) as server:
        error = failure(lambda: engine_at(server.port).complete(20))
    assert (error.cause, outcome_of(error)) == ("NoEndpoint", evidence.REFUSED)
    assert "prove it with a command in spec.gates.probe" in str(error)


def test_a_canary_that_is_set_is_the_only_one_that_is_tried() -> None:
    with scripted_server(answers=serving("/v1/completions")) as server:
        error = failure(lambda: engine_at(server.port, canary="chat").complete(20))
        assert [head.split()[1] for head in server.heads] == ["/v1/chat/completions"]
    assert error.cause == "NoEndpoint"
    assert "does spec.model.runner say what this model does?" in str(error)


def test_a_canary_of_an_unknown_kind_is_told() -> None:
    assert "there is no canary named dream" in str(failure(lambda: engine_at(free_port(), canary="dream").complete(1)))


def test_a_pooling_model_proves_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    flags = ("--served-model-name", NAME, "--convert", "classify")
    with stub_server(*flags, folder=tmp_path_factory.mktemp("pooling")) as server:
        engine_at(server.port).complete(20)
        engine_at(server.port, canary="pooling").complete(20)


def test_the_users_command_is_the_canary_and_has_the_containers_environment() -> None:
    script = '[ "$VLLM_API_KEY" = "sesame-open" ] || exit 1; echo "key is $VLLM_API_KEY"; exit ${CODE:-0}'
    command = ("/bin/sh", "-c", script)
    environment = {**os.environ, **ENVIRONMENT}
    engine_at(free_port(), environment, canary="command", command=command).complete(20)
    error = failure(
        lambda: engine_at(free_port(), {**environment, "CODE": "4"}, canary="command", command=command).complete(20)
    )
    assert (error.cause, str(error)) == ("Failing", "the command sh exits with 4: key is ***")


# ------------------------------------------------------------------------------------------------------------ realtime


class Realtime:
    """A server that speaks /v1/realtime as vLLM does, and nothing else."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = answers
        self.heard: list[dict[str, Any]] = []

    def __call__(self, server: ScriptedServer, connection: socket.socket) -> None:
        """Serve one connection."""
        while (request := server.read_request(connection)) is not None:
            if request[0] == "/v1/realtime" and "Upgrade: websocket" in server.heads[-1]:
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
                self.session(connection)
                return
            connection.sendall(response({"detail": "Not Found"}, 404))

    def session(self, connection: socket.socket) -> None:
        """From the greeting to the answers, with a ping between."""
        file = connection.makefile("rb")
        connection.sendall(text_frame({"type": "session.created"}) + b"\x89\x02hi")
        while not self.heard or not self.heard[-1].get("final"):
            kind, payload = read_frame(file)
            if kind == 1:
                self.heard.append(json.loads(payload))
        connection.sendall(b"".join(map(text_frame, self.answers)))
        with contextlib.suppress(ValueError):
            while True:
                read_frame(file)


def text_frame(event: dict[str, Any]) -> bytes:
    """A frame as servers send it."""
    payload = json.dumps(event).encode()
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload


def read_frame(file: Any) -> tuple[int, bytes]:
    """A frame as clients send it: kind and payload.

    Raises:
        ValueError: the client went away.
    """
    first, size = file.read(2)
    size &= 0x7F
    if size > 125:
        size = int.from_bytes(file.read(2 if size == 126 else 8), "big")
    mask = file.read(4)
    return first & 0xF, bytes(byte ^ mask[at % 4] for at, byte in enumerate(file.read(size)))


DONE = {"type": "transcription.done", "text": ""}


def test_a_model_that_only_transcribes_in_real_time_proves_itself_by_a_second_of_silence() -> None:
    script = Realtime({"type": "transcription.delta", "delta": ""})
    with scripted_server(script) as server:
        engine = engine_at(server.port)
        engine.complete(20)
        assert [event["type"] for event in script.heard] == [
            "session.update",
            "input_audio_buffer.commit",
            "input_audio_buffer.append",
            "input_audio_buffer.commit",
        ]
        assert script.heard[0]["model"] == NAME
        assert base64.b64decode(script.heard[2]["audio"]) == bytes(32000)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ({"type": "error", "error": "The model `tiny` does not exist.", "code": "model_not_found"}, "WrongModel"),
        ({"type": "error", "error": "EngineCore encountered an issue", "code": "processing_error"}, "Failing"),
        ({**DONE, "usage": {"completion_tokens": 0}}, "Empty"),
    ],
)
def test_a_session_that_ends_otherwise_is_a_failure(answer: dict[str, Any], cause: str) -> None:
    with scripted_server(Realtime(answer)) as server:
        assert failure(lambda: engine_at(server.port, canary="realtime").complete(20)).cause == cause


def test_a_session_that_transcribes_nothing_is_silent_within_the_deadline() -> None:
    with scripted_server(Realtime()) as server:
        error = failure(lambda: engine_at(server.port, canary="realtime").complete(1))
    assert (error.cause, str(error)) == ("Silent", "/v1/realtime does not answer within 1 s")


def test_a_server_that_refuses_the_websocket_has_no_such_endpoint() -> None:
    with scripted_server(answers=lambda *_: response("", 403)) as server:
        assert failure(lambda: engine_at(server.port, canary="realtime").complete(20)).cause == "NoEndpoint"
