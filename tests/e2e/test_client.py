"""The client library in a pod, with nothing but the binding: engines die, hang and are rolled; no request is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support import models
from tests.support.load import asking, ended

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

HUNG_SECONDS = 12.0
"""As long as the plain client waits for an answer, and longer than ours needs to ask another engine."""


def test_engines_die_hang_and_are_rolled_and_our_client_loses_nothing(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("trio", stub, replicas=3, engine={"maxModelLen": 1024}))
    site.wait_ready("trio")
    site.wait_endpoints("trio-engines", 3)
    pod = asking(site, "trio")
    dies, hangs, _ = sorted(found["metadata"]["name"] for found in site.pods("trio"))

    site.faults(dies, kill_engine=True)
    site.wait_endpoints("trio-engines", 2)
    site.wait_endpoints("trio-engines", 3)

    site.faults(hangs, hang_engine=True)
    site.wait_endpoints("trio-engines", 2)
    time.sleep(HUNG_SECONDS)
    site.faults(hangs, hang_engine=False)
    site.wait_endpoints("trio-engines", 3)

    before = {found["metadata"]["name"] for found in site.pods("trio")}
    site.patch("trio", {"engine": {"maxModelLen": 2048}})
    site.until("all engines are new", lambda: not before & {found["metadata"]["name"] for found in site.pods("trio")})
    site.wait_ready("trio")

    counts = ended(site, pod)
    assert counts["ours"][0] > 100
    assert counts["ours"][1] == 0, counts
    assert counts["plain"][1] > 0, "the plain client lost nothing: was anything broken at all?"
