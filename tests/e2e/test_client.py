"""The client library in a pod, with nothing but the binding: engines die, hang and are rolled; no request is lost."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import images, models

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

ASK = """
import asyncio, json, os, signal, time
from openai import AsyncOpenAI
from vllm_client import create_llm_client

END = asyncio.Event()
COUNTS = {"ours": [0, 0, 0.0], "plain": [0, 0, 0.0]}
TROUBLES = []

async def ask(title, complete):
    while not END.is_set():
        began = time.monotonic()
        COUNTS[title][0] += 1
        try:
            await complete(f"question {COUNTS[title][0] % 20}")
        except Exception as error:
            COUNTS[title][1] += 1
            TROUBLES.append(f"{title}: {type(error).__name__}")
        COUNTS[title][2] = max(COUNTS[title][2], time.monotonic() - began)
        await asyncio.sleep(0.05)

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, END.set)
    plain = AsyncOpenAI(base_url=os.environ["VLLM_BASE_URL"], api_key="none", timeout=10, max_retries=0)
    model = os.environ["VLLM_MODEL_NAME"]

    async def chat(prompt):
        messages = [{"role": "user", "content": prompt}]
        await plain.chat.completions.create(model=model, messages=messages, max_tokens=40)

    async with create_llm_client("vllm", {"timeout": 40}) as llm:
        async def complete(prompt):
            await llm.complete(prompt, max_tokens=40)

        print("asking", flush=True)
        await asyncio.wait_for(
            asyncio.gather(*(ask("ours", complete) for _ in range(4)), *(ask("plain", chat) for _ in range(4))), 300
        )
    print(json.dumps({**COUNTS, "troubles": TROUBLES}), flush=True)

asyncio.run(main())
"""
"""Four loops of our client and four of a plain OpenAI client, whose connections stay with the engine they found."""

HUNG_SECONDS = 12.0
"""As long as the plain client waits for an answer, and longer than ours needs to ask another engine."""


def asking(site: Site, name: str) -> str:
    """A pod that asks a model until it is told to end."""
    pod = f"{name}-asks"
    container = {
        "name": "client",
        "image": images.CLIENT,
        "command": ["python3", "-c", ASK],
        "envFrom": [{"configMapRef": {"name": f"{name}-client"}}],
    }
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 60, "containers": [container]}
    site.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec})
    site.until("the client asks", lambda: "asking" in site.kubectl("logs", pod, "--ignore-errors"))
    return pod


def ended(site: Site, pod: str) -> dict[str, Any]:
    """What came of all its requests."""
    site.kubectl("exec", pod, "--", "python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
    site.until("the client has ended", lambda: site.get("pod", pod)["status"]["phase"] in ("Succeeded", "Failed"))
    found: dict[str, Any] = json.loads(site.kubectl("logs", pod).splitlines()[-1])
    return found


def test_engines_die_hang_and_are_rolled_and_our_client_loses_nothing(site: Site, stub: EngineChoice) -> None:
    site.apply(models.model("trio", stub, replicas=3, engine={"maxModelLen": 1024}))
    site.wait_ready("trio")
    site.wait_endpoints("trio-engines", 3)
    pod = asking(site, "trio")
    dies, hangs, _ = sorted(found["metadata"]["name"] for found in site.pods("trio"))

    site.faults(dies, kill_engine=True)
    site.wait_endpoints("trio-engines", 2)
    site.wait_endpoints("trio-engines", 3)

    site.faults(hangs, hang_engine=True)
    site.wait_endpoints("trio-engines", 2)
    time.sleep(HUNG_SECONDS)
    site.faults(hangs, hang_engine=False)
    site.wait_endpoints("trio-engines", 3)

    before = {found["metadata"]["name"] for found in site.pods("trio")}
    site.patch("trio", {"engine": {"maxModelLen": 2048}})
    site.until("all engines are new", lambda: not before & {found["metadata"]["name"] for found in site.pods("trio")})
    site.wait_ready("trio")

    counts = ended(site, pod)
    assert counts["ours"][0] > 100
    assert counts["ours"][1] == 0, counts
    assert counts["plain"][1] > 0, "the plain client lost nothing: was anything broken at all?"
