"""What becomes of an edited spec: nothing that is broken, and nothing of a node, stands in its way for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import models

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

MORE_THAN_HALF = 16
"""GPUs of the node that one engine takes: there is no room for a second one."""


def strategy(site: Site, name: str) -> dict[str, Any]:
    """How the Deployment replaces engines."""
    found: dict[str, Any] = site.get("deployment", name)["spec"]["strategy"]["rollingUpdate"]
    return found


def test_a_corrected_spec_starts_although_the_crashing_one_held_the_gpus(site: Site, stub: EngineChoice) -> None:
    parallelism = {"tensor": MORE_THAN_HALF}
    site.apply(models.model("typo", stub, parallelism=parallelism, engine={"extraArgs": ["--no-such-argument"]}))
    site.wait_reason("EnginesFailing", "typo")
    site.patch("typo", {"engine": {"extraArgs": ["--neither-this-one"]}})
    site.until("the second mistake crashes too", lambda: "--neither-this-one" in message(site))
    site.patch("typo", {"engine": {"extraArgs": None}})
    site.wait_ready("typo")
    site.wait_endpoints("typo", 1)
    site.until("the strategy is as before", lambda: strategy(site, "typo") == {"maxSurge": 1, "maxUnavailable": 0})
    (serving,) = site.pods("typo")
    version = site.get("deployment", "typo")["metadata"]["generation"]
    site.kubectl("annotate", "vllmmodel", "typo", "look=again")
    assert site.ask("typo", "who") == "typo heard: who"
    assert site.get("deployment", "typo")["metadata"]["generation"] == version
    assert [pod["metadata"]["uid"] for pod in site.pods("typo")] == [serving["metadata"]["uid"]]


def message(site: Site) -> str:
    """Why the model is not ready."""
    return str(site.condition("Ready", "typo").get("message", ""))


def test_an_edit_of_an_engine_in_the_network_of_its_node_ends(site: Site, stub: EngineChoice) -> None:
    edit_on_a_node(site, stub, 18123, {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"})


def test_an_edit_of_an_engine_with_a_port_of_its_node_ends(site: Site, stub: EngineChoice) -> None:
    port = {"containerPort": 18124, "hostPort": 18124}
    edit_on_a_node(site, stub, 18124, {"containers": [{"name": "vllm", "ports": [port]}]})


def edit_on_a_node(site: Site, stub: EngineChoice, port: int, patch: dict[str, Any]) -> None:
    """Of two models that want one port of the only node, the second says so; the first is edited and serves again."""
    on_the_node = {"pod": {"patch": {"spec": patch}}}
    site.apply(models.model("host", stub, engine={"port": port}, **on_the_node))
    site.wait_ready("host")
    (before,) = site.pods("host")
    site.apply(models.model("second", stub, engine={"port": port}, **on_the_node))
    assert "didn't have free ports" in site.wait_reason("EnginesFailing", "second")["message"]
    site.kubectl("delete", "vllmmodel", "second")
    site.patch("host", {"engine": {"env": [{"name": "A", "value": "1"}]}})
    site.until("another engine", lambda: before["metadata"]["uid"] not in [uid(pod) for pod in site.pods("host")])
    site.wait_ready("host")
    assert len(site.pods("host")) == 1
    version = site.get("deployment", "host")["metadata"]["generation"]
    assert site.ask("host", "who") == "host heard: who"
    assert site.get("deployment", "host")["metadata"]["generation"] == version


def uid(pod: dict[str, Any]) -> str:
    """Identity of a pod."""
    return str(pod["metadata"]["uid"])
