"""A cluster with the operator in it, and what tests do there: apply, wait, look, ask."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

from tests.cluster.paths import REPOSITORY
from tests.support import images
from tests.support.namespace import Namespace
from tests.support.waiting import PATIENCE_SECONDS, until
from vllm_operator.api.spec.operations import DEFAULT_GATE_PORT
from vllm_operator.render import manager
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence

    from tests.cluster import OwnCluster

OPERATOR_NAMESPACE = "vllm-system"
WAIT_SECONDS = 240
"""For the operator to be available, on a machine that does much else."""
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()"
T = TypeVar("T")

CHILDREN = (
    "deployments,services,configmaps,secrets,serviceaccounts,networkpolicies,ingresses,poddisruptionbudgets,"
    "controllerrevisions"
)


class Site(Namespace):
    """One namespace of a cluster in which the operator runs from its manifests."""

    def apply(self, *resources: Mapping[str, Any]) -> None:
        """Apply objects, as a user does."""
        items = {"apiVersion": "v1", "kind": "List", "items": [*resources]}
        self.kubectl("apply", "--filename", "-", document=items)

    def patch(self, name: str, spec: Mapping[str, Any], *, kind: str = "vllmmodel") -> None:
        """Change some fields of a spec."""
        self.kubectl("patch", kind, name, "--type", "merge", "--patch", json.dumps({"spec": spec}))

    def until(self, what: str, look: Callable[[], T], seconds: float = PATIENCE_SECONDS, *, closely: bool = False) -> T:
        """Look until there is something true to see, and return it; `closely` where each look also asserts something.

        Raises:
            AssertionError: nothing was seen in time; with what a person would look at then.
        """
        try:
            return until(look, seconds=seconds, what=what, closely=closely)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.report()}") from None

    def wait_ready(self, name: str, seconds: float = 90.0) -> None:
        """Wait as users do: by condition, for the generation that stands now."""

        def ready() -> bool:
            generation = self.get("vllmmodel", name)["metadata"]["generation"]
            seen = self.condition("Ready", name)
            return seen.get("status") == "True" and bool(seen["observedGeneration"] == generation)

        self.until(f"Ready of {name}", ready, seconds)
        self.wait_reached(name)

    def wait_reached(self, service: str) -> None:
        """Wait until kube-proxy, which follows EndpointSlices a moment later, leads somewhere."""
        address = self.service_address(service)
        command = [sys.executable, "-S", "-E", "-c", CONNECT, *address]
        self.until(f"a way to Service {service}", lambda: self.cluster.run_inside(command).returncode == 0)

    def service_address(self, service: str) -> tuple[str, str]:
        """Host and port of a Service, by number: in the node's namespace there is no cluster DNS."""
        spec = self.get("service", service)["spec"]
        return str(spec["clusterIP"]), str(spec["ports"][0]["port"])

    def pods(self, name: str) -> Sequence[dict[str, Any]]:
        """Pods of a model's engines that are not on their way out."""
        return [pod for pod in self.list("pods", instance=name) if "deletionTimestamp" not in pod["metadata"]]

    def capacity(self, name: str) -> dict[str, Any] | None:
        """What the first engine of a model has reported at its start, as its status tells."""
        engines = self.get("vllmmodel", name)["status"].get("engines") or [{}]
        found: dict[str, Any] | None = engines[0].get("capacity")
        return found

    def endpoints(self, service: str) -> set[str]:
        """Addresses behind a Service that take traffic."""
        slices = self.list("endpointslices", **{"kubernetes.io/service-name": service})
        return {
            address
            for one in slices
            for endpoint in one.get("endpoints") or ()
            if endpoint["conditions"].get("ready")
            for address in endpoint["addresses"]
        }

    def wait_endpoints(self, service: str, count: int) -> None:
        """Until so many engines take traffic: the EndpointSlice follows the pods a moment later than the status."""
        self.until(f"{count} endpoints of {service}", lambda: len(self.endpoints(service)) == count)

    def faults(self, pod: str, **wanted: object) -> None:
        """Bring faults upon the stub engine in a pod."""
        self.post(pod, "/stub/faults", wanted)

    def timeline(self, pod: str) -> Sequence[dict[str, Any]]:
        """The time line of a pod's manager."""
        words = (*manager.INTERPRETER, manager.TELL, str(DEFAULT_GATE_PORT))
        status = json.loads(self.kubectl("exec", pod, "-c", CONTAINER_NAME, "--", *words))
        found: Sequence[dict[str, Any]] = status["timeline"]
        return found

    def post(self, pod: str, path: str, body: object) -> None:
        """Send JSON to the engine in a pod; where kubelet restarts it just now, to its next life."""
        address = self.get("pod", pod)["status"]["podIP"]
        program = f"""
import urllib.request
headers = {{"Content-Type": "application/json"}}
request = urllib.request.Request("http://{address}:8000{path}", {json.dumps(body).encode()!r}, headers, method="POST")
urllib.request.urlopen(request, timeout=10).read()
"""

        def taken() -> subprocess.CompletedProcess[str] | None:
            done = self.cluster.run_inside([sys.executable, "-c", program])
            return None if "Connection refused" in done.stderr else done

        done = self.until(f"the engine in {pod} takes {path}", taken)
        assert done is not None
        assert done.returncode == 0, done.stderr

    def ask(self, name: str, prompt: str, seconds: float = 60.0) -> str:
        """The answer that an application gets: a pod with nothing but the binding, over Service DNS."""
        return self.run_client(f"client-{time.monotonic_ns()}", name, seconds, args=[prompt]).strip()

    def run_client(self, pod: str, name: str, seconds: float = 60.0, **program: Sequence[str]) -> str:
        """What a pod with the client library and the model's binding prints.

        Args:
            pod: The pod's name.
            name: The model.
            seconds: How long it may take.
            program: `command` or `args` of its container.
        """
        container = {
            "name": "client",
            "image": images.CLIENT,
            "envFrom": [{"configMapRef": {"name": f"{name}-client"}}, {"secretRef": {"name": f"{name}-binding"}}],
            **program,
        }
        spec = {"restartPolicy": "Never", "containers": [container]}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec})

        def ended() -> str | None:
            phase = self.get("pod", pod)["status"].get("phase")
            return phase if phase in ("Succeeded", "Failed") else None

        phase = self.until(f"the client pod {pod} ends", ended, seconds)
        printed = self.kubectl("logs", pod)
        assert phase == "Succeeded", printed
        return printed

    def report(self) -> str:
        """What a person would look at when something does not come about."""
        seen = self.kubectl("get", f"vllmmodels,pods,{CHILDREN}", "-o", "wide")
        events = self.kubectl("get", "events", "--sort-by", "lastTimestamp")
        # By label: of a Deployment without pods kubectl waits for one, and fails.
        which = ("--selector", "app.kubernetes.io/name=vllm-operator", "--prefix")
        log = self.cluster.kubectl("logs", "--namespace", OPERATOR_NAMESPACE, *which, "--tail", "60")
        return f"{seen}\n{events}\n{log}"


def install_operator(cluster: OwnCluster) -> None:
    """As the README says, and wait until it follows the cluster."""
    cluster.kubectl("apply", "-k", str(REPOSITORY / "manifests" / "base"))
    available = ("wait", "--for=condition=Available", "deployment/vllm-operator", f"--timeout={WAIT_SECONDS}s")
    cluster.kubectl(*available, "--namespace", OPERATOR_NAMESPACE, timeout=WAIT_SECONDS + 30.0)


def scale_operator(cluster: OwnCluster, count: int) -> None:
    """Have so many operators."""
    operator = ("--namespace", OPERATOR_NAMESPACE)
    cluster.kubectl(*operator, "scale", "deployment/vllm-operator", f"--replicas={count}")
    if count:
        cluster.kubectl(*operator, "wait", "--for=condition=Available", "deployment/vllm-operator", "--timeout=120s")
    else:
        cluster.kubectl(*operator, "wait", "--for=delete", "pods", "--all", "--timeout=120s")
