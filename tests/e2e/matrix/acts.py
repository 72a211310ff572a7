"""What befalls an engine of each fleet in more than one row."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from tests.e2e.matrix.breaking import make_odd
from tests.e2e.matrix.conftest import UNRESTARTED_SECONDS
from tests.e2e.matrix.findings import both_seen
from tests.e2e.matrix.fleet import wait
from tests.e2e.matrix.told import wait_told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.e2e.matrix.findings import Seen
    from tests.e2e.matrix.fleet import Client, Pair

    Both = tuple[Seen, Seen]

BEFORE_SECONDS = 2.0
"""Clients have asked for so long when it happens."""
PATIENT = ("--deadline", "30")
"""Where nothing may be lost: on a machine that does much else, a sound engine's answer may take some seconds."""


def victims(pair: Pair) -> list[str]:
    """An engine of each fleet."""
    return [fleet.pods()[0]["metadata"]["name"] for fleet in pair.fleets()]


def everywhere(fleets: Pair, name: str, **wanted: Any) -> None:
    """Make all engines odd, or end that."""
    for fleet in fleets.fleets():
        for pod in fleet.pods():
            make_odd(fleet.site, pod["metadata"]["name"], name, **wanted)


@contextlib.contextmanager
def asking(pair: Pair, *options: str, model: str | None = None) -> Iterator[Sequence[Client]]:
    """A client of each fleet while the block runs."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(fleet.client(*options, model=model)) for fleet in pair.fleets()]


def befallen(pair: Pair, begin: Callable[[str], None], seconds: float, load: Sequence[str]) -> Both:
    """What clients see from the moment on in which something begins for one engine of each fleet."""
    names = victims(pair)
    with asking(pair, *load) as clients:
        wait(BEFORE_SECONDS)
        since = time.monotonic()
        for name in names:
            begin(name)
        wait(seconds)
        return both_seen(pair, since, [client.requests() for client in clients], names)


def rested(
    pair: Pair, begin: Callable[[str], None], end: Callable[[str], None], told: str, load: Sequence[str]
) -> Both:
    """What clients see while one engine does not serve, and nothing is wrong with it; afterwards it is back.

    The status of the model has to say why.
    """
    names = victims(pair)
    with asking(pair, *load) as clients:
        wait(BEFORE_SECONDS)
        since = time.monotonic()
        for name in names:
            begin(name)
        wait_told(pair.gated.site, pair.gated.name, names[0], told)
        wait(max(0.0, since + UNRESTARTED_SECONDS - time.monotonic()))
        found = both_seen(pair, since, [client.requests() for client in clients], names)
    assert pair.gated.diary.admitted_at(names[0], since) is None, "nothing is served as long as it rests"
    for name in names:
        end(name)
    pair.gated.wait_back(names[0], since)
    return found
