"""Connections that one of several API servers leaves unread while it uses no CPU.

Several API servers share the listening socket, so the ones that run accept new connections, and one that hangs shows
nowhere but in connections that it had accepted before. As soon as a client sends on one of these, or closes it, the
kernel holds bytes (or the end of the stream, which counts as one) that nobody reads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ESTABLISHED, _CLOSE_WAIT = b"01", b"08"
"""States of connections in /proc/net/tcp: open; closed by the client alone."""

_LONGEST_TABLE_BYTES = 16 * 1024 * 1024
_CPU_SHARE = 0.002
"""A server that waits on its event loop reads at once. One that hangs uses nothing at all; the kernel's own accounting
moves by a tick at times."""
_CPU_SECONDS = 0.02


@dataclass(frozen=True)
class _Unread:
    """A connection with bytes in its receive queue."""

    since: float
    queue: bytes
    cpu_seconds: Mapping[int, float]
    """What each API server had used by then."""
    owner: int | None = None


class Unread:
    """The connections to one port of this network namespace.

    Args:
        port: The engine's.
        proc: Where /proc is.
    """

    def __init__(self, port: int, proc: str = "/proc") -> None:
        self._proc = proc
        self._local = b":%04X" % port
        self._seen: dict[bytes, _Unread] = {}

    def look(self, now: float, servers: Mapping[int, float]) -> float | None:
        """Since when one of the servers leaves bytes unread and uses no CPU; None where none does.

        Which process has a connection is only looked up where the connection is unread in two looks running.

        Args:
            now: On the monotonic clock.
            servers: CPU seconds used by each API server, by the number of its process.
        """
        unread = dict(self._unread())
        lasting = {inode for inode, queue in unread.items() if inode in self._seen and self._seen[inode].queue == queue}
        unowned = {inode for inode in lasting if self._seen[inode].owner is None}
        owners = dict(self._owners(unowned, servers)) if unowned else {}
        seen = {}
        for inode, queue in unread.items():
            if inode not in lasting:
                seen[inode] = _Unread(now, queue, dict(servers))
                continue
            before = self._seen[inode]
            one = _Unread(before.since, queue, before.cpu_seconds, before.owner or owners.get(inode))
            seen[inode] = one if _is_idle(one, now, servers) else _Unread(now, queue, dict(servers), one.owner)
        self._seen = seen
        return min(
            (seen[inode].since for inode in lasting if seen[inode].owner and seen[inode].since < now), default=None
        )

    def _unread(self) -> Iterator[tuple[bytes, bytes]]:
        """Inode and receive queue of each connection to the port that has bytes in its queue."""
        for name in ("tcp", "tcp6"):
            for line in self._table(name):
                fields = line.split()
                if len(fields) < 10 or not fields[1].endswith(self._local):  # noqa: PLR2004 # the inode is the tenth
                    continue
                queue = fields[4].partition(b":")[2]
                accepted = fields[9] != b"0"
                if accepted and fields[3] in {_ESTABLISHED, _CLOSE_WAIT} and queue.strip(b"0"):
                    yield fields[9], queue

    def _table(self, name: str) -> list[bytes]:
        try:
            with open(f"{self._proc}/self/net/{name}", "rb") as file:
                return file.read(_LONGEST_TABLE_BYTES).split(b"\n")[1:]
        except OSError:
            return []  # no IPv6

    def _owners(self, inodes: set[bytes], servers: Mapping[int, float]) -> Iterator[tuple[bytes, int]]:
        """Which server has which of the sockets, as far as the kernel shows it."""
        wanted = {f"socket:[{inode.decode('ascii', errors='replace')}]": inode for inode in inodes}
        for number in servers:
            folder = f"{self._proc}/{number}/fd"
            try:
                names = os.listdir(folder)
            except OSError:
                continue  # another user's, or it has ended
            for name in names:
                try:
                    inode = wanted.get(os.readlink(f"{folder}/{name}"))
                except OSError:
                    continue  # closed meanwhile
                if inode is not None:
                    yield inode, number


def _is_idle(one: _Unread, now: float, servers: Mapping[int, float]) -> bool:
    """Whether the owner has used no CPU since then; where nobody knows the owner, or it is new, it may have."""
    if one.owner is None or one.owner not in servers or one.owner not in one.cpu_seconds:
        return False
    used = servers[one.owner] - one.cpu_seconds[one.owner]
    return used <= _CPU_SECONDS + _CPU_SHARE * (now - one.since)
