"""Who gets an answer of an engine: what an API key guards, what it does not, and what a NetworkPolicy closes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support import callers, models
from tests.support.network_policies import enforced

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

FRIEND = {"app": "friend"}


def asked(site: Site, pod: str, model: str, path: str) -> int:
    """The status of a chat that a pod asks a model for without a key; 0 where nobody answers."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    return callers.status(site, pod, f"http://{model}:8000{path}", body)


def test_a_key_leaves_invocations_open_and_the_network_policy_closes_it(site: Site, stub: EngineChoice) -> None:
    site.apply(
        models.model("open", stub, auth={"generate": True}),
        models.model(
            "closed", stub, auth={"generate": True}, network={"allowFrom": [{"podSelector": {"matchLabels": FRIEND}}]}
        ),
    )
    callers.started(site, friend=FRIEND, stranger={})
    for name in ("open", "closed"):
        site.wait_ready(name)
    assert asked(site, "stranger", "open", "/v1/chat/completions") == 401
    assert asked(site, "stranger", "open", "/invocations") == 200, "the key guards nothing here"
    assert asked(site, "stranger", "closed", "/invocations") == 200, "nobody enforces policies yet"
    with enforced(site.cluster, site.name):
        assert asked(site, "stranger", "closed", "/invocations") == 0
        assert asked(site, "stranger", "closed", "/v1/chat/completions") == 0
        assert asked(site, "stranger", "closed", "/metrics") == 0
        assert asked(site, "friend", "closed", "/v1/chat/completions") == 401
        assert asked(site, "friend", "closed", "/invocations") == 200, "who may call needs no key for this one"
        assert asked(site, "stranger", "open", "/invocations") == 200
        time.sleep(3)  # some probes of kubelet
        assert site.condition("Ready", "closed")["status"] == "True"
