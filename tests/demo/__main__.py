"""`python -m tests.demo up [--engine stub|real]` and `python -m tests.demo down`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster import ClusterError, ClusterSpec, NodeKind, OwnCluster, attach, start
from tests.cluster.paths import REPOSITORY
from tests.demo import extracted
from tests.support import images, models

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.cluster import Cluster
    from tests.support.models import EngineChoice

CLUSTER = "demo"
NAMESPACE = "demo"
SAMPLE = REPOSITORY / "manifests" / "samples" / "qwen2.5-0.5b-instruct.yaml"
PROMPT = "In one sentence: what is a Kubernetes operator?"
EXTRACTION = "examples/extraction.py"
READY_SECONDS = 600.0
OPERATOR_SECONDS = 60.0
CLIENT_SECONDS = 90.0

_STARTED = time.monotonic()


def say(text: str) -> None:
    """A line for the person who watches, with the seconds since the start."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {text}", flush=True)


def wait(seconds: float, what: str, look: Callable[[], tuple[bool, str]]) -> None:
    """Look twice a second and say what changes.

    Raises:
        ClusterError: it does not come about in time; with what was seen last.
    """
    deadline, last = time.monotonic() + seconds, ""
    while True:
        done, seen = look()
        if seen != last:
            say(f"  {seen}")
            last = seen
        if done:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} did not come about within {seconds:.0f} s: {last}")
        time.sleep(0.5)


def up(engine_name: str) -> None:
    """The whole way, each step said aloud."""
    engine = models.stub() if engine_name == "stub" else models.language()
    say(f"engine: {engine.title}")
    say("images of the operator, the engine and the client")
    archives = (images.operator_image(), engine.archive, images.client_image())
    remove_earlier()
    say(
        "a cluster: etcd, API server, controller manager, scheduler, kubelet, containerd, DNS, 8 GPUs that do not exist"
    )
    spec = ClusterSpec(name=CLUSTER, node=NodeKind.REAL, images=archives, gpu_mounts=engine.mounts)
    cluster = start(spec, report=lambda line: say(f"  {line}"))
    try:
        install_operator(cluster)
        name = serve_model(cluster, engine)
        ask(cluster, name)
        if engine.sensible:
            extract(cluster, name)
    except BaseException:
        cluster.stop()
        raise
    if isinstance(cluster, OwnCluster):
        cluster.detach()
    say("done")
    print(what_next(cluster, name), flush=True)


def remove_earlier() -> None:
    """Every demo starts clean."""
    try:
        earlier = attach(CLUSTER)
    except ClusterError:
        return
    say("taking the earlier demo down")
    earlier.stop()


def install_operator(cluster: Cluster) -> None:
    """As a platform engineer does it."""
    say("the operator: kubectl apply -k manifests/base")
    cluster.kubectl("apply", "-k", str(REPOSITORY / "manifests" / "base"))

    def look() -> tuple[bool, str]:
        found = json.loads(
            cluster.kubectl("get", "deployment", "vllm-operator", "--namespace", "vllm-system", "-o", "json")
        )
        available = found.get("status", {}).get("availableReplicas", 0)
        wanted = found["spec"]["replicas"]
        return available == wanted, f"operator: {available} of {wanted} available"

    wait(OPERATOR_SECONDS, "the operator", look)


def sample(engine: EngineChoice) -> dict[str, Any]:
    """The sample of the documentation, with the image and the model that this machine has."""
    resource: dict[str, Any] = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    spec = resource["spec"]
    name = engine.model_name or resource["metadata"]["name"]
    resource["metadata"]["name"] = name
    spec["model"] |= {"source": engine.source, "servedNames": [name]}
    spec["engine"] |= {"image": engine.image, **engine.fields}
    return resource


def serve_model(cluster: Cluster, engine: EngineChoice) -> str:
    """As an application developer does it; returns the model's name."""
    resource = sample(engine)
    name: str = resource["metadata"]["name"]
    text = yaml.safe_dump(resource, sort_keys=False)
    say(f"the model: kubectl apply -f - with {SAMPLE.relative_to(REPOSITORY)}, its engine as this machine has it:")
    print("".join(f"             {line}\n" for line in text.splitlines()), end="", flush=True)
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("apply", "--namespace", NAMESPACE, "-f", "-", input=text)

    def look() -> tuple[bool, str]:
        found = json.loads(cluster.kubectl("get", "vllmmodel", name, "--namespace", NAMESPACE, "-o", "json"))
        conditions = found.get("status", {}).get("conditions", [])
        ready = next((one for one in conditions if one["type"] == "Ready"), None)
        if ready is None:
            return False, "no status yet"
        return ready["status"] == "True", f"Ready={ready['status']} {ready['reason']}: {ready['message']}"

    wait(READY_SECONDS, "the model", look)
    return name


def ask(cluster: Cluster, model: str) -> None:
    """A pod that knows nothing but the binding completes a prompt."""
    say(f"a client pod: it has only envFrom of the ConfigMap {model}-client")
    answer = run_client(cluster, "client", model, {"args": [PROMPT, "--max-tokens", "64"]})
    print(f"\n  prompt: {PROMPT}", flush=True)
    print(f"  answer: {answer.strip()}\n", flush=True)


def extract(cluster: Cluster, model: str) -> None:
    """Another one turns descriptions of products into JSON that fits a schema."""
    say(f"another one runs {EXTRACTION}: attributes as JSON that fits a schema")
    program = (REPOSITORY / EXTRACTION).read_text(encoding="utf-8")
    log = run_client(cluster, "extraction", model, {"command": ["python3", "-c", program]})
    print(flush=True)
    for product, attributes in extracted.read(log).items():
        print(f"  {product:34} -> {json.dumps(attributes.model_dump())}", flush=True)
    print(flush=True)


def run_client(cluster: Cluster, name: str, model: str, program: dict[str, Any]) -> str:
    """What a pod with the client library and the model's binding prints.

    Raises:
        ClusterError: It fails, with its log; or it does not end in time.
    """
    cluster.kubectl(
        "apply", "--namespace", NAMESPACE, "-f", "-", input=yaml.safe_dump(client_pod(name, model, program))
    )

    def look() -> tuple[bool, str]:
        phase = cluster.kubectl("get", "pod", name, "--namespace", NAMESPACE, "-o", "jsonpath={.status.phase}").strip()
        if phase == "Failed":
            raise ClusterError(f"the pod {name} failed:\n{cluster.kubectl('logs', name, '--namespace', NAMESPACE)}")
        return phase == "Succeeded", f"pod {name}: {phase}"

    wait(CLIENT_SECONDS, f"the end of the pod {name}", look)
    return cluster.kubectl("logs", name, "--namespace", NAMESPACE)


def client_pod(name: str, model: str, program: dict[str, Any]) -> dict[str, Any]:
    """An application in the model's namespace."""
    binding = [{"configMapRef": {"name": f"{model}-client"}}]
    container = {"name": "client", "image": images.CLIENT, **program, "envFrom": binding}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }


def what_next(cluster: Cluster, model: str) -> str:
    """Commands to try, ready to be copied."""
    variables = "\n".join(
        f"  export {name}={shlex.quote(value)}" for name, value in cluster.exports.items() if name != "PATH"
    )
    return f"""\
The cluster goes on until `make demo-down`. To look around:
{variables}
  export PATH={shlex.quote(str(cluster.binaries))}:$PATH
  kubectl config set-context --current --namespace {NAMESPACE}
  kubectl get vllmmodels -o wide
  kubectl explain vllmmodel.spec.engine
  kubectl get pods,services,configmaps
  kubectl scale vllmmodel/{model} --replicas 2
  kubectl wait --for=condition=Ready vllmmodel/{model}
  kubectl patch vllmmodel {model} --type merge -p '{{"spec":{{"engine":{{"maxModelLen":1024}}}}}}'
  kubectl logs -n vllm-system deployment/vllm-operator
  kubectl port-forward service/{model} 8000 &   and   curl localhost:8000/v1/models
"""


def down() -> None:
    """Take the demo's cluster down."""
    attach(CLUSTER).stop()
    say("the demo's cluster is down")


def main(arguments: Sequence[str]) -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="cluster, operator, model, answer")
    starting.add_argument("--engine", choices=["real", "stub"], default="real", help="default: %(default)s")
    commands.add_parser("down", help="take the cluster down")
    given = parser.parse_args(arguments)
    try:
        if given.command == "up":
            up(given.engine)
        else:
            down()
    except (ClusterError, RuntimeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
