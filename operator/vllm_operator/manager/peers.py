"""The model's other engines: their addresses out of the headless Service's DNS, and what their managers tell of them.

The headless Service has the engines that are ready, so one that was restarted or withdrawn is not in it. Such an
engine is what a judge waits for before it restarts its own: an address that was there once is asked further on, as
long as its manager answers, or for ten minutes.

A Service of both IP families has each pod twice. The family with more addresses counts, IPv4 of two that have as many.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass

from .evidence import Peer, PeersLook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .settings import Settings

DNS_SECONDS = 2.0
"""The resolver is given so long; it may take 30 s by itself, where its own servers do not answer."""
PEER_SECONDS = 1.0
"""A peer's manager is given so long for all of its answer; all are asked side by side."""
MEMORY_SECONDS = 600.0
MOST_PEERS = 64
"""More would cost a suspected engine more than they tell it: half of 128 engines are still seen to stay."""
_MOST_KNOWN = 256
_LONGEST_ANSWER_BYTES = 64 * 1024
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})(?:\r\n|$)", re.IGNORECASE)
_LOOK_SLACK_SECONDS = 0.5
_NOT_THERE = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)
"""The resolver's answer that a name has no addresses: a headless Service without a ready engine has none."""
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses of documentation (RFC 5737, RFC 3849). Nothing is sent there."""


def own_addresses(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """This pod's addresses: of POD_IPS and POD_IP, else those from which the machine would send to others."""
    environment = os.environ if environment is None else environment
    told = f"{environment.get('POD_IPS', '')},{environment.get('POD_IP', '')}".split(",")
    addresses = [address for address in map(_address, told) if address]
    return tuple(dict.fromkeys(addresses or _sending_addresses()))


@dataclass
class _Known:
    """An address that was in DNS."""

    seen_at: float
    """When it was in DNS last, or its manager answered."""
    pod: str = ""
    """The name of the pod that answered there while the address was in DNS."""


class _Lookup(threading.Thread):
    """One question to the resolver; a thread of its own, since nothing ends a question that hangs."""

    def __init__(self, resolve: Callable[[str], Iterable[str]], name: str) -> None:
        super().__init__(name="dns", daemon=True)
        self._resolve, self._service = resolve, name
        self.addresses: frozenset[str] | None = None
        """None while the answer is waited for, and where there was none."""

    def run(self) -> None:
        """Ask."""
        try:
            self.addresses = frozenset(filter(None, map(_address, self._resolve(self._service))))
        except socket.gaierror as error:
            if error.errno in _NOT_THERE:
                self.addresses = frozenset()
        except (OSError, UnicodeError):
            return  # no answer


class Peers:
    """The other engines of the model.

    Args:
        settings: Name of the headless Service, and the port of the managers.
        own_addresses: This engine's, of each family.
        resolve: Addresses of a name, as `addresses_of`; raises OSError.
    """

    def __init__(
        self,
        settings: Settings,
        own_addresses: Sequence[str],
        resolve: Callable[[str], Iterable[str]] | None = None,
    ) -> None:
        self._service, self._port = settings.service, settings.gate_port
        self._own = tuple(filter(None, map(_address, own_addresses)))
        self._resolve = resolve or addresses_of
        self._lookup: _Lookup | None = None
        self._counts: deque[tuple[float, int]] = deque()
        self._known: dict[str, _Known] = {}

    def look(self, now: float) -> PeersLook | None:
        """What DNS and the peers' managers say; None where DNS does not answer, or there is no Service.

        It takes at most 3.5 s.

        Args:
            now: On the monotonic clock.
        """
        found = self._addresses() if self._service else None
        if found is None:
            return None
        routable = _of_one_family(found, self._own)
        self._count(len(routable), now)
        for address in routable:
            self._known.setdefault(address, _Known(now)).seen_at = now
        own = next((one for one in self._own if one in routable), self._own_of_family(routable))
        others = [one for one in self._known if one not in self._own]
        answers = self._ask(_most_telling(others, routable))
        peers = [self._peer(one, one in routable, answers.get(one), now) for one in others]
        self._forget(now)
        return PeersLook(
            at=now,
            own_address=own,
            others=tuple(sorted((peer for peer in peers if peer), key=lambda peer: peer.address)),
            most_routable=max(count for _, count in self._counts),
        )

    def _addresses(self) -> frozenset[str] | None:
        """What the resolver says within its time. A question that hangs is not put a second time meanwhile."""
        lookup = self._lookup
        if lookup is None:
            lookup = self._lookup = _Lookup(self._resolve, self._service)
            lookup.start()
        lookup.join(DNS_SECONDS)
        if lookup.is_alive():
            return None
        self._lookup = None
        return lookup.addresses

    def _count(self, routable: int, now: float) -> None:
        self._counts.append((now, routable))
        while self._counts[0][0] < now - MEMORY_SECONDS:
            self._counts.popleft()

    def _own_of_family(self, routable: Iterable[str]) -> str:
        """The own address that can be compared with the others': of their family."""
        wide = any(":" in address for address in routable)
        return next((one for one in self._own if (":" in one) == wide), self._own[0] if self._own else "")

    def _ask(self, addresses: Sequence[str]) -> dict[str, dict[str, object]]:
        """What the managers at the addresses answer, by address; those that do not answer in time are missing."""
        answers: dict[str, dict[str, object]] = {}
        until = time.monotonic() + PEER_SECONDS

        def ask(address: str) -> None:
            status = status_of(address, self._port, until)
            if status is not None:
                answers[address] = status

        threads = [threading.Thread(target=ask, args=(one,), name="peer", daemon=True) for one in addresses]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until + _LOOK_SLACK_SECONDS - time.monotonic()))
        return dict(answers)

    def _peer(self, address: str, in_dns: bool, status: dict[str, object] | None, now: float) -> Peer | None:  # noqa: FBT001 # private
        """What is known of an address; None where another pod has it by now."""
        if status is None:
            return Peer(address, routable=in_dns, reachable=False)
        known, pod = self._known[address], str(status.get("pod", ""))
        if not in_dns and known.pod not in {"", pod}:
            del self._known[address]
            return None
        known.pod, known.seen_at = pod, now
        return Peer(
            address,
            routable=in_dns and status["ready"] is True,
            suspected=status.get("suspected") is True,
            restarting=status.get("restarting") is True,
        )

    def _forget(self, now: float) -> None:
        """Drop what has neither been in DNS nor answered for ten minutes, and the oldest where there are too many."""
        known = sorted(self._known.items(), key=lambda item: -item[1].seen_at)[:_MOST_KNOWN]
        self._known = {address: one for address, one in known if one.seen_at >= now - MEMORY_SECONDS}


def addresses_of(name: str) -> list[str]:
    """Addresses of both families, as the machine's resolver knows them.

    Raises:
        OSError: It knows none, or does not answer.
    """
    return [str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


def status_of(address: str, port: int, until: float) -> dict[str, object] | None:
    """What the manager at an address says; None where it does not by then, or says what no manager does.

    Args:
        address: Its address, of either family.
        port: Its port.
        until: On the monotonic clock.
    """
    try:
        return status_from(address, port, until)
    except OSError:
        return None


def status_from(address: str, port: int, until: float) -> dict[str, object] | None:
    """The same as `status_of`, which tells a manager that is not there from one that does not answer.

    Raises:
        OSError: the connection was refused, or there was none in time.
    """
    host = f"[{address}]" if ":" in address else address
    question = f"GET /status HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((address, port), timeout=_left(until)) as connection:
        connection.sendall(question.encode("ascii"))
        answer = _all_of(connection, until)
    head, _, body = answer.partition(b"\r\n\r\n")
    if head[:5] != b"HTTP/" or head.split(None, 2)[1:2] != [b"200"]:
        return None
    try:
        status = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return status if isinstance(status, dict) and isinstance(status.get("ready"), bool) else None


def _all_of(connection: socket.socket, until: float) -> bytes:
    """What the other side sends, until it has sent as much as it said, or closes.

    Raises:
        OSError: It has not closed in time, or has sent too much.
    """
    answer = b""
    while len(answer) <= _LONGEST_ANSWER_BYTES:
        connection.settimeout(_left(until))
        piece = connection.recv(16384)
        answer += piece
        if not piece or _is_whole(answer):
            return answer
    raise OSError("the answer is too long")


def _is_whole(answer: bytes) -> bool:
    """Whether the body is as long as the header says."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = _CONTENT_LENGTH.search(head) if end else None
    return length is not None and len(body) >= int(length[1])


def _left(until: float) -> float:
    """Seconds until then.

    Raises:
        TimeoutError: There are none.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("there was no whole answer in time")
    return left


def _of_one_family(addresses: Iterable[str], own: Sequence[str]) -> frozenset[str]:
    """The addresses of the family that has more of them; of two with as many, of the one in which we are compared."""
    wide = frozenset(one for one in addresses if ":" in one)
    narrow = frozenset(addresses) - wide
    if own and all(":" in one for one in own) and wide:
        return wide
    return wide if len(wide) > len(narrow) else narrow


def _most_telling(addresses: Iterable[str], routable: frozenset[str]) -> list[str]:
    """Whom to ask where there are too many: first those that DNS has no longer, then by address."""
    return sorted(addresses, key=lambda one: (one in routable, one))[:MOST_PEERS]


def _address(text: str) -> str:
    """An address in its one way of writing; empty where the text is none."""
    try:
        address = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _sending_addresses() -> list[str]:
    """The addresses from which this machine would send to others; a UDP socket is connected, and nothing is sent."""
    found = []
    for family, elsewhere in _ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.connect((elsewhere, 9))
                found.append(_address(str(sender.getsockname()[0])))
        except OSError:
            continue  # no way to that family
    return [one for one in found if one]
