"""Whether what listens on a port is a process of this container.

Containers of a pod share their network, and with hostNetwork the node's: before the engine has opened its port, or
where it cannot, another's server may answer there, and what that one says is no word of the engine.
"""

from __future__ import annotations

import os
import socket

from .listeners import LISTENS, rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_PROCESSES = 256
"""With hostPID there are thousands: then nobody looks."""


def is_elsewhere(port: int, proc: str = "/proc") -> bool:
    """Whether no process that is seen from this container has the sockets that listen on a port.

    False as well where nothing listens, and where it cannot be told: some process belongs to another user, there are
    too many, or the kernel's tables name sockets by other numbers than processes' descriptors do, as sandboxes may.
    """
    try:
        listening = {row.inode for row in rows(port) if row.state == LISTENS}
        held = held_sockets(proc) if listening and numbers_agree() else None
    except (OSError, ValueError, IndexError):
        return False
    return held is not None and listening.isdisjoint(held)


def held_sockets(proc: str) -> set[int] | None:
    """The sockets of all processes; None where not all can be seen.

    Raises:
        OSError: there is no list of processes.
    """
    numbers = [name for name in os.listdir(proc) if name.isdigit()]
    if len(numbers) > MOST_PROCESSES:
        return None
    found: set[int] = set()
    for number in numbers:
        try:
            found.update(sockets_in(f"{proc}/{number}/fd"))
        except FileNotFoundError:
            continue  # it has ended
        except PermissionError:
            return None
    return found


def sockets_in(folder: str) -> Iterable[int]:
    """Numbers of the sockets among a process's descriptors.

    Raises:
        OSError: they cannot be listed.
    """
    for name in os.listdir(folder):
        try:
            kind, _, number = os.readlink(f"{folder}/{name}").partition(":[")
        except FileNotFoundError:
            continue  # closed meanwhile
        if kind == "socket":
            yield int(number.rstrip("]"))


def numbers_agree() -> bool:
    """Whether a socket of our own has the same number in the tables and as a descriptor.

    Raises:
        OSError: there can be none.
    """
    with socket.create_server(("127.0.0.1", 0)) as own:
        number = os.fstat(own.fileno()).st_ino
        return any(row.inode == number for row in rows(own.getsockname()[1]))
