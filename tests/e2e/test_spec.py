"""What the spec promises of a pod, on a real kubelet: keys, claims, templates, containers beside the engine."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import models, tiny_llama
from tests.support.images import CLIENT
from tests.support.site import CHILDREN
from tests.support.volumes import claim

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

REAL_START_SECONDS = 420.0
"""A start takes half a minute on two quiet cores, and minutes where others are at work."""


def secret(name: str, **entries: str) -> dict[str, Any]:
    """A Secret of the user."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries}


def chat(site: Site, name: str, key: str) -> tuple[int, str]:
    """Status and body of a chat that the engine of a model answers to somebody with this key."""
    (pod,) = site.pods(name)
    body = {"model": name, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    program = f"""
import urllib.error, urllib.request
headers = {{"Authorization": "Bearer {key}", "Content-Type": "application/json"}}
url = "http://{pod["status"]["podIP"]}:8000/v1/chat/completions"
try:
    answer = urllib.request.urlopen(urllib.request.Request(url, {json.dumps(body).encode()!r}, headers), timeout=30)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status)
print(answer.read().decode())
"""
    done = site.cluster.run_inside([sys.executable, "-c", program])
    assert done.returncode == 0, done.stderr
    status, _, text = done.stdout.partition("\n")
    return int(status), text


def test_an_application_with_both_bindings_is_let_in_and_nobody_without_the_key(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("guarded", stub, auth={"generate": True}))
    site.wait_ready("guarded")
    assert site.ask("guarded", "say something") == "guarded heard: say something"
    assert chat(site, "guarded", "a guess")[0] == 401
    (pod,) = site.pods("guarded")
    (variable,) = [one for one in pod["spec"]["containers"][0]["env"] if one["name"] == "VLLM_API_KEY"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "guarded-binding", "key": "VLLM_API_KEY"}


def test_several_keys_are_taken_stand_on_no_command_line_and_one_that_changes_is_replaced_at_both_ends(
    site: Site, stub: EngineChoice
) -> None:
    auth = {"keys": [{"name": "keys", "key": "new"}, {"name": "keys", "key": "old"}]}
    site.apply(secret("keys", old="key-1", new="key-2"), models.model("keyed", stub, auth=auth))
    site.wait_ready("keyed")
    assert [chat(site, "keyed", key)[0] for key in ("key-1", "key-2", "a guess")] == [200, 200, 401]
    (before,) = site.pods("keyed")
    everything = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    running = site.kubectl("exec", before["metadata"]["name"], "--container", "vllm", "--", "sh", "-c", everything)
    assert " serve " in running
    assert "key-1" not in running
    assert "key-2" not in running
    site.apply(secret("keys", old="key-1", new="key-3"))
    site.kubectl("annotate", "vllmmodel", "keyed", "example.com/look=now")  # else within a minute

    def followed() -> bool:
        data = site.get("secret", "keyed-binding")["data"]
        return base64.b64decode(data["VLLM_API_KEY"]) == b"key-3"

    site.until("the new key in the binding", followed)
    site.until("the end of the old engine", lambda: len(site.pods("keyed")) == 1)
    site.wait_ready("keyed")
    assert site.pods("keyed")[0]["metadata"]["uid"] != before["metadata"]["uid"]
    assert [chat(site, "keyed", key)[0] for key in ("key-1", "key-2", "key-3")] == [200, 401, 200]
    assert site.ask("keyed", "say something") == "keyed heard: say something"


@pytest.mark.real_vllm
def test_the_real_vllm_serves_a_claim_with_a_template_of_the_spec_to_every_key_and_goes_without_a_trace(
    site: Site, real: EngineChoice, tmp_path: Path
) -> None:
    tiny_llama.write_model(tmp_path / "llama")
    tmp_path.chmod(0o755)
    template = "{% for message in messages %}{{ message.content }}{% endfor %}{{ 'PREFIX ' * 20 }}"
    site.apply(
        *claim(site, "weights", tmp_path),
        secret("keys", old="key-1", new="key-2"),
        models.model(
            "claimed",
            real,
            model={"source": "pvc://weights/llama", "chatTemplate": {"inline": template}},
            auth={"keys": [{"name": "keys", "key": "new"}, {"name": "keys", "key": "old"}]},
        ),
    )
    site.wait_ready("claimed", REAL_START_SECONDS)
    site.wait_endpoints("claimed", 1)
    reported = site.until("what the engine reported", lambda: site.capacity("claimed"))
    assert reported is not None
    assert (reported["kvCache"], reported["kvCacheTokens"], reported["maxModelLen"]) == ("0.06Gi", 65536, 4096)
    assert site.condition("Fits", "claimed")["reason"] == "EngineStarted"
    assert site.ask("claimed", "say something")
    for key in ("key-1", "key-2"):
        status, text = chat(site, "claimed", key)
        assert status == 200
        assert json.loads(text)["usage"]["prompt_tokens"] > len("PREFIX ") * 20
    assert chat(site, "claimed", "key-3")[0] == 401
    site.kubectl("delete", "vllmmodel", "claimed")
    site.until("all children are gone", lambda: not site.list(f"{CHILDREN},pods", instance="claimed"))


def test_containers_volumes_and_a_patch_of_the_user_are_in_the_pod_of_a_ready_engine(
    site: Site, stub: EngineChoice
) -> None:
    idle = {"image": CLIENT, "command": ["python3", "-c", "import time; time.sleep(3600)"]}
    note = {"image": CLIENT, "command": ["python3", "-c", "open('/notes/note', 'w').write('prepared')"]}
    mount = {"name": "notes", "mountPath": "/notes"}
    pod = {
        "labels": {"team": "search"},
        "volumes": [{"name": "notes", "emptyDir": {}}],
        "volumeMounts": [mount],
        "initContainers": [{"name": "prepare", **note, "volumeMounts": [mount]}],
        "sidecars": [{"name": "idle", **idle}],
        "patch": {"spec": {"containers": [{"name": "vllm", "env": [{"name": "PATCHED", "value": "yes"}]}]}},
    }
    site.apply(models.model("crowded", stub, pod=pod, engine={"env": [{"name": "PLAIN", "value": "yes"}]}))
    site.wait_ready("crowded")
    (found,) = site.pods("crowded")
    name = found["metadata"]["name"]
    assert found["metadata"]["labels"]["team"] == "search"
    assert site.kubectl("exec", name, "-c", "vllm", "--", "python3", "-c", "print(open('/notes/note').read())") == (
        "prepared\n"
    )
    environment = site.kubectl("exec", name, "-c", "vllm", "--", "python3", "-c", "import os; print(dict(os.environ))")
    assert "'PATCHED': 'yes'" in environment
    assert "'PLAIN': 'yes'" in environment


def test_an_engine_that_pools_is_proved_by_what_it_can_do(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("embedder", stub, model={"runner": "pooling"}))
    site.wait_ready("embedder")
    assert chat(site, "embedder", "any")[0] == 404
