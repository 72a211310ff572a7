"""Broken samples in a cluster: what is applied, what stands around it, and what kubectl prints of it.

The change is that of the page. What a sample needs and a test's cluster does not have (a GPU, the internet, a claim
with a model, memory) is replaced by what it has: `setting`, and `here` of the sample.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support import fake_hub
from tools.broken_samples import Engine, merged, sample

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.models import EngineChoice
    from tools.broken_samples import BrokenSample

CLAIM = "models"
"""The claim of the sample that serves from one."""
WHOLE_FOLDER = "Qwen2.5-7B-Instruct"
HUB = "hub"
REGISTRY_PORT = 5999
REGISTRY = f"localhost:{REGISTRY_PORT}"
"""Container runtimes speak plain http with a registry on the loopback of their node."""
UNHEARD_OF = "v9"
"""A revision that the tests' hub does not have."""
TOKEN = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "hf-token"},
    "stringData": {"token": "hf_of-a-test"},
}
"""What the samples of gated models ask people to make."""

_OWN_CODE = "from transformers import LlamaConfig\n\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
_LOAD = """
import json, threading, time, urllib.request
body = {{"model": {model!r}, "prompt": "a b c d", "max_tokens": 256, "ignore_eos": True}}
def ask():
    while True:
        try:
            request = urllib.request.Request({url!r}, json.dumps(body).encode(), {{"Content-Type": "application/json"}})
            urllib.request.urlopen(request, timeout=600).read()
        except OSError:
            time.sleep(2)
for _ in range(48):
    threading.Thread(target=ask).start()
"""


@dataclass(frozen=True)
class Shown:
    """What kubectl prints of a model."""

    get: str
    describe: str

    @property
    def status(self) -> str:
        """The status and the Events of `kubectl describe`, on one line: the spec is what the user has written."""
        return " ".join(self.describe.partition("\nStatus:")[2].split())

    def column(self, name: str) -> str:
        """A column of `kubectl get`; empty where it is, and where there is none."""
        lines = self.get.splitlines()
        head = re.search(rf"\b{name}( +|$)", lines[0]) if len(lines) > 1 else None
        return lines[1][head.start() : head.end()].strip() if head else ""


def untold(one: BrokenSample, shown: Shown) -> list[str]:
    """What the two commands do not tell of it; empty where they tell all."""
    status = shown.status
    field = one.field if one.engine is Engine.NONE else f"Field: {one.field} "
    found = [
        f"the column {column} is {seen!r}, not {wanted}"
        for column, wanted in (("READY", one.ready), ("REASON", one.reason))
        if (seen := shown.column(column)) != wanted
    ]
    found += [f"{kind}: {text!r}" for kind, text in _wanted(one, field) if text not in status]
    stalled = "Status: True Type: Stalled" in status
    return found + ([f"Stalled is {stalled}"] if stalled is not one.stalled else [])


def said_wrongly(one: BrokenSample, shown: Shown) -> list[str]:
    """What `kubectl describe` tells that is no cause of it."""
    return [text for text in one.never if text in shown.status]


def _wanted(one: BrokenSample, field: str) -> list[tuple[str, str]]:
    return [*(("cause", text) for text in one.says), ("field", field), ("remedy", one.remedy)]


def setting(choice: EngineChoice) -> dict[str, Any]:
    """What makes any sample run where the tests run, as a merge patch."""
    fields = dict.fromkeys(("dtype", "gpuMemoryUtilization", "cpuOffloadGB")) | choice.fields
    left_out = ("resources", "storage", "accelerator", "network", "pod", "replicas")
    spec: dict[str, Any] = dict.fromkeys(left_out)
    spec |= {"model": {"source": choice.source}, "engine": {"image": choice.image, **fields}}
    return {"spec": spec}


def resource(one: BrokenSample, choice: EngineChoice, stub: EngineChoice) -> dict[str, Any]:
    """The broken sample as it is applied."""
    words = {"{model}": choice.source, "{stub}": stub.image, "{registry}": REGISTRY}
    whole = merged(sample(one.sample), setting(choice))
    log = {"spec": {"engine": {"env": [{"name": "STUB_START_FAILURE", "value": one.log}]}}} if one.log else {}
    for patch in (one.patch, one.here, log):
        whole = merged(whole, _filled(patch, words))
    found: dict[str, Any] = whole
    return found


def _filled(node: Any, words: dict[str, str]) -> Any:
    """A patch with the names of what is here in the place of their placeholders."""
    if isinstance(node, dict):
        return {key: _filled(value, words) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, words) for value in node]
    if isinstance(node, str):
        for name, value in words.items():
            node = node.replace(name, value)
    return node


def around(one: BrokenSample, made: dict[str, Any], stub: EngineChoice, namespace: str, folder: Path) -> list[Any]:
    """The objects that stand in the namespace before the sample comes.

    Args:
        one: The broken sample.
        made: The same as it is applied.
        stub: Its image has an interpreter.
        namespace: Where it is applied.
        folder: What the claim of models holds.
    """
    found = [TOKEN, *one.beside]
    if str(made["spec"]["model"]["source"]).startswith(f"pvc://{CLAIM}"):
        found += claim(namespace, folder)
    if one.engine is Engine.REAL and "HF_ENDPOINT" in json.dumps(made):
        found += hub(stub)
    if REGISTRY in made["spec"]["engine"]["image"]:
        found.append(registry(stub))
    if one.load:
        served = made["spec"]["model"]["servedNames"][0]
        url = f"http://{made['metadata']['name']}:8000/v1/completions"
        found.append(_pod("load", stub, _LOAD.format(model=served, url=url)))
    return found


def claim(namespace: str, folder: Path) -> list[dict[str, Any]]:
    """The claim, and a volume for it that is a folder of the node."""
    size, modes = {"storage": "1Gi"}, ["ReadWriteMany"]
    volume = {
        "capacity": size,
        "accessModes": modes,
        "storageClassName": "",
        "hostPath": {"path": str(folder)},
        "claimRef": {"namespace": namespace, "name": CLAIM},
        "persistentVolumeReclaimPolicy": "Retain",
    }
    wanted = {
        "accessModes": modes,
        "storageClassName": "",
        "volumeName": volume_name(namespace),
        "resources": {"requests": size},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume_name(namespace)},
            "spec": volume,
        },
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": wanted},
    ]


def volume_name(namespace: str) -> str:
    """Name of the volume of a namespace's claim: volumes are the cluster's."""
    return f"{CLAIM}-{namespace}"


def hub(stub: EngineChoice) -> list[dict[str, Any]]:
    """A hub that knows two models, of which one is gated, and not the revision v9."""
    known = {
        "Qwen/Qwen2.5-0.5B-Instruct": {"config.json": b"{}"},
        "meta-llama/Llama-2-7b-chat-hf": {"config.json": b"{}"},
    }
    gated = frozenset({"meta-llama/Llama-2-7b-chat-hf"})
    program = (
        f"{inspect.getsource(fake_hub)}\n"
        f"hub = FakeHub(files={known!r}, gated={gated!r}, gone=frozenset({{{UNHEARD_OF!r}}}))\n"
        "server_of(hub, '', 80).serve_forever()\n"
    )
    service = {"selector": {"app": HUB}, "ports": [{"port": 80}]}
    return [
        _pod(HUB, stub, program, port=80),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": HUB}, "spec": service},
    ]


def registry(stub: EngineChoice) -> dict[str, Any]:
    """A registry that has no image, on the network of the node.

    containerd tries https first, and plain http where the answer to that begins as one of HTTP: by default Python's
    server has no status line for a request that it cannot read.
    """
    program = f"""
import os
from http.server import HTTPServer, SimpleHTTPRequestHandler
os.chdir("/sys")
SimpleHTTPRequestHandler.default_request_version = "HTTP/1.1"
HTTPServer(("127.0.0.1", {REGISTRY_PORT}), SimpleHTTPRequestHandler).serve_forever()
"""
    pod = _pod("registry", stub, program)
    pod["spec"]["hostNetwork"] = True
    return pod


def _pod(name: str, stub: EngineChoice, program: str, port: int = 0) -> dict[str, Any]:
    """A pod that runs a program; it is ready once something listens on its port."""
    container: dict[str, Any] = {"name": name, "image": stub.image, "command": ["python3", "-c", program]}
    if port:
        container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    metadata = {"name": name, "labels": {"app": name}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def write_models(folder: Path, model: Path) -> None:
    """What people have in their claims: a model that is whole, and what is left of it after a mistake."""
    names = (WHOLE_FOLDER, "half", "no-tokenizer", "own-code", "no-chat-template")
    whole, half, bare, own, mute = (folder / name for name in names)
    for copy in (whole, half, bare, own, mute):
        shutil.copytree(model, copy)
    _leave_out(mute / "tokenizer_config.json", "chat_template")
    weights = half / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).unlink()
    config = json.loads((own / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}
    (own / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (own / "configuration_own.py").write_text(_OWN_CODE, encoding="utf-8")
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # pods read them as another user


def _leave_out(file: Path, name: str) -> None:
    """Take one field out of a JSON file.

    Raises:
        KeyError: it has none of that name, so that the model would be as whole as before.
    """
    document = json.loads(file.read_text(encoding="utf-8"))
    del document[name]
    file.write_text(json.dumps(document), encoding="utf-8")
