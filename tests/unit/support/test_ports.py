"""Ports for servers of tests that run side by side."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.servers import KEPT_PORTS, free_port

OPEN_FILES = Path("/proc/self/fd")


def answers(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_free_port_is_given_to_nobody_else_and_refuses_until_its_server_listens() -> None:
    port = free_port()
    assert not answers(port)
    for number in range(30_000):  # the kernel chooses among some 14,000
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, number % 2)
            other.bind(("127.0.0.1", 0))
            assert other.getsockname()[1] != port
    with socket.create_server(("127.0.0.1", port)):
        assert answers(port)
    assert not answers(port)


def test_ports_are_given_back_after_a_while() -> None:
    for _ in range(KEPT_PORTS):
        free_port()
    opened = len(list(OPEN_FILES.iterdir()))
    for _ in range(KEPT_PORTS):
        free_port()
    assert len(list(OPEN_FILES.iterdir())) == opened
