"""Load on a model: clients that ask all the time, and count what is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support import images

if TYPE_CHECKING:
    from tests.support.site import Site

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
