"""A claim is filled before the first engine, on a real kubelet, from a hub that gates, cuts and is slow."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import file_sources, models, tiny_llama
from tests.support.file_sources import commit_of
from tests.support.volumes import claim

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

REAL_START_SECONDS = 420.0
REPOSITORY = "org/model"
SIZE = 24 * 1024 * 1024
REVISIONS = ("main", "v2", "v3")
HUB_PORT = 8080
CONTENT = f"""
weights = bytes(range(256)) * {SIZE // 256}
repositories = {{{REPOSITORY!r}: {{
    revision: {{"config.json": b"{{}}", "model.safetensors": weights[:-2] + revision.encode()[-2:]}}
    for revision in {REVISIONS!r}
}}}}
"""
FROM_FOLDER = """
import os
repositories = {"org/model": {"main": {name: open(f"/model/{name}", "rb").read() for name in os.listdir("/model")}}}
"""


def hub(stub: EngineChoice, content: str, folder: str = "") -> list[dict[str, Any]]:
    """A hub in a pod, with the repositories that a program makes; `folder` of the node is mounted at /model."""
    program = (
        f"{inspect.getsource(file_sources)}\n{content}\n"
        f"server_of(FileSources(repositories), '', {HUB_PORT}).serve_forever()\n"
    )
    container: dict[str, Any] = {
        "name": "hub",
        "image": stub.image,
        "command": ["python3", "-c", program],
        "readinessProbe": {"tcpSocket": {"port": HUB_PORT}, "periodSeconds": 1},
    }
    spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 1}
    if folder:
        container["volumeMounts"] = [{"name": "model", "mountPath": "/model", "readOnly": True}]
        spec["volumes"] = [{"name": "model", "hostPath": {"path": folder}}]
    ports = [{"port": 80, "targetPort": HUB_PORT}]
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hub", "labels": {"app": "hub"}}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "hub"},
            "spec": {"selector": {"app": "hub"}, "ports": ports},
        },
    ]


def writable(folder: Path) -> Path:
    """The folder, made for every user of the node."""
    folder.mkdir()
    folder.chmod(0o777)
    for parent in list(folder.parents)[:3]:
        parent.chmod(0o755)
    return folder


def prefetched(name: str, choice: EngineChoice, **model: Any) -> dict[str, Any]:
    """A model whose claim is filled from the hub of its namespace."""
    return models.model(
        name,
        choice,
        model={"source": REPOSITORY, **model},
        engine={"env": [{"name": "HF_ENDPOINT", "value": "http://hub"}]},
        storage={"cache": {"existingClaim": "models", "prefetch": {}}},
    )


def told(site: Site, name: str) -> dict[str, Any]:
    """The entry of status.prefetch; empty where there is none."""
    entries: list[dict[str, Any]] = site.get("vllmmodel", name).get("status", {}).get("prefetch") or [{}]
    return entries[0]


def ask_hub(site: Site, path: str, body: object = None) -> Any:
    """What the hub answers to the test itself."""
    address = site.get("pod", "hub")["status"]["podIP"]
    data = None if body is None else json.dumps(body).encode()
    program = f"""
import urllib.request
request = urllib.request.Request("http://{address}:{HUB_PORT}{path}", {data!r})
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""
    done = site.cluster.run_inside([sys.executable, "-c", program])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def stored_ranges(site: Site) -> list[str]:
    """From where each request for weights wanted them."""
    return [asked for path, asked, _ in ask_hub(site, "/requests") if path.startswith("/storage/")]


def jobs(site: Site) -> list[dict[str, Any]]:
    """The Jobs of the namespace that are not on their way out."""
    return [one for one in site.list("jobs") if "deletionTimestamp" not in one["metadata"]]


def job_pods(site: Site) -> list[dict[str, Any]]:
    """Their pods, likewise."""
    found = json.loads(site.kubectl("get", "pods", "-l", "app.kubernetes.io/name=vllm-prefetch", "-o", "json"))["items"]
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


def owners(job: dict[str, Any]) -> list[str]:
    """Who wants a Job."""
    return [one["name"] for one in job["metadata"]["ownerReferences"]]


def deployments(site: Site) -> list[Any]:
    """The Deployments of the namespace."""
    return site.list("deployments")


def test_a_claim_is_filled_before_the_first_engine_whatever_the_hub_and_the_pod_do(
    site: Site, stub: EngineChoice, tmp_path: Path
) -> None:
    site.apply(*claim(site, "models", writable(tmp_path / "models")), *hub(stub, CONTENT))
    site.kubectl("wait", "--for=condition=Ready", "pod/hub", "--timeout=150s")
    slow = {"cut_after": 3_000_000, "bytes_per_second": 4_000_000}
    ask_hub(site, "/faults", {"gated": [REPOSITORY], **slow})
    site.apply(prefetched("first", stub))
    site.until("the gated model is told", lambda: told(site, "first").get("reason") == "Gated")
    assert site.condition("Ready", "first")["reason"] == "PrefetchFails"
    assert site.condition("Stalled", "first")["status"] == "True"
    assert deployments(site) == []

    token = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}, "stringData": {"token": "accepted"}}
    site.apply(token)
    site.patch("first", {"model": {"tokenSecret": {"name": "hub", "key": "token"}}})

    def is_half_way() -> bool:
        entry = told(site, "first")
        return entry.get("state") == "Downloading" and 0 < entry["bytesDone"] < entry["bytesTotal"]

    site.until("a download half-way", is_half_way)
    assert told(site, "first")["bytesTotal"] == SIZE + len("{}")
    assert deployments(site) == []
    (pod,) = job_pods(site)
    asked = len(stored_ranges(site))
    site.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    site.wait_ready("first", 240.0)
    again = stored_ranges(site)[asked:]
    assert all(int(one.removeprefix("bytes=").rstrip("-") or 0) > 0 for one in again), again
    assert told(site, "first")["state"] == "Complete"
    assert told(site, "first")["commit"] == commit_of(REPOSITORY, "main")
    (engine,) = site.pods("first")
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in engine["spec"]["containers"][0]["env"]
    snapshot = f"huggingface/hub/models--org--model/snapshots/{commit_of(REPOSITORY, 'main')}/model.safetensors"
    assert (tmp_path / "models" / snapshot).stat().st_size == SIZE
    assert site.ask("first", "say something") == "first heard: say something"

    asked = len(stored_ranges(site))
    site.apply(prefetched("second", stub, tokenSecret={"name": "hub", "key": "token"}))
    site.wait_ready("second", 240.0)
    (job,) = jobs(site)
    assert sorted(owners(job)) == ["first", "second"]
    assert len(stored_ranges(site)) == asked, "it is downloaded once"
    site.kubectl("delete", "vllmmodel", "first")
    site.until("one owner", lambda: [owners(one) for one in jobs(site)] == [["second"]])
    site.kubectl("delete", "vllmmodel", "second")
    site.until("no Job", lambda: not jobs(site))


def test_a_new_revision_comes_beside_the_old_one_and_a_suspended_or_deleted_model_downloads_nothing(
    site: Site, stub: EngineChoice, tmp_path: Path
) -> None:
    site.apply(*claim(site, "models", writable(tmp_path / "models")), *hub(stub, CONTENT))
    site.apply(prefetched("moved", stub))
    site.wait_ready("moved", 240.0)
    (before,) = site.pods("moved")
    ask_hub(site, "/faults", {"bytes_per_second": 3_000_000})
    site.patch("moved", {"model": {"revision": "v2"}})
    site.until("the download of v2", lambda: told(site, "moved").get("state") == "Downloading")
    assert (told(site, "moved")["revision"], site.condition("Ready", "moved")["reason"]) == ("v2", "Prefetching")
    assert site.condition("Available", "moved")["status"] == "True"
    assert [pod["metadata"]["uid"] for pod in site.pods("moved")] == [before["metadata"]["uid"]]
    assert site.ask("moved", "say something") == "moved heard: say something"
    site.wait_ready("moved", 240.0)
    site.until("the end of the old engine", lambda: len(site.pods("moved")) == 1)
    assert site.pods("moved")[0]["metadata"]["uid"] != before["metadata"]["uid"]
    kept = {path.name for path in (tmp_path / "models/huggingface/hub/models--org--model/snapshots").iterdir()}
    assert kept == {commit_of(REPOSITORY, "main"), commit_of(REPOSITORY, "v2")}
    site.until(
        "the Job of the old revision goes", lambda: [one["status"].get("succeeded") for one in jobs(site)] == [1]
    )

    ask_hub(site, "/faults", {"bytes_per_second": 1_000_000})
    site.patch("moved", {"model": {"revision": "v3"}})
    site.until("the download of v3", lambda: told(site, "moved").get("state") == "Downloading")
    site.patch("moved", {"suspend": True})
    site.until("no download and no engine", lambda: not job_pods(site) and not site.pods("moved"))
    site.wait_reason("Suspended", "moved")
    site.patch("moved", {"suspend": False})
    site.until("the download of v3 again", lambda: told(site, "moved").get("state") == "Downloading")
    assert int(stored_ranges(site)[-1].removeprefix("bytes=").rstrip("-") or 0) > 0
    site.kubectl("delete", "vllmmodel", "moved")
    site.until("nothing is left", lambda: not jobs(site) and not job_pods(site) and not site.pods("moved"))


@pytest.mark.real_vllm
def test_the_real_vllm_starts_offline_from_what_came(
    site: Site, stub: EngineChoice, real: EngineChoice, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    tiny_llama.write_model(source)
    site.apply(*claim(site, "models", writable(tmp_path / "models")), *hub(stub, FROM_FOLDER, str(source)))
    site.apply(prefetched("real", real))
    site.until("the download", lambda: told(site, "real").get("state") == "Complete", 120.0)
    site.kubectl("delete", "pod", "hub", "--wait=false")
    shutil.rmtree(source)
    site.wait_ready("real", REAL_START_SECONDS)
    assert site.ask("real", "say something")
