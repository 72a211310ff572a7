"""Where the server listens and who is connected: read from the kernel's tables, against real sockets."""

from __future__ import annotations

import socket

import pytest

from tests.support.waiting import until
from vllm_operator.manager.listeners import LISTENS, Places, is_loopback, out_of_reach, rows

BOTH = (socket.AF_INET, socket.AF_INET6)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::"])  # noqa: S104 # loopback of a test machine
def test_the_kernel_says_on_which_address_a_port_listens(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        found = [row.address for row in rows(listener.getsockname()[1]) if row.state == LISTENS]
    assert found == [address]


def test_connections_of_others_are_counted_and_ours_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        places = Places(port)
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as ours:
            until(lambda: places.connections() == 2, what="both connections")
            places.own_ports.add(ours.getsockname()[1])
            assert places.connections() == 1
        until(lambda: places.connections() == 0, what="no connection")


def test_a_port_on_which_nothing_listens_has_no_reach_to_speak_of() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert Places(bound.getsockname()[1]).out_of_reach() is None


@pytest.mark.parametrize(
    ("addresses", "families", "words"),
    [
        (["127.0.0.1"], BOTH, "listens on 127.0.0.1 only"),
        (["::1", "127.0.0.1"], BOTH, "listens on 127.0.0.1 and ::1 only"),
        (["::ffff:127.0.0.1"], (), "only, where no client reaches it"),
        (["0.0.0.0"], (socket.AF_INET6,), "this pod has IPv6 addresses only: start it with --host ::"),  # noqa: S104
        (["fd00::5"], (socket.AF_INET,), "this pod has IPv4 addresses only: start it with --host 0.0.0.0"),
        (["0.0.0.0"], BOTH, ""),  # noqa: S104
        (["0.0.0.0"], (), ""),  # noqa: S104
        (["::"], (socket.AF_INET,), ""),
        (["10.1.2.3"], (socket.AF_INET,), ""),
        (["127.0.0.1", "10.1.2.3"], (socket.AF_INET,), ""),
    ],
)
def test_a_server_that_no_client_reaches_is_told_with_the_way_out(
    addresses: list[str], families: tuple[int, ...], words: str
) -> None:
    told = out_of_reach(addresses, families)
    assert words in told if words else told == ""


def test_loopbacks_are_known_in_every_spelling() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "::FFFF:127.0.0.1")))
    assert not any(map(is_loopback, ("10.127.0.0", "::", "0.0.0.0", "fd00::1")))  # noqa: S104
