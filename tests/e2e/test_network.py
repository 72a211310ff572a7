"""Who gets an answer of an engine: what an API key guards, what it does not, and what a NetworkPolicy closes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import images, models
from tests.support.network_policies import enforced

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

FRIEND = {"app": "friend"}


def caller(site: Site, name: str, **labels: str) -> None:
    """A pod from which tests call."""
    container = {"name": "caller", "image": images.CLIENT, "command": ["sleep", "600"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    site.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})


def status(site: Site, pod: str, model: str, path: str) -> int:
    """Of a chat that a pod asks for without a key; 0 where nobody answers."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4})
    program = f"""
import urllib.error, urllib.request
url = "http://{model}:8000{path}"
asked = urllib.request.Request(url, {body.encode()!r}, {{"Content-Type": "application/json"}})
try:
    print(urllib.request.urlopen(asked, timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError:
    print(0)
"""
    return int(site.kubectl("exec", pod, "--", "python3", "-c", program))


def test_a_key_leaves_invocations_open_and_the_network_policy_closes_it(site: Site, stub: EngineChoice) -> None:
    site.apply(
        models.model("open", stub, auth={"generate": True}),
        models.model(
            "closed", stub, auth={"generate": True}, network={"allowFrom": [{"podSelector": {"matchLabels": FRIEND}}]}
        ),
    )
    caller(site, "friend", **FRIEND)
    caller(site, "stranger", app="stranger")
    for name in ("open", "closed"):
        site.wait_ready(name)
    site.kubectl("wait", "--for=condition=Ready", "pod/friend", "pod/stranger", "--timeout=60s")
    assert status(site, "stranger", "open", "/v1/chat/completions") == 401
    assert status(site, "stranger", "open", "/invocations") == 200, "the key guards nothing here"
    assert status(site, "stranger", "closed", "/invocations") == 200, "nobody enforces policies yet"
    with enforced(site.cluster, site.name):
        assert status(site, "stranger", "closed", "/invocations") == 0
        assert status(site, "stranger", "closed", "/v1/chat/completions") == 0
        assert status(site, "stranger", "closed", "/metrics") == 0
        assert status(site, "friend", "closed", "/v1/chat/completions") == 401
        assert status(site, "friend", "closed", "/invocations") == 200, "who may call needs no key for this one"
        assert status(site, "stranger", "open", "/invocations") == 200
        time.sleep(3)  # some probes of kubelet
        assert site.condition("Ready", "closed")["status"] == "True"
