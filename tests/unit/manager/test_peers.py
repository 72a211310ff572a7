"""The model's other engines, asked over real sockets; only the resolver is a stand-in, since glibc's asks port 53."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from vllm_operator.manager.evidence import Peer
from vllm_operator.manager.peers import MEMORY_SECONDS, MOST_PEERS, Peers, addresses_of, own_addresses, status_of
from vllm_operator.manager.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

pytestmark = pytest.mark.slow

OWN, FIRST, SECOND = "127.0.0.9", "127.0.0.2", "127.0.0.3"
READY: dict[str, object] = {"pod": "m-1", "ready": True, "suspected": False, "restarting": False}


@dataclass
class Dns:
    """What the resolver answers."""

    addresses: Iterable[str] = ()
    error: OSError | None = None
    hangs: threading.Event | None = None
    asked: list[str] = field(default_factory=list)

    def resolve(self, name: str) -> Iterable[str]:
        """Answer, or hang until let go."""
        self.asked.append(name)
        if self.hangs is not None:
            self.hangs.wait(60)
        if self.error is not None:
            raise self.error
        return self.addresses


class Manager(ThreadingHTTPServer):
    """Answers /status as the manager of an engine does."""

    daemon_threads = True
    status: object = READY
    paths: list[str]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Manager

    def do_GET(self) -> None:
        """Answer what the test wants to be answered."""
        self.server.paths.append(self.path)
        body = json.dumps(self.server.status).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # its name in the base class
        """Say nothing."""


@contextlib.contextmanager
def manager(address: str, port: int, status: object = READY) -> Iterator[Manager]:
    class Family(Manager):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    with Family((address, port), Handler) as server:
        server.status, server.paths = status, []
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def raw(address: str, port: int, act: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server that does with each connection what the test wants."""
    with socket.create_server((address, port)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                act(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def peers_of(port: int, dns: Dns, *own: str) -> Peers:
    return Peers(Settings(gate_port=port, service="m-engines.ns.svc"), own or (OWN,), dns.resolve)


def test_peers_are_told_by_address_with_what_their_managers_say(port: int) -> None:
    dns = Dns([SECOND, OWN, FIRST, "127.0.0.4"])
    bad = {**READY, "ready": False, "suspected": True, "restarting": True}
    with manager(FIRST, port) as asked, manager(SECOND, port, bad):
        look = peers_of(port, dns).look(7.0)
    assert look is not None
    assert (look.at, look.own_address, look.most_routable) == (7.0, OWN, 4)
    assert look.others == (
        Peer(FIRST, routable=True),
        Peer(SECOND, routable=False, suspected=True, restarting=True),
        Peer("127.0.0.4", routable=True, reachable=False),
    )
    assert dns.asked == ["m-engines.ns.svc"]
    assert asked.paths == ["/status"]


def test_peers_of_ipv6_are_asked_as_well(port: int) -> None:
    with manager("::1", port):
        look = peers_of(port, Dns(["::1", "fd00::9"]), "fd00:0:0::9").look(1.0)
    assert look is not None
    assert look.own_address == "fd00::9"
    assert look.others == (Peer("::1", routable=True),)


def test_a_pod_with_addresses_of_both_families_counts_once(port: int) -> None:
    with manager(FIRST, port):
        look = peers_of(port, Dns([OWN, "fd00::9", FIRST, "fd00::2"]), "fd00::9", OWN).look(1.0)
    assert look is not None
    assert (look.own_address, look.most_routable) == (OWN, 2)
    assert look.others == (Peer(FIRST, routable=True),)


def drip(connection: socket.socket) -> None:
    """A byte now and then: each comes in time, and the whole never does."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n{")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def stay_silent(_connection: socket.socket) -> None:
    threading.Event().wait(5)


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 50_000_000)


def saying(answer: bytes) -> Callable[[socket.socket], None]:
    def act(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    return act


@pytest.mark.parametrize(
    "act",
    [
        drip,
        flood,
        stay_silent,
        lambda connection: connection.close(),
        saying(b""),
        saying(b"\x00\xff rubbish"),
        saying(b"HTTP/1.1 200 OK\r\n\r\n[1]"),
        saying(b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 60_000),
        saying(b'HTTP/1.1 200 OK\r\n\r\n{"ready": "yes"}'),
        saying(b'HTTP/1.1 404 Not Found\r\n\r\n{"ready": true}'),
        saying(b'HTTP/1.1 200 OK\r\n\r\n{"ready": true'),
        saying(b"HTTP/1.1 200 OK\r\n\r\n\xff"),
    ],
    ids=["drip", "flood", "silence", "close", "nothing", "bytes", "list", "depth", "text", "404", "half", "not UTF-8"],
)
def test_a_peer_that_answers_rubbish_or_too_late_is_unreachable(
    port: int, act: Callable[[socket.socket], None]
) -> None:
    with raw(FIRST, port, act), manager(SECOND, port):
        began = time.monotonic()
        look = peers_of(port, Dns([FIRST, SECOND])).look(1.0)
    assert look is not None
    assert look.others == (Peer(FIRST, routable=True, reachable=False), Peer(SECOND, routable=True))
    assert time.monotonic() - began < 10  # 1 s, where the machine is not busy


def test_an_answer_of_which_the_connection_stays_open_is_read(port: int) -> None:
    def act(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"ready": true}')
        threading.Event().wait(5)

    with raw(FIRST, port, act):
        assert status_of(FIRST, port, time.monotonic() + 3.0) == {"ready": True}


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "try again"), OSError("no network")])
def test_where_dns_fails_nothing_is_known(port: int, error: OSError) -> None:
    assert peers_of(port, Dns(error=error)).look(1.0) is None


def test_a_service_without_ready_engines_has_no_name_and_that_is_an_answer(port: int) -> None:
    look = peers_of(port, Dns(error=socket.gaierror(socket.EAI_NONAME, "no such name"))).look(1.0)
    assert look is not None
    assert (look.others, look.most_routable, look.own_address) == ((), 0, OWN)


def test_a_resolver_that_hangs_is_not_waited_for_and_not_asked_twice(port: int) -> None:
    dns = Dns([FIRST], hangs=threading.Event())
    peers = peers_of(port, dns)
    assert dns.hangs is not None
    began = time.monotonic()
    assert peers.look(1.0) is None
    assert peers.look(3.0) is None
    assert time.monotonic() - began < 30  # 4 s, where the machine is not busy
    assert len(dns.asked) == 1
    dns.hangs.set()
    dns.hangs = None
    assert peers.look(5.0) is not None


def test_an_engine_without_a_service_is_alone(port: int) -> None:
    dns = Dns([FIRST])
    assert Peers(Settings(gate_port=port), (OWN,), dns.resolve).look(1.0) is None
    assert dns.asked == []


def test_a_peer_that_dns_has_no_longer_is_asked_further_on(port: int) -> None:
    """The headless Service has ready engines only, and one that restarts is just what a judge waits for."""
    dns = Dns([OWN, FIRST])
    peers = peers_of(port, dns)
    with manager(FIRST, port) as server:
        peers.look(1.0)
        dns.addresses = [OWN]
        server.status = {**READY, "ready": False, "restarting": True}
        for now in (5.0, MEMORY_SECONDS, 2 * MEMORY_SECONDS):
            look = peers.look(now)
            assert look is not None
            assert look.others == (Peer(FIRST, routable=False, restarting=True),)


def test_a_peer_that_is_gone_is_forgotten_after_ten_minutes(port: int) -> None:
    dns = Dns([OWN, FIRST])
    peers = peers_of(port, dns)
    assert peers.look(1.0) is not None
    dns.addresses = [OWN]
    late = peers.look(MEMORY_SECONDS)
    assert late is not None
    assert late.others == (Peer(FIRST, routable=False, reachable=False),)
    peers.look(MEMORY_SECONDS + 2)
    later = peers.look(MEMORY_SECONDS + 3)
    assert later is not None
    assert later.others == ()


def test_an_address_that_another_pod_has_by_now_is_no_peer(port: int) -> None:
    dns = Dns([OWN, FIRST])
    peers = peers_of(port, dns)
    with manager(FIRST, port) as server:
        peers.look(1.0)
        dns.addresses = [OWN]
        server.status = {**READY, "pod": "another-model-0"}
        look = peers.look(2.0)
    assert look is not None
    assert look.others == ()


def test_the_most_addresses_of_ten_minutes_are_remembered(port: int) -> None:
    dns = Dns([OWN, FIRST, SECOND])
    peers = peers_of(port, dns)
    for now, addresses, most in (
        (1.0, [OWN, FIRST, SECOND], 3),
        (2.0, [OWN], 3),
        (MEMORY_SECONDS, [OWN, FIRST], 3),
        (MEMORY_SECONDS + 2.0, [OWN], 2),
        (2 * MEMORY_SECONDS + 3.0, [OWN], 1),
    ):
        dns.addresses = addresses
        look = peers.look(now)
        assert look is not None
        assert look.most_routable == most


def test_no_more_than_a_bounded_number_are_asked_and_all_are_told(port: int) -> None:
    addresses = [f"127.0.1.{number}" for number in range(1, 81)]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(manager(address, port)) for address in addresses]
        look = peers_of(port, Dns(addresses)).look(1.0)
    assert look is not None
    assert sum(len(server.paths) for server in servers) == MOST_PEERS
    assert len(look.others) == 80
    assert all(peer.routable for peer in look.others)
    assert [peer.address for peer in look.others] == sorted(addresses)


def test_own_addresses_are_those_that_kubernetes_tells() -> None:
    assert own_addresses({"POD_IPS": "10.0.0.7,fd00:0::7", "POD_IP": "10.0.0.7"}) == ("10.0.0.7", "fd00::7")
    assert own_addresses({"POD_IP": "10.0.0.7"}) == ("10.0.0.7",)
    assert all(socket.getaddrinfo(address, None) for address in own_addresses({"POD_IP": "", "POD_IPS": "no address"}))


def test_the_machines_resolver_is_asked_for_both_families() -> None:
    assert set(addresses_of("localhost")) & {"127.0.0.1", "::1"}
    assert set(addresses_of("127.0.0.5")) == {"127.0.0.5"}


def test_names_that_are_none_are_no_answer(port: int) -> None:
    settings = replace(Settings(gate_port=port), service="a" * 70 + ".example")
    assert Peers(settings, (OWN,)).look(1.0) is None
