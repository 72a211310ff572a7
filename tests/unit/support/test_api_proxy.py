"""The proxy between an operator and the API server ends cleanly, whatever the API server does."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.cluster.configs import kubeconfig
from tests.support.api_proxy import ApiProxy
from tests.support.certificates import AUTHORITY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n"


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[Path]:
    """Access to an API server that begins a watch, and from then on neither reads nor says anything."""
    pair = AUTHORITY.server("kube-apiserver", addresses=["127.0.0.1"])
    pair.save(tmp_path, "tls")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        with tls.wrap_socket(plain, server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(STREAM)
            over.wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        access = kubeconfig(
            f"https://127.0.0.1:{listener.getsockname()[1]}", AUTHORITY.certificate, AUTHORITY.client("operator")
        )
        (tmp_path / "kubeconfig").write_text(access, encoding="utf-8")
        yield tmp_path / "kubeconfig"
        over.set()
        thread.join()


def test_it_leaves_no_socket_open_to_an_api_server_that_does_not_take_leave(mute: Path) -> None:
    """Python warns of a socket that was left open, in whichever test it is collected: a warning is a failure."""
    with ApiProxy(mute) as proxy, urllib.request.urlopen(f"{proxy.url}/api/v1/pods?watch=1") as watch:  # noqa: S310 - http
        assert watch.readline() == b"{}\n"
        proxy.break_connections()
    gc.collect()
