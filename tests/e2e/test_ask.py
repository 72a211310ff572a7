"""What a model says: through the user's own kubectl from outside the cluster, and to an application in a pod."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples import extraction
from tests.demo import extracted
from tests.support import certificates, images, models, startups
from vllm_operator.render import amx

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

REAL_START_SECONDS = 420.0
"""A start takes half a minute on two quiet cores, and minutes where others are at work."""

EXTRACTION = Path(extraction.__file__).read_text(encoding="utf-8")
PROGRAM = Path(sys.executable).with_name("kubectl-vllm")


def run(site: Site, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The plug-in, on this machine and not in the cluster's network."""
    command, environment = [str(PROGRAM), *words, "--namespace", site.name], {**site.cluster.env, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


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


def test_a_model_with_https_waits_for_its_secret_and_is_asked_by_those_who_believe_its_authority(
    site: Site, stub: EngineChoice, tmp_path: Path
) -> None:
    site.apply(models.model("secured", stub, engine={"tls": {"secretName": "secured-tls"}}))
    missing = 'secret "secured-tls" not found'
    site.until("the missing Secret", lambda: missing in site.condition("Ready", "secured").get("message", ""))
    site.apply(certificates.secret_of("secured-tls", f"secured.{site.name}.svc"))
    site.wait_ready("secured")

    authority = tmp_path / "ca.pem"
    authority.write_bytes(certificates.AUTHORITY.certificate)
    said = run(site, "chat", "secured", "say something", VLLM_CA_FILE=str(authority))
    assert (said.returncode, said.stdout, said.stderr) == (0, "secured heard: say something\n", "")
    assert "refuse the certificate of secured" in run(site, "chat", "secured", "say something").stderr

    program = certificates.asking("and I?")
    assert site.run_client("by-https", "secured", command=["python3", "-c", program]) == "secured heard: and I?\n"


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


VERSION = "0.32.0"
"""Of the engine that is installed; its image has no tag that says it."""
WORKERS = """
import os, pathlib
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if (process / "comm").read_text().startswith("VLLM::Worker"):
        where = {len(os.sched_getaffinity(int(thread.name))) for thread in (process / "task").iterdir()}
        bound = "everywhere" if where == {os.cpu_count()} else where
        print(os.environ["OMP_NUM_THREADS"], os.environ["VLLM_CPU_OMP_THREADS_BIND"], bound)
"""
"""Prints for each worker what the container was told of threads, and where those of the worker may run."""


@pytest.mark.real_vllm
def test_a_language_model_on_cpu_answers_with_sense_and_extracts_attributes(site: Site, language: EngineChoice) -> None:
    """The profile brings no devices, so the engine's folder, which else comes with a GPU, is mounted by the spec."""
    folder = {"name": "engine", "hostPath": {"path": str(images.real_engine_root()), "type": "Directory"}}
    mount = {"name": "engine", "mountPath": images.REAL_ENGINE_MOUNT, "readOnly": True}
    pod = {"volumes": [folder], "volumeMounts": [mount]}
    cpu = {"requests": {"cpu": "100m"}, "limits": {"cpu": "3500m"}}
    variables = [{"name": name, "value": value} for name, value in startups.UNASKED.items()]
    engine_fields = {"version": VERSION, "env": variables}
    spec = {"accelerator": {"profile": "cpu"}, "pod": pod, "resources": cpu, "engine": engine_fields}
    site.apply(models.model("smollm2", language, **spec))
    site.wait_ready("smollm2", REAL_START_SECONDS)
    site.wait_endpoints("smollm2-engines", 1)

    said = run(site, "chat", "smollm2", models.QUESTION)
    assert (said.returncode, said.stderr) == (0, "")
    assert models.CAPITAL in said.stdout

    found = extracted.read(site.run_client("extraction", "smollm2", 180, command=["python3", "-c", EXTRACTION]))
    assert tuple(found) == extraction.PRODUCTS
    assert found["red cotton shirt, size M"].color == "red"

    (engine,) = site.pods("smollm2")
    asked = "import sitecustomize; print(sitecustomize.__file__)"
    name = engine["metadata"]["name"]
    assert site.kubectl("exec", name, "--", "python3", "-c", asked) == f"{amx.FOLDER}/{amx.FILE}\n"
    assert site.kubectl("exec", name, "--", "python3", "-c", WORKERS) == "2 nobind everywhere\n"
    assert engine["status"]["containerStatuses"][0]["restartCount"] == 0
