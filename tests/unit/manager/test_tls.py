"""The gate and a server that speaks https, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.pki import Authority
from tests.support.scripted_server import ScriptedServer, response, scripted_server
from tests.support.waiting import until
from vllm_operator.manager import evidence
from vllm_operator.manager.engine import Engine, EngineError
from vllm_operator.manager.settings import Settings, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METRICS = 'vllm:iteration_tokens_total_count{engine="0"} %d\nvllm:num_requests_running{engine="0"} 1\n'
COMPLETION = {"choices": [{"text": "a"}], "usage": {"completion_tokens": 1}}
ENVIRONMENT = {"GATE_LOOPBACK": "allowed"}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """TLS of a server whose certificate nobody believes."""
    folder = tmp_path_factory.mktemp("certificate")
    Authority().server("engine", hosts=["qwen.team.svc"]).save(folder, "server")
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(folder / "server.crt", folder / "server.key")
    return found


@contextlib.contextmanager
def view_of(server: ScriptedServer) -> Iterator[Engine]:
    """The gate's view of a server that is said to speak https."""
    engine = Engine(Settings(gate_port=1, engine_port=server.port, model="tiny", certificate="/x"), ENVIRONMENT)
    with contextlib.closing(engine):
        yield engine


def answering(
    context: ssl.SSLContext, answers: Callable[[str, bytes], bytes], most: int = 1000
) -> Callable[[ScriptedServer, socket.socket], None]:
    """A script that answers by https, so many requests on each connection."""

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            for _ in range(most):
                request = server.read_request(secure)
                if request is None:
                    return
                secure.sendall(answers(*request))
            secure.unwrap()  # as servers do that end a connection in order

    return script


def test_samples_share_one_connection_which_stays_quiet_between_them(context: ssl.SSLContext) -> None:
    """Tickets of TLS 1.3 come after the first answer, and are no end of the connection."""
    steps = iter(range(1, 5))
    script = answering(context, lambda path, _: response("" if path == "/health" else METRICS % next(steps)))
    with scripted_server(script) as server:
        with view_of(server) as engine:
            found = [engine.sample(20) for _ in range(4)]
        assert [one.ranks["0"].steps for one in found if one.ranks] == [1, 2, 3, 4]
        assert server.connections == 1


def test_a_connection_that_the_server_has_closed_is_made_anew(context: ssl.SSLContext) -> None:
    steps = iter(range(1, 9))
    script = answering(context, lambda path, _: response("" if path == "/health" else METRICS % next(steps)), most=1)
    with scripted_server(script) as server, view_of(server) as engine:
        for _ in range(3):
            sample = engine.sample(20)
            assert (sample.server, sample.trouble) == (evidence.ANSWERS, "")
            time.sleep(0.05)  # for the close to arrive
        assert server.connections > 3


def test_a_canary_is_completed(context: ssl.SSLContext) -> None:
    with scripted_server(answering(context, lambda *_: response(COMPLETION))) as server, view_of(server) as engine:
        engine.complete(20)
        assert server.heads[0].startswith("POST /v1/completions HTTP/1.1\r\nHost: localhost")


def test_a_large_answer_comes_whole(context: ssl.SSLContext) -> None:
    text = METRICS % 7 + "# " + "x" * 300_000 + "\n"
    with scripted_server(answering(context, lambda *_: response(text))) as server, view_of(server) as engine:
        ranks = engine.sample(20).ranks
    assert ranks
    assert ranks["0"].steps == 7


def test_a_server_that_speaks_plain_http_is_told() -> None:
    def script(_: ScriptedServer, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(response("Invalid HTTP request received.", 400))

    with (
        scripted_server(script) as server,
        view_of(server) as engine,
        pytest.raises(EngineError, match=f"port {server.port} does not speak TLS: ") as caught,
    ):
        engine.complete(20)
    assert caught.value.cause == "Failing"


def test_a_server_that_says_nothing_to_a_handshake_is_silent_in_time() -> None:
    with scripted_server(ScriptedServer.wait_for_end) as server, view_of(server) as engine:
        began = time.monotonic()
        with pytest.raises(EngineError, match="does not answer within 1 s") as caught:
            engine.complete(0.5)
        assert time.monotonic() - began < 20
    assert caught.value.cause == "Silent"


def test_what_breaks_within_an_answer_is_the_servers_trouble_and_not_ours(context: ssl.SSLContext) -> None:
    """OpenSSL numbers its errors as the system numbers others: its 1 is not EPERM."""

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        descriptor = socket.socket(fileno=socket.dup(connection.fileno()))
        with descriptor, context.wrap_socket(connection, server_side=True) as secure:
            server.read_request(secure)
            secure.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n12345")
            descriptor.sendall(b"what is no record of TLS, and long enough to be read as one" * 4)
            until(server.ended.is_set, what="the end")

    with scripted_server(script) as server, view_of(server) as engine:
        with pytest.raises(EngineError) as caught:
            engine.check_names(20)
        server.ended.set()
    assert caught.value.cause == "Failing"


def test_a_port_on_which_nothing_listens_yet_is_loading() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        engine = Engine(Settings(gate_port=1, engine_port=bound.getsockname()[1], certificate="/x"), ENVIRONMENT)
        assert engine.sample(5).server == evidence.REFUSES


def test_the_manager_is_told_by_the_folder_of_the_certificate() -> None:
    assert settings_of(["--gate-port", "1", "--certificate", "/etc/x"], {}).certificate == "/etc/x"
    assert settings_of(["--gate-port", "1"], {}).certificate == ""
