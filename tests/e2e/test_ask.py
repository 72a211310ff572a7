"""`kubectl vllm chat` and `check` reach a model from where the cluster's network does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import models

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

PROGRAM = Path(sys.executable).with_name("kubectl-vllm")


def run(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    """The plug-in, on this machine and not in the cluster's network."""
    command = [str(PROGRAM), *words, "--namespace", site.name]
    return subprocess.run(command, env=site.cluster.env, capture_output=True, text=True, check=False, timeout=120)


def test_a_model_behind_a_key_is_asked_and_checked_through_the_users_kubectl(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("asked", stub, auth={"generate": True}))
    site.wait_ready("asked")
    said = run(site, "chat", "asked", "say something")
    assert (said.returncode, said.stdout, said.stderr) == (0, "asked heard: say something\n", "")
    checked = run(site, "check", "asked", "--requests", "5", "-o", "json")
    assert checked.returncode == 0, checked.stderr
    assert {found["name"]: found["passed"] for found in json.loads(checked.stdout)} == dict.fromkeys(
        ("model", "completion", "streaming", "batch"), True
    )


def test_a_model_without_an_engine_and_one_that_is_not_there_are_told_as_such(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("empty", stub, replicas=0))
    site.wait_reason("ScaledToZero", "empty")
    site.until("its binding", lambda: site.get("secret", "empty-binding"))
    asked = run(site, "chat", "empty", "anybody?")
    assert asked.returncode == 1
    assert "error: no engine of empty can be reached: " in asked.stderr
    missing = run(site, "check", "nobody")
    assert missing.returncode == 1
    assert '"nobody" not found' in missing.stderr
