"""Where the server of this pod listens, who is connected to it, and whether clients can reach it: from /proc/net."""

from __future__ import annotations

import errno
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .tls import Tls

TABLES = ((socket.AF_INET, "/proc/self/net/tcp"), (socket.AF_INET6, "/proc/self/net/tcp6"))
ROUTES, ADDRESSES6 = "/proc/self/net/route", "/proc/self/net/if_inet6"
ESTABLISHED, LISTENS = "01", "0A"
SEARCH_SECONDS = 5.0
"""Between two searches of the tables, of which one may take the kernel 10 ms on a machine with much memory."""

LOOPBACKS = ("127.0.0.1", "::1")
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 # compared with, not bound
GLOBAL_SCOPE = "00"
"""Of an address in if_inet6."""

NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH)
"""What connecting to ::1 says where IPv6 is switched off."""


class Row:
    """One socket of a table: its family, both ends, its state, and its number among all sockets."""

    __slots__ = ("family", "inode", "local", "port", "remote", "remote_port", "state")

    def __init__(self, family: int, line: str) -> None:
        words = line.split(None, 10)
        self.family = family
        self.local, port = words[1].split(":")
        self.remote, remote_port = words[2].split(":")
        self.port, self.remote_port = int(port, 16), int(remote_port, 16)
        self.state = words[3]
        self.inode = int(words[9])

    @property
    def address(self) -> str:
        """The local address as people write it."""
        words = [int(self.local[at : at + 8], 16) for at in range(0, len(self.local), 8)]
        return socket.inet_ntop(self.family, struct.pack(f"={len(words)}I", *words))  # the kernel prints native words


def rows(port: int) -> Iterator[Row]:
    """The sockets of this network namespace that are bound to a port.

    Raises:
        OSError: the kernel does not show them.
        ValueError: it shows them in another form.
        IndexError: likewise.
    """
    wanted = f":{port:04X} "
    for family, path in TABLES:
        try:
            with open(path, encoding="ascii", errors="replace") as table:
                text = table.read()
        except FileNotFoundError:
            if family == socket.AF_INET6:  # a kernel without IPv6 has no such table
                continue
            raise
        for line in text.splitlines()[1:]:
            if wanted in line:
                row = Row(family, line)
                if row.port == port:
                    yield row


class Places:
    """The addresses at which the server is asked: where its clients ask, as far as that is this side of the network."""

    def __init__(self, port: int, tls: Tls | None = None) -> None:
        """Places of a server that may not be there yet.

        Args:
            port: On which it listens.
            tls: How it speaks TLS; None: it speaks plain HTTP.
        """
        self.port = port
        self.tls = tls
        self.own_ports: set[int] = set()
        """Local ports of our own connections, which are not counted."""
        self._address: str | None = None
        """The one that was right the last time."""
        self._next_search = 0.0
        """When the kernel's tables may be searched again for the address of a server that has not been found yet."""

    def connect(self, deadline: float) -> socket.socket:
        """A connection to the server.

        Tried are the loopbacks of both families, then the addresses on which the kernel says that the port listens,
        until one was right.

        Raises:
            ConnectionRefusedError: nothing listens.
            EngineError: Failing: what listens there does not speak TLS, where the server does.
            OSError: no connection, or none in time (socket.timeout).
        """
        for address in self._candidates():
            try:
                connection = connected(address, self.port, deadline)
            except ConnectionRefusedError:
                continue
            except OSError as error:
                if error.errno in NO_SUCH_ADDRESS and address != self._address:
                    continue
                raise
            if connection is not None:
                self._address = address
                return self.tls.over(connection, self.port) if self.tls else connection
        raise ConnectionRefusedError

    def _candidates(self) -> Iterator[str]:
        if self._address is not None:
            yield self._address
        yield from (address for address in LOOPBACKS if address != self._address)
        if self._address is None and time.monotonic() >= self._next_search:
            self._next_search = time.monotonic() + SEARCH_SECONDS
            yield from self._others()

    def _others(self) -> list[str]:
        """Addresses beside the loopbacks on which the port listens."""
        try:
            found = [row.address for row in rows(self.port) if row.state == LISTENS]
        except (OSError, ValueError, IndexError):
            return []  # the kernel does not say: then there are the loopbacks alone
        return [address for address in found if address not in (*ANY_ADDRESS, *LOOPBACKS)]

    def connections(self) -> int | None:
        """Open connections of others to the server; None where the kernel does not say.

        Without one there is no request in flight. A request of our own that was given up is not among them, since its
        connection is closed.
        """
        try:
            return sum(row.state == ESTABLISHED and not self._ours(row) for row in rows(self.port))
        except (OSError, ValueError, IndexError):
            return None

    def _ours(self, row: Row) -> bool:
        return row.remote_port in self.own_ports and row.remote == row.local

    def out_of_reach(self) -> str | None:
        """Why no client reaches the server; empty: clients do; None: it does not listen, or the kernel does not say."""
        try:
            addresses = [row.address for row in rows(self.port) if row.state == LISTENS]
            return out_of_reach(addresses, pod_families()) if addresses else None
        except (OSError, ValueError, IndexError):
            return None


def connected(address: str, port: int, deadline: float) -> socket.socket | None:
    """A connection to one address; None where this kernel does not know its family.

    Raises:
        OSError: it is refused, or not made in time (socket.timeout).
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout  # noqa: UP041 # only since 3.10 the same as TimeoutError
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        connection = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:  # a kernel without this family
            return None
        raise
    try:
        connection.settimeout(left)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect((address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def out_of_reach(addresses: Sequence[str], families: Sequence[int]) -> str:
    """Why no client from outside reaches a server that listens on these addresses.

    Args:
        addresses: On which it listens.
        families: Of the pod's addresses; none: not known.
    """
    outside = [address for address in addresses if not is_loopback(address)]
    if not outside:
        return (
            f"the server listens on {' and '.join(sorted(set(addresses)))} only, where no client reaches it: "
            "take --host out of its arguments, or set GATE_LOOPBACK=allowed if a proxy in this pod serves its port"
        )
    if not families or "::" in outside:  # which mostly takes both families
        return ""
    listens_on = {socket.AF_INET6 if ":" in address else socket.AF_INET for address in outside}
    if listens_on.isdisjoint(families):
        name, other, host = ("IPv4", "IPv6", "::") if socket.AF_INET in listens_on else ("IPv6", "IPv4", "0.0.0.0")  # noqa: S104 # advice
        return (
            f"the server listens on {name} only, and this pod has {other} addresses only: start it with --host {host}"
        )
    return ""


def is_loopback(address: str) -> bool:
    """Whether an address is of this machine alone; one of IPv4 may be written as one of IPv6."""
    return address == "::1" or address.lower().replace("::ffff:", "").startswith("127.")


def pod_families() -> Sequence[int]:
    """Families in which this network namespace has addresses that others can reach.

    Raises:
        OSError: the kernel does not say.
        IndexError: it says it in another form.
    """
    with open(ROUTES, encoding="ascii") as table:
        has_ipv4 = len(table.read().splitlines()) > 1  # the loopback has no route in this table
    try:
        with open(ADDRESSES6, encoding="ascii") as table:
            has_ipv6 = any(line.split()[3] == GLOBAL_SCOPE for line in table.read().splitlines())
    except FileNotFoundError:  # a kernel without IPv6
        has_ipv6 = False
    return [socket.AF_INET] * has_ipv4 + [socket.AF_INET6] * has_ipv6
