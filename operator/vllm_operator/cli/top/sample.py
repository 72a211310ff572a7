"""Prints two samples of an engine's metrics, inside its own container: what is sent there by `kubectl exec`.

    python3 -S -E -B -c SOURCE PORT SECONDS NAME...

A program of its own, for Python 3.9 and newer with nothing but the standard library. Of the metrics, which are 50 KB of
text, it prints the lines that begin with one of the names.
"""

from __future__ import annotations

import http.client
import json
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_SECONDS = 5.0
HOSTS = ("127.0.0.1", "::1")
OK = 200


def metrics(port: int) -> str:
    """The text of /metrics.

    Raises:
        OSError: nobody answers on the loopback addresses; the last one's error.
        http.client.HTTPException: what answers speaks no HTTP, or has no metrics.
    """
    failure: OSError = ConnectionError("there is no loopback address")
    for host in HOSTS:
        try:
            return _asked(host, port)
        except OSError as error:
            failure = error
    raise failure


def _asked(host: str, port: int) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    finally:
        connection.close()
    if answer.status != OK:
        raise http.client.HTTPException(f"/metrics is answered with HTTP {answer.status}")
    return text


def sample(port: int, names: Sequence[str]) -> tuple[float, str]:
    """When the metrics were asked for, on the monotonic clock, and the lines of them that are wanted."""
    at = time.monotonic()
    lines = metrics(port).splitlines()
    return at, "".join(f"{line}\n" for line in lines if line.startswith(tuple(names)))


def main(words: Sequence[str]) -> int:
    """Print both; the exit code is 1 where the engine does not answer."""
    port, names = int(words[0]), words[2:]
    try:
        began, before = sample(port, names)
        time.sleep(float(words[1]))
        ended, after = sample(port, names)
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"the engine does not answer on port {port}: {error}\n")
        return 1
    json.dump({"seconds": ended - began, "before": before, "after": after}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
