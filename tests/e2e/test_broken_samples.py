"""A newcomer breaks a sample, and learns cause, field and remedy from `kubectl get vllm` and `describe` alone.

`make broken` runs all that docs/troubleshooting.md lists, most of them with the real vLLM; `make test` those whose
words are not a running engine's. What kubectl printed lies in out/broken afterwards.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.errors import ClusterError
from tests.cluster.paths import REPOSITORY
from tests.support import broken_samples
from tests.support.broken_samples import HUB, Shown, said_wrongly, untold
from tests.support.site import Site
from tests.support.vllm_cpu import real_engine
from tools.broken_samples import BrokenSample, Engine
from tools.broken_samples import broken_samples as all_samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.cluster import OwnCluster
    from tests.support.models import EngineChoice

pytestmark = pytest.mark.node

WHOLE: Final = os.environ.get("BROKEN") == "whole"
FOLDER: Final = REPOSITORY / "out" / "broken"
REAL_ENGINES_AT_ONCE: Final = 2
"""As many as there are cores: each computes all the time while it starts."""
REAL_SECONDS: Final = 600.0
SECONDS: Final = 120.0
LOOK_SECONDS: Final = 3.0

ROWS: Final = [one for one in all_samples() if one.reason and (WHOLE or one.engine is not Engine.REAL)]


def parameter(one: BrokenSample) -> object:
    """The broken sample as the parameter of a test."""
    return pytest.param(one, id=one.id, marks=pytest.mark.real_vllm if one.engine is Engine.REAL else ())


class Newcomers:
    """Each breaks one sample in a namespace of its own: those with the real vLLM two at a time, all others at once."""

    def __init__(
        self, cluster: OwnCluster, stub: EngineChoice, real: EngineChoice, rows: Sequence[BrokenSample], models: Path
    ) -> None:
        self._cluster, self._stub, self._real, self._models = cluster, stub, real, models
        self._waiting = [one for one in rows if one.engine is Engine.REAL]
        self._sites: dict[str, Site] = {}
        self._failed: dict[str, ClusterError] = {}
        for one in rows:
            if one.engine is not Engine.REAL:
                self._begin(one)

    def site(self, one: BrokenSample) -> Site:
        """The namespace in which a sample has been applied; those that come next begin as well.

        Raises:
            ClusterError: it could not be applied.
        """
        while one in self._waiting or (self._waiting and self._running < REAL_ENGINES_AT_ONCE):
            following = self._waiting.pop(0)
            try:
                self._begin(following)
            except ClusterError as error:  # its own test tells of it
                self._failed[following.id] = error
        if one.id in self._failed:
            raise self._failed[one.id]
        return self._sites[one.id]

    def end(self, one: BrokenSample) -> None:
        """Take one away: another may use what it used."""
        site = self._sites.pop(one.id)
        self._cluster.kubectl("delete", "namespace", site.name, "--wait=false")
        volume = broken_samples.volume_name(site.name)
        self._cluster.kubectl("delete", "persistentvolume", volume, "--ignore-not-found", "--wait=false")

    def close(self) -> None:
        """Take all away that nobody has asked for."""
        for one in all_samples():
            if one.id in self._sites:
                self.end(one)

    @property
    def _running(self) -> int:
        return sum(one.id in self._sites for one in all_samples() if one.engine is Engine.REAL)

    def _begin(self, one: BrokenSample) -> None:
        site = Site(self._cluster, f"broken-{one.id}-{os.getpid()}")
        self._cluster.kubectl("create", "namespace", site.name)
        self._sites[one.id] = site
        made = broken_samples.resource(one, self._real if one.engine is Engine.REAL else self._stub, self._stub)
        objects = broken_samples.around(one, made, self._stub, site.name, self._models)
        site.apply(*objects)
        if any(thing["metadata"]["name"] == HUB for thing in objects):
            site.kubectl("wait", "--for=condition=Ready", f"pod/{HUB}", f"--timeout={SECONDS:.0f}s")
        site.apply(made)


@pytest.fixture(scope="module")
def newcomers(
    operated: OwnCluster,
    stub: EngineChoice,
    real: EngineChoice,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Newcomers]:
    """Those whose tests have been chosen."""
    models = tmp_path_factory.mktemp("models")
    broken_samples.write_models(models, real_engine().require().model)
    items = (item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path)
    parameters = (item.callspec.params["one"] for item in items)
    chosen = [one for one in parameters if isinstance(one, BrokenSample)]
    found = Newcomers(operated, stub, real, chosen, models)
    yield found
    found.close()


@pytest.mark.parametrize("one", [parameter(one) for one in ROWS])
def test_cause_field_and_remedy_are_told_by_get_and_describe_alone(newcomers: Newcomers, one: BrokenSample) -> None:
    site = newcomers.site(one)
    try:
        shown = wait_told(site, one, REAL_SECONDS if one.engine is Engine.REAL else SECONDS)
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{one.id}.txt").write_text(f"{shown.get}\n{shown.describe}", encoding="utf-8")
    finally:
        newcomers.end(one)


def wait_told(site: Site, one: BrokenSample, seconds: float) -> Shown:
    """What kubectl prints, once it tells all that it has to.

    Raises:
        AssertionError: it does not tell it in time, or tells what is no cause; with what it prints.
    """
    name = one.document["metadata"]["name"]
    until = time.monotonic() + seconds
    while True:
        shown = Shown(site.kubectl("get", "vllm", name), site.kubectl("describe", "vllm", name))
        lacking = untold(one, shown)
        wrong = said_wrongly(one, shown)
        assert not wrong, f"{one.id} is told of {wrong}\n{shown.describe}"
        if not lacking:
            return shown
        if time.monotonic() > until:
            pods = site.kubectl("get", "pods", "-o", "wide")
            raise AssertionError(f"{one.id}: {lacking}\n{shown.get}\n{shown.describe}\n{pods}\n{engine_log(site)}")
        time.sleep(LOOK_SECONDS)


def engine_log(site: Site) -> str:
    """The end of the engine's log, for whoever mends what is told."""
    selector = ("--selector", "app.kubernetes.io/managed-by=vllm-operator", "--container", "vllm", "--tail", "60")
    found = []
    for previous in ([], ["--previous"]):
        with contextlib.suppress(ClusterError):  # no such container
            found.append(site.kubectl("logs", *selector, *previous))
    return "\n".join(found)
