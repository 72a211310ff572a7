"""What keeps a pod from running is told as what it is, on a real kubelet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import models

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

NOWHERE = {"name": "nowhere", "key": "id"}
SLOW_SECONDS = 180
"""Kubelet waits between its tries, and looks at the disk every ten seconds."""


def beside(engine: EngineChoice, name: str, program: str, **more: Any) -> dict[str, Any]:
    """A container that runs a line of Python, with nothing but its image."""
    return {"name": name, "image": engine.image, "command": ["python3", "-c", program], **more}


def wait_told(site: Site, name: str, *texts: str, seconds: float = SLOW_SECONDS) -> dict[str, Any]:
    """The Ready condition of a model, once its message holds these texts."""

    def look() -> dict[str, Any]:
        found = site.condition("Ready", name)
        return found if all(text in found.get("message", "") for text in texts) else {}

    return site.until(f"{texts} of {name}", look, seconds)


def test_init_containers_sidecars_images_and_schedulers_are_told_as_what_they_are(
    site: Site, stub: EngineChoice
) -> None:
    fails = "raise SystemExit('no such bucket')"
    site.apply(
        models.model("init", stub, pod={"initContainers": [beside(stub, "fetch", fails)]}),
        models.model("slow", stub, pod={"initContainers": [beside(stub, "fetch", "import time; time.sleep(600)")]}),
        models.model("mesh", stub, pod={"sidecars": [beside(stub, "mesh", fails)]}),
        models.model("image", stub, engine={"image": "registry.invalid/none:1"}),
        models.model("unseen", stub, scheduling={"schedulerName": "nobody"}),
        models.model("secret", stub, engine={"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": NOWHERE}}]}),
        models.model("huge", stub, parallelism={"tensor": 64, "pipeline": 2}),
    )
    wait_told(site, "slow", "waits for init container fetch, which runs since 20")
    assert site.condition("Ready", "slow")["reason"] == "EnginesStarting"
    wait_told(site, "unseen", "for scheduler nobody, which has said nothing of it")
    wait_told(site, "init", "cannot start: init container fetch ended with exit code 1")
    assert site.condition("Ready", "init")["reason"] == "EnginesFailing"
    wait_told(site, "mesh", "is not ready: sidecar mesh ended with exit code 1")
    wait_told(site, "image", "cannot start: ErrImagePull: ", "registry.invalid/none:1", "does not reach the registry")
    wait_told(site, "secret", "spec.engine.env[KEY].valueFrom.secretKeyRef names Secret nowhere, which does not exist")
    wait_told(site, "huge", "one pod asks for 128 nvidia.com/gpu, and the largest node has ")


def test_pods_that_are_evicted_are_no_failing_engines_until_their_replacements_end_too(
    site: Site, stub: EngineChoice
) -> None:
    fill = "open('/scratch/file', 'wb').write(bytes(8 << 20)); import time; time.sleep(600)"
    mounts = [{"name": "scratch", "mountPath": "/scratch"}]
    pod = {
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}],
        "sidecars": [beside(stub, "fill", fill, volumeMounts=mounts)],
    }
    site.apply(models.model("filled", stub, pod=pod))
    once = wait_told(site, "filled", "has ended at 20", "Evicted: Usage of EmptyDir volume")
    assert once["reason"] in ("EnginesStarting", "EnginesFailing")
    assert wait_told(site, "filled", "pods end one after the other")["reason"] == "EnginesFailing"
