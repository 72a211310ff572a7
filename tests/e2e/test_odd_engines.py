"""Engines that are odd and sound, behind a real kubelet: in pods that share their processes, and asleep."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.errors import ClusterError
from tests.support import models

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

LOAD_SECONDS = 20
WATCH_SECONDS = 10.0
GONE_SECONDS = 25.0
"""An engine that loads ignores SIGTERM and would be there for the pod's grace of 45 s."""
END_MANAGER = """
import contextlib, os, signal
for name in filter(str.isdigit, os.listdir("/proc")):
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{name}/cmdline", "rb") as file:
        if b"/manager/stem.py" in file.read():
            assert name != "1", "the pod shares its processes"
            os.kill(int(name), signal.SIGTERM)
"""


def shared(stub: EngineChoice) -> dict[str, Any]:
    """A model whose pods share their processes, among them those of a sidecar of the same image and user."""
    return models.model(
        "shared",
        stub,
        engine={"env": [{"name": "STUB_LOAD_SECONDS", "value": str(LOAD_SECONDS)}]},
        pod={
            "patch": {"spec": {"shareProcessNamespace": True}},
            "sidecars": [{"name": "debug", "image": stub.image, "command": ["sleep", "infinity"]}],
        },
    )


def names(site: Site) -> list[str]:
    """Its pods."""
    return [pod["metadata"]["name"] for pod in site.pods("shared")]


def engine(site: Site, pod: str) -> dict[str, Any]:
    """What kubelet says of the engine's container in a pod."""
    statuses = (site.get("pod", pod) or {}).get("status", {}).get("containerStatuses", [])
    return next((status for status in statuses if status["name"] == "vllm"), {})


def runs(site: Site, restarts: int = 0) -> Callable[[str], bool]:
    """Whether the engine's container in a pod runs, after so many restarts."""

    def check(pod: str) -> bool:
        found = engine(site, pod)
        return "running" in found.get("state", {}) and found["restartCount"] == restarts

    return check


def in_engine(site: Site, pod: str, *words: str) -> None:
    """Run a Python program in the engine's container. It may end with it, before it can say how."""
    with contextlib.suppress(ClusterError):
        site.kubectl("exec", pod, "-c", "vllm", "--", "python3", "-S", "-E", *words)


def test_a_second_life_proves_itself_anew_where_the_pod_shares_its_processes(site: Site, stub: EngineChoice) -> None:
    site.apply(shared(stub))
    site.wait_ready("shared", 120)
    (name,) = names(site)
    with contextlib.suppress(AssertionError):  # it ends before it answers
        site.faults(name, exit=1)
    site.until("the second life", lambda: runs(site, restarts=1)(name))
    ends = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < ends:
        assert not engine(site, name)["started"], "it loads, and has completed nothing"
        time.sleep(0.5)
    site.wait_ready("shared", 120)
    assert (names(site), engine(site, name)["restartCount"]) == ([name], 1)


def test_an_engine_that_loads_ends_at_once_and_nobody_else_with_it(site: Site, stub: EngineChoice) -> None:
    site.apply(shared(stub))
    name = site.until("a loading engine", lambda: next(filter(runs(site), names(site)), ""))
    in_engine(site, name, "-c", END_MANAGER)
    ended = site.until("the end of the engine", lambda: engine(site, name).get("lastState", {}).get("terminated", {}))
    assert ended["exitCode"] == 0, "somebody asked for it"
    assert ended["message"], "it says why"
    (pod,) = site.pods("shared")
    (sidecar,) = pod["status"]["initContainerStatuses"]
    assert (sidecar["restartCount"], "running" in sidecar["state"]) == (0, True)
    began = time.monotonic()
    site.kubectl("delete", "pod", name)
    assert time.monotonic() - began < GONE_SECONDS


def test_an_engine_that_sleeps_has_no_traffic_and_is_admitted_anew(site: Site, stub: EngineChoice) -> None:
    development = {"env": [{"name": "VLLM_SERVER_DEV_MODE", "value": "1"}]}
    site.apply(models.model("sleeper", stub, engine=development, gates={"restartWindowSeconds": 10}))
    site.wait_ready("sleeper")
    (pod,) = site.pods("sleeper")
    name = pod["metadata"]["name"]
    site.post(name, "/sleep", {})
    site.wait_endpoints("sleeper", 0)
    asleep = "asleep until it is woken up"
    site.until("the sleep is told", lambda: asleep in site.condition("Ready", "sleeper").get("message", ""))
    time.sleep(30)  # a hung engine would have been restarted
    assert engine(site, name)["restartCount"] == 0
    assert site.timeline(name)[-1]["cause"] == "Asleep"
    site.post(name, "/wake_up", {})
    site.wait_ready("sleeper")
