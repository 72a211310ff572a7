"""Fleets of the same engines: one with our gates, one with plain probes; and the clients that ask them."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.e2e.matrix.breaking import process_of
from tests.e2e.matrix.client import READY
from tests.e2e.matrix.diary import Diary
from tests.support.namespace import INSTANCE
from tests.support.waiting import until
from vllm_operator.manager.settings import LEAVE_SECONDS
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.cluster.processes import Process
    from tests.support.api import Api
    from tests.support.site import Site

CLIENT: Final = Path(__file__).with_name("client.py")
START_SECONDS: Final = 420.0
"""Four real engines start beside each other on two cores."""

PLAIN_PROBES: Final[Mapping[str, Mapping[str, int]]] = {
    "startupProbe": {"periodSeconds": 3, "failureThreshold": 1200},
    "readinessProbe": {"periodSeconds": 5},
    "livenessProbe": {"periodSeconds": 10},
}
"""GET /health, at the periods of vLLM's own documentation; all else as Kubernetes has it: 1 s and three failures."""


@dataclass(frozen=True)
class Request:
    """One request of a client; `trouble` is empty where it was answered. Times are those of the monotonic clock."""

    began: float
    ended: float
    trouble: str


@dataclass
class Client:
    """A running client, and what came of its requests."""

    process: subprocess.Popen[str]

    def requests(self) -> list[Request]:
        """Stop it, wait for what is under way, and return all that it asked."""
        self.process.terminate()
        return self.all_requests()

    def all_requests(self) -> list[Request]:
        """Wait until it ends by itself, and return all that it asked."""
        output, errors = self.process.communicate(timeout=400)
        assert not errors, errors
        return [Request(**json.loads(line)) for line in output.splitlines()]


class Fleet:
    """Engines behind one Service."""

    def __init__(self, site: Site, api: Api, name: str, model: str) -> None:
        self.site = site
        self.name = name
        self.model = model
        self.diary = Diary(api, site.name, name, f"{INSTANCE}={name}")

    def pods(self) -> Sequence[dict[str, Any]]:
        """Its pods that are not on their way out, in the order of their names."""
        return sorted(self.site.pods(self.name), key=lambda pod: str(pod["metadata"]["name"]))

    def wait_serving(self, count: int, seconds: float = START_SECONDS) -> None:
        """Until so many engines, and no others, take traffic, and it comes there."""
        self.site.until(f"{count} serving engines of {self.name}", lambda: self._serving() == count, seconds)
        self.site.wait_reached(self.name)

    def _serving(self) -> int:
        names = {pod["metadata"]["name"] for pod in self.pods()}
        return len(names) if names == self.diary.routable() else -1

    def wait_back(self, pod: str, since: float) -> None:
        """Until an engine that was broken at a moment was out, and is in again."""
        self.site.until(f"{pod} is back", lambda: self.diary.admitted_at(pod, since), START_SECONDS)

    def wait_restarted(self, pod: str, since: float) -> None:
        """Until an engine that was broken at a moment was restarted, and is in again."""
        self.site.until(f"{pod} is restarted", lambda: self.diary.restarted_at(pod, since), START_SECONDS)
        restarted = self.diary.restarted_at(pod, since) or since
        self.site.until(f"{pod} is in again", lambda: self.diary.routable_at(pod, restarted), START_SECONDS)

    def process(self, pod: str, part: str) -> Process:
        """A process of the engine in a pod: a `Part`, or how its title begins."""
        return process_of(self.site.get("pod", pod), part)

    def address(self) -> str:
        """URL of its Service."""
        return "http://" + ":".join(self.site.service_address(self.name))

    @contextlib.contextmanager
    def client(self, *options: str, model: str | None = None) -> Iterator[Client]:
        """A client of this fleet while the block runs, which asks; for another name than the model's if told to."""
        command = [sys.executable, "-S", "-E", str(CLIENT), self.address(), model or self.model, *options]
        process = subprocess.Popen(
            self.site.cluster.inside(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            # no more than that: what communicate() is to read must not be in a buffer
            begun = os.read(process.stdout.fileno(), len(READY))
            assert begun == READY.encode(), process.communicate()[1]
            yield Client(process)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()


@dataclass(frozen=True)
class Pair:
    """The same engines twice, or only those with our gates."""

    gated: Fleet
    plain: Fleet | None

    def fleets(self) -> tuple[Fleet, ...]:
        """All that there are, the one with our gates first."""
        return (self.gated, self.plain) if self.plain else (self.gated,)

    def pods(self) -> list[dict[str, Any]]:
        """Those of all of them."""
        return [pod for fleet in self.fleets() for pod in fleet.pods()]


@contextlib.contextmanager
def pair(site: Site, api: Api, model: Mapping[str, Any], *, compared: bool = True) -> Iterator[Pair]:
    """Apply a model, and beside its fleet one with plain probes unless told not to; both are gone after the block."""
    name = model["metadata"]["name"]
    served = model["spec"]["model"]["servedNames"][0]
    site.apply(model)
    deployment = site.until(f"Deployment {name}", lambda: site.get("deployment", name))
    if compared:
        site.apply(*plain_twin(deployment, site.get("service", name)))
    found = Pair(Fleet(site, api, name, served), Fleet(site, api, f"{name}-plain", served) if compared else None)
    try:
        yield found
    finally:
        for fleet in found.fleets():
            fleet.diary.close()
        site.kubectl("delete", "vllmmodel", name, "--ignore-not-found")
        site.kubectl("delete", "deployment,service", f"{name}-plain", "--ignore-not-found")
        until(lambda: not any(fleet.pods() for fleet in found.fleets()), what=f"the end of {name}")


def plain_twin(deployment: Mapping[str, Any], service: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same Deployment and Service under another name, with plain probes and without the manager.

    The operator does not know them. They keep the pause before SIGTERM that the manager makes.
    """
    name = f"{deployment['metadata']['name']}-plain"
    labels = {INSTANCE: name, "app.kubernetes.io/name": "plain"}
    spec = copy.deepcopy(dict(deployment["spec"]))
    spec["selector"] = {"matchLabels": labels}
    spec["template"]["metadata"]["labels"] = labels
    (container,) = [one for one in spec["template"]["spec"]["containers"] if one["name"] == CONTAINER_NAME]
    container["command"] = container.pop("args")
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": int(LEAVE_SECONDS)}}}
    for probe, periods in PLAIN_PROBES.items():
        container[probe] = {"httpGet": {"path": "/health", "port": "http"}, **periods}
    ports = [{key: port[key] for key in ("name", "port", "targetPort")} for port in service["spec"]["ports"]]
    metadata = {"name": name, "labels": labels}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels, "ports": ports}},
    ]


def wait(seconds: float) -> None:
    """Watch for a while what should not happen."""
    time.sleep(seconds)
