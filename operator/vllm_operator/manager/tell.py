"""Prints the /status of the manager in this pod, for kubectl exec where there is no network to the pod.

    python3 -S -E tell.py PORT

A program of its own: it needs nothing of the rest, and works beside any version of it.
"""

from __future__ import annotations

import socket
import sys

TIMEOUT_SECONDS = 5.0
ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
REQUEST = b"GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n"


def status(port: int) -> bytes:
    """The body of /status.

    Raises:
        OSError: nobody answers on the loopback addresses; the last one's error.
    """
    failure: OSError = ConnectionError("there is no loopback address")
    for family, address in ADDRESSES:
        try:
            return _asked(family, address, port)
        except OSError as error:
            failure = error
    raise failure


def _asked(family: socket.AddressFamily, address: str, port: int) -> bytes:
    with socket.socket(family) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect((address, port))
        connection.sendall(REQUEST)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\n", 1)[0]:
        raise ConnectionError(f"the answer is {head[:80]!r}")
    return body


def main(words: list[str]) -> int:
    """Print it; the exit code is 1 where nobody answers."""
    try:
        text = status(int(words[0])).decode("utf-8", "replace")
    except (OSError, ValueError, IndexError) as error:
        sys.stderr.write(f"no manager answers on port {' '.join(words)} of this pod: {error}\n")
        return 1
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
