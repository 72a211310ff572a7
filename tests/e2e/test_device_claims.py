"""Devices by Dynamic Resource Allocation: a driver on Kubernetes's own module, a real kubelet, and the stub engine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import ClusterSpec, NodeKind, OwnCluster, start
from tests.support import dra, images, models
from tests.support.site import Site, install_operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.dra import Driver
    from tests.support.models import EngineChoice

pytestmark = pytest.mark.node

NAME = "claimed"
SECOND = "second"
CLAIM = {"name": "gpu", "deviceClassName": dra.NAME}
ENGINE = {"maxModelLen": 1024, "shutdownTimeoutSeconds": 2, "shutdownDelaySeconds": 1}
ROLLOUT = {"surgeTimeoutSeconds": 5}
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def site(stub: EngineChoice) -> Iterator[Site]:
    """A namespace of a cluster in which no device plug-in offers anything, and no driver does yet."""
    archives = (images.operator_image(), images.client_image(), stub.archive)
    spec = ClusterSpec(name=f"test-claims-{os.getpid()}", node=NodeKind.REAL, gpus=0, images=archives)
    with start(spec) as cluster:
        assert isinstance(cluster, OwnCluster)
        install_operator(cluster)
        cluster.kubectl("create", "namespace", "claims")
        yield Site(cluster, "claims")


@pytest.fixture(scope="module")
def told_before(site: Site, stub: EngineChoice) -> dict[str, str]:
    """What the status says of a model before there is a class, and before there is a driver."""
    site.apply(models.model(NAME, stub, accelerator={"resourceClaims": [CLAIM]}, engine=ENGINE, rollout=ROLLOUT))
    without_class = told(site, NAME, "DeviceClass")
    site.apply(dra.device_class())
    return {"class": without_class, "driver": told(site, NAME, "no node has")}


@pytest.fixture(scope="module")
def driver(site: Site, told_before: dict[str, str]) -> Iterator[Driver]:
    """The driver, with one device; it comes after a model that waits for it."""
    assert told_before
    with dra.Driver(site.cluster) as running:
        yield running


@pytest.fixture
def serving(site: Site, driver: Driver) -> Site:
    """The model has the one device, and serves."""
    driver.refuse(refuses=False)
    site.wait_ready(NAME, PATIENCE_SECONDS)
    return site


def told(site: Site, name: str, words: str) -> str:
    """The message of Ready, once it holds these words."""

    def look() -> str:
        status = (site.get("vllmmodel", name) or {}).get("status") or {}
        found = [str(one["message"]) for one in status.get("conditions", []) if one["type"] == "Ready"]
        return next((message for message in found if words in message), "")

    return site.until(f"{name}: {words}", look, PATIENCE_SECONDS)


def variables(site: Site, name: str) -> set[str]:
    """The devices that the engine's container sees."""
    (pod,) = site.pods(name)
    printed = site.kubectl("exec", pod["metadata"]["name"], "-c", "vllm", "--", "env")
    return {line for line in printed.splitlines() if line.startswith("FAKE_DEVICE_")}


def test_a_class_and_a_driver_that_are_missing_are_told_and_the_engine_starts_once_they_are_there(
    told_before: dict[str, str], serving: Site
) -> None:
    assert f"asks for DeviceClass {dra.NAME}, which does not exist" in told_before["class"]
    assert "ResourceClaims" in told_before["driver"]
    assert variables(serving, NAME) == {"FAKE_DEVICE_0=fake-0"}
    assert serving.endpoints(NAME)
    assert serving.ask(NAME, "who serves?")
    limits = serving.get("deployment", NAME)["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert limits == {"claims": [{"name": "gpu"}]}


def test_another_engine_waits_since_no_device_is_left(serving: Site, stub: EngineChoice) -> None:
    serving.apply(models.model(SECOND, stub, accelerator={"resourceClaims": [CLAIM]}, engine=ENGINE))
    assert "no node has the devices" in told(serving, SECOND, "no node has")
    assert serving.endpoints(NAME)
    serving.kubectl("delete", "vllmmodel", SECOND)


def test_a_rollout_with_one_device_replaces_in_place(serving: Site) -> None:
    before = {pod["metadata"]["uid"] for pod in serving.pods(NAME)}
    serving.patch(NAME, {"engine": {"maxModelLen": 2048}})
    serving.until(
        "another pod", lambda: not before & {pod["metadata"]["uid"] for pod in serving.pods(NAME)}, PATIENCE_SECONDS
    )
    serving.wait_ready(NAME, PATIENCE_SECONDS)
    assert variables(serving, NAME) == {"FAKE_DEVICE_0=fake-0"}


def test_a_driver_that_cannot_prepare_a_device_is_told(serving: Site, driver: Driver) -> None:
    driver.refuse(refuses=True)
    (pod,) = serving.pods(NAME)
    serving.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    assert "the device has fallen off the bus" in told(serving, NAME, "fallen off the bus")
    driver.refuse(refuses=False)
    serving.wait_ready(NAME, PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"resourceClaimTemplateName": "nobody"}, "ResourceClaimTemplate nobody"),
        ({"resourceClaimName": "nobody"}, "ResourceClaim nobody"),
    ],
)
def test_a_claim_that_is_missing_is_told(serving: Site, stub: EngineChoice, claim: dict[str, Any], words: str) -> None:
    serving.apply(models.model(SECOND, stub, accelerator={"resourceClaims": [{"name": "gpu", **claim}]}, engine=ENGINE))
    assert "spec.accelerator.resourceClaims" in told(serving, SECOND, words)
    serving.kubectl("delete", "vllmmodel", SECOND)


def test_other_devices_have_a_template_of_their_own_and_the_one_of_before_goes(serving: Site) -> None:
    before = dra.left(serving.cluster)
    others = {"resourceClaims": [{**CLAIM, "selectors": ["true"]}]}
    serving.patch(NAME, {"accelerator": others, "rollout": {"strategy": "InPlace"}})
    serving.until("other templates", lambda: not set(before) & set(dra.left(serving.cluster)), PATIENCE_SECONDS)
    serving.wait_ready(NAME, PATIENCE_SECONDS)


def test_nothing_is_left_of_a_model_that_is_deleted(serving: Site) -> None:
    assert dra.left(serving.cluster)
    serving.kubectl("delete", "vllmmodel", NAME)
    serving.until("no claims", lambda: not dra.left(serving.cluster), PATIENCE_SECONDS)
