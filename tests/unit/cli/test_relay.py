"""Plain HTTP to a server with https behind a forwarded port, and what clients would say of its certificate."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import io
import socket
import ssl
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import AUTHORITY, pair
from vllm_operator.cli.ask import forwarded
from vllm_operator.cli.relay import certificate_fault, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "qwen.team.svc"


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Send it back."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's certificate, and the server's."""
    found = tmp_path_factory.mktemp("certificates")
    (found / "ca.pem").write_bytes(AUTHORITY.certificate)
    pair(HOST).save(found, "server")
    return found


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    """Of a server with https on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # refused handshakes are what is tried
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def echoed(connection: http.client.HTTPConnection, content: bytes) -> bytes:
    """What comes back."""
    connection.request("POST", "/", content)
    return connection.getresponse().read()


def test_requests_and_answers_of_any_size_pass_one_after_the_other(port: int) -> None:
    with plain(port) as here, contextlib.closing(http.client.HTTPConnection("127.0.0.1", here, timeout=60)) as asked:
        for content in (b"a", b"b" * 1_000_000, b"c"):
            assert echoed(asked, content) == content


def test_the_end_of_the_block_ends_what_is_open_without_a_word(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with plain(port) as here:
        connection = http.client.HTTPConnection("127.0.0.1", here, timeout=60)
        assert echoed(connection, b"a") == b"a"
    with contextlib.closing(connection), pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        echoed(connection, b"b")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", here))
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_a_server_that_does_not_answer_is_a_connection_that_ends() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with plain(bound.getsockname()[1]) as here, socket.create_connection(("127.0.0.1", here), timeout=60) as asked:
            assert asked.recv(1) == b""


@pytest.mark.parametrize(
    ("host", "ca_file", "words"),
    [
        (HOST, "ca.pem", ""),
        (HOST, "", "unable to get local issuer certificate"),
        ("other.team.svc", "ca.pem", "Hostname mismatch"),
        (HOST, "none.pem", "No such file"),
    ],
)
def test_what_clients_would_say_of_the_certificate_is_known(
    port: int, folder: Path, host: str, ca_file: str, words: str
) -> None:
    fault = certificate_fault(port, host, str(folder / ca_file) if ca_file else "")
    assert words in fault if words else fault == ""


class ForwardingKubectl:
    """A kubectl whose forwarded port is that of the server itself."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: tuple[str, ...] = ()

    @contextlib.contextmanager
    def running(self, *words: str) -> Iterator[Any]:
        """A process that has said on which port it listens."""
        self.asked = words
        yield SimpleNamespace(stdout=io.StringIO(f"Forwarding from 127.0.0.1:{self.port} -> 8000\n"))


def test_a_model_with_https_is_asked_through_the_relay_and_its_certificate_told(
    port: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl: Any = ForwardingKubectl(port)
    for ca_file, told in (("", "unable to get local issuer certificate"), (str(folder / "ca.pem"), "")):
        monkeypatch.setenv("VLLM_CA_FILE", ca_file)
        with forwarded(kubectl, "qwen", f"https://{HOST}:8000/v1") as url:
            assert kubectl.asked == ("port-forward", "service/qwen", ":8000")
            address = url.removeprefix("http://").removesuffix("/v1")
            with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as asked:
                assert echoed(asked, b"a") == b"a"
        said = capsys.readouterr().err
        assert told in said if told else said == ""
