"""Fleets that many rows share, and the document of what was seen."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cluster.paths import REPOSITORY
from tests.e2e.matrix.findings import NOTHING, Finding, Seen, written
from tests.e2e.matrix.fleet import pair
from tests.support import images, models
from tests.support.api import Api
from tests.support.namespace import temporary
from tests.support.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster import OwnCluster
    from tests.e2e.matrix.fleet import Pair
    from tests.support.models import EngineChoice

    Report = Callable[..., None]

DOCUMENT = REPOSITORY / "out" / "matrix.json"
WHOLE = os.environ.get("MATRIX") == "whole"
"""`make matrix` waits for every restart, two minutes each, and for what takes long; `make test` for some of them.

What plain probes do is seen by `make matrix` alone: half of all engines' starts would be for them.
"""
RESTART_WINDOW_SECONDS = 35 if WHOLE else 12
GATES = {"restartWindowSeconds": RESTART_WINDOW_SECONDS}
"""Rows that end with a restart take minutes with the default of 180 s, and would show nothing else."""
WITHDRAWN_SECONDS = 18.0 if WHOLE else 60.0
"""What is promised is 12 on a quiet machine. `make test` has three clusters on two cores, where the gate, its probe and
the test's own eyes may each have to wait for some seconds; a hang that no gate sees lasts for ever."""
UNRESTARTED_SECONDS = 75.0 if WHOLE else 28.0
"""So long lasts what must not lead to a restart: without a reason not to, there would be one in that time."""
SQL = "sql"
"""The adapter of the fleets."""


@pytest.fixture(scope="package")
def report() -> Iterator[Report]:
    """Takes what was seen of a row: number, with our gates, with plain probes. All of a run go into one document."""
    findings: list[Finding] = []

    def take(number: int, gated: Seen, plain: Seen = NOTHING) -> None:
        for title, found in (("with our gates", gated), ("with plain probes", plain)):
            sys.stdout.write(f"{number}, {title}: {found}\n{found.diary}\n")
        findings.append(Finding(number, gated, plain))

    yield take
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(written(sorted(findings, key=lambda finding: finding.number)), encoding="utf-8")


@pytest.fixture(scope="package")
def api(operated: OwnCluster) -> Iterator[Api]:
    """The API server."""
    found = Api(operated.kubeconfig)
    yield found
    found.close()


@pytest.fixture(scope="package")
def place(operated: OwnCluster) -> Iterator[Site]:
    """The namespace of all fleets."""
    with temporary(Site, operated, f"matrix-{os.getpid()}") as found:
        yield found


@pytest.fixture(scope="package")
def engines(place: Site, api: Api, real: EngineChoice) -> Iterator[Pair]:
    """Two real engines with our gates, and for `make matrix` two with plain probes; they load for the first test.

    They can be put to sleep, and have an adapter that can be unloaded and loaded.
    """
    allowed = ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING")
    model = models.model(
        "real",
        real,
        replicas=2,
        gates=GATES,
        lora={"adapters": [{"name": SQL, "source": images.real_adapter()}]},
        engine={"env": [{"name": name, "value": "1"} for name in allowed]},
    )
    with pair(place, api, model, compared=WHOLE) as found:
        yield found


@pytest.fixture(scope="module")
def slow(place: Site, api: Api, real: EngineChoice) -> Iterator[Pair]:
    """A real engine, or one of each kind, that takes one request at a time, and long prompts in small chunks."""
    longer = {"hfOverrides": {"max_position_embeddings": 32768}}
    fields = {"maxNumSeqs": 1, "maxNumBatchedTokens": 8, "maxModelLen": 32768}
    model = models.model("slow", real, model=longer, engine=fields, gates=GATES)
    with pair(place, api, model, compared=WHOLE) as found:
        for fleet in found.fleets():
            fleet.wait_serving(1)
        yield found


@pytest.fixture(scope="module")
def stubs(place: Site, api: Api, stub: EngineChoice) -> Iterator[Pair]:
    """Two stubs each, with two data-parallel ranks and an adapter that can get lost and cannot be loaded again."""
    model = models.model(
        "stub",
        stub,
        replicas=2,
        parallelism={"data": 2},
        gates=GATES,
        lora={"adapters": [{"name": SQL, "source": "org/sql"}]},
    )
    with pair(place, api, model, compared=WHOLE) as found:
        for fleet in found.fleets():
            fleet.wait_serving(2)
        yield found
